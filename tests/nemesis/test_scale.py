"""`scale` and its undo: what is left behind, whatever came between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosd.cluster.port import StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.errors import ConflictError, UnreachableError
from chaosd.nemesis import heal
from chaosd.nemesis.scale import set_replicas
from tests import manifests

UNDO = {"kind": "scale", "namespace": "default", "statefulset": "web", "restore": 2, "wrote": [0]}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SandboxCluster]:
    opened = await SandboxCluster.open(tmp_path)
    await opened.apply([manifests.statefulset(replicas=2)])
    yield opened
    await opened.close()


async def _scaled(cluster: SandboxCluster, to: int) -> None:
    """As `scale` does it."""
    found = cluster.store.get(StatefulSet, "default", "web")
    await set_replicas(cluster, found.key, found.uid, found.replicas, to, 30.0)


async def _replicas(cluster: SandboxCluster) -> int:
    return (await cluster.get(StatefulSet, "default", "web")).replicas


async def test_an_undo_does_not_overtake_what_it_undoes(cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal cancels the scaling while its request is on the way: the server carries it out all the same."""
    scale, sent = cluster.scale, asyncio.Event()

    async def slow(*args: Any, **options: Any) -> None:
        sent.set()
        await asyncio.shield(asyncio.create_task(_later(scale(*args, **options))))

    async def _later(request: Any) -> None:
        await asyncio.sleep(0.1)
        await request

    monkeypatch.setattr(cluster, "scale", slow)
    scaling = asyncio.create_task(_scaled(cluster, 0))
    await sent.wait()
    scaling.cancel()
    await asyncio.gather(scaling, return_exceptions=True)
    assert "scaled from 0 back to 2" in await heal(cluster, UNDO, 5.0)
    await asyncio.sleep(0.3)
    assert await _replicas(cluster) == 2


async def test_an_undo_is_tried_until_the_api_server_is_back(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _scaled(cluster, 0)
    get, failures = cluster.get, iter([True, True, False])

    async def away(*args: Any) -> Any:
        if next(failures, False):
            raise UnreachableError("no answer")
        return await get(*args)

    monkeypatch.setattr(cluster, "get", away)
    await heal(cluster, UNDO, 30.0)
    assert await _replicas(cluster) == 2


async def test_an_undo_may_be_repeated(cluster: SandboxCluster) -> None:
    await _scaled(cluster, 0)
    assert "scaled from 0 back to 2" in await heal(cluster, UNDO, 5.0)
    assert "has its 2 replicas" in await heal(cluster, UNDO, 5.0)


async def test_a_count_that_somebody_else_wrote_is_left(cluster: SandboxCluster) -> None:
    await _scaled(cluster, 5)
    with pytest.raises(ConflictError, match="somebody else scaled it, so it is left; kubectl -n default scale"):
        await heal(cluster, UNDO, 5.0)
    assert await _replicas(cluster) == 5


async def test_an_answer_that_was_lost_is_known_by_its_result(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale, lost = cluster.scale, iter([True])

    async def loses(*args: Any, **options: Any) -> None:
        await scale(*args, **options)
        if next(lost, False):
            raise UnreachableError("the connection broke")

    monkeypatch.setattr(cluster, "scale", loses)
    await _scaled(cluster, 1)
    assert await _replicas(cluster) == 1


async def test_what_took_the_place_of_the_one_that_was_meant_is_not_scaled(cluster: SandboxCluster) -> None:
    found = cluster.store.get(StatefulSet, "default", "web")
    cluster.store.put(replace(found, uid="another"))
    with pytest.raises(ConflictError, match=f"precondition .{found.uid}. does not match"):
        await set_replicas(cluster, found.key, found.uid, 2, 0, 5.0)
    assert await _replicas(cluster) == 2


async def test_an_undo_restores_the_count_of_one_that_was_made_anew_since(cluster: SandboxCluster) -> None:
    await _scaled(cluster, 0)
    cluster.store.put(replace(cluster.store.get(StatefulSet, "default", "web"), uid="another"))
    assert "scaled from 0 back to 2" in await heal(cluster, UNDO, 5.0)
    assert await _replicas(cluster) == 2
