"""What is the sandbox's own, beyond what conformance holds it to: its folder, its state, its processes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from chaosd.cluster import target as targets
from chaosd.cluster.port import Claim, ClusterEvent, Node, Pod, StatefulSet, Volume
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.errors import InconclusiveError, RefusedError, UsageError
from chaosd.probe.protocol import Facts, Program
from chaosd.probe.session import Place, open_session
from tests import manifests


async def _ready(cluster: SandboxCluster, replicas: int = 1) -> None:
    await _until(lambda: sum(pod.ready for pod in cluster.store.all(Pod)) == replicas)


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[SandboxCluster]:
    """A sandbox with one replica."""
    cluster = await SandboxCluster.open(tmp_path)
    await cluster.apply([manifests.statefulset(replicas=1)])
    await _ready(cluster)
    yield cluster
    await cluster.close()


async def _run(cluster: SandboxCluster, *argv: str) -> str:
    async with cluster.exec("default", "web-0", "app", argv) as process:
        text = b""
        while piece := await process.read():
            text += piece
        return text.decode()


async def _facts(cluster: SandboxCluster, program: Program = Program.SHELL) -> Facts:
    target = targets.resolve(
        cluster.store.get(StatefulSet, "default", "web"), path="/data", container="", require_claim=False
    )
    place = Place(target, ".chaosd", "RUN", "e1", program=program)
    async with open_session(cluster, place, "web-0", 30.0) as session:
        return session.facts


async def _replaced(cluster: SandboxCluster) -> Pod:
    """The pod in place of web-0, which is deleted."""
    pod = cluster.store.get(Pod, "default", "web-0")
    await cluster.delete_pod("default", "web-0", uid=pod.uid, grace_seconds=0)

    def there() -> bool:
        found = cluster.store.find(Pod, "default", "web-0")
        return found is not None and found.uid != pod.uid and found.ready

    await _until(there)
    return cluster.store.get(Pod, "default", "web-0")


async def test_a_disk_is_the_folder_that_the_readme_names(web: SandboxCluster, tmp_path: Path) -> None:
    (volume,) = web.store.all(Volume)
    await _run(web, "sh", "-c", 'echo there >"$1"', "sh", "/data/file")
    assert (tmp_path / "disks" / volume.handle / "file").read_text() == "there\n"
    assert sorted(p.name for p in (tmp_path / "disks" / volume.handle).iterdir()) == ["file", "lost+found"]


async def test_what_is_not_on_a_mount_is_the_containers_own_and_goes_with_it(web: SandboxCluster, tmp_path: Path) -> None:
    await _run(web, "sh", "-c", 'echo there >"$1"', "sh", "/file")
    pod = web.store.get(Pod, "default", "web-0")
    assert (tmp_path / "pods" / pod.uid / "root" / "file").exists()
    await web.delete_pod("default", "web-0", uid=pod.uid)
    await _until(lambda: not (tmp_path / "pods" / pod.uid).exists())


async def test_the_next_process_meets_the_same_cluster(tmp_path: Path) -> None:
    first = await SandboxCluster.open(tmp_path)
    assert first.is_empty
    await first.apply([manifests.statefulset(replicas=2)])
    await _ready(first, 2)
    before = {kind: first.store.all(kind) for kind in (Pod, Claim, Volume)}
    await first.close()

    second = await SandboxCluster.open(tmp_path)
    assert not second.is_empty
    assert {kind: second.store.all(kind) for kind in (Pod, Claim, Volume)} == before
    assert await _run(second, "sh", "-c", 'ls "$1"', "sh", "/data") == "lost+found\n"
    await second.close()


async def test_a_second_process_is_refused_while_the_first_has_it(web: SandboxCluster, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"in use by process {os.getpid()}: wait until it ends"):
        await SandboxCluster.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "pods": 3}'])
async def test_a_damaged_state_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InconclusiveError, match="is damaged: restore it"):
        await SandboxCluster.open(tmp_path)
    assert (tmp_path / "state.json").read_text() == text
    (tmp_path / "state.json").unlink()
    await (await SandboxCluster.open(tmp_path)).close()  # the folder was let go


async def test_the_state_of_another_version_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format": 2}')
    with pytest.raises(InconclusiveError, match="was written by another version"):
        await SandboxCluster.open(tmp_path)


async def test_no_process_outlives_its_pod_or_the_sandbox(web: SandboxCluster, tmp_path: Path) -> None:
    pids: list[int] = []

    async def sleeper() -> None:
        async with web.exec("default", "web-0", "app", ["sh", "-c", "echo $$; sleep 600 & sleep 600"]) as process:
            pids.append(int(await process.read()))
            await asyncio.sleep(600)

    tasks = [asyncio.create_task(sleeper()) for _ in range(2)]
    await _until(lambda: len(pids) == 2)
    pod = web.store.get(Pod, "default", "web-0")
    await web.delete_pod("default", "web-0", uid=pod.uid, grace_seconds=0)
    await _until(lambda: not any(_sessions(pid) for pid in pids))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _sessions(leader: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


async def test_what_a_statefulset_is_made_of_can_be_changed_but_not_what_it_is(web: SandboxCluster) -> None:
    await web.apply([manifests.statefulset(replicas=3, image="other")])
    found = await web.get(StatefulSet, "default", "web")
    assert (found.replicas, found.containers[0].image, found.generation) == (3, "other", 2)
    with pytest.raises(RefusedError, match="podManagementPolicy of a StatefulSet cannot be changed, only replicas"):
        await web.apply([manifests.statefulset(replicas=3, pod_management="Parallel")])
    with pytest.raises(RefusedError, match="the sandbox has no Deployment"):
        await web.apply([{"kind": "Deployment", "metadata": {"name": "x"}}])


async def test_min_ready_seconds_hold_the_next_pod_back(tmp_path: Path) -> None:
    cluster = await SandboxCluster.open(tmp_path)
    document: Any = manifests.statefulset(replicas=2)
    document["spec"]["minReadySeconds"] = 2
    began = time.time()
    await cluster.apply([document])
    await _ready(cluster, 2)
    assert time.time() - began >= 1  # readiness is told in whole seconds, as in Kubernetes
    await cluster.close()


async def test_events_are_kept_in_its_state(web: SandboxCluster, tmp_path: Path) -> None:
    target = await web.get(StatefulSet, "default", "web")
    for count in (1, 2):
        told = {"reason": "RunPassed", "message": "all there", "warning": False, "count": count}
        await web.post_event(target, "run-1", **told)
    await web.post_event(target, "run-2", reason="RunFailed", message="lost", warning=True, count=1)
    events = json.loads((tmp_path / "state.json").read_text())["events"]
    assert [(event["target"], event["type"], event["reason"], event["count"]) for event in events] == [
        ("default/web", "Normal", "RunPassed", 2),
        ("default/web", "Warning", "RunFailed", 1),
    ]


@pytest.mark.parametrize("program", Program)
async def test_a_disk_that_was_wiped_by_hand_is_another_file_system_when_it_is_mounted_again(
    web: SandboxCluster, tmp_path: Path, program: Program
) -> None:
    (volume,) = web.store.all(Volume)
    disk = tmp_path / "disks" / volume.handle
    before = await _facts(web, program)
    assert (before.fs_type, before.mounted, before.node_disk) == ("ext4", True, False)
    await _replaced(web)
    (disk / "file").write_text("x")
    assert (await _facts(web, program)).fsid == before.fsid
    shutil.rmtree(disk)
    (disk / "lost+found").mkdir(parents=True)
    assert (await _facts(web, program)).fsid == before.fsid, "still mounted"
    await _replaced(web)
    wiped = await _facts(web, program)
    assert wiped.fsid != before.fsid
    await _replaced(web)
    assert (await _facts(web, program)).fsid == wiped.fsid


async def test_disks_that_change_places_take_their_file_systems_with_them(tmp_path: Path) -> None:
    cluster = await SandboxCluster.open(tmp_path)
    await cluster.apply([manifests.statefulset(replicas=2)])
    await _ready(cluster, 2)
    first, second = (tmp_path / "disks" / volume.handle for volume in cluster.store.all(Volume))
    uuids = [(disk / "lost+found" / "superblock").read_text() for disk in (first, second)]
    assert len(set(uuids)) == 2
    first.rename(tmp_path / "between")
    second.rename(first)
    (tmp_path / "between").rename(second)
    await _replaced(cluster)
    assert [(disk / "lost+found" / "superblock").read_text() for disk in (second, first)] == uuids
    await cluster.close()


async def test_a_pod_whose_disk_is_not_there_does_not_start_and_an_event_says_why(
    web: SandboxCluster, tmp_path: Path
) -> None:
    (volume,) = web.store.all(Volume)
    disk = tmp_path / "disks" / volume.handle
    disk.rename(tmp_path / "away")
    await web.delete_pod("default", "web-0", uid=web.store.get(Pod, "default", "web-0").uid)
    await _until(lambda: web.store.all(ClusterEvent))
    assert [event.reason for event in web.store.all(ClusterEvent)] == ["FailedMount"]
    (tmp_path / "away").rename(disk)
    await _ready(web)


async def test_an_empty_dir_is_on_the_nodes_own_disk(tmp_path: Path) -> None:
    cluster = await SandboxCluster.open(tmp_path)
    await cluster.apply([manifests.statefulset(replicas=1, claim=False)])
    await _ready(cluster)
    facts = await _facts(cluster)
    assert (facts.mounted, facts.node_disk) == (True, True)
    assert facts.mount_root.endswith("/volumes/kubernetes.io~empty-dir/disk")
    await cluster.close()


async def test_a_mount_that_goes_uncovers_the_containers_own_disk(web: SandboxCluster) -> None:
    web.disks.drop_mount(web.store.get(Pod, "default", "web-0").uid, "/data")
    facts = await _facts(web)
    assert (facts.present, facts.mounted, facts.entries) == (True, False, ())


async def test_a_node_that_crashes_restarts_its_containers_with_another_boot_id(web: SandboxCluster) -> None:
    before, pod = await _facts(web), web.store.get(Pod, "default", "web-0")
    web.crash_node(pod.node)
    assert not web.store.get(Pod, "default", "web-0").ready
    await _ready(web)
    again = web.store.get(Pod, "default", "web-0")
    assert (again.uid, again.containers[0].restarts) == (pod.uid, 1)
    after = await _facts(web)
    assert (after.boot_id, after.fsid) == (web.store.get(Node, "", pod.node).boot_id, before.fsid)
    assert after.boot_id != before.boot_id
    with pytest.raises(ValueError, match="disks that are folders cannot lie"):
        web.crash_node(pod.node, lying=True)


async def test_a_container_without_a_shell_may_have_python(tmp_path: Path) -> None:
    cluster = await SandboxCluster.open(tmp_path)
    await cluster.apply([manifests.statefulset(replicas=1, image="noshell")])
    await _ready(cluster)
    with pytest.raises(RefusedError, match='"sh": executable file not found'):
        await _run(cluster, "sh", "-c", "true")
    assert await _run(cluster, "python3", "-c", "print(1)") == "1\n"
    await cluster.close()


async def test_a_node_that_was_away_when_the_sandbox_ended_comes_back(tmp_path: Path) -> None:
    first = await SandboxCluster.open(tmp_path)
    await first.apply([manifests.statefulset(replicas=1)])
    await _ready(first)
    first.crash_node("sandbox-1", boots=False)
    await first.close()
    second = await SandboxCluster.open(tmp_path)
    assert not second.store.get(Node, "", "sandbox-1").ready
    await _ready(second)
    await second.close()
