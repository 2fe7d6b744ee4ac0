"""The observer: what it makes of what watches tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from chaosd.cluster import objects
from chaosd.cluster import target as targets
from chaosd.cluster.observer import Observer
from chaosd.cluster.port import Change, ChangeKind, Cluster, ClusterEvent, StatefulSet
from chaosd.errors import ForbiddenError
from chaosd.history import Event
from tests import manifests

WEB = objects.statefulset(manifests.statefulset())
PULL = ClusterEvent(
    namespace="default",
    name="web-0.1",
    uid="e1",
    about_kind="Pod",
    about_name="web-0",
    about_uid="u1",
    reason="Failed",
    message="cannot pull",
    warning=True,
    count=1,
    last_seen=1.0,
)


class Watched:
    """A cluster of one StatefulSet, whose watches of events tell what a test wants told."""

    def __init__(self, events: Sequence[Change] = ()) -> None:
        self._events = events
        self.told_all = asyncio.Event()
        self.asked: list[tuple[type, str]] = []

    async def get(self, kind: type, namespace: str, name: str) -> StatefulSet:
        return WEB

    async def watch(self, kind: type, namespace: str) -> AsyncIterator[Change]:
        self.asked.append((kind, namespace))
        yield Change(ChangeKind.SYNCED)
        if kind is ClusterEvent:
            for change in self._events:
                yield change
            self.told_all.set()  # asked for more, so the last one was taken
        await asyncio.Event().wait()


class Forbidden(Watched):
    """One that lets nobody watch events."""

    async def watch(self, kind: type, namespace: str) -> AsyncIterator[Change]:
        if kind is ClusterEvent:
            self.told_all.set()
            raise ForbiddenError("no")
        async for change in super().watch(kind, namespace):
            yield change


async def _history(cluster: Watched) -> list[Mapping[str, Any]]:
    """What the observer tells of events, once it has seen all of them."""
    told: list[Event] = []
    target = targets.resolve(WEB, path="", container="", require_claim=True)

    async def sink(events: list[Event]) -> None:
        told.extend(events)

    observer = Observer(cast(Cluster, cluster), target, sink)
    running = asyncio.create_task(observer.run())
    await observer.synced(60)
    async with asyncio.timeout(60):
        await cluster.told_all.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return [{"f": event.f, **event.value} for event in told if event.f in ("event", "unobservable")]


def _told(**over: Any) -> Mapping[str, Any]:
    first = {"f": "event", "namespace": "default", "pod": "web-0", "pod_uid": "u1", "reason": "Failed"}
    return {**first, "message": "cannot pull", "count": 1, "change": "added", **over}


async def test_warnings_about_pods_of_the_target_are_told() -> None:
    other = [
        replace(PULL, uid="e2", warning=False),
        replace(PULL, uid="e3", about_name="db-0"),
        replace(PULL, uid="e4", about_kind="PersistentVolumeClaim"),
    ]
    changes = [Change(ChangeKind.ADDED, event) for event in [*other, PULL]]
    cluster = Watched(changes)
    assert await _history(cluster) == [_told()]
    assert (ClusterEvent, "default") in cluster.asked


async def test_one_that_recurs_is_told_again_only_when_it_says_something_else() -> None:
    changes = [
        Change(ChangeKind.PRESENT, PULL),
        Change(ChangeKind.MODIFIED, replace(PULL, count=2)),
        Change(ChangeKind.MODIFIED, replace(PULL, count=3, message="back-off")),
        Change(ChangeKind.DELETED, replace(PULL, count=3, message="back-off")),
        Change(ChangeKind.ADDED, replace(PULL, uid="e2")),
    ]
    assert await _history(Watched(changes)) == [
        _told(change="present"),
        _told(change="modified", count=3, message="back-off"),
        _told(),
    ]


async def test_without_the_right_to_see_events_that_is_told_and_the_rest_goes_on() -> None:
    seen = await _history(Forbidden())
    assert seen == [{"f": "unobservable", "kind": "event", "error": "no"}]
