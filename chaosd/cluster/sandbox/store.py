"""What the sandbox's API server would hold: objects, watchers, and the file in which they outlive the process, if any."""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from chaosd.cluster.port import (
    Attachment,
    Autoscaler,
    Budget,
    Change,
    ChangeKind,
    Claim,
    ClusterEvent,
    Lease,
    Namespace,
    Node,
    Object,
    Pod,
    StatefulSet,
    T,
    Volume,
    key_of,
)
from chaosd.errors import InconclusiveError, NotFoundError

FORMAT = 1
EVENTS_KEPT = 1_000
_KINDS: tuple[type[Object], ...] = (
    *(Pod, Claim, Volume, Attachment, StatefulSet, Node, ClusterEvent),
    *(Namespace, Budget, Autoscaler),
)

Subject = TypeVar("Subject")
Kept = TypeVar("Kept", bound=Object)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the sandbox's cluster takes for what, in seconds."""

    attach: float = 0.02
    start: float = 0.05
    stop: float = 0.02
    detach: float = 0.01
    # A container runs on after its pod was force-deleted.
    orphan: float = 0.02
    # A node is away after a crash.
    reboot: float = 0.5
    # A failed mount, and an image that cannot be pulled, are tried again.
    retry: float = 0.5
    # In memory: a probe's answer, and how long a process outlives its connection with what it was sent
    # (opencontainers/runc#3359).
    answer: float = 0.001
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a PodDisruptionBudget sets. One of the two limits is set, as a number or a percentage."""

    namespace: str
    name: str
    selector: dict[str, str]
    min_available: str = ""
    max_unavailable: str = ""
    uid: str = ""


@dataclass(slots=True)
class State:
    """Everything that is stored. `manifests` are the specs of StatefulSets as they are wanted, `templates` those of pods by
    revision, `budgets` what budgets set, and `configs` the data of ConfigMaps, each by its key. What the file of an older
    version has not, has its default."""

    format: int = FORMAT
    id: str = ""
    version: int = 0
    pods: list[Pod] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    statefulsets: list[StatefulSet] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    budgets: list[Limit] = field(default_factory=list)
    namespaces: list[Namespace] = field(default_factory=list)
    autoscalers: list[Autoscaler] = field(default_factory=list)
    configs: dict[str, dict[str, str]] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    cluster_events: list[ClusterEvent] = field(default_factory=list)


_STATE = TypeAdapter(State)


class Store:
    """Objects by kind and key. Every change is told to watchers, wakes the controllers, and is on disk when `flush`
    returns; without a `path` it is nowhere but here."""

    def __init__(self, path: Path | None, rng: random.Random, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.leases: dict[str, Lease] = {}
        self.limits: dict[str, Limit] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.id = f"{rng.getrandbits(64):016x}"
        self._path = path
        self._rng = rng
        self._version = 0
        self._dirty = False
        # Each in the order of its keys.
        self._objects: dict[type[Object], dict[str, Any]] = {kind: {} for kind in _KINDS}
        self._watches: dict[type[Object], list[weakref.ref[Watch]]] = {kind: [] for kind in _KINDS}
        self._tampering: dict[type, list[Callable[[Any], Any]]] = {}

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def load(self) -> bool:
        """Take in what was stored; False where nothing was. Raises InconclusiveError for a file that is not its own."""
        if self._path is None:
            return False
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return False
        try:
            if json.loads(text).get("format") != FORMAT:
                raise InconclusiveError(f"{self._path} was written by another version: use that, or another --sandbox-dir")
            state = _STATE.validate_json(text)
        except (ValidationError, ValueError, AttributeError) as error:
            raise InconclusiveError(f"{self._path} is damaged: restore it, or name another --sandbox-dir") from error
        namespaced: list[list[Any]] = [state.pods, state.claims, state.statefulsets, state.cluster_events]
        namespaced.append(state.autoscalers)
        for found in (*namespaced, state.volumes, state.attachments, state.nodes, state.namespaces):
            for one in found:
                self._objects[type(one)][key_of(one)] = one
        self._objects = {kind: dict(sorted(held.items())) for kind, held in self._objects.items()}
        self.leases = {f"{lease.namespace}/{lease.name}": lease for lease in state.leases}
        self.limits = {f"{one.namespace}/{one.name}": one for one in state.budgets}
        self.manifests, self.templates, self.configs = state.manifests, state.templates, state.configs
        self.events, self._version = state.events, state.version
        self.id = state.id
        return True

    def flush(self) -> None:
        """Store everything, if anything changed."""
        if not self._dirty or self._path is None:
            return
        state = State(
            id=self.id,
            version=self._version,
            pods=self.all(Pod),
            claims=self.all(Claim),
            volumes=self.all(Volume),
            attachments=self.all(Attachment),
            statefulsets=self.all(StatefulSet),
            nodes=self.all(Node),
            leases=list(self.leases.values()),
            budgets=list(self.limits.values()),
            namespaces=self.all(Namespace),
            autoscalers=self.all(Autoscaler),
            configs=self.configs,
            manifests=self.manifests,
            templates=self.templates,
            events=self.events,
            cluster_events=self.all(ClusterEvent),
        )
        beside = self._path.with_suffix(".new")
        beside.write_bytes(_STATE.dump_json(state))
        os.replace(beside, self._path)
        self._dirty = False

    def all(self, kind: type[T], namespace: str = "") -> list[T]:
        """Every object of a kind, in the order of their names."""
        held = self._objects[kind].values()
        return [one for one in held if getattr(one, "namespace", "") == namespace] if namespace else list(held)

    def find(self, kind: type[T], namespace: str, name: str) -> T | None:
        """One object, or None."""
        found: T | None = self._objects[kind].get(f"{namespace}/{name}" if namespace else name)
        return found

    def get(self, kind: type[T], namespace: str, name: str) -> T:
        """One object. Raises NotFoundError."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise NotFoundError(f'{kind.__name__.lower()}s "{name}" not found')
        return found

    def put(self, changed: Kept) -> Kept:
        """Create or replace; returns what was stored."""
        kind: type[Any] = type(changed)
        if self._tampering and (tampered := self.tampered(changed)) is not changed:
            if tampered is None:
                return changed
            changed = tampered
        held, key = self._objects[kind], key_of(changed)
        before = held.get(key)
        if before == changed:
            return changed
        held[key] = changed
        if before is None and len(held) > 1:
            self._objects[kind] = dict(sorted(held.items()))
        self._tell(ChangeKind.ADDED if before is None else ChangeKind.MODIFIED, changed)
        return changed

    def remove(self, gone: Object) -> None:
        """Delete."""
        last = self._objects[type(gone)].pop(key_of(gone), None)
        if last is not None:
            self._tell(ChangeKind.DELETED, last)

    def tamper(self, kind: type[Subject], change: Callable[[Subject], Subject | None]) -> Callable[[], None]:
        """Let everything of a kind that is put pass through `change` first, which returns it as it is, changed, or None so
        that it never arrives. Returns what ends that."""
        changes = self._tampering.setdefault(kind, [])
        changes.append(change)

        def end() -> None:
            changes.remove(change)

        return end

    def tampered(self, subject: Subject) -> Subject | None:
        """What tampering makes of it."""
        found: Subject | None = subject
        for change in self._tampering.get(type(subject), ()):
            found = change(found)
            if found is None:
                break
        return found

    def touch(self) -> None:
        """Something that is no watched object changed."""
        self._version += 1
        self._dirty = True
        self.changed.set()

    def record_event(self, event: dict[str, Any]) -> None:
        """Keep an Event, of each topic the last one, and of these the last ones. Nothing follows from it."""
        about = (event["target"], event["topic"])
        others = [one for one in self.events if (one["target"], one.get("topic")) != about]
        self.events = [*others[-EVENTS_KEPT + 1 :], event]
        self._dirty = True

    def warn(self, about: Object, reason: str, message: str) -> None:
        """Tell a Warning in an Event about an object: a new one, or once more the one that said the same."""
        namespace = getattr(about, "namespace", "default")
        kind = "PersistentVolumeClaim" if isinstance(about, Claim) else type(about).__name__
        for event in self.all(ClusterEvent, namespace):
            if (event.about_uid, event.reason, event.message) == (about.uid, reason, message):
                self.put(replace(event, count=event.count + 1, last_seen=self.now()))
                return
        name = f"{about.name}.{self.hexadecimal(16)}"
        told = (kind, about.name, about.uid, reason, message, True, 1, self.now())
        self.put(ClusterEvent(namespace, name, self.uid(), *told))
        events = self.all(ClusterEvent)
        if len(events) > EVENTS_KEPT:
            self.remove(min(events, key=lambda event: event.last_seen))

    def watch(self, kind: type[T], namespace: str) -> Watch:
        """PRESENT objects, SYNCED, then every change, without end."""
        watch = Watch(namespace)
        for present in self.all(kind, namespace):
            watch.tell(Change(ChangeKind.PRESENT, present))
        watch.tell(Change(ChangeKind.SYNCED))
        watches = self._watches[kind]
        watches.append(weakref.ref(watch, watches.remove))
        return watch

    def uid(self) -> str:
        """A new UID."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def hexadecimal(self, digits: int) -> str:
        """A random name part."""
        return f"{self._rng.getrandbits(digits * 4):0{digits}x}"

    def next_version(self) -> str:
        """A new resourceVersion."""
        self.touch()
        return str(self._version)

    def now(self) -> float:
        """Seconds since the epoch, cut to whole ones, as Kubernetes tells times."""
        return float(int(self.clock()))

    def _tell(self, kind: ChangeKind, changed: Object) -> None:
        self.touch()
        change, namespace = Change(kind, changed), getattr(changed, "namespace", "")
        for watch in [reference() for reference in self._watches[type(changed)]]:
            if watch is not None and watch.namespace in ("", namespace):
                watch.tell(change)


class Watch(AsyncIterator[Change]):
    """What one watcher was not told yet. It ends when nobody holds it any more."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._untold: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def tell(self, change: Change) -> None:
        """One more."""
        self._untold.append(change)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> Change:
        """The next one, as soon as there is one."""
        while not self._untold:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._untold.popleft()


def pods_on(store: Store, claim: Claim) -> Iterator[Pod]:
    """The pods that use a claim."""
    return (p for p in store.all(Pod, claim.namespace) if claim.name in p.claims.values())
