"""A cluster whose watches are shared: one informer for each kind and namespace, however many targets look at it.

Each subscriber is told what an informer of its own would tell: everything that is there as PRESENT, SYNCED, then changes in
their order, GAPs among them. What it is told first is what the informer knows by then, a moment behind the API server as
every watch is. A slow one delays nobody: what it was not told yet is kept for it, up to a limit; past that it is told of a
GAP, as if it had been cut off, and of each object only what became of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, cast

from chaosd.cluster.port import Change, ChangeKind, Cluster, Object, T, key_of

# Changes that are kept for a subscriber before they are summed up, beside one for each object.
UNTOLD_KEPT = 10_000

_KNOWN_BEFORE = frozenset({ChangeKind.MODIFIED, ChangeKind.DELETED})


@asynccontextmanager
async def sharing_watches(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The same cluster, whose watches are shared until the context ends."""
    shared = _SharedWatches(cluster)
    try:
        yield cast(Cluster, shared)
    finally:
        await shared.end()


class _SharedWatches:
    """Passes everything on but `watch`."""

    def __init__(self, inner: Cluster) -> None:
        self._inner = inner
        self._informers: dict[tuple[type[Object], str], _Informer] = {}
        self._running: set[asyncio.Task[None]] = set()  # ended ones, too, until they have freed what they held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """See the port. The informer ends when its last subscriber leaves; what it cannot go on after, all are told."""
        key = kind, namespace
        informer = self._informers.get(key) or self._begun(key, self._inner.watch(kind, namespace))
        subscriber = informer.subscribe()
        try:
            while change := await subscriber.next():
                yield change
        finally:
            if not informer.leave(subscriber):
                informer.task.cancel()
                self._forget(key, informer)

    async def end(self) -> None:
        """End every informer, whoever still listens."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begun(self, key: tuple[type[Object], str], changes: AsyncIterator[Change]) -> _Informer:
        informer = self._informers[key] = _Informer(changes, f"watch {key[0].__name__} {key[1]}".strip())
        self._running.add(informer.task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            self._forget(key, informer)
            informer.ended(None if task.cancelled() else task.exception())

        informer.task.add_done_callback(ended)
        return informer

    def _forget(self, key: tuple[type[Object], str], informer: _Informer) -> None:
        """Whoever comes next begins anew."""
        if self._informers.get(key) is informer:
            del self._informers[key]


class _Informer:
    """One watch, what is known from it, and who listens."""

    def __init__(self, changes: AsyncIterator[Change], name: str) -> None:
        self._known: dict[str, Object] = {}
        self._is_synced = False
        self._subscribers: dict[_Subscriber, None] = {}  # in their order, so that two runs of one seed are the same
        self.task = asyncio.create_task(self._inform(changes), name=name)

    def subscribe(self) -> _Subscriber:
        """One more who listens; told nothing before everything is known, as after a list."""
        subscriber = _Subscriber()
        self._subscribers[subscriber] = None
        if self._is_synced:
            subscriber.begin(self._known.values())
        return subscriber

    def leave(self, subscriber: _Subscriber) -> int:
        """How many are left."""
        self._subscribers.pop(subscriber, None)
        return len(self._subscribers)

    def ended(self, error: BaseException | None) -> None:
        """Nothing more will come; tell everybody why."""
        for subscriber in self._subscribers:
            subscriber.end(error)

    async def _inform(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._take(change)
            for subscriber in self._subscribers:
                if subscriber.has_begun:
                    subscriber.tell(change, is_synced=self._is_synced)
                elif self._is_synced:
                    subscriber.begin(self._known.values())

    def _take(self, change: Change) -> None:
        if change.object is None:
            self._is_synced = change.kind is ChangeKind.SYNCED
        elif change.kind is ChangeKind.DELETED:
            self._known.pop(key_of(change.object), None)
        else:
            self._known[key_of(change.object)] = change.object


class _Subscriber:
    """What one watcher was not told yet."""

    def __init__(self) -> None:
        self.has_begun = False
        self._untold: deque[Change] = deque()
        self._first = 0  # of the first list, untold still
        self._in_gap = False  # as far as it was told
        self._limit = UNTOLD_KEPT
        self._more = asyncio.Event()
        self._has_ended = False
        self._error: BaseException | None = None

    async def next(self) -> Change | None:
        """What it is told next, as soon as there is something; None once nothing more will come. Raises what ended the
        watch."""
        while not self._untold:
            if self._error:
                raise self._error
            if self._has_ended:
                return None
            self._more.clear()
            await self._more.wait()
        self._first = max(0, self._first - 1)
        change = self._untold.popleft()
        if change.object is None:
            self._in_gap = change.kind is ChangeKind.GAP
        return change

    def begin(self, known: Iterable[Object]) -> None:
        """What is there."""
        self.has_begun = True
        self._untold.extend(Change(ChangeKind.PRESENT, found) for found in known)
        self._untold.append(Change(ChangeKind.SYNCED))
        self._first = len(self._untold)
        self._limit = self._first + UNTOLD_KEPT
        self._more.set()

    def tell(self, change: Change, *, is_synced: bool) -> None:
        """One more change, after which everything is known or, after a gap, not yet."""
        self._untold.append(change)
        if len(self._untold) > self._limit:
            self._sum_up(is_synced=is_synced)
        self._more.set()

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come."""
        self._has_ended, self._error = True, error
        self._more.set()

    def _sum_up(self, *, is_synced: bool) -> None:
        """What came since the first list becomes a gap, and what differs after it."""
        first = list(islice(self._untold, self._first))
        differs = _differs(islice(self._untold, self._first, None))
        gap = [] if self._in_gap else [Change(ChangeKind.GAP)]
        synced = [Change(ChangeKind.SYNCED)] if is_synced else []
        self._untold = deque([*first, *gap, *differs, *synced])
        self._limit = len(self._untold) + UNTOLD_KEPT


def _differs(changes: Iterable[Change]) -> Iterator[Change]:
    """What became of each object by changes that were not told, as a list tells it after a gap: what is gone first, in the
    state that was known of it, since another of its name may have come and gone."""
    first: dict[str, Change] = {}
    last: dict[str, Change] = {}
    for change in changes:
        if change.object is not None:
            key = key_of(change.object)
            first.setdefault(key, change)
            last[key] = change
    gone = {key for key, change in last.items() if change.kind is ChangeKind.DELETED}
    for key in first:
        if key in gone and first[key].kind in _KNOWN_BEFORE:
            if first[key].kind is ChangeKind.MODIFIED:  # perhaps another than was known, by the same name
                yield first[key]
            yield Change(ChangeKind.DELETED, first[key].object)
    for key, change in last.items():
        if key not in gone:
            was_known = first[key].kind in _KNOWN_BEFORE
            yield Change(ChangeKind.MODIFIED if was_known else ChangeKind.ADDED, change.object)
