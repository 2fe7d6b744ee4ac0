"""When the runs of a daemon's experiment begin."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from chaosd.quantities import Seconds, TimeZone

# As cron counts them. APScheduler counts from Monday, so it is given names.
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Schedule(BaseModel):
    """In intervals, or by cron. What fell due while a run was under way, or no daemon was there, is caught up, once."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    every: Annotated[
        Seconds | None, Field(ge=1, description="From the beginning of a run to that of the next, such as 6h.")
    ] = None
    cron: Annotated[
        str | None, Field(description="Minute, hour, day of month, month, day of week, such as `0 3 * * mon-fri`.")
    ] = None
    time_zone: Annotated[TimeZone, Field(alias="timeZone", description="Of cron, such as Europe/Berlin.")] = "UTC"

    @field_validator("cron")
    @classmethod
    def _comes(cls, cron: str | None) -> str | None:
        if cron is not None and _by_cron(cron, "UTC").get_next_fire_time(None, datetime.now(UTC)) is None:
            raise ValueError(f"{cron!r} never comes: such a day is in no year")
        return cron

    @model_validator(mode="after")
    def _one_kind(self) -> Schedule:
        if (self.every is None) == (self.cron is None):
            raise ValueError("give either every or cron")
        return self

    @property
    def trigger(self) -> BaseTrigger:
        """For APScheduler."""
        if self.cron is not None:
            return _by_cron(self.cron, self.time_zone)
        return IntervalTrigger(seconds=self.every, timezone="UTC")

    def due(self, last: float | None, now: float) -> datetime:
        """When the next run is due, the last one having begun at `last`, in seconds since the epoch: before `now` where
        that was missed. The very first comes at once by interval, and when its time comes by cron."""
        moment = datetime.fromtimestamp(now if last is None else last, UTC)
        if last is None and self.cron is None:
            return moment
        due: datetime = self.trigger.get_next_fire_time(None if last is None else moment, moment)
        return due


def _by_cron(cron: str, time_zone: str) -> CronTrigger:
    """Raises ValueError, which says what cannot be."""
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"{cron!r} has {len(fields)} fields: cron has 5, minute, hour, day of month, month, day of week")
    *_, day_of_month, _, day_of_week = fields
    if "*" not in (day_of_month, day_of_week):
        # cron means either, APScheduler both; whoever reads it cannot know which is meant.
        raise ValueError(f"{cron!r} names days of the month and of the week: leave * for one of them")
    fields[4] = re.sub(r"(?<![/\d])[0-7](?!\d)", lambda number: _DAYS[int(number[0])], day_of_week.lower())
    try:
        return CronTrigger.from_crontab(" ".join(fields), time_zone)
    except ValueError as error:
        raise ValueError(f"{cron!r} is no cron schedule: {error}") from error
