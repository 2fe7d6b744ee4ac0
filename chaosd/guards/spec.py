"""The guards of an experiment, as its file says them."""

from __future__ import annotations

import datetime
import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from chaosd.quantities import Bytes, Percent, Seconds, TimeZone, of_whole, parse_share

_CONFIG = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
_MINUTES_OF_DAY = 24 * 60

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)  # as datetime.date.weekday counts them


def _minutes(value: object) -> object:
    """Minutes since midnight of such as `09:30`. YAML 1.1 reads an unquoted 09:30 as text, yet 10:30 as 630 (base 60)."""
    match = re.fullmatch(r"(\d\d):(\d\d)", str(value))
    if match and (minutes := int(match[1]) * 60 + int(match[2])) <= _MINUTES_OF_DAY and int(match[2]) < 60:
        return minutes
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MINUTES_OF_DAY:
        return value
    raise ValueError(f"{value!r} is no time of day: write it in quotes, such as '09:30', up to '24:00'")


TimeOfDay = Annotated[
    int, BeforeValidator(_minutes), WithJsonSchema({"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"})
]


class Window(BaseModel):
    """Hours of some days. One that ends before it begins ends on the next day."""

    model_config = _CONFIG

    days: Annotated[tuple[Day, ...], Field(min_length=1, description="On which it begins; left out: on every day.")] = DAYS
    begins: Annotated[TimeOfDay, Field(alias="from", description="Such as '09:00', in guards.timeZone.")] = 0
    ends: Annotated[TimeOfDay, Field(alias="to", description="The first minute after it.")] = _MINUTES_OF_DAY

    @model_validator(mode="after")
    def _lasts(self) -> Window:
        if self.begins == self.ends:
            raise ValueError("from and to are the same: leave both out for a whole day")
        return self

    def __str__(self) -> str:
        days = "" if self.days == DAYS else f"{' '.join(self.days)} "
        return f"{days}{self.begins // 60:02}:{self.begins % 60:02}-{self.ends // 60:02}:{self.ends % 60:02}"

    @property
    def days_long(self) -> int:
        """1 where it ends on the day after it began, else 0."""
        return int(self.ends < self.begins)


class Guards(BaseModel):
    """What must hold before a disruption begins, beside what always must (docs/safety.md)."""

    model_config = _CONFIG

    allow_namespaces: Annotated[
        tuple[str, ...],
        Field(alias="allowNamespaces", description="Patterns with * and ?; the target's namespace must match one."),
    ] = ("*",)
    deny_namespaces: Annotated[
        tuple[str, ...], Field(alias="denyNamespaces", description="Patterns that it must not match, whatever is allowed.")
    ] = ("kube-system", "kube-public", "kube-node-lease")
    max_unavailable: Annotated[
        Annotated[int, Field(ge=0)] | Percent,
        Field(alias="maxUnavailable", description="Replicas that may be unavailable at once, as a number or a share."),
    ] = "100%"
    min_interval: Annotated[
        Seconds, Field(alias="minInterval", description="From the beginning of a disruption to that of the next.")
    ] = 0.0
    max_per_hour: Annotated[
        int | None, Field(alias="maxPerHour", ge=1, description="Disruptions of a target in any hour; left out: no limit.")
    ] = None
    min_free: Annotated[
        Bytes | Percent,
        Field(alias="minFree", description="What must be free on every volume that is seen, in bytes or as a share."),
    ] = "2%"
    time_zone: Annotated[TimeZone, Field(alias="timeZone", description="Of these windows, such as Europe/Berlin.")] = "UTC"
    active: Annotated[tuple[Window, ...], Field(description="Disruptions begin in these only; left out: at any time.")] = ()
    blackout: Annotated[tuple[Window, ...], Field(description="No disruption begins in these.")] = ()
    holidays: Annotated[tuple[datetime.date, ...], Field(description="Days on which none begins, as 2026-12-24.")] = ()
    stop_after: Annotated[
        Annotated[int, Field(ge=1)] | Literal["never"],
        Field(alias="stopAfter", description="Violations after whose round nothing is disrupted any more, or never."),
    ] = "never"

    @field_validator("max_unavailable", "min_free", mode="before")
    @classmethod
    def _a_share(cls, value: Any) -> Any:
        return parse_share(value)

    def denies(self, namespace: str) -> str:
        """Why nothing in a namespace may be tested; empty where it may."""
        for pattern in self.deny_namespaces:
            if fnmatchcase(namespace, pattern):
                return f"guards.denyNamespaces has {pattern}"
        if not any(fnmatchcase(namespace, pattern) for pattern in self.allow_namespaces):
            return f"guards.allowNamespaces has only {', '.join(self.allow_namespaces) or 'nothing'}"
        return ""

    def stops_after(self, violations: int) -> bool:
        """Whether so many violations are enough."""
        return self.stop_after != "never" and violations >= self.stop_after

    def unavailable(self, replicas: int) -> int:
        """How many of so many replicas may be unavailable at once; a share is rounded down."""
        return of_whole(self.max_unavailable, replicas)

    def free_bytes(self, total_bytes: int) -> int:
        """What must be free on a volume of so many bytes."""
        return of_whole(self.min_free, total_bytes)
