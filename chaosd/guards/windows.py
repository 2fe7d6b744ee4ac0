"""Guards of time: windows, holidays and pace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from chaosd.guards.refusal import BLACKOUT, HOLIDAY, INACTIVE, INTERVAL, RATE, Refusal
from chaosd.guards.spec import DAYS, Guards, Window

HOUR_SECONDS = 3600.0


def too_early(guards: Guards, now: float, disrupted_at: Sequence[float]) -> Refusal | None:
    """Why no disruption may begin at `now`, when others of the target began at `disrupted_at`, oldest first; all in
    seconds since the epoch."""
    return _closed(guards, now) or _too_soon(guards, now, disrupted_at)


def _closed(guards: Guards, now: float) -> Refusal | None:
    zone = ZoneInfo(guards.time_zone)
    moment = datetime.fromtimestamp(now, zone)
    if moment.date() in guards.holidays:
        until = _at(moment.date() + timedelta(days=1), 0, zone)
        return _refusal(HOLIDAY, f"guards.holidays has {moment.date()}", until, now)
    if ends := [end for begin, end in _occurrences(guards.blackout, moment) if begin <= moment < end]:
        return _refusal(BLACKOUT, "guards.blackout has a window", max(ends), now)
    open_now = (begin <= moment < end for begin, end in _occurrences(guards.active, moment))
    if guards.active and not any(open_now):
        opens = min(begin for begin, _ in _occurrences(guards.active, moment) if begin > moment)
        return _refusal(INACTIVE, "guards.active has no window now", opens, now)
    return None


def _too_soon(guards: Guards, now: float, disrupted_at: Sequence[float]) -> Refusal | None:
    if disrupted_at and (until := disrupted_at[-1] + guards.min_interval) > now:
        return Refusal(INTERVAL, f"guards.minInterval is {guards.min_interval:g} s, {until - now:.0f} s are left", until)
    lately = [at for at in disrupted_at if at > now - HOUR_SECONDS]
    if guards.max_per_hour is not None and len(lately) >= guards.max_per_hour:
        until = lately[-guards.max_per_hour] + HOUR_SECONDS
        return Refusal(RATE, f"guards.maxPerHour is {guards.max_per_hour}, {until - now:.0f} s are left", until)
    return None


def _occurrences(windows: Iterable[Window], moment: datetime) -> Iterator[tuple[datetime, datetime]]:
    """When windows begin and end, from the day before, on which one may have begun that is open still, for over a week."""
    zone, yesterday = ZoneInfo(str(moment.tzinfo)), moment.date() - timedelta(days=1)
    for window in windows:
        for day in (yesterday + timedelta(days=days) for days in range(9)):
            if DAYS[day.weekday()] in window.days:
                last = day + timedelta(days=window.days_long)
                yield _at(day, window.begins, zone), _at(last, window.ends, zone)


def _at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    whole_days, rest = divmod(minutes, 24 * 60)
    return datetime.combine(day + timedelta(days=whole_days), time(rest // 60, rest % 60), zone)


def _refusal(reason: str, why: str, until: datetime, now: float) -> Refusal:
    if until.timestamp() <= now:  # in the hour that daylight saving repeats, the second is meant
        until = until.replace(fold=1)
    return Refusal(reason, f"{why}, until {until.isoformat(timespec='minutes')}", until.timestamp(), window=True)
