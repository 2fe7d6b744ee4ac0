"""Power loss under a real Kubernetes: a disk's power is cut in the middle of a burst of writes, the disk comes back through
unstage, stage and journal recovery, and chaosd judges what the disk had acknowledged."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import cuts, manifests
from tests.chaosd_process import Chaosd
from tests.real import RealCluster
from tests.seeds import FRESH

A_SEED = pytest.mark.parametrize("seed", [FRESH])
# A burst that lasts longer than the command takes to start; every file stays owed.
FILES = 200
BURST = {"files": FILES, "size": "64Ki", "keep": 1.0}


class Power:
    """A StatefulSet whose disks have a power switch, and runs on it."""

    def __init__(
        self, real: RealCluster, namespace: str, testbed: Any, run: Callable[..., Chaosd], experiment: Callable[..., Path]
    ) -> None:
        self.disks = testbed.disks
        self._classes = {"ext4": testbed.power_storage_class, "xfs": testbed.power_xfs_storage_class}
        self._real = real
        self._namespace = namespace
        self._run = run
        self._experiment = experiment

    def start(self, file_system: str = "ext4", replicas: int = 1) -> list[str]:
        """Returns the disks' handles."""
        options = {"image": self._real.image, "storage_class": self._classes[file_system], "replicas": replicas}
        self._real.apply(manifests.statefulset(namespace=self._namespace, **options))
        self._real.wait_ready(self._namespace, "web")
        return [self._real.handle(self._namespace, f"disk-web-{ordinal}") for ordinal in range(replicas)]

    def cut(self, seed: int, *, rounds: int = 1, first: str = "true") -> Chaosd:
        """A run with a cut in each round, somewhere in the burst that the round begins with."""
        disruption = cuts.cut(self._real, random.Random(seed).randrange(20, 200), first=first)
        return self._crashed(seed, rounds, rounds=rounds, disruptions=[disruption])

    def cut_at_rest(self, seed: int) -> Chaosd:
        """A run with a cut once the burst is over: no write is under way, and none leaves blocks that others use again."""
        steps = [
            {"name": "write", "write": FILES},
            {"name": "cut", "disrupt": cuts.cut(self._real, None), "verify": True},
        ]
        return self._crashed(seed, 1, rounds=None, disruptions=[], steps=steps)

    def _crashed(self, seed: int, crashes: int, **experiment: Any) -> Chaosd:
        path = self._experiment(workload=BURST, **experiment)
        done = self._run("run", path, "-n", self._namespace, "--seed", str(seed))
        assert done.out is not None
        assert (done.verdict["coverage"]["crashes"], done.verdict["unknown"]) == (crashes, []), done.told
        return done

    def files(self, pod: str, run: str) -> set[str]:
        """What is in the folder of a run now."""
        listed = self._real.kubectl("exec", pod, f"--namespace={self._namespace}", "--", "ls", f"/data/.chaosd/{run}")
        return set(listed.split())


@pytest.fixture
def power(
    real: RealCluster, real_namespace: str, testbed: Any, run: Callable[..., Chaosd], experiment: Callable[..., Path]
) -> Power:
    return Power(real, real_namespace, testbed, run, experiment)


def _only_violation(done: Chaosd, failure: str, handle: str) -> Any:
    assert done.code == 1, done.told
    assert done.verdict["violations_by_class"] == {failure: 1}
    (found,) = done.verdict["violations"]
    assert (found["pod"], found["claim"], found["volume_handle"]) == ("web-0", "disk-web-0", handle)
    return found


@A_SEED
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_an_honest_disk_keeps_what_it_acknowledged_through_every_cut(power: Power, seed: int, file_system: str) -> None:
    handles = power.start(file_system, replicas=2)
    done = power.cut(seed, rounds=4)
    assert (done.code, done.verdict["violations"]) == (0, []), done.told
    assert cuts.decided(cuts.history(done.out)) == ["pass"] * 4
    coverage = done.verdict["coverage"]
    assert coverage["files_acknowledged"] >= 4 * 2 * FILES
    assert coverage["records_verified_cached"] == 0
    assert coverage["writes_failed"] + coverage["writes_unanswered"] > 0, "writes were under way when the power went"
    status = [power.disks.power_status(handle) for handle in handles]
    assert sum(s.cuts for s in status) == 4
    assert sum(s.lost_bytes for s in status) > 0, "there was something to lose"
    assert "no node or disk lost power" not in (done.out / "report.txt").read_text()


@A_SEED
def test_a_disk_that_lies_from_the_start_has_lost_its_files(power: Power, seed: int) -> None:
    (handle,) = power.start()
    power.disks.set_mode(handle, "lying")
    done = power.cut(seed)
    _only_violation(done, "lost", handle)
    _found_are_the_lost(power, done)


@A_SEED
def test_a_disk_that_begins_to_lie_is_stale_since_registers_went_back_in_time(power: Power, seed: int) -> None:
    """The files that were lost with them are consequences, and so is a log whose delete was lost."""
    (handle,) = power.start()
    done = power.cut(seed, first=cuts.lie())
    found = _only_violation(done, "stale", handle)
    assert found["file"].rpartition("/")[2] in ("r00", "r01")
    classes = {consequence["class"] for consequence in found["evidence"]["consequences"]}
    assert {"lost"} <= classes <= {"lost", "unexpected"}
    _found_are_the_lost(power, done)


def _found_are_the_lost(power: Power, done: Chaosd) -> None:
    """What chaosd found missing is what was acknowledged and is not there."""
    ops = cuts.history(done.out)
    lost = cuts.acknowledged(ops) - power.files("web-0", done.verdict["run"])
    print(f"{len(lost)} of {len(cuts.acknowledged(ops))} files were lost")
    assert lost
    assert cuts.found_damaged(ops) >= lost
    assert not cuts.found_damaged(ops) & power.files("web-0", done.verdict["run"])


@A_SEED
def test_a_disk_that_drops_writes_is_torn_with_zeros(power: Power, seed: int) -> None:
    found = _spoilt(power, "drop", seed, "torn")
    assert found["evidence"]["state"] == "zeroed"


@A_SEED
def test_a_disk_that_tears_writes_is_torn(power: Power, seed: int) -> None:
    found = _spoilt(power, "tear", seed, "torn")
    assert found["evidence"]["state"] in ("torn", "zeroed"), "where the tear falls between two blocks, the second is zeros"
    assert "consequences" not in found["evidence"]


@A_SEED
def test_a_disk_that_misdirects_writes_is_corrupt_and_the_block_names_where_it_belongs(power: Power, seed: int) -> None:
    found = _spoilt(power, "misdirect", seed, "corrupt")
    assert found["evidence"]["state"] == "misdirected"
    (robbed,) = found["evidence"]["consequences"]
    assert (robbed["class"], robbed["state"]) == ("torn", "zeroed")
    named = found["evidence"]["names_itself"]["file"]
    assert named != Path(found["file"]).name
    # One that was robbed may hold another's in turn, which then is the one that stands in the wrong place.
    assert named in {Path(file).name for file in (*robbed["files"], *found["evidence"]["files"])}


def _spoilt(power: Power, mode: str, seed: int, failure: str) -> Any:
    """Each write that was spoilt is a file that is found."""
    (handle,) = power.start()
    power.disks.set_mode(handle, mode, seed)
    found = _only_violation(power.cut_at_rest(seed), failure, handle)
    status = power.disks.power_status(handle)
    print(f"{found['evidence']['file_count']} files, {status}")
    assert 0 < found["evidence"]["file_count"] <= status.spoilt_writes
    return found
