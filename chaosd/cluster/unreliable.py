"""A cluster that is seen through a bad connection: requests fail, exec breaks off, watches lose events.

It does what the Kubernetes adapter could do at its worst, and nothing that the port rules out: no answer is made up, the
events of one watch keep their order, and what a gap hid is told after it. Everything is drawn from one random generator,
so that in virtual time the same seed breaks the same things.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from chaosd.cluster.port import (
    Change,
    ChangeKind,
    Cluster,
    EphemeralContainer,
    ExecStream,
    Lease,
    Namespace,
    Object,
    Pod,
    Room,
    StatefulSet,
    T,
    key_of,
)
from chaosd.errors import SessionLostError, ThrottledError, UnreachableError

Answer = TypeVar("Answer")

# Where a reply breaks off: within its first bytes, its first lines, its first files, or far into it.
_CUTS_BYTES = (1, 64, 4096, 200_000)
_STATUSES = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout"}


@dataclass(frozen=True, slots=True)
class Rates:
    """The chance of each fault, from 0 to 1, and how long the longest take.

    Of a request: that it fails undone with 429, 500, 503 or 504; that it is done, but its answer is lost (504); that it is
    slow. Of an exec: that it cannot be opened; and of each piece that is written to it: that the connection breaks before
    all of it is sent (`exec_cut`), or while it is answered (`exec_drop`); that the answer ends early as if all were well
    (`exec_truncate`, kubernetes/kubernetes#124571). Of each piece that is read: that it comes in two.

    Of each change that a watch tells: that the watch must be listed anew instead, with a gap (410); that it and what comes
    after it are late; that it is told twice, which the Kubernetes adapter never does. A watch that just closes is no fault
    of its own: that adapter goes on where it was (kubernetes/informer.py), so that all it can do is to be late.
    """

    request: float = 0.0
    lost_answer: float = 0.0
    slow: float = 0.0
    exec_open: float = 0.0
    exec_cut: float = 0.0
    exec_drop: float = 0.0
    exec_truncate: float = 0.0
    exec_split: float = 0.0
    watch_gap: float = 0.0
    watch_late: float = 0.0
    watch_twice: float = 0.0
    slow_seconds: float = 1.0
    gap_seconds: float = 2.0
    late_seconds: float = 1.0


class UnreliableCluster:
    """A Cluster around another one. `rates` may be replaced while it is used; `faults` counts what was done to whom."""

    def __init__(self, inner: Cluster, rng: random.Random, rates: Rates) -> None:
        self.rates = rates
        self.faults: Counter[str] = Counter()
        self._inner = inner
        self._rng = rng

    @property
    def kind(self) -> str:
        """See the port."""
        return self._inner.kind

    async def version(self) -> str:
        """See the port."""
        return await self._asked("version", lambda: self._inner.version())

    async def cluster_id(self) -> str:
        """See the port."""
        return await self._asked("cluster_id", lambda: self._inner.cluster_id())

    async def clock(self) -> float:
        """See the port."""
        return await self._asked("clock", lambda: self._inner.clock())

    async def node_clock(self, node: str) -> float:
        """See the port."""
        return await self._asked("node_clock", lambda: self._inner.node_clock(node))

    async def volume_room(self, node: str) -> Mapping[str, Room]:
        """See the port."""
        return await self._asked("volume_room", lambda: self._inner.volume_room(node))

    async def get(self, kind: type[T], namespace: str, name: str) -> T:
        """See the port."""
        return await self._asked("get", lambda: self._inner.get(kind, namespace, name))

    async def list(self, kind: type[T], namespace: str, selector: Mapping[str, str] | None = None) -> Sequence[T]:
        """See the port."""
        return await self._asked("list", lambda: self._inner.list(kind, namespace, selector))

    def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """See the port."""
        return self._watched(self._inner.watch(kind, namespace))

    async def delete_pod(
        self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """See the port."""
        deleting = partial(self._inner.delete_pod, namespace, name, uid=uid, grace_seconds=grace_seconds, dry_run=dry_run)
        await self._asked("delete_pod", deleting)

    async def evict_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """See the port."""
        await self._asked("evict_pod", lambda: self._inner.evict_pod(namespace, name, uid=uid, grace_seconds=grace_seconds))

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        """See the port."""
        adding = partial(self._inner.add_ephemeral_container, namespace, pod, container, uid=uid)
        await self._asked("add_ephemeral_container", adding)

    async def scale(self, namespace: str, name: str, *, uid: str, replicas: int, expected: int) -> None:
        """See the port."""
        scaling = partial(self._inner.scale, namespace, name, uid=uid, replicas=replicas, expected=expected)
        await self._asked("scale", scaling)

    @asynccontextmanager
    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str]) -> AsyncIterator[ExecStream]:
        """See the port. A connection that broke stays broken; the process may go on, as the inner cluster has it."""
        if self._happens(self.rates.exec_open, "exec cannot be opened"):
            raise self._error(f"exec into {namespace}/{pod}")
        async with self._inner.exec(namespace, pod, container, argv) as stream:
            yield _UnreliableStream(self, stream)

    async def signal_container(
        self, namespace: str, pod: str, container: str, signal: str, *, uid: str, container_id: str
    ) -> None:
        """See the port."""
        meant = {"uid": uid, "container_id": container_id}
        await self._asked(
            "signal_container", lambda: self._inner.signal_container(namespace, pod, container, signal, **meant)
        )

    async def cordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        await self._asked("cordon", lambda: self._inner.cordon(node, uid=uid, by=by))

    async def uncordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        await self._asked("uncordon", lambda: self._inner.uncordon(node, uid=uid, by=by))

    async def annotate(
        self, kind: type[StatefulSet] | type[Namespace], namespace: str, name: str, changes: Mapping[str, str | None]
    ) -> None:
        """See the port."""
        await self._asked("annotate", lambda: self._inner.annotate(kind, namespace, name, changes))

    async def restart_rollout(self, namespace: str, name: str, *, uid: str, at: str) -> None:
        """See the port."""
        await self._asked("restart_rollout", lambda: self._inner.restart_rollout(namespace, name, uid=uid, at=at))

    async def expand_claim(self, namespace: str, name: str, *, uid: str, storage: str) -> None:
        """See the port."""
        await self._asked("expand_claim", lambda: self._inner.expand_claim(namespace, name, uid=uid, storage=storage))

    async def manifest(self, namespace: str, name: str) -> Mapping[str, Any]:
        """See the port."""
        return await self._asked("manifest", lambda: self._inner.manifest(namespace, name))

    async def delete_statefulset(
        self, namespace: str, name: str, *, uid: str, orphan: bool, expected: Mapping[str, Any] | None = None
    ) -> None:
        """See the port."""
        deleting = partial(self._inner.delete_statefulset, namespace, name, uid=uid, orphan=orphan, expected=expected)
        await self._asked("delete_statefulset", deleting)

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """See the port."""
        await self._asked("create", lambda: self._inner.create(document, dry_run=dry_run))

    async def get_config(self, namespace: str, name: str) -> Mapping[str, str]:
        """See the port."""
        return await self._asked("get_config", lambda: self._inner.get_config(namespace, name))

    async def delete_config(self, namespace: str, name: str, *, expected: Mapping[str, str]) -> None:
        """See the port."""
        await self._asked("delete_config", lambda: self._inner.delete_config(namespace, name, expected=expected))

    async def get_lease(self, namespace: str, name: str) -> Lease:
        """See the port."""
        return await self._asked("get_lease", lambda: self._inner.get_lease(namespace, name))

    async def put_lease(self, lease: Lease) -> Lease:
        """See the port."""
        return await self._asked("put_lease", lambda: self._inner.put_lease(lease))

    async def delete_lease(self, lease: Lease) -> None:
        """See the port."""
        await self._asked("delete_lease", lambda: self._inner.delete_lease(lease))

    async def allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """See the port."""
        return await self._asked("allowed", lambda: self._inner.allowed(verb, resource, namespace))

    async def post_event(
        self, about: StatefulSet | Pod, topic: str, *, reason: str, message: str, warning: bool, count: int
    ) -> None:
        """See the port."""
        told: dict[str, Any] = {"reason": reason, "message": message, "warning": warning, "count": count}
        posting = partial(self._inner.post_event, about, topic, **told)
        await self._asked("post_event", posting)

    async def close(self) -> None:
        """See the port."""
        await self._inner.close()

    async def _asked(self, what: str, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """A request that may fail, before it is done or after."""
        rates = self.rates
        if self._happens(rates.slow, "request slow"):
            await asyncio.sleep(self._rng.uniform(0, rates.slow_seconds))
        if self._happens(rates.request, "request failed"):
            raise self._error(what)
        answer = await request()
        if self._happens(rates.lost_answer, "answer lost"):
            raise UnreachableError(f"{what}: no answer in time (504)")
        return answer

    async def _watched(self, changes: AsyncIterator[Change]) -> AsyncIterator[Change]:
        """What a watch tells, with the faults of one. It knows what the consumer knows, to tell it the rest after a gap."""
        knowledge = _Knowledge()
        ahead: asyncio.Future[Change] | None = None
        try:
            while True:
                change = await (ahead or anext(changes))
                ahead = None
                rates = self.rates
                if knowledge.is_synced and self._happens(rates.watch_gap, "watch gap"):
                    knowledge.happened(change)
                    await asyncio.sleep(self._rng.uniform(0, rates.gap_seconds))
                    ahead = await _caught_up(changes, knowledge)
                    yield Change(ChangeKind.GAP)
                    for missed in knowledge.missed():
                        yield missed
                    yield Change(ChangeKind.SYNCED)
                    continue
                if self._happens(rates.watch_late, "watch late"):
                    await asyncio.sleep(self._rng.uniform(0, rates.late_seconds))
                knowledge.told(change)
                yield change
                if change.kind is ChangeKind.MODIFIED and self._happens(rates.watch_twice, "watch twice"):
                    yield change
        finally:
            if ahead is not None:
                ahead.cancel()

    def _happens(self, rate: float, fault: str) -> bool:
        # No draw for what is switched off: other faults are then drawn as if it did not exist.
        happens = rate > 0 and self._rng.random() < rate
        if happens:
            self.faults[fault] += 1
        return happens

    def _error(self, what: str) -> ThrottledError | UnreachableError:
        status = self._rng.choice(list(_STATUSES))
        error = ThrottledError if status == 429 else UnreachableError
        return error(f"{what}: {_STATUSES[status]} ({status})")


class _UnreliableStream:
    """An ExecStream whose connection may break."""

    def __init__(self, cluster: UnreliableCluster, inner: ExecStream) -> None:
        self._cluster = cluster
        self._inner = inner
        self._broken = False
        self._breaks_after: int | None = None  # bytes
        self._truncates = False
        self._ended = False
        self._rest = b""

    async def write(self, data: bytes) -> None:
        """See the port."""
        self._refuse_broken()
        cluster, rng = self._cluster, self._cluster._rng
        if cluster._happens(cluster.rates.exec_cut, "request cut off"):
            self._broken = True
            await self._inner.write(data[: rng.randrange(len(data) + 1)])
            self._refuse_broken()
        for rate, truncates in ((cluster.rates.exec_drop, False), (cluster.rates.exec_truncate, True)):
            if self._breaks_after is None and cluster._happens(rate, "reply truncated" if truncates else "exec dropped"):
                self._breaks_after, self._truncates = rng.randrange(rng.choice(_CUTS_BYTES)), truncates
        await self._inner.write(data)

    async def close_stdin(self) -> None:
        """See the port."""
        self._refuse_broken()
        await self._inner.close_stdin()

    async def read(self) -> bytes:
        """See the port."""
        self._refuse_broken()
        if self._ended:
            return b""
        if self._breaks_after == 0:
            return self._break()
        piece = self._rest or await self._inner.read()
        self._rest = b""
        if len(piece) > 1 and self._cluster._happens(self._cluster.rates.exec_split, "piece split"):
            at = self._cluster._rng.randrange(1, len(piece))
            piece, self._rest = piece[:at], piece[at:]
        if self._breaks_after is None:
            return piece
        piece = piece[: self._breaks_after]
        self._breaks_after -= len(piece)
        return piece

    @property
    def exit_status(self) -> int | None:
        """See the port."""
        return 0 if self._ended else self._inner.exit_status

    @property
    def stderr(self) -> bytes:
        """See the port."""
        return self._inner.stderr

    def _break(self) -> bytes:
        if self._truncates:
            self._ended = True
            return b""
        self._broken = True
        self._refuse_broken()
        raise AssertionError("it is broken")

    def _refuse_broken(self) -> None:
        if self._broken:
            raise SessionLostError("the exec connection broke: connection reset by peer")


class _Knowledge:
    """What the consumer of a watch was told, and what is the case."""

    def __init__(self) -> None:
        self.is_synced = False
        self._told: dict[str, Object] = {}
        self._is: dict[str, Object] = {}

    def told(self, change: Change) -> None:
        """The consumer knows this now."""
        self.happened(change)
        _keep(self._told, change)
        self.is_synced |= change.kind is ChangeKind.SYNCED

    def happened(self, change: Change) -> None:
        """This is so, though the consumer may not know it."""
        _keep(self._is, change)

    def missed(self) -> list[Change]:
        """What it does not know, in the order in which a new list tells it: what is gone, then by name. A name that stands
        for another object now is told as modified, since a list knows no more. Source: kubernetes/informer.py."""
        missed = [Change(ChangeKind.DELETED, one) for key, one in self._told.items() if key not in self._is]
        for key, one in sorted(self._is.items()):
            if key not in self._told:
                missed.append(Change(ChangeKind.ADDED, one))
            elif self._told[key] != one:
                missed.append(Change(ChangeKind.MODIFIED, one))
        self._told = dict(self._is)
        return missed


def _keep(held: dict[str, Object], change: Change) -> None:
    if change.object is None:
        return
    key = key_of(change.object)
    if change.kind is ChangeKind.DELETED:
        held.pop(key, None)
    else:
        held[key] = change.object


async def _caught_up(changes: AsyncIterator[Change], knowledge: _Knowledge) -> asyncio.Future[Change]:
    """Take in what came meanwhile; returns what will come next."""
    while True:
        ahead: asyncio.Future[Change] = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        if not ahead.done():
            return ahead
        knowledge.happened(ahead.result())


# mypy holds both to the port here.
_CLUSTER: type[Cluster] = UnreliableCluster
_STREAM: type[ExecStream] = _UnreliableStream
