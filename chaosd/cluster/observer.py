"""The observer: informers on everything that a target stands on, as a live view and as observation events.

The view is for those who wait (has the target converged?), the events for those who judge. Each change is in the view
and handed to the sink in one step, so that nobody acts on what is not in the history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar

from chaosd.cluster.port import (
    Attachment,
    Change,
    ChangeKind,
    Claim,
    Cluster,
    ClusterEvent,
    Container,
    Mount,
    Node,
    Object,
    Pod,
    StatefulSet,
    Volume,
)
from chaosd.cluster.target import Target
from chaosd.errors import DeadlineError, ForbiddenError
from chaosd.history import OBSERVER, Event, Kind

Result = TypeVar("Result")
Sink = Callable[[list[Event]], Awaitable[object]]

_NAMESPACED: tuple[type[Object], ...] = (StatefulSet, Pod, Claim)
_CLUSTER_SCOPED: tuple[type[Object], ...] = (Volume, Attachment, Node)
_F: Mapping[type[Object], str] = {
    Pod: "pod",
    Claim: "claim",
    Volume: "volume",
    Attachment: "attachment",
    StatefulSet: "statefulset",
    Node: "node",
    ClusterEvent: "event",
}


_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in (*_F, Container, Mount)}
_PARTS = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_SCALARS = frozenset({str, int, float, bool})


@dataclass(slots=True)
class View:
    """The target as it is now. Pods and claims are those of the StatefulSet; the rest is what they stand on."""

    statefulset: StatefulSet | None = None
    pods: dict[str, Pod] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    all_nodes: dict[str, Node] = field(default_factory=dict)  # of the cluster, with those that no pod of the target is on
    unobservable: dict[str, str] = field(default_factory=dict)

    def late(self, target: Target, replicas: int) -> dict[str, str]:
        """Of each replica that keeps the target from having converged at `replicas`: what it lacks."""
        wanted = {f"{target.statefulset}-{target.first_ordinal + i}" for i in range(replicas)}
        late = {pod: "is still there" for pod in self.pods if pod not in wanted}
        for pod in sorted(wanted):
            if why := self._not_ready(target, pod):
                late[pod] = why
        statefulset = self.statefulset
        if not late and (statefulset is None or statefulset.observed_generation < statefulset.generation):
            late[target.statefulset] = "the controller has not seen the StatefulSet's latest change"
        return late

    def _not_ready(self, target: Target, name: str) -> str:
        pod = self.pods.get(name)
        if pod is None:
            return "no pod"
        if pod.deleting:
            return "the pod is being deleted"
        claim = self.claims.get(target.claim(name))
        if target.template and claim is None:
            return f"claim {target.claim(name)} is absent"
        if claim and claim.phase != "Bound":
            return f"claim {claim.name} is {claim.phase} (storage class {claim.storage_class or 'none named'})"
        if not pod.ready:
            waiting = ", ".join(c.waiting for c in pod.containers if c.waiting)
            return f"phase {pod.phase}, not Ready {pod.unschedulable or waiting}".strip()
        return ""


class Observer:
    """Watches for one target until it is cancelled."""

    def __init__(self, cluster: Cluster, target: Target, sink: Sink) -> None:
        self.view = View()
        self._cluster = cluster
        self._target = target
        self._sink = sink
        self._changed = asyncio.Condition()
        self._synced: set[type[Object]] = set()
        # Objects that may turn out to be the target's once the volume that links them is known.
        self._attachments: dict[str, Attachment] = {}
        self._templates: tuple[str, ...] = ()  # they outlast a StatefulSet that is made anew
        self._warnings: dict[str, tuple[str, str]] = {}  # reason and message, by the event's UID

    async def run(self) -> None:
        """Watch for ever. Raises what a watch of the target's namespace cannot go on after (ForbiddenError)."""
        namespace = self._target.namespace
        began = [Event(OBSERVER, "watch", Kind.OK, {"kind": f, "change": "began"}) for f in _F.values()]
        await self._tell(began)
        # The StatefulSet's rules come first: whose claim is whose follows from its templates.
        statefulset = await self._cluster.get(StatefulSet, namespace, self._target.statefulset)
        await self._take(StatefulSet, Change(ChangeKind.PRESENT, statefulset))
        async with asyncio.TaskGroup() as tasks:
            for kind in _NAMESPACED:
                tasks.create_task(self._watch(kind, namespace), name=f"watch {kind.__name__}")
            for kind in _CLUSTER_SCOPED:
                tasks.create_task(self._watch_if_allowed(kind, ""), name=f"watch {kind.__name__}")
            tasks.create_task(self._watch_if_allowed(ClusterEvent, namespace), name="watch ClusterEvent")

    async def synced(self, timeout_seconds: float) -> None:
        """Wait until every kind was listed once. Raises DeadlineError."""
        await self.wait(lambda _: len(self._synced) == len(_F) or None, timeout_seconds, "the first list of every kind")

    async def wait(self, look: Callable[[View], Result | None], timeout_seconds: float, what: str) -> Result:
        """The first answer that `look` gives which is not None. Raises DeadlineError naming `what`."""
        if (at_once := look(self.view)) is not None:
            return at_once
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                while (result := look(self.view)) is None:
                    await self._changed.wait()
                return result
        except TimeoutError as error:
            raise DeadlineError(f"waited {timeout_seconds:.0f} s for {what}") from error

    async def converged(self, replicas: int, timeout_seconds: float) -> None:
        """Wait until `replicas` pods are Ready with their claims Bound and no other is left. Raises DeadlineError."""
        try:
            await self.wait(lambda view: None if view.late(self._target, replicas) else True, timeout_seconds, "the target")
        except DeadlineError as error:
            late = "; ".join(f"{pod}: {why}" for pod, why in self.view.late(self._target, replicas).items())
            raise DeadlineError(f"not converged at {replicas} replicas after {timeout_seconds:.0f} s: {late}") from error

    async def _watch_if_allowed(self, kind: type[Object], namespace: str) -> None:
        try:
            await self._watch(kind, namespace)
        except ForbiddenError as error:
            self.view.unobservable[_F[kind]] = str(error)
            self._synced.add(kind)
            await self._tell([Event(OBSERVER, "unobservable", Kind.OK, {"kind": _F[kind], "error": str(error)})])

    async def _watch(self, kind: type[Object], namespace: str) -> None:
        async for change in self._cluster.watch(kind, namespace):  # type: ignore[type-var]
            await self._take(kind, change)

    async def _take(self, kind: type[Object], change: Change) -> None:
        if change.object is None:
            if change.kind is ChangeKind.SYNCED:
                self._synced.add(kind)
            await self._tell([Event(OBSERVER, "watch", Kind.OK, {"kind": _F[kind], "change": str(change.kind)})])
            return
        events = _TAKE[kind](self, change, change.object)
        if events:
            await self._tell(events)

    async def _tell(self, events: list[Event]) -> None:
        # The sink numbers the events before it first yields, so the history has the order of the view.
        await self._sink(events)
        async with self._changed:
            self._changed.notify_all()

    def _statefulset(self, change: Change, found: StatefulSet) -> list[Event]:
        if found.name != self._target.statefulset:
            return []
        self.view.statefulset = None if change.kind is ChangeKind.DELETED else found
        self._templates = found.template_claims
        return [_event(change)]

    def _pod(self, change: Change, pod: Pod) -> list[Event]:
        ordinal = self._target.ordinal(pod.name)
        if ordinal is None:
            return []
        _keep(self.view.pods, change, pod)
        node = self.view.all_nodes.get(pod.node)
        seen = [_event(change, ordinal=ordinal)]
        if node and pod.node not in self.view.nodes:
            self.view.nodes[node.name] = node
            seen.append(_event(Change(ChangeKind.PRESENT, node)))
        return seen

    def _claim(self, change: Change, claim: Claim) -> list[Event]:
        pod = self._owner(claim.namespace, claim.name)
        if pod is None:
            return []
        _keep(self.view.claims, change, claim)
        return [_event(change, pod=pod, ordinal=self._target.ordinal(pod))]

    def _volume(self, change: Change, volume: Volume) -> list[Event]:
        pod = self._owner(*volume.claim.split("/")) if volume.claim else None
        if pod is None:
            return []
        _keep(self.view.volumes, change, volume)
        events = [_event(change, pod=pod)]
        for attachment in self._attachments.values():
            if attachment.volume == volume.name and attachment.name not in self.view.attachments:
                events += self._attachment(Change(ChangeKind.PRESENT, attachment), attachment)
        return events

    def _attachment(self, change: Change, attachment: Attachment) -> list[Event]:
        _keep(self._attachments, change, attachment)
        volume = self.view.volumes.get(attachment.volume)
        if volume is None:
            return []
        _keep(self.view.attachments, change, attachment)
        namespace, claim = volume.claim.split("/")
        return [_event(change, namespace=namespace, pod=self._owner(namespace, claim))]

    def _node(self, change: Change, node: Node) -> list[Event]:
        _keep(self.view.all_nodes, change, node)
        if not any(pod.node == node.name for pod in self.view.pods.values()):
            return []
        _keep(self.view.nodes, change, node)
        return [_event(change)]

    def _cluster_event(self, change: Change, event: ClusterEvent) -> list[Event]:
        """Warnings about pods of the target. One that recurs is told again when it says something else; that its time to
        live is over is not told."""
        of_a_pod = event.about_kind == "Pod" and self._target.ordinal(event.about_name) is not None
        if not event.warning or not of_a_pod:
            return []
        if change.kind is ChangeKind.DELETED:
            self._warnings.pop(event.uid, None)
            return []
        said = (event.reason, event.message)
        if self._warnings.get(event.uid) == said:
            return []
        self._warnings[event.uid] = said
        about = {"namespace": event.namespace, "pod": event.about_name, "pod_uid": event.about_uid}
        told = {"reason": event.reason, "message": event.message, "count": event.count, "change": str(change.kind)}
        return [Event(OBSERVER, "event", Kind.OK, {**about, **told})]

    def _owner(self, namespace: str, claim: str) -> str | None:
        return self._target.pod_of_claim(claim, self._templates) if namespace == self._target.namespace else None


_TAKE: dict[type[Object], Callable[..., list[Event]]] = {
    StatefulSet: Observer._statefulset,
    Pod: Observer._pod,
    Claim: Observer._claim,
    Volume: Observer._volume,
    Attachment: Observer._attachment,
    Node: Observer._node,
    ClusterEvent: Observer._cluster_event,
}

Named = TypeVar("Named", Pod, Claim, Volume, Attachment, Node)


def _keep(held: dict[str, Named], change: Change, found: Named) -> None:
    if change.kind is ChangeKind.DELETED:
        held.pop(found.name, None)
    else:
        held[found.name] = found


def _event(change: Change, **more: Any) -> Event:
    """The object as plain JSON, without what is empty, and how it changed."""
    assert change.object is not None, "SYNCED and GAP are told by `watch`"
    told = _plain(change.object)
    return Event(OBSERVER, _F[type(change.object)], Kind.OK, {**told, **more, "change": str(change.kind)})


def _plain(value: Any) -> Any:
    if parts_of := _PARTS.get(type(value)):
        told = zip(_FIELDS[type(value)], parts_of(value), strict=True)
        return {name: part if type(part) in _SCALARS else _plain(part) for name, part in told if part}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value
