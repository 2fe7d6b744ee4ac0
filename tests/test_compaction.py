"""Which ops go: old rounds in which nothing new was found, and never a word of the others."""

from __future__ import annotations

import random

import pytest

from chaosd import compaction
from chaosd.compaction import Piece, is_milestone, pieces
from chaosd.history import COMPACTED, RUN, Kind, Op
from tests.seeds import FRESH


def ended(number: int, *, violations: int = 0, unknowns: int = 0, index: int | None = None) -> Op:
    """A round of ten ops, that took ten seconds."""
    value = {"round": number, "violations": violations, "unknowns": unknowns, "verdict": "pass"}
    return Op(10 * number - 1 if index is None else index, 10.0 * number, RUN, "round", Kind.OK, value)


def mark(first: int, last: int, rounds: list[int], *, violations: int = 0, unknowns: int = 0) -> Op:
    value = {"rounds": rounds, "last": last, "violations": violations, "unknowns": unknowns}
    return Op(first, 10.0 * rounds[1], RUN, COMPACTED, Kind.OK, value)


def gone(*milestones: Op, upto: int = 1000, before: float = 1000.0) -> list[Piece]:
    return list(pieces(milestones, upto, before))


def test_rounds_that_are_old_go_and_a_mark_says_which() -> None:
    assert gone(*map(ended, range(1, 6)), before=40.0) == [Piece(0, 29, mark(0, 29, [1, 3]))]


def test_what_no_checkpoint_holds_yet_stays() -> None:
    assert gone(*map(ended, range(1, 6)), upto=20) == [Piece(0, 19, mark(0, 19, [1, 2]))]
    assert gone(ended(1), upto=8) == []


def test_nothing_goes_where_nothing_is_old() -> None:
    assert gone(ended(1), ended(2), before=10.0) == gone() == []


@pytest.mark.parametrize("what", ["violations", "unknowns"])
def test_a_round_in_which_something_was_found_stays_whole_and_later_ones_that_found_no_more_go(what: str) -> None:
    found = {what: 1}
    milestones = [ended(1), ended(2), ended(3, **found), ended(4, **found), ended(5)]
    assert gone(*milestones) == [Piece(0, 19, mark(0, 19, [1, 2])), Piece(30, 49, mark(30, 49, [4, 5]))]


def test_what_is_found_in_the_first_round_stays() -> None:
    assert gone(ended(1, violations=1), ended(2, violations=1)) == [Piece(10, 19, mark(10, 19, [2, 2], violations=1))]


def test_what_went_before_grows_by_what_goes_now() -> None:
    milestones = [mark(0, 19, [1, 2]), ended(3), ended(4, unknowns=1), ended(5)]
    assert gone(*milestones) == [Piece(0, 29, mark(0, 29, [1, 3])), Piece(40, 49, mark(40, 49, [5, 5]))]
    assert gone(mark(0, 19, [1, 2])) == gone(mark(0, 19, [1, 2]), ended(3, violations=1)) == []


def test_how_much_was_found_is_known_of_what_went() -> None:
    milestones = [mark(0, 19, [1, 2], violations=1), ended(3, violations=1), ended(4)]
    assert gone(*milestones) == [Piece(0, 39, mark(0, 39, [1, 4]))]
    assert gone(mark(0, 39, [1, 4]), ended(5, violations=1)) == []


def test_an_older_chaosd_told_no_number_of_unknowns_but_a_verdict() -> None:
    def told(number: int, verdict: str) -> Op:
        return ended(number)._replace(value={"round": number, "violations": 0, "verdict": verdict})

    assert [(p.first, p.last) for p in gone(told(1, "pass"), told(2, "unknown"), told(3, "unknown"))] == [(0, 9), (20, 29)]


def test_what_goes_at_once_is_bounded() -> None:
    milestones = [ended(number, index=2_000 * number - 1) for number in range(1, 11)]
    found = gone(*milestones, upto=100_000)
    assert [(piece.first, piece.last) for piece in found] == [(0, 3999), (0, 7999), (0, 11999), (0, 15999), (0, 19999)]
    long = ended(1, index=4 * compaction.PIECE)
    assert [(piece.first, piece.last) for piece in gone(long, upto=100_000)] == [(0, 4 * compaction.PIECE)]


@pytest.mark.parametrize("seed", [*range(50), FRESH])
def test_in_however_many_steps_it_goes_the_same_is_left(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    milestones, violations = [], 0
    for number in range(1, 40):
        violations += rng.random() < 0.1
        milestones.append(ended(number, violations=violations, unknowns=rng.random() < 0.1))

    def left(history: list[Op], before: float, upto: int) -> list[Op]:
        for piece in list(pieces(filter(is_milestone, history), upto, before)):
            history = [op for op in history if not piece.first <= op.index <= piece.last]
            history = sorted([*history, piece.mark])
        return history

    at_once = left(milestones, 350.0, 10_000)
    stepwise = milestones
    for number in sorted(rng.sample(range(1, 40), 10)):
        stepwise = left(stepwise, min(350.0, 10.0 * number), 10 * number + rng.randrange(10))
    assert left(stepwise, 350.0, 10_000) == at_once
    stays = {op.value["round"] for op in at_once if op.f == "round"}
    judged = [(0, 0), *((op.value["violations"], op.value["unknowns"]) for op in milestones)]
    news = {i for i in range(1, 40) if judged[i][0] > judged[i - 1][0] or judged[i][1] > judged[i - 1][1]}
    assert stays == news | set(range(35, 40))
