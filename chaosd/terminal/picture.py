"""The picture: what a run looks like at one moment, as far as its ops tell. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from chaosd.checkers import Panel
from chaosd.checkers.records import how_many
from chaosd.checkers.verdict import Violation
from chaosd.guards import REASONS
from chaosd.history import NEMESIS, OBSERVER, RUN, Kind, Op, disruptions_of, in_words
from chaosd.nemesis import DISRUPTIONS

_SOUND = frozenset({"intact", "unsettled"})


class Phase(StrEnum):
    """Where a round is, in the order of these."""

    WRITE = "write"
    DISRUPT = "disrupt"
    RECOVER = "recover"
    READ = "read"
    JUDGE = "judge"


class Pod(StrEnum):
    """How a replica's pod was seen last."""

    UNSEEN = ""
    READY = "Ready"
    STARTING = "starting"
    STOPPING = "stopping"
    GONE = "gone"


@dataclass(slots=True)
class Shown:
    """One replica: its pod, and how many records were acknowledged in this round, and read back intact since they were last
    at risk."""

    pod: Pod = Pod.UNSEEN
    written: int = 0
    verified: int = 0
    session: str = ""  # the pod's UID in which it was opened last


@dataclass(frozen=True, slots=True)
class Held:
    """That a guard holds the next round back: why, as REASONS say it, and until when, in seconds since the epoch."""

    why: str
    until: float | None


@dataclass(slots=True)
class Picture:
    """Follows one run's journal, a step behind the `panel`."""

    panel: Panel
    round: int = 0
    name: str = ""
    phases: list[Phase] = field(default_factory=list)
    phase: Phase | None = None  # None: the round is over, or none began
    since: float = 0.0  # when that phase began
    disruption: str = ""
    outcome: str = ""  # of the disruption, where it was not done
    held: Held | None = None
    ended: str = ""  # why nothing is disrupted any more
    warnings: list[str] = field(default_factory=list)
    replicas: dict[str, Shown] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    unknowns: int = 0
    _pods: dict[str, Pod] = field(default_factory=dict)
    _kind: str = ""  # of the disruption under way
    _doubt: bool = False  # whether something was seen that the panel may accuse

    def record(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == OBSERVER:
            if op.f == "pod":
                self._see(op)
        elif op.process == NEMESIS:
            self._nemesis(op)
        elif op.process == RUN:
            self._of_the_run(op)
        elif op.kind is not Kind.INVOKE:
            self._data(op)

    def look_again(self) -> None:
        """Ask the panel where something was seen that it may accuse: that takes too long to be done for each op."""
        if self._doubt:
            self._doubt, self.violations = False, self.panel.judge().violations

    def owed(self, replica: str) -> int:
        """How many records a replica owes."""
        known = self.panel.integrity.replicas.get(replica)
        return len(known.owed) if known else 0

    # What each op shows.

    def _see(self, op: Op) -> None:
        value = op.value
        replica = f"{value['namespace']}/{value['name']}"
        if value["change"] == "deleted":
            state = Pod.GONE
        elif value.get("deleting"):
            state = Pod.STOPPING
        else:
            state = Pod.READY if value.get("ready") else Pod.STARTING
        self._pods[replica] = state
        if shown := self.replicas.get(replica):
            shown.pod = state

    def _nemesis(self, op: Op) -> None:
        if op.f == "hold":
            self.held = Held(REASONS[op.value["blocked"]], op.value.get("until"))
        elif op.f == "converge":
            self._converge(op)
        elif op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
            self._kind = " and ".join(kind for kind, _ in disruptions_of(op))
            self.disruption, self.outcome = in_words(op), ""
            self._enter(Phase.DISRUPT, op)
            if op.value.get("disrupts"):
                self._at_risk()
        elif op.f in DISRUPTIONS and op.kind is not Kind.OK:
            self._kind, self.outcome = "", op.value["error"]

    def _converge(self, op: Op) -> None:
        if op.kind is Kind.INVOKE:
            self._enter(Phase.RECOVER, op)
        elif op.kind is Kind.OK:
            if self._kind:
                self.recoveries.setdefault(self._kind, []).append(op.value["seconds"])
            self._enter(Phase.READ if Phase.READ in self.phases else Phase.JUDGE, op)
        else:
            self._doubt = True

    def _of_the_run(self, op: Op) -> None:
        if op.f == "warning":
            self.warnings.append(op.value["warning"])
        elif op.f == "round" and op.kind is Kind.INVOKE:
            self._begin_round(op)
        elif op.f == "round":
            self.unknowns, self._doubt = op.value.get("unknowns", 0), True
            self.ended = op.value.get("ended", "")
            self.phase = None
        elif op.f == "expect":
            self._enter(Phase.JUDGE, op)

    def _begin_round(self, op: Op) -> None:
        value = op.value
        self.round, self.name = value["round"], value["name"]
        self.held, self.disruption, self.outcome, self._kind = None, "", "", ""
        disturbs = [Phase.DISRUPT, Phase.RECOVER] if value.get("disruption") else []
        self.phases = [Phase.WRITE, *disturbs, *([Phase.READ] if value["verify"] else []), Phase.JUDGE]
        known = self.replicas
        self.replicas = {name: known.get(name, Shown(self._pods.get(name, Pod.UNSEEN))) for name in value["replicas"]}
        for shown in self.replicas.values():
            shown.written = 0
        if value["verify"]:
            self._at_risk()
        self._enter(Phase.WRITE if value.get("files") else self.phases[1], op)

    def _data(self, op: Op) -> None:
        shown = self.replicas.get(op.process)
        if op.f == "open" and op.kind is Kind.OK:
            self._opened(op, shown)
        if shown is None or op.kind is not Kind.OK:
            return
        if op.f == "write":
            shown.written += 1
        elif op.f == "list":
            self._enter(Phase.READ, op)
        elif op.f == "delete":
            self._enter(Phase.JUDGE, op)
        elif op.f == "read":
            self._read(op, shown)

    def _opened(self, op: Op, shown: Shown | None) -> None:
        self._doubt = True  # of the mount and of the claim behind it
        if shown and shown.session != op.value["pod_uid"]:
            shown.session, shown.verified = op.value["pod_uid"], 0

    def _read(self, op: Op, shown: Shown) -> None:
        if op.value["finding"] in _SOUND:
            shown.verified += how_many(op.value["sequences"])
        else:
            self._doubt = True

    def _at_risk(self) -> None:
        for shown in self.replicas.values():
            shown.verified = 0

    def _enter(self, phase: Phase, op: Op) -> None:
        """A phase that a round has whether it was expected or not, such as a recovery from what a dead chaosd did."""
        if self.phase is phase:
            return
        if phase not in self.phases:
            order = list(Phase)
            self.phases = sorted([*self.phases, phase], key=order.index)
        self.phase, self.since = phase, op.time


def told(violation: Violation) -> str:
    """A violation in one line: its class, whose it is, and the first damaged place."""
    block = f", block {violation.block}" if violation.block is not None else ""
    place = f": {violation.file.rpartition('/')[2]}{block}" if violation.file else ""
    return f"{violation.failure} {short(violation.replica)}{place}"


def short(replica: str) -> str:
    """A replica's pod."""
    return replica.rpartition("/")[2]
