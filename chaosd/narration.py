"""What a person is told of a run while it goes on, a line for each op that is worth one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from chaosd.coverage import Coverage
from chaosd.history import NEMESIS, RESTART, RUN, Kind, Op, in_words
from chaosd.ledger import Run
from chaosd.nemesis import DISRUPTIONS
from chaosd.requirements import Requirement


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
        self._began = time.monotonic()
        experiment = json.loads(run.experiment)
        self._rounds = experiment["rounds"] or len(experiment["steps"])  # 0: for ever

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
            of = f" of {self._rounds}" if self._rounds and self.number <= self._rounds else ""
            self.round = f"{self.number}{of}: {op.value['name']}"
            yield f"round {self.round}"
        elif op.kind is Kind.OK:
            self.violations = op.value["violations"]
            done = filter(None, (self.counts(), f"violations {self.violations}", self.covered()))
            yield f"round {op.value['round']} done: {', '.join(done)}"
            if ended := op.value.get("ended"):
                yield f"nothing is disrupted any more: {ended}"

    def covered(self) -> str:
        """How much of what is required was done, and how long the rest will take at this pace; empty where nothing is."""
        required = self._required()
        if not required:
            return ""
        least = min(requirement.share for requirement in required)
        if least == 1:
            return "covered"
        share = sum(requirement.share for requirement in required) / len(required)
        left = f", about {_rough(self._pace(least))} left" if least else ""
        return f"{share:.0%} covered{left}"

    def _pace(self, done: float) -> float:
        return (time.monotonic() - self._began) * (1 - done) / done

    def counts(self) -> str:
        """What was written and read back so far."""
        coverage = self._coverage.as_json()
        cold, cached = coverage["records_verified_cold"], coverage["records_verified_cached"]
        return f"{coverage['files_acknowledged']} files written, {cold + cached} readings verified ({cold} cold)"


def _rough(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
