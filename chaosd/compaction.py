"""Compaction: which ops of a history may go once nobody judges by them any more, and what is left in their place.

Pure. A *checkpoint* holds what every fold over a history knew after one of its ops, so nothing up to there need be folded
again. What is older than the retention then goes, round by round, but for rounds in which something was found: they stay
whole, as evidence. In the place of what went stands an op `compacted`, so that nothing vanishes without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chaosd.history import COMPACTED, RUN, Kind, Op

PIECE = 5_000  # ops that go in one transaction, or a round, if that has more


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the folds over a run's history knew after the op of that index; `state` is plain JSON."""

    index: int
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Ops that go together: those of the indices from `first` to `last`. `mark` takes the place of the first."""

    first: int
    last: int
    mark: Op


@dataclass(frozen=True, slots=True)
class _Judged:
    """How much had been found when a round ended."""

    violations: int = 0
    unknowns: int = 0

    @classmethod
    def by(cls, op: Op) -> _Judged:
        """Of a round that an older chaosd ended, only the verdict tells whether something was unknown."""
        return cls(op.value["violations"], op.value.get("unknowns", int(op.value.get("verdict") == "unknown")))

    def is_news_after(self, before: _Judged) -> bool:
        return self.violations > before.violations or self.unknowns > before.unknowns


def is_milestone(op: Op) -> bool:
    """Whether `pieces` needs to see it."""
    return op.process == RUN and op.kind is Kind.OK and op.f in ("round", COMPACTED)


def pieces(milestones: Iterable[Op], upto: int, before: float) -> Iterator[Piece]:
    """What may go of a run's history: of the rounds that ended at or before the index `upto`, and before a time in seconds
    since the epoch, those in which nothing new was found. A round has with it what came since the one before. `milestones`
    are the ops by which rounds ended, and what earlier compactions left, in their order.

    Each piece begins where the one before does, while nothing that stays lies between them: its mark then tells of both.
    """
    judged, first, done = _Judged(), 0, -1
    grown: Piece | None = None
    for op in milestones:
        if op.f == COMPACTED:
            grown, done = Piece(op.index, op.value["last"], op), op.value["last"]
            judged = _Judged.by(op)
            continue
        if op.index > upto or op.time >= before:
            break
        now = _Judged.by(op)
        if grown and grown.last > done and (now.is_news_after(judged) or op.index - done > PIECE):
            yield grown
            done = grown.last
        if now.is_news_after(judged):
            grown, first, done = None, op.index + 1, op.index
        else:
            grown = _grown(grown, first, op)
        judged = now
    if grown and grown.last > done:
        yield grown


def _grown(known: Piece | None, first: int, ended: Op) -> Piece:
    """With one more round, which an op `ended`."""
    number = ended.value["round"]
    if known is None:
        known = Piece(first, ended.index, Op(first, ended.time, RUN, COMPACTED, Kind.OK, {"rounds": [number, number]}))
    judged = _Judged.by(ended)
    told = {
        "rounds": [known.mark.value["rounds"][0], number],
        "last": ended.index,
        "violations": judged.violations,
        "unknowns": judged.unknowns,
    }
    return replace(known, last=ended.index, mark=known.mark._replace(time=ended.time, value=told))
