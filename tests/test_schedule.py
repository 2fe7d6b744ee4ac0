"""Schedules: when a run is due, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.schedule import Schedule

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()  # a Thursday


def _due(last: datetime | None = None, **schedule: Any) -> str:
    due = Schedule(**schedule).due(last and last.timestamp(), NOON)
    return due.astimezone(UTC).strftime("%a %d %b %H:%M")


def test_by_interval_the_first_run_is_due_at_once_and_the_next_that_long_after_it_began() -> None:
    assert _due(every="6h") == "Thu 26 Nov 12:00"
    assert _due(datetime(2026, 11, 26, 11, 30, tzinfo=UTC), every="6h") == "Thu 26 Nov 17:30"


def test_what_was_missed_is_due_in_the_past() -> None:
    assert _due(datetime(2026, 11, 20, 3, tzinfo=UTC), every="6h") == "Fri 20 Nov 09:00"
    assert _due(datetime(2026, 11, 20, 3, 0, 5, tzinfo=UTC), cron="0 3 * * *") == "Sat 21 Nov 03:00"


def test_by_cron_the_first_run_waits_for_its_time_in_its_time_zone() -> None:
    assert _due(cron="0 3 * * *") == "Fri 27 Nov 03:00"
    assert _due(cron="0 3 * * *", time_zone="Europe/Berlin") == "Fri 27 Nov 02:00"
    assert _due(datetime(2026, 7, 1, 3, tzinfo=UTC), cron="0 3 * * *", time_zone="Europe/Berlin") == "Thu 02 Jul 01:00"


@pytest.mark.parametrize(
    ("days", "first"),
    [("0", "Sun 29"), ("7", "Sun 29"), ("1", "Mon 30"), ("sat", "Sat 28"), ("6,0", "Sat 28"), ("1-5", "Fri 27")],
)
def test_days_of_the_week_are_counted_as_cron_does(days: str, first: str) -> None:
    assert _due(cron=f"0 3 * * {days}") == f"{first} Nov 03:00"


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({}, "give either every or cron"),
        ({"every": "1h", "cron": "0 3 * * *"}, "give either every or cron"),
        ({"every": "soon"}, "no duration"),
        ({"every": 0}, "greater than or equal to 1"),
        ({"cron": "0 3 * *"}, "has 4 fields"),
        ({"cron": "61 3 * * *"}, "no cron schedule"),
        ({"cron": "0 3 1 * mon"}, "leave \\* for one of them"),
        ({"cron": "0 3 31 2 *"}, "never comes"),
        ({"cron": "0 3 * * *", "timeZone": "Berlin"}, "no time zone is called 'Berlin'"),
        ({"cron": "0 3 * * *", "zone": "UTC"}, "Extra inputs"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Schedule(**schedule)
