"""What is said of a scheduled gate: when it passes, and why it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaosd.report.gate import GateStatus, Known, Running, status

ENDED = 1_000_000.0
VERDICT: dict[str, Any] = {
    "run": "R",
    "verdict": "pass",
    "aborted": "",
    "started_at": ENDED - 60,
    "ended_at": ENDED,
    "unknown": [],
    "violations_by_class": {},
}
KNOWN = Known("nightly", "default/web", VERDICT, outdated=False, running=None, next_begins=ENDED + 3600, held_up="")
RUNNING = Running(run="S", began=ENDED + 1, round=2)


def _with(**verdict: Any) -> Known:
    return replace(KNOWN, verdict=VERDICT | verdict)


@pytest.mark.parametrize("max_age", [None, 10.0, 60.0])
def test_a_last_run_that_passed_passes_while_it_is_no_older_than_asked(max_age: float | None) -> None:
    gate = status(KNOWN, ENDED + 10, max_age)
    assert (gate.passed, gate.exit_code, gate.why) == (True, 0, "")
    assert gate.last is not None
    assert (gate.last.run, gate.last.age_seconds, gate.last.began) == ("R", 10, ENDED - 60)


def test_one_that_is_under_way_takes_nothing_from_the_last() -> None:
    gate = status(replace(KNOWN, running=RUNNING), ENDED + 10)
    assert (gate.passed, gate.running) == (True, RUNNING)


MISSING = {"subject": "coverage", "missing": "rounds: 1 of 10 that are required"}
UNSEEN = {"subject": "default/web-0", "missing": "no reading came"}


@pytest.mark.parametrize(
    ("known", "code", "why"),
    [
        (replace(KNOWN, verdict=None), 3, "no run of it has ended yet"),
        (replace(KNOWN, verdict=None, running=RUNNING), 3, "its first run is under way"),
        (replace(KNOWN, outdated=True), 3, "run R was of the experiment before that was changed"),
        (_with(verdict="fail", violations_by_class={"torn": 1, "lost": 2}), 1, "run R found violations: 2 lost, 1 torn"),
        (
            _with(verdict="unknown", unknown=[UNSEEN, MISSING]),
            3,
            "rounds: 1 of 10 that are required; default/web-0: no reading came",
        ),
        (_with(aborted="ended by SIGTERM"), 3, "run R was ended before its end: ended by SIGTERM"),
        (
            _with(verdict="fail", aborted="ended by SIGTERM", violations_by_class={"lost": 1}),
            1,
            "run R found violations: 1 lost; run R was ended before its end: ended by SIGTERM",
        ),
        (_with(ended_at=ENDED - 3600), 3, "run R ended 1 h ago, and no more than 1 min is allowed"),
        (_with(verdict="fail", ended_at=ENDED - 3600), 3, "run R ended 1 h ago, and no more than 1 min is allowed"),
        (
            _with(ended_at=ENDED + 3600),
            3,
            "run R ends in the future by the daemon's clock, so that its age is not known",
        ),
    ],
)
def test_everything_else_does_not_pass_and_says_why(known: Known, code: int, why: str) -> None:
    gate = status(known, ENDED, 60.0)
    assert (gate.passed, gate.exit_code, gate.why) == (False, code, why)


def test_what_is_missing_of_the_coverage_stands_apart_from_what_was_not_seen() -> None:
    last = status(_with(verdict="unknown", unknown=[UNSEEN, MISSING]), ENDED).last
    assert last is not None
    assert last.missing == ("rounds: 1 of 10 that are required",)
    assert [one.subject for one in last.unknown] == ["default/web-0"]


def test_only_the_age_goes_by_without_a_change_of_what_lasts() -> None:
    gate = status(KNOWN, ENDED + 10, 60.0)
    assert status(KNOWN, ENDED + 20, 60.0).lasting() == gate.lasting()
    others = (
        status(KNOWN, ENDED + 61, 60.0),
        status(replace(KNOWN, running=RUNNING), ENDED + 10, 60.0),
        status(_with(run="S"), ENDED + 10, 60.0),
        status(replace(KNOWN, next_begins=ENDED + 7200), ENDED + 10, 60.0),
    )
    assert gate.lasting() not in [other.lasting() for other in others]


def test_the_document_is_read_back_as_it_was() -> None:
    gate = status(replace(KNOWN, running=RUNNING), ENDED + 10, 60.0)
    assert GateStatus.model_validate_json(gate.as_json()) == gate
