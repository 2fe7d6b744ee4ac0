"""Checkers: pure folds over the history, each with a verdict of its own.

Here lives the registry and the runner, which is one of the two places that catch every exception: a checker that
crashes says unknown, never pass. A new check is a file in this package and an entry in CHECKERS.
"""

from __future__ import annotations

import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from chaosd.checkers.attachment import Attachment
from chaosd.checkers.binding import BindingChecker
from chaosd.checkers.identity import Identity
from chaosd.checkers.integrity import Integrity
from chaosd.checkers.mount import Mount
from chaosd.checkers.ordering import Ordering
from chaosd.checkers.recovery import Recovery
from chaosd.checkers.steps import Steps
from chaosd.checkers.verdict import Checker, Unknown, Value, Verdict, Violation, root_causes
from chaosd.history import DATA, RUN, Kind, Op

CHECKERS: Mapping[str, Callable[[], Checker]] = {
    "integrity": Integrity,
    "mount": Mount,
    "binding": BindingChecker,
    "attachment": Attachment,
    "identity": Identity,
    "ordering": Ordering,
    "recovery": Recovery,
    "steps": Steps,
}
_RECENT_ROUNDS = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """All verdicts together, one root cause for each volume and episode."""

    violations: tuple[Violation, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def value(self) -> Value:
        """Fail > unknown > pass."""
        if self.violations:
            return Value.FAIL
        return Value.UNKNOWN if self.unknowns else Value.PASS

    @property
    def unknowns(self) -> tuple[Unknown, ...]:
        """What any checker could not see."""
        return tuple(u for v in self.verdicts for u in v.unknowns)

    @property
    def by_policy(self) -> tuple[str, ...]:
        """What the StatefulSet's own policies allowed."""
        return tuple(note for v in self.verdicts for note in v.by_policy)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader should know."""
        return tuple(note for v in self.verdicts for note in v.notes)

    @property
    def not_applicable(self) -> tuple[str, ...]:
        """The checks that this target cannot have."""
        return tuple(note for v in self.verdicts for note in v.not_applicable)


class Panel:
    """Every checker, fed with the same history: with what the workers did, each one that follows it; with all else,
    all."""

    def __init__(self) -> None:
        self.checkers: dict[str, Checker] = {name: make() for name, make in CHECKERS.items()}
        self.crashed: dict[str, str] = {}  # checkers, and how
        self._ends: list[int] = []  # indices at which rounds ended: all recent ones, and of others those that matter
        self._most_ends = 2 * _RECENT_ROUNDS
        self._route()

    def step(self, op: Op) -> None:
        """Feed one op to every checker that still works."""
        following = self._following.get(op.f)
        for checker in self._working if following is None else following:
            try:
                checker.step(op)
            except Exception:
                self.crashed[checker.name] = f"the checker crashed at op {op.index}: {traceback.format_exc(limit=-2)}"
                self._route()
        if following is None:
            if op.process == RUN and op.f == "round" and op.kind is Kind.OK:
                self._round_ended(op.index)
            for claim_uid in self._binding.released:
                self.integrity.release(claim_uid)

    def _round_ended(self, index: int) -> None:
        """What a checker finds may have been shown rounds ago; of older ones only those matter that part what was found."""
        self._ends.append(index)
        if len(self._ends) >= self._most_ends:
            self._ends = sorted({*self.episode_ends(), *self._ends[-_RECENT_ROUNDS:]})
            self._most_ends = 2 * len(self._ends)

    def _route(self) -> None:
        self._working = [checker for name, checker in self.checkers.items() if name not in self.crashed]
        self._following = {f: [checker for checker in self._working if f in checker.follows] for f in DATA}

    def episode_ends(self) -> list[int]:
        """The indices at which rounds ended that part one violation from another, and the last: no other matters."""
        found = sorted(violation.index for told in self._verdicts() for violation in told.violations)
        parting = [
            end for before, end in pairwise([-1, *self._ends]) if bisect_right(found, before) < bisect_right(found, end)
        ]
        return [*parting, *self._ends[-1:]] if parting[-1:] != self._ends[-1:] else parting

    def recall(self, ends: Iterable[int], crashed: Mapping[str, str]) -> None:
        """What an earlier panel knew, beside its checkers."""
        self._ends, self.crashed = [*ends], {**crashed}
        self._route()

    def judge(self) -> Judgement:
        """What can be said so far."""
        verdicts = self._verdicts()
        found, since = _without_echoes(verdicts), self.integrity.lost_since
        sure = found if since is None else [violation for violation in found if violation.index < since]
        return Judgement(root_causes(sure, self._ends), verdicts)

    @property
    def integrity(self) -> Integrity:
        """The checker that knows what is owed."""
        checker = self.checkers["integrity"]
        assert isinstance(checker, Integrity)
        return checker

    @property
    def _binding(self) -> BindingChecker:
        checker = self.checkers["binding"]
        assert isinstance(checker, BindingChecker)
        return checker

    @property
    def attachment(self) -> Attachment:
        """The checker that knows which volumes are suspect."""
        checker = self.checkers["attachment"]
        assert isinstance(checker, Attachment)
        return checker

    @property
    def recovery(self) -> Recovery:
        """The checker that measures recovery."""
        checker = self.checkers["recovery"]
        assert isinstance(checker, Recovery)
        return checker

    @property
    def steps(self) -> Steps:
        """The checker that evaluates expectations."""
        checker = self.checkers["steps"]
        assert isinstance(checker, Steps)
        return checker

    def _verdicts(self) -> tuple[Verdict, ...]:
        return tuple(self._verdict(name, checker) for name, checker in self.checkers.items())

    def _verdict(self, name: str, checker: Checker) -> Verdict:
        if name in self.crashed:
            return Verdict(name, unknowns=(Unknown(name, self.crashed[name]),))
        try:
            return checker.verdict()
        except Exception:
            return Verdict(name, unknowns=(Unknown(name, f"the checker crashed: {traceback.format_exc(limit=-2)}"),))


def _without_echoes(verdicts: tuple[Verdict, ...]) -> list[Violation]:
    """A step that fails because of what another checker reports of the same replica is that report's echo."""
    reported = {v.replica for verdict in verdicts if verdict.checker != "steps" for v in verdict.violations}
    return [
        violation
        for verdict in verdicts
        for violation in verdict.violations
        if verdict.checker != "steps" or violation.replica not in reported
    ]


__all__ = ["CHECKERS", "Judgement", "Panel", "Value", "Verdict", "Violation"]
