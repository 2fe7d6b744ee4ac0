"""An op in words says what its value says."""

from __future__ import annotations

import pytest

from chaosd.history import DRILL, RUN, Event, Kind, Op
from chaosd.report.words import tell
from tests.histories import WEB_0, deleted, not_read


def told(event: Event) -> str:
    return tell(Op(0, 0.0, event.process, event.f, event.kind, event.value))


@pytest.mark.parametrize(
    ("f", "value", "said"),
    [
        (DRILL, {"planted": 45, "missed": ["stale"]}, "stale"),
        ("warning", {"warning": "an autoscaler owns it"}, "an autoscaler owns it"),
        ("healed", {"done": ["default/web: scaled to 2"]}, "scaled to 2"),
        ("unfinished", {"run": "OTHER", "why": "a script does not go on"}, "a script does not go on"),
        ("older-runs", {"in_ledger": {"OLD": False}}, "OLD"),
    ],
)
def test_what_a_run_tells_of_itself_is_told_with_its_content(f: str, value: dict[str, object], said: str) -> None:
    assert said in told(Event(RUN, f, Kind.OK, value))


def test_one_record_is_told_as_one() -> None:
    assert told(not_read(WEB_0, 0)).startswith("reading of 1 record failed")
    assert told(not_read(WEB_0, 0, 1)).startswith("reading of 2 records failed")
    assert told(deleted(WEB_0, 0, Kind.OK)[0]) == "delete of 1 record done"
