"""What a run does now, for people who look: a fold over its history, as metrics are.

Pure. It keeps no more than the target has replicas, and a bounded number of violations. What it must know of a run that
goes on after a restart, the checkers were told of again: bindings and violations come from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chaosd.checkers import Panel, Value, Violation
from chaosd.checkers.verdict import Binding
from chaosd.cluster.target import Target
from chaosd.history import NEMESIS, OBSERVER, RESTART, RUN, Kind, Op, in_words
from chaosd.nemesis import DISRUPTIONS

# Of one run; what is beyond is only counted.
MOST_VIOLATIONS = 50


class Phase(StrEnum):
    """Where a run is, in the words of its report."""

    BEGINS = "begins"
    WRITES = "writes"
    DISRUPTS = "disrupts"
    RECOVERS = "waits for the target"
    READS = "reads back"
    HELD = "held back"
    BETWEEN = "between rounds"
    ENDED = "ended"


class PodState(StrEnum):
    """How the pod of a replica is."""

    UNSEEN = "not seen yet"
    PENDING = "no node"
    STARTING = "not Ready"
    READY = "Ready"
    TERMINATING = "terminating"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class ReplicaNow:
    """A replica: how its pod is, since when (seconds since the epoch), on which node, and what its path stands on, as its
    last session told."""

    pod: PodState = PodState.UNSEEN
    since: float | None = None
    node: str = ""
    binding: Binding = field(default_factory=Binding)


@dataclass(frozen=True, slots=True)
class Found:
    """A violation, and when the op was journaled that showed it, in seconds since the epoch."""

    violation: Violation
    since: float


class RunStatus:
    """Follows the journal of one run; `record` is its listener, to be told after the checkers were."""

    def __init__(
        self,
        target: Target,
        panel: Panel,
        time_of: Callable[[int], float | None],
        last_round: int,
        last_at: float,
    ) -> None:
        """`time_of` gives the time of an op by its index, None where it cannot be had. A run that goes on has begun its
        `last_round`, 0 for one that is new; `last_at` is when it journaled its last op, or began. All times are in seconds
        since the epoch."""
        self.changes = 0  # how often something of the below became another
        self.phase, self.phase_since = Phase.BEGINS, last_at
        self.round, self.round_name = last_round, ""
        self.disruption = ""
        self.disrupted_at: float | None = None
        self.verdict: Value | None = None
        self.judged_at = last_at
        self.violations: tuple[Found, ...] = ()
        self.violations_count = 0
        self._panel, self._time_of = panel, time_of
        self._target = target
        bindings = {name: known.binding for name, known in panel.integrity.replicas.items()}
        names = map(target.replica, target.pods)
        self.replicas = {name: ReplicaNow(binding=bindings.get(name, Binding())) for name in names}
        if last_round:
            self._judge(last_at)

    def record(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == RUN:
            self._run(op)
        elif op.process == NEMESIS:
            self._nemesis(op)
        elif op.process == OBSERVER:
            if op.f == "pod":
                self._pod(op)
        elif op.f == "open" and op.kind is Kind.OK:
            known = self.replicas.get(op.process, ReplicaNow())
            self._becomes(op.process, replace(known, binding=Binding(**op.value.get("binding", {}))))

    def end(self, verdict: Value, at: float) -> None:
        """The run has ended, with this verdict."""
        self._judge(at)
        self.verdict = verdict
        self._enter(Phase.ENDED, at)

    def _run(self, op: Op) -> None:
        if op.f == RESTART:
            self.round = op.value["round"]
            self.changes += 1
        elif op.f == "round" and op.kind is Kind.INVOKE:
            self.round, self.round_name = op.value["round"], op.value["name"]
            self._enter(Phase.WRITES, op.time)
        elif op.f == "round" and op.kind is Kind.OK:
            self._judge(op.time)
            self._enter(Phase.BETWEEN, op.time)

    def _nemesis(self, op: Op) -> None:
        if op.f == "hold":
            self.disruption, self.disrupted_at = str(op.value["error"]), op.time
            self._enter(Phase.HELD, op.time)
        elif op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
            self.disruption, self.disrupted_at = in_words(op), op.time
            self._enter(Phase.DISRUPTS, op.time)
        elif op.f == "converge":
            self._enter(Phase.RECOVERS if op.kind is Kind.INVOKE else Phase.READS, op.time)

    def _enter(self, phase: Phase, at: float) -> None:
        self.phase, self.phase_since = phase, at
        self.changes += 1

    def _becomes(self, name: str, now: ReplicaNow) -> None:
        if self.replicas.get(name) != now:
            self.replicas[name] = now
            self.changes += 1

    def _pod(self, op: Op) -> None:
        name, state = f"{op.value['namespace']}/{op.value['name']}", _pod_state(op)
        if state is PodState.GONE and op.value["name"] not in self._target.pods:
            self.replicas.pop(name, None)  # one that was only scaled to for a while
            self.changes += 1
            return
        known = self.replicas.get(name, ReplicaNow())
        since = known.since if known.pod is state else op.time
        self._becomes(name, replace(known, pod=state, since=since, node=op.value.get("node", "")))

    def _judge(self, at: float) -> None:
        """Take in what the checkers say now."""
        judgement, known = self._panel.judge(), {_key(one.violation): one.since for one in self.violations}
        self.verdict, self.judged_at = judgement.value, at
        self.violations_count = len(judgement.violations)
        self.violations = tuple(
            Found(found, known.get(_key(found)) or self._time_of(found.index) or at)
            for found in judgement.violations[:MOST_VIOLATIONS]
        )


def _pod_state(op: Op) -> PodState:
    value = op.value
    if value["change"] == "deleted":
        return PodState.GONE
    if value.get("deleting"):
        return PodState.TERMINATING
    if value.get("ready"):
        return PodState.READY
    return PodState.STARTING if value.get("node") else PodState.PENDING


def _key(violation: Violation) -> tuple[str, str, int]:
    return violation.failure, violation.replica, violation.index
