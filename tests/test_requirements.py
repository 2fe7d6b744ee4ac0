"""What a run must have done before its pass counts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.coverage import Coverage
from chaosd.requirements import Requirements


def _judged(require: dict[str, Any], replicas: int = 3, **coverage: Any) -> dict[str, bool]:
    known = Coverage().as_json() | coverage
    return {one.words: one.met for one in Requirements.model_validate(require).judged(known, replicas)}


def test_what_is_missing_is_named_with_how_much_there_is() -> None:
    require = {"rounds": 5, "disruptions": {"pod-delete": 2, "scale": 1}, "bytes": "1Mi", "scaledToZero": 1}
    coverage = {"rounds": 7, "disruptions": {"pod-delete": 1, "scale": 3}, "bytes_verified": 1 << 20, "scaled_to_zero": 0}
    assert _judged(require, **coverage) == {
        "rounds: 7 of 5": True,
        "disruptions pod-delete: 1 of 2": False,
        "disruptions scale: 3 of 1": True,
        "bytes verified: 1,048,576 of 1,048,576": True,
        "scalings to zero: 0 of 1": False,
    }


@pytest.mark.parametrize(("wanted", "hit", "met"), [("100%", 3, True), ("100%", 2, False), ("10%", 1, True), (2, 2, True)])
def test_replicas_are_required_as_a_number_or_a_share_of_the_target(wanted: Any, hit: int, met: bool) -> None:
    hits = [f"default/web-{number}" for number in range(hit)]
    assert list(_judged({"replicas": wanted}, replicas_hit=hits).values()) == [met]


def test_a_share_of_cold_readings_counts_only_what_was_read() -> None:
    assert _judged({"cold": "90%"}) == {"cold readings: 0% of 90%": False}
    assert _judged({"cold": "90%"}, records_verified_cold=9, records_verified_cached=1) == {
        "cold readings: 90% of 90%": True
    }


def test_a_drill_is_required_of_this_very_run() -> None:
    assert _judged({"drill": True}) == {"drill: not passed, or not done": False}
    assert _judged({"drill": True}, drill_passed=True) == {"drill: passed": True}


@pytest.mark.parametrize(
    ("require", "why"),
    [
        ({"disruptions": {"pod-kill": 1}}, "no disruption is called 'pod-kill'"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"cold": "120%"}, "no share"),
        ({"round": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_required_is_refused(require: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Requirements.model_validate(require)
