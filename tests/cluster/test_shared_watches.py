"""Shared watches: whoever listens is told what a watch of its own would tell, and there is one for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest

from chaosd.cluster import shared_watches
from chaosd.cluster.port import Change, ChangeKind, Claim, Cluster, Node, Pod, StatefulSet
from chaosd.cluster.shared_watches import sharing_watches
from chaosd.cluster.unreliable import Rates, UnreliableCluster
from chaosd.errors import ForbiddenError
from tests.cluster.sandbox.simulated import Simulated, simulated
from tests.cluster.test_unreliable import Consumer, much_happens
from tests.seeds import FRESH

A, B = Node("a", "1"), Node("b", "2")
A_LATER = Node("a", "1", ready=False)
SYNCED, GAP = Change(ChangeKind.SYNCED), Change(ChangeKind.GAP)


def present(node: Node) -> Change:
    return Change(ChangeKind.PRESENT, node)


class Telling:
    """A cluster whose watch tells what a test says; how many are open, and how many ever were."""

    kind = "telling"

    def __init__(self) -> None:
        self.open = self.opened = 0
        self._told: asyncio.Queue[Change | Exception] = asyncio.Queue()

    async def watch(self, kind: type, namespace: str) -> AsyncIterator[Change]:
        self.open += 1
        self.opened += 1
        try:
            while True:
                told = await self._told.get()
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            self.open -= 1

    async def tell(self, *told: Change | Exception) -> None:
        for one in told:
            self._told.put_nowait(one)
        await settled()


class Listening:
    """Who subscribes, and keeps all that it is told."""

    def __init__(self, cluster: Cluster, kind: type[Any] = Node, namespace: str = "") -> None:
        self.told: list[Change] = []
        self.task = asyncio.create_task(self._listen(cluster.watch(kind, namespace)))

    async def _listen(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self.told.append(change)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await settled()


async def settled() -> None:
    """Everything that can happen at once has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_comes_later_is_told_what_is_there_then_what_all_are_told() -> None:
    telling = Telling()
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        early = Listening(cluster)
        await telling.tell(present(A), SYNCED, Change(ChangeKind.ADDED, B), Change(ChangeKind.MODIFIED, A_LATER))
        late = Listening(cluster)
        await settled()
        assert late.told == [present(A_LATER), present(B), SYNCED]
        await telling.tell(Change(ChangeKind.DELETED, B))
        assert late.told[3:] == [Change(ChangeKind.DELETED, B)] == early.told[4:]
        assert early.told[:2] == [present(A), SYNCED]
        assert (telling.opened, cluster.kind) == (1, "telling")


async def test_who_comes_before_the_first_list_ends_or_within_a_gap_is_told_once_everything_is_known() -> None:
    telling = Telling()
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        first = Listening(cluster)
        await telling.tell(present(A))
        second = Listening(cluster)
        await telling.tell(present(B), SYNCED)
        assert first.told == second.told == [present(A), present(B), SYNCED]
        await telling.tell(GAP, Change(ChangeKind.DELETED, B))
        third = Listening(cluster)
        await settled()
        assert third.told == []
        await telling.tell(Change(ChangeKind.MODIFIED, A_LATER), SYNCED)
        assert third.told == [present(A_LATER), SYNCED]
        differs = [Change(ChangeKind.DELETED, B), Change(ChangeKind.MODIFIED, A_LATER)]
        assert first.told[3:] == second.told[3:] == [GAP, *differs, SYNCED]


async def test_there_is_one_informer_for_each_kind_and_namespace_and_it_ends_with_its_last_subscriber() -> None:
    telling = Telling()
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        listening = [Listening(cluster, Pod, namespace) for namespace in ("a", "a", "b")] + [Listening(cluster)]
        await settled()
        assert telling.open == 3
        await listening[0].leave()
        assert telling.open == 3
        await listening[1].leave()
        assert telling.open == 2
        Listening(cluster, Pod, "a")
        await settled()
        assert (telling.open, telling.opened) == (3, 4)
    assert telling.open == 0


async def test_what_a_watch_cannot_go_on_after_all_subscribers_are_told_and_the_next_one_asks_again() -> None:
    telling = Telling()
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        both = [Listening(cluster), Listening(cluster)]
        await telling.tell(ForbiddenError("list nodes is not allowed"))
        for listening in both:
            with pytest.raises(ForbiddenError, match="list nodes is not allowed"):
                await listening.task
        granted = Listening(cluster)
        await telling.tell(present(A), SYNCED)
        assert granted.told == [present(A), SYNCED]
        assert (telling.open, telling.opened) == (1, 2)


async def test_what_came_before_the_error_is_told_first() -> None:
    telling = Telling()
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        slow = cluster.watch(Node, "")
        waiting = asyncio.ensure_future(anext(slow))
        await telling.tell(SYNCED, Change(ChangeKind.ADDED, A), ForbiddenError("no more"))
        assert [await waiting, await anext(slow)] == [SYNCED, Change(ChangeKind.ADDED, A)]
        with pytest.raises(ForbiddenError, match="no more"):
            await anext(slow)


async def test_a_slow_subscriber_delays_nobody_and_past_the_limit_is_told_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_watches, "UNTOLD_KEPT", 6)
    telling = Telling()
    c, d = Node("c", "3"), Node("d", "4")
    async with sharing_watches(cast(Cluster, telling)) as cluster:
        quick, slow = Listening(cluster), cluster.watch(Node, "")
        waiting = asyncio.ensure_future(anext(slow))
        await telling.tell(present(A), present(c), SYNCED)
        assert await waiting == present(A)
        changes = [
            Change(ChangeKind.ADDED, B),
            Change(ChangeKind.MODIFIED, A_LATER),
            Change(ChangeKind.DELETED, B),
            Change(ChangeKind.MODIFIED, A),
            Change(ChangeKind.DELETED, c),
            Change(ChangeKind.ADDED, d),
            Change(ChangeKind.MODIFIED, A_LATER),
            Change(ChangeKind.MODIFIED, A),
        ]
        await telling.tell(*changes)
        assert quick.told[3:] == changes
        await telling.tell(GAP)
        rest = [await anext(slow) for _ in range(8)]
        assert rest == [
            present(c),
            SYNCED,
            GAP,
            Change(ChangeKind.DELETED, c),
            Change(ChangeKind.MODIFIED, A),
            Change(ChangeKind.ADDED, d),
            SYNCED,
            GAP,
        ]
        again = [Change(ChangeKind.MODIFIED, node) for node in (A_LATER, A, A_LATER, d, A, d, A_LATER)]
        await telling.tell(*again, *again, SYNCED)  # too much again, and within a gap
        told = [await anext(slow) for _ in range(3)]
        assert told == [Change(ChangeKind.MODIFIED, A_LATER), Change(ChangeKind.MODIFIED, d), SYNCED]


async def test_however_long_a_subscriber_sleeps_no_more_is_kept_for_it_than_the_limit_and_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_watches, "UNTOLD_KEPT", 50)
    subscriber = shared_watches._Subscriber()
    subscriber.begin([A, B])
    nodes = [Node(f"n{number % 10}", "1", ready=bool(number % 3)) for number in range(10_000)]
    for number, node in enumerate(nodes):
        subscriber.tell(Change(ChangeKind.ADDED if number < 10 else ChangeKind.MODIFIED, node), is_synced=True)
        assert len(subscriber._untold) <= 3 + 50 + 10 + 3
    told = {change.object.name: change.object for change in subscriber._untold if change.object}
    assert told == {**{node.name: node for node in nodes}, "a": A, "b": B}


class Sleepy(Consumer):
    """One that stops to think; when it was away too long, it may be told of what it knows already."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng

    async def follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            if change.kind is ChangeKind.MODIFIED and self.known.get(shared_watches.key_of(change.object)) == change.object:
                continue
            self._take(change)
            await asyncio.sleep(self._rng.choice((0, 0, 0.5)))


@pytest.mark.parametrize("seed", [*range(6), FRESH])
def test_whoever_comes_and_goes_each_is_told_in_the_end_what_is_so(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_watches, "UNTOLD_KEPT", 20)
    rng = Random(seed)
    rates = Rates(watch_gap=0.1, watch_late=0.2, gap_seconds=0.2, late_seconds=0.1)

    async def check(sim: Simulated) -> None:
        async with sharing_watches(cast(Cluster, UnreliableCluster(sim.cluster, rng, rates))) as cluster:
            following: list[tuple[type[Any], Consumer, asyncio.Task[None]]] = []

            def begin(kind: type[Any], namespace: str = "") -> None:
                consumer = rng.choice((Consumer, lambda: Sleepy(rng)))()
                following.append((kind, consumer, asyncio.create_task(consumer.follow(cluster.watch(kind, namespace)))))

            async def come_and_go() -> None:
                while True:
                    begin(*rng.choice(((Pod, ""), (Pod, "default"), (Claim, "default"), (Node, ""), (StatefulSet, ""))))
                    await asyncio.sleep(rng.uniform(0, 0.5))
                    if rng.random() < 0.7:
                        following.pop(rng.randrange(len(following)))[2].cancel()

            coming = asyncio.create_task(come_and_go())
            await much_happens(sim)
            coming.cancel()
            await asyncio.sleep(120)
            assert following
            for kind, consumer, task in following:
                assert not task.done()
                assert sorted(consumer.known.values(), key=lambda one: one.name) == sim.store.all(kind)
                task.cancel()

    simulated(check, seed=seed)
