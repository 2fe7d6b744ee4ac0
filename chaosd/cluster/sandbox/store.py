"""What the sandbox's API server would hold: objects, watchers, and the file in which they outlive the process."""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from chaosd.cluster.port import (
    Attachment,
    Change,
    ChangeKind,
    Claim,
    Lease,
    Node,
    Object,
    Pod,
    StatefulSet,
    T,
    Volume,
)
from chaosd.errors import InconclusiveError, NotFoundError

FORMAT = 1
EVENTS_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Timings:
    """How long the sandbox's cluster takes for what, in seconds."""

    attach: float = 0.02
    start: float = 0.05
    stop: float = 0.02
    detach: float = 0.01


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget. One of the two limits is set, as a number or a percentage."""

    namespace: str
    name: str
    selector: dict[str, str]
    min_available: str = ""
    max_unavailable: str = ""


@dataclass(slots=True)
class State:
    """Everything that is stored. `manifests` are the specs of StatefulSets as they were applied."""

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
    budgets: list[Budget] = field(default_factory=list)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


_STATE = TypeAdapter(State)


class Store:
    """Objects by kind and key. Every change is told to watchers, wakes the controllers, and is on disk when `flush`
    returns."""

    def __init__(self, path: Path, rng: random.Random, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.leases: dict[str, Lease] = {}
        self.budgets: dict[str, Budget] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.id = f"{rng.getrandbits(64):016x}"
        self._path = path
        self._rng = rng
        self._version = 0
        self._dirty = False
        self._objects: dict[type[Object], dict[str, Any]] = {
            kind: {} for kind in (Pod, Claim, Volume, Attachment, StatefulSet, Node)
        }
        self._watchers: list[tuple[type[Object], str, asyncio.Queue[Change]]] = []

    def load(self) -> bool:
        """Take in what was stored; False where nothing was. Raises InconclusiveError for a file that is not its own."""
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
        for found in (state.pods, state.claims, state.volumes, state.attachments, state.statefulsets, state.nodes):
            for one in found:
                self._objects[type(one)][key_of(one)] = one
        self.leases = {f"{lease.namespace}/{lease.name}": lease for lease in state.leases}
        self.budgets = {f"{b.namespace}/{b.name}": b for b in state.budgets}
        self.manifests, self.events, self._version = state.manifests, state.events, state.version
        self.id = state.id
        return True

    def flush(self) -> None:
        """Store everything, if anything changed."""
        if not self._dirty:
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
            budgets=list(self.budgets.values()),
            manifests=self.manifests,
            events=self.events,
        )
        beside = self._path.with_suffix(".new")
        beside.write_bytes(_STATE.dump_json(state))
        os.replace(beside, self._path)
        self._dirty = False

    def all(self, kind: type[T], namespace: str = "") -> list[T]:
        """Every object of a kind, in the order of their names."""
        held = self._objects[kind]
        return [held[key] for key in sorted(held) if not namespace or key.startswith(f"{namespace}/")]

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

    def put(self, changed: Object) -> None:
        """Create or replace."""
        held, key = self._objects[type(changed)], key_of(changed)
        before = held.get(key)
        if before == changed:
            return
        held[key] = changed
        self._tell(ChangeKind.ADDED if before is None else ChangeKind.MODIFIED, changed)

    def remove(self, gone: Object) -> None:
        """Delete."""
        last = self._objects[type(gone)].pop(key_of(gone), None)
        if last is not None:
            self._tell(ChangeKind.DELETED, last)

    def touch(self) -> None:
        """Something that is no watched object changed."""
        self._version += 1
        self._dirty = True
        self.changed.set()

    def record_event(self, event: dict[str, Any]) -> None:
        """Keep an Event, the last ones of them."""
        self.events = [*self.events[-EVENTS_KEPT + 1 :], event]
        self.touch()

    async def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """PRESENT objects, SYNCED, then every change, without end."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        for present in self.all(kind, namespace):
            queue.put_nowait(Change(ChangeKind.PRESENT, present))
        queue.put_nowait(Change(ChangeKind.SYNCED))
        watcher = (kind, namespace, queue)
        self._watchers.append(watcher)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.remove(watcher)

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
        for watched, namespace, queue in self._watchers:
            if watched is type(changed) and namespace in ("", getattr(changed, "namespace", "")):
                queue.put_nowait(Change(kind, changed))


def key_of(found: Object) -> str:
    """`NAMESPACE/NAME`, or the name alone where there is no namespace."""
    namespace = getattr(found, "namespace", "")
    return f"{namespace}/{found.name}" if namespace else found.name


def pods_on(store: Store, claim: Claim) -> Iterator[Pod]:
    """The pods that use a claim."""
    return (p for p in store.all(Pod, claim.namespace) if claim.name in p.claims.values())
