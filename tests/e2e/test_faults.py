"""Faults planted under a real Kubernetes: each is found, has its class and no other, and names what is damaged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.e2e.lasting import Lasting
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]

# Every file stays owed, so that the one that is damaged is.
KEPT = {"keep": 1.0, "files": 8}
DELETIONS = [{"kind": "pod-delete"}]
UNTIL_FOUND: dict[str, Any] = {"rounds": 50, "workload": KEPT, "disruptions": DELETIONS, "guards": {"stopAfter": 1}}


@contextmanager
def _after_a_round(start: Run, path: Path, namespace: str) -> Iterator[Chaosd]:
    """A run whose first round is done."""
    with start("run", path, "-n", namespace) as process:
        process.until_line(lambda line: "round 1 done" in line)
        yield process


def _first_file(testbed: Any, handle: str, process: Chaosd) -> str:
    """The first file that the run under way wrote to a disk, relative to its root."""
    run = next(line.split("run ")[1].split(",")[0] for line in process.stderr if " run " in line)
    image = f".chaosd/{run}/00000000"
    assert testbed.disks.read(handle, image)
    return image


def test_a_flipped_bit_is_corrupt_and_names_file_and_block(
    web: str, start: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    handle = real.handle(web, "disk-ssd-web-1")
    with _after_a_round(start, experiment(**UNTIL_FOUND), web) as process:
        file = _first_file(testbed, handle, process)
        testbed.disks.flip_bit(handle, file, 3 * 4096 + 1000, bit=5)
        assert process.wait() == 1, process.told
        verdict = process.verdict
    assert verdict["violations_by_class"] == {"corrupt": 1}
    found = verdict["violations"][0]
    assert (found["pod"], found["claim"], found["volume_handle"]) == ("web-1", "disk-ssd-web-1", handle)
    assert (found["file"], found["block"]) == (file, 3)
    assert process.stdout[-1].startswith("verdict: fail")


def test_a_removed_file_is_lost(web: str, start: Run, experiment: Write, real: RealCluster, testbed: Any) -> None:
    handle = real.handle(web, "disk-ssd-web-0")
    with _after_a_round(start, experiment(**UNTIL_FOUND), web) as process:
        file = _first_file(testbed, handle, process)
        testbed.disks.remove(handle, file)
        assert process.wait() == 1, process.told
        verdict = process.verdict
    assert verdict["violations_by_class"] == {"lost": 1}
    assert (verdict["violations"][0]["volume_handle"], verdict["violations"][0]["file"]) == (handle, file)


def test_two_swapped_disks_are_foreign(web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    handles = [real.handle(web, f"disk-ssd-web-{n}") for n in (0, 1)]
    _while_unstaged(real, testbed, web, handles, lambda: testbed.disks.swap(*handles))
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"foreign": 2}
    assert {v["volume_handle"] for v in verified.verdict["violations"]} == set(handles)


def test_disks_rolled_back_are_stale_or_lost_by_what_they_had_then(
    web: str, start: Run, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    """A copy with an older value of a register shows that the volume went back in time; one from before the run cannot."""
    empty, older = handles = [real.handle(web, f"disk-ssd-web-{n}") for n in (0, 1)]
    copies = {empty: testbed.disks.snapshot(empty)}
    with _after_a_round(start, experiment(rounds=3, workload=KEPT, disruptions=DELETIONS), web) as process:
        copies[older] = testbed.disks.snapshot(older)
        assert process.wait() == 0, process.told

    def restore() -> None:
        for handle, copy in copies.items():
            testbed.disks.restore(handle, copy)

    _while_unstaged(real, testbed, web, handles, restore)
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"lost": 1, "stale": 1}
    found = {v["class"]: v for v in verified.verdict["violations"]}
    assert (found["lost"]["volume_handle"], found["stale"]["volume_handle"]) == (empty, older)
    # A log that was deleted since the copy was made, as each is once it is full, has come back with it.
    classes = {consequence["class"] for consequence in found["stale"]["evidence"]["consequences"]}
    assert {"lost"} <= classes <= {"lost", "unexpected"}


def test_an_empty_dir_loses_its_files_and_that_is_no_crash(
    run: Run, experiment: Write, real: RealCluster, real_namespace: str
) -> None:
    real.apply(manifests.statefulset(namespace=real_namespace, image=real.image, claim=False))
    real.wait_ready(real_namespace, "web")
    target = {"path": "/data", "requireClaim": False}
    path = experiment(rounds=2, target=target, disruptions=DELETIONS)
    done = run("run", path, "-n", real_namespace)
    assert done.code == 1, done.told
    assert set(done.verdict["violations_by_class"]) == {"lost"}
    refused = run("run", experiment(target={"path": "/data"}), "-n", real_namespace)
    assert refused.code == 2
    assert "requireClaim: false" in refused.told


@pytest.mark.alone
def test_a_stopped_api_server_brings_no_false_verdict(web: str, start: Run, experiment: Write, testbed: Any) -> None:
    with start("run", experiment(rounds=3, disruptions=DELETIONS), "-n", web) as process:
        process.until_line(lambda line: " round 2" in line)
        with testbed.api_server_stopped():
            time.sleep(20)
        assert process.wait() == 0, process.told
        verdict = process.verdict
    assert (verdict["verdict"], verdict["violations"]) == ("pass", [])
    assert verdict["coverage"]["rounds"] == 3


def test_a_file_cut_short_is_torn(web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    handle = real.handle(web, "disk-ssd-web-1")
    file = _first_file(testbed, handle, done)
    testbed.disks.truncate(handle, file, 5 * 4096 + 100)
    verified = run("verify")
    assert verified.code == 1, verified.told
    (found,) = verified.verdict["violations"]
    assert (found["class"], found["file"], found["block"], found["volume_handle"]) == ("torn", file, 5, handle)


def test_a_file_system_made_anew_is_reformatted(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    handle = real.handle(web, "disk-ssd-web-1")
    _while_unstaged(real, testbed, web, [handle], lambda: testbed.disks.reformat(handle))
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"reformatted": 1}
    assert verified.verdict["violations"][0]["volume_handle"] == handle


def test_a_folder_of_the_volume_in_its_place_is_not_mounted(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    _mount(real, web, subPath="part")
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"not_mounted": 2}
    _mount(real, web, subPath=None)
    again = run("verify")
    assert again.verdict["violations_by_class"] == {"not_mounted": 2}, "what was seen once stays in the verdict of its run"


def test_an_empty_dir_that_comes_in_the_place_of_the_volume_is_not_mounted(
    web: str, start: Run, experiment: Write, real: RealCluster, tmp_path: Path
) -> None:
    lasting = Lasting(tmp_path)
    with start("run", experiment(rounds=1, workload=KEPT, disruptions=[lasting.disruption]), "-n", web) as process:
        lasting.until_begun()
        _mount(real, web, name="scratch")
        lasting.end()
        assert process.wait() == 1, process.told
        verdict = process.verdict
    assert verdict["violations_by_class"] == {"not_mounted": 2}, verdict["violations"]


def test_a_claim_that_is_made_anew_is_replaced_and_what_was_on_its_disk_is_a_consequence(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    handle = real.handle(web, "disk-ssd-web-1")
    delete = ("delete", "pvc", "disk-ssd-web-1", f"--namespace={web}", "--timeout=180s")
    _while_unstaged(real, testbed, web, [handle], lambda: real.kubectl(*delete))
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"claim_replaced": 1}
    (found,) = verified.verdict["violations"]
    assert (found["pod"], found["volume_handle"]) == ("web-1", handle)


def test_claims_that_go_on_scale_down_as_their_policy_says_are_by_policy(
    run: Run, experiment: Write, real: RealCluster, real_namespace: str
) -> None:
    """And are made anew in each round, when the replica is wanted again."""
    options = {"image": real.image, "storage_class": real.storage_class}
    real.apply(manifests.statefulset(namespace=real_namespace, when_scaled="Delete", **options))
    real.wait_ready(real_namespace, "web")
    done = run("run", experiment(rounds=3, disruptions=[{"kind": "scale", "to": 1}]), "-n", real_namespace)
    assert done.code == 0, done.told
    assert (done.verdict["violations"], done.verdict["unknown"]) == ([], [])
    assert done.verdict["by_policy"] == ["disk-web-1: deleted on scale-down, as whenScaled: Delete asks"]


def test_pods_that_come_in_any_order_as_their_policy_says_pass(
    run: Run, experiment: Write, real: RealCluster, real_namespace: str
) -> None:
    options = {"image": real.image, "storage_class": real.storage_class, "replicas": 3}
    real.apply(manifests.statefulset(namespace=real_namespace, pod_management="Parallel", **options))
    real.wait_ready(real_namespace, "web")
    done = run("run", experiment(rounds=2, disruptions=[{"kind": "scale", "to": 0}]), "-n", real_namespace)
    assert done.code == 0, done.told
    assert (done.verdict["violations"], done.verdict["unknown"]) == ([], [])
    assert any("Parallel" in line for line in done.verdict["not_applicable"]), done.verdict["not_applicable"]


def test_a_full_and_a_read_only_disk_refuse_writes_and_are_not_accused(
    web: str, start: Run, experiment: Write, real: RealCluster, testbed: Any, tmp_path: Path
) -> None:
    """The disruption of the first round lasts until both disks are as they shall be: the second can write nothing."""
    full, read_only = (real.handle(web, f"disk-ssd-web-{n}") for n in (0, 1))
    lasting = Lasting(tmp_path)
    path = experiment(rounds=2, timeouts={"write": "10s"}, disruptions=[lasting.disruption])
    with start("run", path, "-n", web) as process:
        lasting.until_begun()
        testbed.disks.fill(full)
        testbed.disks.remount_read_only(read_only)
        lasting.end()
        assert process.wait() == 3, process.told
        verdict = process.verdict
    assert verdict["violations"] == []
    unknown = {line["subject"].rpartition("/")[2]: line["missing"] for line in verdict["unknown"]}
    assert unknown.keys() == {"web-0", "web-1"}
    assert "No space left" in unknown["web-0"]
    assert "Read-only file system" in unknown["web-1"]
    assert verdict["coverage"]["readings_failed"] == 0, "what stood there before is still read"


def test_a_disk_that_can_no_longer_be_mounted_is_corrupt_by_what_the_events_say(
    web: str, start: Run, run: Run, experiment: Write, real: RealCluster, testbed: Any, tmp_path: Path
) -> None:
    """It was broken while the StatefulSet was away for maintenance."""
    handle, lasting = real.handle(web, "disk-ssd-web-1"), Lasting(tmp_path)
    short = {"converge": "15s", "write": "10s", "read": "15s", "probe": "15s"}
    with start("run", experiment(rounds=1, timeouts=short, disruptions=[lasting.disruption]), "-n", web) as process:
        lasting.until_begun()
        real.kubectl("scale", "statefulset/web", f"--namespace={web}", "--replicas=0")
        testbed.disks.wait_until_unstaged(handle)
        testbed.disks.break_superblock(handle)
        real.kubectl("scale", "statefulset/web", f"--namespace={web}", "--replicas=2")
        real.event(web, "FailedMount", "Bad magic number in super-block")
        lasting.end()
        assert process.wait() == 1, process.told
        verdict = process.verdict
    assert verdict["violations_by_class"] == {"corrupt": 1}
    assert [line["subject"].rpartition("/")[2] for line in verdict["unknown"]] == ["web-1"] * len(verdict["unknown"])
    (found,) = verdict["violations"]
    assert (found["pod"], found["claim"], found["file"]) == ("web-1", "disk-ssd-web-1", "")
    assert "Bad magic number in super-block" in found["evidence"]["events"]["FailedMount"]
    real.kubectl("scale", "statefulset/web", f"--namespace={web}", "--replicas=1")
    testbed.disks.wait_until_unstaged(handle)
    testbed.disks.mend_superblock(handle)
    real.kubectl("scale", "statefulset/web", f"--namespace={web}", "--replicas=2")
    real.wait_ready(web, "web")
    verified = run("verify")
    assert (verified.verdict["violations_by_class"], verified.verdict["unknown"]) == ({"corrupt": 1}, []), verified.told
    assert verified.verdict["coverage"]["records_verified_cold"] > verdict["coverage"]["records_verified_cold"]


def _mount(real: RealCluster, namespace: str, **volume_mount: str | None) -> None:
    """Change what the template has at the path, and wait until the rolling update is done."""
    scratch = {"name": "scratch", "emptyDir": {}}
    template = real.get("statefulset", "web", f"--namespace={namespace}")["spec"]["template"]["spec"]
    (container,) = template["containers"]
    (mount,) = container["volumeMounts"]
    mounts = [{key: value for key, value in (mount | volume_mount).items() if value is not None}]
    spec = {"volumes": [scratch], "containers": [container | {"volumeMounts": mounts}]}
    patch = json.dumps({"spec": {"template": {"spec": spec}}})
    real.kubectl("patch", "statefulset", "web", f"--namespace={namespace}", "--type=merge", f"--patch={patch}")
    real.wait_ready(namespace, "web")


def _while_unstaged(real: RealCluster, testbed: Any, namespace: str, handles: list[str], act: Callable[[], object]) -> None:
    """Act on disks while the StatefulSet is scaled to 0, as its owner would during maintenance."""
    real.kubectl("scale", "statefulset/web", f"--namespace={namespace}", "--replicas=0")
    for handle in handles:
        testbed.disks.wait_until_unstaged(handle)
    act()
    real.kubectl("scale", "statefulset/web", f"--namespace={namespace}", "--replicas=2")
    real.wait_ready(namespace, "web")
