"""Recovery: did the target come back after each disruption, how long did each phase take, and if not, why?

Pure. A target that does not converge by its deadline is `not_recovered`; where the cluster had no node, no image or no
quota for the pod, that is no fault of storage and the answer is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, OBSERVER, RESTART, RUN, Kind, Op

PHASES = ("deleted", "scheduled", "attached", "ready")

# Reasons of a waiting container that are the image's or the spec's fault (kubelet, images/types.go).
_NOT_STORAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "CrashLoopBackOff"})


# Reasons of events that name the volume, and those that name something else (kubelet, events/event.go).
_STORAGE_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_NOT_STORAGE_EVENTS = ("FailedCreatePodSandBox", "NetworkNotReady", "NodeNotReady", "Evicted", "OutOfmemory", "OutOfcpu")

# What the scheduler says where no node can have the volume (pkg/scheduler/framework/plugins/volumebinding).
_UNSCHEDULABLE_BY_STORAGE = re.compile(r"volume|pvc?\(s\)", re.IGNORECASE)

# What fsck and the kernel say of a file system that is damaged (e2fsprogs; k8s.io/mount-utils; "Structure needs cleaning"
# is EUCLEAN). That mount(8) names a bad superblock beside a wrong type and a bad option says nothing of it.
_FILE_SYSTEM_BROKEN = re.compile(
    r"found errors on device|could not correct|UNEXPECTED INCONSISTENCY|[Ss]tructure needs cleaning|"
    r"(?<!bad option, )[Bb]ad superblock|[Bb]ad magic number"
)


@dataclass(slots=True)
class _Life:
    """One replica's way back: op times in seconds since the disruption that took its pod away."""

    began: float
    old_uid: str
    phases: dict[str, float] = field(default_factory=dict)


class Recovery:
    """Folds disruptions, `converge` ops and the events of pods and attachments."""

    name = "recovery"
    follows: frozenset[str] = frozenset()

    def __init__(self) -> None:
        # What the last op showed: phases reached, each with its seconds since the disruption.
        self.reached: tuple[tuple[str, float], ...] = ()
        self._gone = False
        self._wanted: int | None = None
        self._awaited: int | None = None
        self._happened, self._prevented = 0, ""
        self._unready_nodes: set[str] = set()
        self._lives: dict[str, _Life] = {}
        self._disturbed_at = -1
        self._events: dict[str, dict[str, str]] = {}  # of a pod by its UID: reasons and their last messages
        self._absent: set[str] = set()  # the UIDs among them of which no pod was there when the last round ended
        self._pods: dict[str, Mapping[str, Any]] = {}
        self._violations: list[Violation] = []
        self._unknowns: list[Unknown] = []
        self._durations: dict[str, _Summary] = {phase: _Summary() for phase in PHASES}
        self._converged = _Summary()

    def step(self, op: Op) -> None:
        """Take in the next op."""
        self.reached = ()
        if op.process == NEMESIS:
            self._nemesis(op)
        elif op.process == RUN and op.f == RESTART:
            self._lives.clear()  # nobody watched: how long it took is not known
        elif op.process == RUN and op.f == "round" and op.kind is Kind.OK:
            self._forget_events()
        elif op.process == OBSERVER and op.f == "pod":
            self._pod(op)
        elif op.process == OBSERVER and op.f == "attachment":
            self._attachment(op)
        elif op.process == OBSERVER and op.f == "statefulset":
            self._gone, self._wanted = op.value["change"] == "deleted", op.value.get("replicas", 0)
        elif op.process == OBSERVER and op.f == "node":
            self._node(op)
        elif op.process == OBSERVER and op.f == "event":
            self._event(op)

    def verdict(self) -> Verdict:
        """Fail where a deadline passed, unknown where that was for want of something that storage does not give."""
        idle = f"no disruption is known to have happened, the last one for this reason: {self._prevented}"
        prevented = (Unknown("target", idle),) if self._prevented and not self._happened else ()
        return Verdict(
            self.name,
            tuple(self._violations),
            (*self._unknowns, *prevented),
            measured={
                "converged_seconds": self._converged.as_json(),
                "phases_seconds": {phase: s.as_json() for phase, s in self._durations.items() if s.count},
            },
        )

    def _nemesis(self, op: Op) -> None:
        if op.kind is Kind.INVOKE:
            for pod in op.value.get("deletes", ()):
                self._lives[pod["replica"]] = _Life(op.time, pod["uid"])
            if op.value.get("disrupts"):
                self._disturbed_at = op.index
            if op.f == "converge":
                self._awaited = op.value["replicas"]
        elif op.f == "converge" and op.kind is Kind.OK:
            self._converged.add(op.value["seconds"])
        elif op.f == "converge" and op.kind is Kind.FAIL:
            self._late(op)
        elif op.f == "converge":
            return  # chaosd died while it waited
        elif op.f != "undo":
            self._happened += op.kind is Kind.OK
            self._prevented = op.value.get("error", "") if op.kind is not Kind.OK else self._prevented

    def _late(self, op: Op) -> None:
        if self._gone or self._wanted not in (None, self._awaited):
            now = "deleted it" if self._gone else f"scaled it to {self._wanted}"
            self._unknowns.append(Unknown("target", f"not converged at {self._awaited} replicas: somebody else {now}"))
            return
        for late in op.value["late"]:
            replica, seen = late["replica"], self._pods.get(late["replica"])
            if seen is None:  # no pod is late, but what is to make it
                self._unknowns.append(
                    Unknown(replica, f"not converged within {op.value['seconds']:.0f} s: {late['state']}")
                )
                continue
            events = self._events.get(seen.get("uid", ""), {})
            if excuse := self._not_storage(seen, events):
                self._unknowns.append(Unknown(replica, f"not ready within {op.value['seconds']:.0f} s: {excuse}"))
            else:
                failure = Class.CORRUPT if any(map(_FILE_SYSTEM_BROKEN.search, events.values())) else Class.NOT_RECOVERED
                evidence = {"deadline_seconds": op.value["seconds"], "state": late["state"], "events": events}
                claims = seen.get("claims", {})
                node = Binding(claim=next(iter(claims.values()), ""), node=seen.get("node", ""))
                self._violations.append(Violation(failure, replica, op.index, self._disturbed_at, node, evidence=evidence))

    def _pod(self, op: Op) -> None:
        value = op.value
        replica = f"{value['namespace']}/{value['name']}"
        self._pods[replica] = {} if value["change"] == "deleted" else value
        life = self._lives.get(replica)
        if life is None:
            return
        if value["change"] == "deleted":
            if value["uid"] == life.old_uid:
                self._reach(life, "deleted", op.time)
            return
        if value["uid"] == life.old_uid:
            return
        self._reach(life, "deleted", op.time)
        if value.get("node"):
            self._reach(life, "scheduled", op.time)
        if value.get("ready"):
            # An attachment that outlived the pod was there as soon as the new pod had its node.
            self._reach(life, "attached", life.began + life.phases.get("scheduled", op.time - life.began))
            self._reach(life, "ready", op.time)
            del self._lives[replica]

    def _event(self, op: Op) -> None:
        """Of each reason the last message, unless one told of damage: a kubelet that gave up waiting, or could not mount
        another volume of the pod, says FailedMount, too."""
        told = self._events.setdefault(op.value["pod_uid"], {})
        if not _FILE_SYSTEM_BROKEN.search(told.get(op.value["reason"], "")):
            told[op.value["reason"]] = op.value["message"]

    def _forget_events(self) -> None:
        """Of pods that are gone for a whole round. An event may be told a moment before its pod is."""
        present = {pod.get("uid") for pod in self._pods.values()}
        for uid in self._absent - present:
            self._events.pop(uid, None)
        self._absent = self._events.keys() - present

    def _node(self, op: Op) -> None:
        if op.value.get("ready") and op.value["change"] != "deleted":
            self._unready_nodes.discard(op.value["name"])
        else:
            self._unready_nodes.add(op.value["name"])

    def _not_storage(self, pod: Mapping[str, Any], events: Mapping[str, str]) -> str:
        """What else than storage keeps a pod from being Ready, as far as its status and events tell; empty where nothing
        does."""
        if not pod:
            return "the controller made no pod: its events say why, such as a quota or an admission webhook"
        if pod.get("node") in self._unready_nodes:
            return f"node {pod['node']} is not Ready"
        if reason := pod.get("unschedulable", ""):
            return "" if _is_storages_own(reason) else f"not schedulable: {reason}"
        waiting = [c.get("waiting", "") for c in pod.get("containers", ()) if c.get("waiting", "") in _NOT_STORAGE]
        if waiting:
            return f"container waits: {waiting[0]}"
        told = [f"{reason}: {events[reason]}" for reason in _NOT_STORAGE_EVENTS if reason in events]
        return told[0] if told and not _STORAGE_EVENTS & set(events) else ""

    def _attachment(self, op: Op) -> None:
        life = self._lives.get(f"{op.value['namespace']}/{op.value['pod']}")
        if life and "scheduled" in life.phases and op.value.get("attached") and op.value["change"] != "deleted":
            self._reach(life, "attached", op.time)

    def _reach(self, life: _Life, phase: str, time: float) -> None:
        if phase not in life.phases:
            life.phases[phase] = time - life.began
            self._durations[phase].add(time - life.began)
            self.reached = (*self.reached, (phase, time - life.began))


@dataclass(slots=True)
class _Summary:
    count: int = 0
    total: float = 0.0
    most: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.most = max(self.most, seconds)

    def as_json(self) -> dict[str, float]:
        mean = self.total / self.count if self.count else 0.0
        return {"count": self.count, "mean": round(mean, 3), "max": round(self.most, 3)}


def _is_storages_own(unschedulable: str) -> bool:
    """Whether the scheduler names nothing but volumes. It tells what is the matter with the nodes, parted by commas:
    a cordoned node beside one that cannot have the volume is not storage's fault alone."""
    told = unschedulable.partition(" preemption:")[0]
    _, _, of_nodes = told.partition("nodes are available: ")
    return all(_UNSCHEDULABLE_BY_STORAGE.search(kind) for kind in (of_nodes or told).split(", "))
