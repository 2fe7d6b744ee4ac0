"""`container-kill`: the container is another, the pod the same; what would not arrive is said."""

from __future__ import annotations

import pytest

from chaosd.errors import BlockedError, NotReadyError, UnreachableError
from tests import manifests
from tests.nemesis.stage import Stage, spec, stage

SHARED = {"shareProcessNamespace": True}


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


async def test_an_answer_that_was_lost_is_known_by_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as on:
        send, sent = on.cluster.signal_container, []

        async def loses(*args: str, uid: str) -> None:
            sent.append(args)
            await send(*args, uid=uid)
            await on.scene.observer.wait(
                lambda view: view.pods["web-0"].containers[0].restarts or None, 5, "the container to run again"
            )
            raise UnreachableError("the connection broke")

        monkeypatch.setattr(on.cluster, "signal_container", loses)
        evidence = await on.done(spec("container-kill", pick="lowest"))
        assert evidence["containers"][0]["is"]["restarts"] == len(sent) == 1
