"""Faults planted under a real Kubernetes: each is found, has its class and no other, and names what is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]

# Every file stays owed, so that the one that is damaged is.
KEPT = {"keep": 1.0, "files": 8}
DELETIONS = [{"kind": "pod-delete"}]


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
    with _after_a_round(start, experiment(rounds=3, workload=KEPT, disruptions=DELETIONS), web) as process:
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
    with _after_a_round(start, experiment(rounds=3, workload=KEPT, disruptions=DELETIONS), web) as process:
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


def test_a_disk_rolled_back_has_lost_what_was_written_since(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    handle = real.handle(web, "disk-ssd-web-0")
    copy = testbed.disks.snapshot(handle)
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    _while_unstaged(real, testbed, web, [handle], lambda: testbed.disks.restore(handle, copy))
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert set(verified.verdict["violations_by_class"]) == {"lost"}
    assert {v["volume_handle"] for v in verified.verdict["violations"]} == {handle}


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


def test_a_file_system_made_anew_has_lost_everything(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    done = run("run", experiment(rounds=1, workload=KEPT, disruptions=DELETIONS), "-n", web)
    assert done.code == 0, done.told
    handle = real.handle(web, "disk-ssd-web-1")
    _while_unstaged(real, testbed, web, [handle], lambda: testbed.disks.reformat(handle))
    verified = run("verify")
    assert verified.code == 1, verified.told
    assert verified.verdict["violations_by_class"] == {"lost": 1}
    assert verified.verdict["violations"][0]["volume_handle"] == handle


def _while_unstaged(real: RealCluster, testbed: Any, namespace: str, handles: list[str], act: Callable[[], object]) -> None:
    """Act on disks while the StatefulSet is scaled to 0, as its owner would during maintenance."""
    real.kubectl("scale", "statefulset/web", f"--namespace={namespace}", "--replicas=0")
    for handle in handles:
        testbed.disks.wait_until_unstaged(handle)
    act()
    real.kubectl("scale", "statefulset/web", f"--namespace={namespace}", "--replicas=2")
    real.wait_ready(namespace, "web")
