"""`container-kill`: the container is another, the pod the same; what would not arrive is said."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chaosd.cluster.port import Pod
from chaosd.errors import BlockedError, ConflictError, NotFoundError, NotReadyError, UnreachableError
from chaosd.nemesis import heal, host_signal
from tests import manifests
from tests.nemesis.stage import Stage, spec, stage

SHARED = {"shareProcessNamespace": True}
POD = {"spec": {"containers": [{"name": "kill", "image": "busybox"}]}}


def _containers(on: Stage, name: str) -> tuple[str, int]:
    (container,) = on.view.pods[name].containers
    return container.id, container.restarts


async def test_the_container_runs_again_in_the_same_pod() -> None:
    async with stage() as on:
        before, uids = {name: _containers(on, name) for name in on.uids}, on.uids
        evidence = await on.done(spec("container-kill", ordinals=[0, 2]))
        await on.converged(3)
        assert on.uids == uids
        for kill, name in zip(evidence["containers"], ("web-0", "web-2"), strict=True):
            now = _containers(on, name)
            assert kill["was"] == {"id": before[name][0], "restarts": 0}
            assert kill["is"] == {"id": now[0], "restarts": 1}
            assert now != before[name]
        assert _containers(on, "web-1") == before["web-1"]


async def test_kill_arrives_only_where_processes_are_shared() -> None:
    async with stage() as on:
        before = _containers(on, "web-0")
        with pytest.raises(BlockedError, match=r"KILL would not end container app of web-0: .*shareProcess") as caught:
            await on.done(spec("container-kill", signal="KILL", pick="lowest"))
        assert (caught.value.reason, _containers(on, "web-0")) == ("refused", before)
    async with stage(manifests.statefulset(replicas=1, pod=SHARED)) as on:
        evidence = await on.done(spec("container-kill", signal="KILL"))
        assert evidence["containers"][0]["is"]["restarts"] == 1


async def test_a_container_that_is_not_there_is_not_killed() -> None:
    async with stage() as on:
        with pytest.raises(NotReadyError, match="container sidecar of web-0 cannot be killed: it is not running"):
            on.prepared(spec("container-kill", container="sidecar", pick="lowest"))


@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["while it is away", "when it runs again"])
async def test_an_answer_that_was_lost_is_known_by_its_result(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    async with stage() as on:
        send, lost = on.cluster.signal_container, iter([True])

        async def loses(*args: str, **meant: str) -> None:
            await send(*args, **meant)
            await asyncio.sleep(seconds)
            if next(lost, False):
                raise UnreachableError("the connection broke")

        monkeypatch.setattr(on.cluster, "signal_container", loses)
        evidence = await on.done(spec("container-kill", pick="lowest"))
        assert evidence["containers"][0]["is"]["restarts"] == 1
        await on.converged(3)
        assert _containers(on, "web-0")[1] == 1


async def test_a_container_that_somebody_else_restarted_first_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as on:
        prepared = on.prepared(spec("container-kill", pick="lowest"))
        await on.done(spec("container-kill", pick="lowest"))
        with pytest.raises(ConflictError, match="app of default/web-0 is"):
            await spec("container-kill").invoke(on.scene, prepared)
        assert _containers(on, "web-0")[1] == 1


async def test_a_refusal_after_an_answer_that_was_lost_is_one_where_nothing_came_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with stage() as on:
        send, lost = on.cluster.signal_container, iter([True])

        async def loses(*args: str, **meant: str) -> None:
            if next(lost, False):
                raise UnreachableError("the connection broke")
            await send(*args, **meant)

        monkeypatch.setattr(on.cluster, "signal_container", loses)
        with pytest.raises(BlockedError, match="KILL would not end container app of web-0"):
            await on.done(spec("container-kill", signal="KILL", pick="lowest"))


async def test_a_helper_that_may_not_run_is_said_and_taken_away() -> None:
    """The sandbox's nodes have no processes, so it refuses pods with hostPID as Pod Security would."""
    kill = spec("container-kill", signal="KILL", pick="lowest", hostHelper={"image": "busybox"})
    async with stage() as on:
        prepared = on.prepared(kill)
        assert prepared.undo is not None
        assert prepared.undo["helpers"] == [f"chaosd-kill-{on.uids['web-0']}-0"]
        with pytest.raises(BlockedError, match=r"the helper with the node's processes may not run: .*hostPID") as caught:
            await on.done(kill)
        assert caught.value.reason == "refused"
        assert "is gone" in await heal(on.cluster, prepared.undo, 5.0)


async def test_a_helper_is_taken_away_wherever_it_is() -> None:
    async with stage() as on:
        await on.cluster.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": "kill"}, **POD}
        )
        undo = {"kind": "container-kill", "namespace": "default", "helpers": ["kill", "never-made"]}
        assert await heal(on.cluster, undo, 5.0) == "helper default/kill deleted; helper default/never-made is gone"
        with pytest.raises(NotFoundError):
            await on.cluster.get(Pod, "default", "kill")


def test_the_helper_takes_rights_where_it_runs() -> None:
    assert ("create", "pods", "tools") in spec("container-kill", hostHelper={"image": "b", "namespace": "tools"}).needs(
        "shop"
    )
    assert ("create", "pods", "shop") in spec("container-kill", hostHelper={"image": "b"}).needs("shop")
    assert ("create", "pods", "shop") not in spec("container-kill").needs("shop")


@pytest.fixture
def proc(tmp_path: Path) -> Callable[[int, int, int, str], None]:
    """Writes what /proc has of a process: its id, its parent's, when it started, and its cgroup."""

    def written(pid: int, parent: int, started: int, cgroup: str) -> None:
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")
        fields = ["S", str(parent), *["0"] * 17, str(started), "0"]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {' '.join(fields)}\n")

    return written


def from_node(proc: Path, container_id: str, signal: str = "0") -> subprocess.CompletedProcess[str]:
    program = Path(host_signal.__file__).with_name("host_signal.sh").read_text()
    argv = ["sh", "-c", program, "chaosd-host-signal", container_id, signal]
    return subprocess.run(argv, env={"CHAOSD_PROC": str(proc)}, capture_output=True, text=True, timeout=60, check=False)


def test_from_the_node_the_first_process_of_the_container_is_found(
    proc: Callable[[int, int, int, str], None], tmp_path: Path
) -> None:
    """The oldest whose parent is not of the container: neither its child, nor what exec started, nor the shim."""
    with subprocess.Popen(["sleep", "60"]) as first:
        proc(1, 0, 1, "/init.scope")
        proc(50, 1, 5, "/system.slice/containerd")
        proc(first.pid, 50, 100, "/kubepods/pod1/cri-containerd-abc123.scope")
        proc(first.pid + 1, first.pid, 101, "/kubepods/pod1/cri-containerd-abc123.scope")
        proc(first.pid + 2, 50, 200, "/kubepods/pod1/cri-containerd-abc123.scope")
        proc(first.pid + 3, 50, 10, "/kubepods/pod1/cri-containerd-def456.scope")
        assert from_node(tmp_path, "abc123", "KILL").returncode == 0
        assert first.wait(60) == -signal.SIGKILL


def test_from_the_node_nobody_is_signalled_for_a_container_that_is_not_there(
    proc: Callable[[int, int, int, str], None], tmp_path: Path
) -> None:
    proc(1, 0, 1, "/init.scope")
    for container_id, says in (("abc123", "no process on this node has abc123 in its cgroup"), ("", "is no container id")):
        done = from_node(tmp_path, container_id)
        assert (done.returncode, says in done.stderr) == (3, True)
