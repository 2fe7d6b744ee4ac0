"""The lines in which a run is told: how far it is, and how long the rest will take."""

from __future__ import annotations

from typing import Any

from chaosd.coverage import Coverage
from chaosd.experiment import default_for, overlay
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Run
from chaosd.narration import Narrator, printable, rough
from chaosd.requirements import Requirement


class _Told:
    """A narrator of hand-written rounds, and what is required meanwhile."""

    def __init__(self, **over: Any) -> None:
        experiment = overlay(default_for("web"), over).model_dump_json(by_alias=True)
        run = Run(1, "RUN", "test", experiment, 7, "default/web", "sandbox v1", "", started_at=0.0)
        self.required: list[Requirement] = []
        self.narrator = Narrator(run, Coverage(), lambda: self.required)

    def round(self, number: int, begins: float, ends: float, **found: float) -> str:
        """The line of its end."""
        value = {"round": number, "name": "pod-delete"}
        [*self.narrator.lines(Op(0, begins, RUN, "round", Kind.INVOKE, value))]
        for name, share in found.items():
            others = [one for one in self.required if one.name != name]
            self.required = [*others, Requirement(name, 1.0, share, name)]
        [line] = self.narrator.lines(Op(1, ends, RUN, "round", Kind.OK, {**value, "violations": 0}))
        return line


def test_rounds_that_are_left_take_as_long_as_those_before() -> None:
    told = _Told(rounds=4)
    assert told.round(1, 100, 110).endswith("violations 0, about 30 s left")
    assert told.round(2, 110, 120).endswith("violations 0, about 20 s left")
    assert told.round(4, 130, 140).endswith("violations 0")


def test_a_run_that_goes_on_counts_from_where_it_goes_on() -> None:
    assert _Told(rounds=10).round(9, 100, 110).endswith("about 10 s left")


def test_what_is_required_is_met_at_the_pace_of_the_slowest() -> None:
    told = _Told(rounds=None, require={"rounds": 1})
    told.required = [Requirement("slow", 1.0, 0.0, ""), Requirement("fast", 1.0, 0.0, "")]
    assert told.round(1, 100, 110, slow=0.1, fast=0.5).endswith("30% covered, about 90 s left".replace("90 s", "2 min"))
    assert told.round(2, 110, 120, slow=1.0, fast=1.0).endswith("violations 0, covered")


def test_where_of_something_there_is_nothing_yet_it_takes_longer_than_the_rest() -> None:
    told = _Told(rounds=None, require={"rounds": 1})
    told.required = [Requirement("crashes", 1.0, 0.0, ""), Requirement("rounds", 1.0, 0.0, "")]
    assert told.round(1, 0, 10, rounds=0.5, crashes=0.0).endswith("25% covered, more than 10 s left")


def test_nobody_knows_before_the_first_round_is_done() -> None:
    told = _Told(rounds=4)
    [*told.narrator.lines(Op(0, 0.0, RUN, "round", Kind.INVOKE, {"round": 1, "name": "pod-delete"}))]
    assert told.narrator.left(5.0) == ""
    assert told.narrator.standing(65.0).startswith("round 1 of 4: pod-delete, 0 files written")


def test_a_time_box_is_told_and_when_it_is_over() -> None:
    told = _Told(rounds=None, duration="10m", require={"rounds": 1})
    told.required = [Requirement("rounds", 1.0, 0.0, "")]
    assert told.round(1, 0, 60, rounds=0.5).endswith("about 60 s left, time for 9 min")
    assert told.narrator.left(700.0).endswith("its time is over")


def test_a_run_for_ever_has_no_end_to_wait_for() -> None:
    assert _Told(rounds=None, require=None).round(1, 0, 10).endswith("violations 0")


def test_durations_are_told_as_people_say_them() -> None:
    assert [rough(seconds) for seconds in (3.4, 89, 100, 3_600, 9_000)] == ["3 s", "89 s", "2 min", "60 min", "2.5 h"]


def test_what_moves_a_cursor_is_not_shown() -> None:
    assert printable("a\x1b[2Jb\nc § ü") == "a?[2Jb?c § ü"


def test_a_warning_is_a_line() -> None:
    told = _Told()
    op = Op(0, 0.0, RUN, "warning", Kind.OK, {"warning": "Argo CD manages it"})
    assert [*told.narrator.lines(op)] == ["warning Argo CD manages it"]
