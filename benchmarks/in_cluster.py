"""The daemon as Helm installs it on the testbed: its pod goes ten times in a soak, and a metric tells of bad disks."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks import real_cluster
from benchmarks.figure import Figure
from chaosd.history import RUN, Kind, Op

if TYPE_CHECKING:
    from tests.e2e.helm import Release
    from tests.real import RealCluster

Found = TypeVar("Found")

_RESTARTS, _REPLICAS = 10, 2
_LONGEST_SECONDS = 6.0
_SEED = 1
_PAUSED = "chaosd.io/paused"


@dataclass(frozen=True)
class _Soak:
    """A release, its target in the namespace `web`, the disk of its ledger, and what the target was before it came."""

    real: RealCluster
    testbed: Any
    release: Release
    web: str
    ledger: str
    as_found: dict[str, Any]

    def ops(self) -> Sequence[Op]:
        """Of its run, read on the node, while the daemon goes on writing."""
        from chaosd.ledger import Ledger

        [folder, *_] = self.testbed.disks.mounts(self.ledger)
        with Ledger.open_to_read(f"sqlite:///{folder}/chaosd.db") as ledger:
            run = ledger.run()
            assert run is not None
            return list(ledger.history(run))

    def pause(self, *, on: bool) -> None:
        """Throw the kill switch or lift it; it was obeyed when nobody holds the target."""
        self.real.kubectl(
            "annotate", "statefulset", "web", f"--namespace={self.web}", f"{_PAUSED}=true" if on else f"{_PAUSED}-"
        )
        if on:
            lease = ("lease", "chaosd-web", f"--namespace={self.web}")
            _until(lambda: not self.real.get(*lease)["spec"].get("holderIdentity"), "the run to end")
            self.real.wait_ready(self.web, "web")


def measure() -> Iterator[Figure]:
    """What was lost and left unhealed, and seconds."""
    real = real_cluster.of_testbed()
    from testbed import build, chaosd_image
    from testbed.fixture import Testbed
    from testbed.layout import TOOLS
    from tests import kills
    from tests.e2e.helm import Release, soak_values

    testbed, image = Testbed.up(), chaosd_image.give_to_nodes()
    build.build_tools()
    with (
        real_cluster.own_namespace(real) as web,
        real_cluster.own_namespace(real) as lab,
        tempfile.TemporaryDirectory() as folder,
    ):
        real.start_web(web)
        as_found = kills.left_on(real, web, "")
        release = Release(TOOLS / "helm", real, "soak", lab, Path(folder))
        values = soak_values(image, web, testbed.power_storage_class, kills.DISRUPTIONS)
        release.install(values, "--wait", "--timeout=180s")
        try:
            soak = _Soak(real, testbed, release, web, real.handle(lab, release.full_name), as_found)
            yield from _restarts(soak)
            yield _detection(soak)
        finally:
            release("uninstall", release.name, "--no-hooks")


def _restarts(soak: _Soak) -> Iterator[Figure]:
    from tests import kills

    rng, real = random.Random(_SEED), soak.real
    _until(lambda: soak.release.runs(), "a run")
    for number in range(_RESTARTS):
        time.sleep(rng.uniform(0.0, _LONGEST_SECONDS))
        (_kill if number % 2 else _replace_pod)(soak)
    _until_round_done(soak)
    soak.pause(on=True)
    ops, [run] = soak.ops(), soak.release.runs()
    restarts = [op for op in ops if op.process == RUN and op.f == "restart"]
    must_be, acknowledged = kills.owed(ops)
    lost = must_be - kills.files_on(real, soak.web, run)
    left = _unhealed(ops) + (kills.left_on(real, soak.web, run) != soak.as_found)
    violations = sum(soak.release.measured("chaosd_violations_open").values())
    rounds = sum(op.f == "round" and op.kind is Kind.OK for op in ops)
    undone = sum(op.f == "healed" for op in ops)
    detail = (
        f"of {acknowledged:,} acknowledged in {rounds} rounds of one run, {violations:.0f} violations; half of them kill -9"
    )
    yield Figure(f"files lost by {len(restarts)} restarts of the daemon's pod", len(lost), "files", detail, at_most=0)
    yield Figure("disruptions left unhealed by them", left, "", f"{undone} next starts found something to undo", at_most=0)
    soak.pause(on=False)


def _replace_pod(soak: _Soak) -> None:
    """Delete the daemon's pod, and wait until the next one goes on with the run."""
    name = soak.release.pod["metadata"]["name"]
    soak.real.kubectl("delete", "pod", name, f"--namespace={soak.release.namespace}", "--wait=false")
    _until(lambda: soak.release.pod["metadata"]["name"] != name and _goes_on(soak), "the next daemon to go on")


def _kill(soak: _Soak) -> None:
    """kill -9 on the node: kubelet starts another container in the same pod."""
    [process] = [path for path in Path("/proc").glob("[0-9]*") if _is_daemon(path, soak.release.pod["metadata"]["name"])]
    before = _containers_begun(soak)
    os.kill(int(process.name), signal.SIGKILL)
    _until(lambda: _containers_begun(soak) > before and _goes_on(soak), "the next container to go on")


def _is_daemon(process: Path, pod: str) -> bool:
    with contextlib.suppress(OSError):  # it may be gone
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"daemon" in words and f"HOSTNAME={pod}".encode() in (process / "environ").read_bytes().split(b"\0")
    return False


def _containers_begun(soak: _Soak) -> int:
    return int(soak.release.pod["status"]["containerStatuses"][0]["restartCount"])


def _goes_on(soak: _Soak) -> bool:
    pod = soak.release.pod["metadata"]["name"]
    return "goes on with this run" in soak.real.kubectl("logs", f"pod/{pod}", f"--namespace={soak.release.namespace}")


def _until_round_done(soak: _Soak) -> None:
    before = _rounds_done(soak)
    _until(lambda: _rounds_done(soak) > before + 1, "a round that nobody interrupted")


def _rounds_done(soak: _Soak) -> int:
    return sum(" done: " in line["event"] for line in soak.release.logged())


def _unhealed(ops: Iterable[Op]) -> int:
    """Rounds that began while an earlier one's undo was open."""
    left, is_open = 0, False
    for op in ops:
        if op.f == "undo":
            is_open = op.kind is Kind.INVOKE
        elif op.process == RUN and op.f == "round" and op.kind is Kind.INVOKE:
            left += is_open
    return left


def _detection(soak: _Soak) -> Figure:
    """A bit flips on one replica's disk after the other. An interval goes from the end of a round to that of the next."""
    [run] = soak.release.runs()
    found = []
    for number in range(_REPLICAS):
        _until_round_done(soak)
        planted_at = _until(lambda: _damage(soak, number, run), "a file that is owed")  # noqa: B023 - asked at once
        _until(lambda: _open_violations(soak) > number, "the metric")  # noqa: B023 - asked at once
        found.append((planted_at, time.time()))
    ends = [op.time for op in soak.ops() if op.f == "round" and op.kind is Kind.OK]
    interval = max(later - before for before, later in itertools.pairwise(ends) if later > found[0][0])
    read = [op.time for op in soak.ops() if op.f == "read" and op.value.get("evidence")]
    seconds = [seen - planted for planted, seen in found]
    lags = [seen - max(at for at in read if at < seen) for _, seen in found]
    detail = (
        f"{', '.join(f'{one:.1f} s' for one in seconds)}, of which from the reading to the metric"
        f" {', '.join(f'{one:.1f} s' for one in lags)}; a round took up to {interval:.1f} s"
    )
    return Figure("from a planted fault to its metric", max(seconds), "s", detail, at_most=interval + 1)


def _damage(soak: _Soak, number: int, run: str) -> float:
    """Flip a bit in a replica's newest file; when, in seconds since the epoch. 0 while its disk is on its way to a node."""
    from testbed.shell import TestbedError

    handle = soak.real.handle(soak.web, f"disk-ssd-web-{number}")
    try:
        folder = soak.testbed.disks.mounts(handle)[0] / ".chaosd" / run
        *_, newest = sorted(file.name for file in folder.iterdir() if file.name.isdigit())
        soak.testbed.disks.flip_bit(handle, f".chaosd/{run}/{newest}", 5000)
    except (OSError, IndexError, ValueError, TestbedError):
        return 0.0
    return time.time()


def _open_violations(soak: _Soak) -> float:
    return sum(soak.release.measured("chaosd_violations_open").values())


def _until(look: Callable[[], Found], what: str, timeout_seconds: float = 240) -> Found:
    """What it found. What cannot be seen yet, such as a pod that is being made, is looked at again."""
    deadline, last = time.monotonic() + timeout_seconds, ""
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (RuntimeError, ValueError) as error:
            last = str(error)
        time.sleep(0.1)
    raise AssertionError(f"waited {timeout_seconds} s in vain for {what}: {last}")
