"""Windows, holidays and pace."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chaosd.guards import Guards, Refusal, too_early

BERLIN = "Europe/Berlin"
# Wednesday.
NOON = "2026-11-25T12:00"
WORK = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}
NIGHT = {"days": ["tue"], "from": "22:00", "to": "06:00"}


def at(moment: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).timestamp()


def asked(moment: str, *disrupted: float, **guards: Any) -> Refusal | None:
    made = Guards.model_validate(guards)
    return too_early(made, at(moment, made.time_zone), disrupted)


def until(refusal: Refusal | None, zone: str = "UTC") -> str:
    assert refusal is not None
    assert refusal.until is not None
    return datetime.fromtimestamp(refusal.until, ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M")


def test_nothing_is_too_early_by_default() -> None:
    assert asked(NOON) is None


@pytest.mark.parametrize(
    ("moment", "window", "ends"),
    [
        ("2026-11-25T09:00", WORK, "2026-11-25T17:00"),
        ("2026-11-25T16:59", WORK, "2026-11-25T17:00"),
        ("2026-11-24T23:00", NIGHT, "2026-11-25T06:00"),
        ("2026-11-25T05:59", NIGHT, "2026-11-25T06:00"),
        ("2026-11-25T12:00", {}, "2026-11-26T00:00"),
    ],
)
def test_a_blackout_lasts_until_its_end(moment: str, window: dict[str, Any], ends: str) -> None:
    refusal = asked(moment, blackout=[window])
    assert refusal
    assert (refusal.reason, refusal.window, until(refusal)) == ("blackout", True, ends)


@pytest.mark.parametrize("moment", ["2026-11-25T08:59", "2026-11-25T17:00", "2026-11-28T12:00"])
def test_a_blackout_says_nothing_of_other_hours(moment: str) -> None:
    assert asked(moment, blackout=[WORK]) is None


@pytest.mark.parametrize("moment", ["2026-11-23T05:00", "2026-11-24T21:59", "2026-11-25T06:00", "2026-11-25T22:30"])
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(moment: str) -> None:
    assert asked(moment, blackout=[NIGHT]) is None


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-25T08:00", "2026-11-25T09:00"),
        ("2026-11-25T17:00", "2026-11-26T09:00"),
        ("2026-11-27T17:00", "2026-11-30T09:00"),
        ("2026-11-28T10:00", "2026-11-30T09:00"),
    ],
)
def test_outside_active_windows_the_next_is_awaited(moment: str, opens: str) -> None:
    refusal = asked(moment, active=[WORK])
    assert refusal
    assert (refusal.reason, refusal.window, until(refusal)) == ("inactive", True, opens)


def test_inside_an_active_window_it_may_begin() -> None:
    assert asked(NOON, active=[NIGHT, WORK]) is None


def test_a_window_on_one_day_a_week_opens_again_a_week_later() -> None:
    assert until(asked("2026-11-25T10:00", active=[{"days": ["wed"], "to": "10:00"}])) == "2026-12-02T00:00"


def test_a_holiday_lasts_until_midnight_of_its_zone() -> None:
    refusal = asked("2026-12-24T12:00", timeZone=BERLIN, holidays=["2026-12-24"], active=[WORK])
    assert refusal
    assert (refusal.reason, until(refusal, BERLIN)) == ("holiday", "2026-12-25T00:00")


def test_hours_are_those_of_the_zone() -> None:
    moment = at("2026-11-25T08:30")  # in Berlin it is 09:30
    assert too_early(Guards.model_validate({"blackout": [WORK], "timeZone": BERLIN}), moment, ())
    assert not too_early(Guards.model_validate({"blackout": [WORK]}), moment, ())


def test_the_hour_that_daylight_saving_skips_or_repeats_ends_no_window_early() -> None:
    """In Berlin 02:00 to 03:00 is not there on 2026-03-29, and twice on 2026-10-25."""
    night = {"from": "01:00", "to": "04:00"}
    for day in ("2026-03-29", "2026-10-25"):
        begins, ends = at(f"{day}T01:00", BERLIN), at(f"{day}T04:00", BERLIN)
        guards = Guards.model_validate({"blackout": [night], "timeZone": BERLIN})
        for minute in range(int((ends - begins) / 60)):
            refusal = too_early(guards, begins + 60 * minute, ())
            assert refusal, f"{day}, minute {minute}"
            assert refusal.until == ends
        assert not too_early(guards, ends, ())


@pytest.mark.parametrize("guards", [{"blackout": [{"to": "02:30"}]}, {"active": [{"from": "02:30", "to": "23:00"}]}])
def test_a_window_that_ends_in_the_hour_that_is_repeated_is_asked_for_again_later(guards: dict[str, Any]) -> None:
    """In Berlin 02:15 comes twice on 2026-10-25, and whoever waits from the second must not be told the first 02:30."""
    made = Guards.model_validate({"timeZone": BERLIN, **guards})
    again = datetime(2026, 10, 25, 2, 15, tzinfo=ZoneInfo(BERLIN), fold=1).timestamp()
    refusal = too_early(made, again, ())
    assert refusal
    assert refusal.until == again + 15 * 60


def test_between_two_disruptions_there_is_an_interval() -> None:
    refusal = asked(NOON, at(NOON) - 250, at(NOON) - 100, minInterval="5m")
    assert refusal
    assert (refusal.reason, refusal.until, refusal.window) == ("interval", at(NOON) + 200, False)
    assert asked(NOON, at(NOON) - 300, minInterval="5m") is None


def test_an_hour_has_so_many_disruptions() -> None:
    now = at(NOON)
    refusal = asked(NOON, now - 4000, now - 3500, now - 1000, now - 10, maxPerHour=2)
    assert refusal
    assert (refusal.reason, refusal.until) == ("rate", now - 1000 + 3600)
    assert asked(NOON, now - 4000, now - 3500, maxPerHour=2) is None


@given(
    st.lists(st.integers(0, 20_000), max_size=30).map(sorted),
    st.integers(1, 5),
    st.integers(0, 900),
)
def test_pace_is_never_exceeded_by_who_keeps_to_it(wishes: list[int], per_hour: int, interval: int) -> None:
    """Whoever acts only when asked anew at `until` breaks neither limit."""
    guards = Guards.model_validate({"maxPerHour": per_hour, "minInterval": interval})
    now, done = 0.0, list[float]()
    for wish in wishes:
        now = max(now, float(wish))
        while refusal := too_early(guards, now, done):
            assert refusal.until is not None
            assert refusal.until > now
            now = refusal.until
        done.append(now)
    assert all(after - before >= interval for before, after in pairwise(done))
    assert all(sum(one - 3600 < other <= one for other in done) <= per_hour for one in done)


@given(st.integers(0, 366 * 24 * 60))
def test_what_is_refused_until_then_is_refused_at_every_moment_before(minutes: int) -> None:
    moment = datetime.fromtimestamp(at("2026-01-01T00:00") + 60 * minutes, ZoneInfo(BERLIN))
    guards = Guards.model_validate(
        {"timeZone": BERLIN, "active": [WORK], "blackout": [{"days": ["wed"], "from": "12:00", "to": "13:00"}]}
    )
    refusal = too_early(guards, moment.timestamp(), ())
    if refusal:
        assert refusal.until is not None
        between = moment + timedelta(seconds=(refusal.until - moment.timestamp()) / 2)
        assert too_early(guards, between.timestamp(), ())


@pytest.mark.parametrize(
    ("guards", "says"),
    [
        ({"timeZone": "Mars/Olympus"}, "no time zone is called 'Mars/Olympus'"),
        ({"timeZone": "../../etc/passwd"}, "no time zone"),
        ({"blackout": [{"from": "25:00"}]}, "no time of day: write it in quotes"),
        ({"blackout": [{"from": "09:60"}]}, "no time of day"),
        ({"blackout": [{"from": "09:00", "to": "09:00"}]}, "from and to are the same"),
        ({"blackout": [{"days": []}]}, "at least 1 item"),
        ({"blackout": [{"days": ["monday"]}]}, "'mon', 'tue'"),
        ({"holidays": ["24.12."]}, "valid date"),
        ({"maxUnavailable": "101%"}, "no share: write such as 25%"),
        ({"maxUnavailable": -1}, "greater than or equal to 0"),
        ({"maxUnavailable": True}, "no share"),
        ({"minFree": "half"}, "no quantity of bytes"),
        ({"maxPerHour": 0}, "greater than or equal to 1"),
        ({"stopAfter": "always"}, "never"),
        ({"minInterval": "soon"}, "no duration"),
    ],
)
def test_what_cannot_be_meant_is_refused(guards: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Guards.model_validate(guards)
    assert says in str(caught.value)


def test_an_unquoted_time_that_yaml_read_as_a_number_is_understood() -> None:
    assert Guards.model_validate({"active": [{"from": 630}]}).active[0].begins == 630  # 10:30 in base 60
