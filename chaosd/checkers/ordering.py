"""Ordering: do pods start in the order 0…N-1, each Ready before the next, and leave in the order N-1…0?

Pure; judged from the pods' watch events, whose order is the API server's. Source: Kubernetes docs, "StatefulSets",
Deployment and Scaling Guarantees. The promise is the controller's own: what chaosd deletes, evicts or forces is not its
doing, and what `podManagementPolicy: Parallel` allows is told as by policy. A StatefulSet that is deleted promises no order
(the same page, "Limitations"). After a gap in the watch only timestamps are
left, with one second's resolution: where they cannot tell, the order is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, OBSERVER, RUN, Kind, Op

Seen = Mapping[str, Any]


@dataclass(slots=True)
class _PodState:
    """A replica's present pod. `by_nemesis`: the nemesis asked for its deletion; `scaled_away`: the controller did,
    since fewer replicas were wanted."""

    uid: str
    ready_seen: bool = False
    ready_at: float | None = None
    deleting: bool = False
    by_nemesis: bool = False
    scaled_away: bool = False
    gone: bool = False


class Ordering:
    """Folds the StatefulSet's and its pods' events, and the nemesis' deletions."""

    name = "ordering"
    follows: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._statefulset: Seen = {}
        self._pods: dict[int, _PodState] = {}
        self._synced = False
        self._in_gap = False
        self._created_in_gap: list[tuple[int, Op]] = []
        self._violations: list[Violation] = []
        self._unseen: list[Unknown] = []
        self._judged = 0
        self._round_ended_at = -1

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == NEMESIS and op.kind is Kind.INVOKE:
            self._deletion_asked(op)
        elif op.process == RUN and op.f == "round" and op.kind is Kind.OK:
            self._round_ended_at = op.index
        elif op.process != OBSERVER:
            return
        elif op.f == "statefulset":
            self._statefulset_seen(op)
        elif op.f == "watch" and op.value["kind"] == "pod":
            self._watch(op)
        elif op.f == "pod":
            self._pod(op)

    def verdict(self) -> Verdict:
        """Fail where the order was broken, unless the StatefulSet's own policy allows that."""
        measured = {"transitions_judged": self._judged}
        if self._statefulset.get("pod_management") != "Parallel":
            return Verdict(self.name, tuple(self._violations), tuple(self._unseen), measured=measured)
        told: tuple[str, ...] = ()
        if count := len(self._violations):
            told = (f"{count} pods came or went out of order, as podManagementPolicy: Parallel allows",)
        promised = ("podManagementPolicy is Parallel: no order is promised",)
        return Verdict(self.name, by_policy=told, not_applicable=promised, measured=measured)

    def _deletion_asked(self, op: Op) -> None:
        asked = {pod["uid"] for pod in op.value.get("deletes", ())}
        for state in self._pods.values():
            state.by_nemesis |= state.uid in asked

    def _statefulset_seen(self, op: Op) -> None:
        """Its deletion may be told later than that of its pods: what was held against them in this round is taken back."""
        self._statefulset = op.value
        if self._is_deleted:
            self._violations = [v for v in self._violations if v.index < self._round_ended_at]

    @property
    def _is_deleted(self) -> bool:
        return self._statefulset.get("change") == "deleted" or bool(self._statefulset.get("deleting"))

    def _watch(self, op: Op) -> None:
        if op.value["change"] == "began":
            # Whatever is there now came, and went, while nobody watched.
            self._pods.clear()
            self._synced = False
        self._in_gap = op.value["change"] == "gap"
        if op.value["change"] == "synced":
            self._synced = True
            for ordinal, created in self._created_in_gap:
                self._judge_by_timestamps(ordinal, created)
            self._created_in_gap.clear()

    def _pod(self, op: Op) -> None:
        ordinal = op.value["ordinal"]
        known = self._pods.get(ordinal)
        if op.value["change"] == "deleted":
            self._left(op, ordinal, known)
            return
        if known is None or known.uid != op.value["uid"]:
            self._created(op, ordinal)
            known = self._pods[ordinal] = _PodState(op.value["uid"])
        if op.value.get("ready"):
            known.ready_seen, known.ready_at = True, op.value.get("ready_at")
        if op.value.get("deleting") and not known.deleting:
            known.deleting = True
            self._leaving(op, ordinal, known)

    def _created(self, op: Op, ordinal: int) -> None:
        """Every predecessor's present pod was Ready before this one was created."""
        if not self._synced:
            return
        self._judged += 1
        if self._in_gap:
            self._created_in_gap.append((ordinal, op))
            return
        for before in self._predecessors(ordinal):
            if problem := self._not_ready_before(op, before):
                self._violated(op, f"{_name(op, before)} {problem} when {_name(op, ordinal)} was created")
                return

    def _predecessors(self, ordinal: int) -> range:
        return range(self._statefulset.get("first_ordinal", 0), ordinal)

    def _not_ready_before(self, op: Op, before: int) -> str | None:
        state = self._pods.get(before)
        if state is None:
            return "did not exist"
        if state.gone:
            # Deleted by somebody else a moment ago, the controller may still have seen it as Ready.
            return "was scaled away" if state.scaled_away else None
        if not state.ready_seen:
            return "had not been Ready"
        wait = self._statefulset.get("min_ready_seconds", 0)
        # Both times are cut to whole seconds, so the difference may be short by one.
        if wait and state.ready_at is not None and op.value["created_at"] - state.ready_at < wait - 1:
            return f"had been Ready for less than minReadySeconds ({wait} s)"
        return None

    def _judge_by_timestamps(self, ordinal: int, created: Op) -> None:
        for before in self._predecessors(ordinal):
            state = self._pods.get(before)
            if state is None or state.ready_at is None or state.ready_at > created.value["created_at"]:
                self._hidden(created, f"whether {_name(created, before)} was Ready before {_name(created, ordinal)} came")
                return

    def _leaving(self, op: Op, ordinal: int, state: _PodState) -> None:
        """A pod that the controller scales away leaves when every higher one is gone."""
        wanted = self._statefulset.get("first_ordinal", 0) + self._statefulset.get("replicas", 0)
        if state.by_nemesis or ordinal < wanted or not self._synced or self._is_deleted:
            return
        state.scaled_away = True
        self._judged += 1
        for after in (o for o, s in self._pods.items() if o > ordinal and not s.gone and not s.by_nemesis):
            if self._in_gap:
                self._hidden(op, f"whether {_name(op, after)} was gone before {_name(op, ordinal)} was told to stop")
            else:
                self._violated(op, f"{_name(op, after)} was not gone when {_name(op, ordinal)} was told to stop")
            return

    def _left(self, op: Op, ordinal: int, known: _PodState | None) -> None:
        if known is None or known.uid != op.value["uid"]:
            return
        if not known.deleting:
            self._leaving(op, ordinal, known)
        known.gone = True

    def _hidden(self, op: Op, question: str) -> None:
        replica = f"{op.value['namespace']}/{op.value['name']}"
        self._unseen.append(Unknown(replica, f"{question}: the watch of pods had a gap"))

    def _violated(self, op: Op, problem: str) -> None:
        replica = f"{op.value['namespace']}/{op.value['name']}"
        evidence = {"problem": problem, "pod_uid": op.value["uid"], "node": op.value.get("node", "")}
        self._violations.append(Violation(Class.ORDER_VIOLATED, replica, op.index, -1, Binding(), evidence=evidence))


def _name(op: Op, ordinal: int) -> str:
    stem = str(op.value["name"]).rpartition("-")[0]
    return f"{stem}-{ordinal}"
