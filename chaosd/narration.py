"""What a person is told of a run while it goes on, a line for each op that is worth one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from chaosd.coverage import Coverage
from chaosd.history import NEMESIS, RESTART, RUN, Kind, Op, in_words
from chaosd.ledger import Run
from chaosd.nemesis import DISRUPTIONS
from chaosd.requirements import Pace, Requirement


class Narrator:
    """Follows one run's journal. `coverage` follows it, too, and is a step ahead."""

    def __init__(self, run: Run, coverage: Coverage, required: Callable[[], Sequence[Requirement]]) -> None:
        """`required` tells what the run must do, and how much of that it has done."""
        self.round = ""  # as people say it
        self.number = 0  # of the round
        self.disruption = "none yet"
        self.violations = 0
        self._coverage = coverage
        self._required = required
        self._pace: Pace | None = None  # since the first round that was followed
        self._first_round = self._rounds_done = 0
        experiment = json.loads(run.experiment)
        self._rounds = experiment["rounds"] or len(experiment["steps"])  # 0: for ever
        self._ends_at = run.started_at + experiment["duration"] if experiment["duration"] else None

    def lines(self, op: Op) -> Iterator[str]:
        """What is to be told of an op."""
        if op.process == RUN:
            yield from self._of_the_run(op)
        elif op.process == NEMESIS and op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
            self.disruption = in_words(op)
            yield self.disruption
        elif op.process == NEMESIS and op.f == "hold":
            self.disruption = f"held back: {op.value['error']}"
            yield self.disruption
        elif op.process == NEMESIS and op.kind is not Kind.INVOKE and (error := op.value.get("error")):
            yield f"{op.f} {op.kind}: {error}"
        elif op.process == NEMESIS and op.f == "converge" and op.kind is Kind.OK:
            yield f"converged after {op.value['seconds']:.1f} s"

    def _of_the_run(self, op: Op) -> Iterator[str]:
        if op.f == "round":
            yield from self._of_a_round(op)
        elif op.f == "warning":
            yield f"warning {op.value['warning']}"
        elif op.f == RESTART:
            yield f"goes on with this run, after round {op.value['round']}"
        elif op.f == "healed":
            yield f"undone what a chaosd that died left: {op.value['done']}"
        elif op.f == "unfinished":
            yield f"begins anew, and leaves run {op.value['run']} unfinished: {op.value['why']}"

    def _of_a_round(self, op: Op) -> Iterator[str]:
        if op.kind is Kind.INVOKE:
            self.number = op.value["round"]
            if self._pace is None:
                self._first_round, self._rounds_done = self.number, self.number - 1
                self._pace = Pace(self._goals(), op.time)
            of = f" of {self._rounds}" if self._rounds and self.number <= self._rounds else ""
            self.round = f"{self.number}{of}: {op.value['name']}"
            yield f"round {self.round}"
        elif op.kind is Kind.OK:
            self.violations = op.value["violations"]
            self._rounds_done = self.number
            left = self.left(op.time)
            done = filter(None, (self.counts(), f"violations {self.violations}", self.covered(), left))
            yield f"round {op.value['round']} done: {', '.join(done)}"
            if ended := op.value.get("ended"):
                yield f"nothing is disrupted any more: {ended}"

    def covered(self) -> str:
        """How much of what is required was done; empty where nothing is."""
        required = self._required()
        if not required:
            return ""
        if all(requirement.met for requirement in required):
            return "covered"
        return f"{sum(requirement.share for requirement in required) / len(required):.0%} covered"

    def standing(self, now: float) -> str:
        """Where it is, told where nothing else was for a while."""
        at = f"round {self.round}" if self.round else "before its first round"
        return ", ".join(filter(None, (at, self.counts(), self.covered(), self.left(now))))

    def left(self, now: float) -> str:
        """How long it will take from `now` on, in words, in seconds since the epoch; empty where nothing tells."""
        goals = self._goals()
        # A single round under way tells nothing of how long one takes.
        left = self._pace.left(goals, now) if self._pace and self._rounds_done >= self._first_round else None
        told = [f"{'more than' if left.at_least else 'about'} {rough(left.seconds)} left"] if left else []
        if goals and self._ends_at is not None:
            told.append(f"time for {rough(self._ends_at - now)}" if now < self._ends_at else "its time is over")
        return ", ".join(told)

    def _goals(self) -> Sequence[Requirement]:
        """What it goes on for: all its rounds or steps, whatever was covered before, or what is required."""
        if not self._rounds:
            return self._required()
        return [Requirement("rounds", self._rounds, self._rounds_done, f"{self._rounds_done} of {self._rounds}")]

    def counts(self) -> str:
        """What was written and read back so far."""
        coverage = self._coverage.as_json()
        cold, cached = coverage["records_verified_cold"], coverage["records_verified_cached"]
        return f"{coverage['files_acknowledged']} files written, {cold + cached} readings verified ({cold} cold)"


def rough(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def printable(text: str) -> str:
    """As it can be shown to people: what a cluster names or answers may hold characters that move a terminal's cursor."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
