"""What a daemon says of a scheduled gate: whether its last verdict passes, for machines. The schema is versioned as that of
verdicts: fields are added, never changed or removed, within a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chaosd.checkers.verdict import Value
from chaosd.report.runs import duration, moment
from chaosd.report.verdict import Unseen

SCHEMA_VERSION: Literal[1] = 1
# By so much clocks of two nodes may differ.
_SKEW_SECONDS = 60.0
# The subject under which a verdict tells what was required and not done.
_COVERAGE = "coverage"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LastRun(_Model):
    """The last run that has ended."""

    run: str
    verdict: Value
    exit_code: Annotated[Literal[0, 1, 3, 4], Field(description="What `chaosd gate` would have ended with.")]
    aborted: Annotated[str, Field(description="Why it was ended before its end; empty where it was not.")]
    began: Annotated[float, Field(description="Seconds since the epoch.")]
    ended: Annotated[float, Field(description="Seconds since the epoch.")]
    age_seconds: Annotated[float, Field(ge=0, description="Since it ended.")]
    violations_by_class: Annotated[dict[str, int], Field(description="Every class that was found, and how often.")]
    missing: Annotated[tuple[str, ...], Field(description="What is required and was not done.")]
    unknown: Annotated[tuple[Unseen, ...], Field(description="What else could not be seen.")]


class Running(_Model):
    """A run that is under way."""

    run: str
    began: Annotated[float, Field(description="Seconds since the epoch.")]
    round: Annotated[int, Field(ge=0, description="The round under way; 0 before the first.")]


class GateStatus(_Model):
    """How a gate stands."""

    schema_version: Annotated[Literal[1], Field(description="The version of this schema.")] = SCHEMA_VERSION
    gate: Annotated[str, Field(description="The experiment's name.")]
    target: Annotated[str, Field(description="NAMESPACE/STATEFULSET.")]
    passed: Annotated[bool, Field(description="Whether it may ship: what the status of the answer says, 200 or 503.")]
    exit_code: Annotated[Literal[0, 1, 3], Field(description="What `chaosd gate --remote` ends with.")]
    counts: Annotated[
        bool,
        Field(description="Whether the last run says anything of now: young enough, and of the experiment as it is."),
    ]
    why: Annotated[str, Field(description="Why it does not pass; empty where it does.")]
    now: Annotated[float, Field(description="When this was said, in seconds since the epoch, by the daemon's clock.")]
    max_age_seconds: Annotated[float | None, Field(description="How old a pass may be, as it was asked; null: any age.")]
    last: Annotated[LastRun | None, Field(description="Null where none has ended.")]
    running: Annotated[Running | None, Field(description="Null where none is under way.")]
    next_begins: Annotated[
        float | None,
        Field(description="When the next run is due, in seconds since the epoch; before now where it waits for its turn."),
    ]
    held_up: Annotated[str, Field(description="What keeps the next run from beginning; empty where nothing is known to.")]

    def as_json(self) -> str:
        """The document, with a newline at its end."""
        return self.model_dump_json(indent=2) + "\n"

    def lasting(self) -> str:
        """What of it does not change by itself from one second to the next: without `now` and the age."""
        return self.model_dump_json(exclude={"now": True, "last": {"age_seconds"}})


class Gates(_Model):
    """All gates of a daemon."""

    schema_version: Annotated[Literal[1], Field(description="The version of this schema.")] = SCHEMA_VERSION
    gates: tuple[GateStatus, ...]

    def as_json(self) -> str:
        """The document, with a newline at its end."""
        return self.model_dump_json(indent=2) + "\n"


@dataclass(frozen=True, slots=True)
class Known:
    """What a daemon knows of a gate. `verdict` is that of its last run that has ended, as in `verdict.json`, and `outdated`
    says that it was of the experiment before that was changed; `next_begins` is in seconds since the epoch."""

    name: str
    target: str
    verdict: Mapping[str, Any] | None
    outdated: bool
    running: Running | None
    next_begins: float | None
    held_up: str


def status(known: Known, now: float, max_age: float | None = None) -> GateStatus:
    """How a gate stands `now`, where a verdict is no use that is older than `max_age` seconds."""
    last = _last(known.verdict, now) if known.verdict else None
    useless = _useless(known, last, now, max_age)
    code = last.exit_code if last and not useless else 3
    return GateStatus(
        gate=known.name,
        target=known.target,
        passed=code == 0,
        exit_code=3 if code == 4 else code,
        counts=not useless,
        why=useless or "; ".join(_against(last)),
        now=now,
        max_age_seconds=max_age,
        last=last,
        running=known.running,
        next_begins=known.next_begins,
        held_up=known.held_up,
    )


def summary(gate: GateStatus) -> str:
    """For people, in a line."""
    last = f" (run {gate.last.run}, ended {moment(gate.last.ended)})" if gate.last else ""
    verdict = "pass" if gate.passed else "fail" if gate.exit_code == 1 else "unknown"
    return f"gate {gate.gate}: {': '.join(filter(None, (verdict, gate.why)))}{last}"


def _exit_code(verdict: Mapping[str, Any]) -> Literal[0, 1, 3, 4]:
    """What a run of this `verdict.json` ends with."""
    if verdict["verdict"] == Value.FAIL:
        return 1
    if verdict["aborted"]:
        return 4
    return 0 if verdict["verdict"] == Value.PASS else 3


def _last(verdict: Mapping[str, Any], now: float) -> LastRun:
    unseen = [Unseen(subject=one["subject"], missing=one["missing"]) for one in verdict["unknown"]]
    return LastRun(
        run=verdict["run"],
        verdict=verdict["verdict"],
        exit_code=_exit_code(verdict),
        aborted=verdict["aborted"],
        began=verdict["started_at"],
        ended=verdict["ended_at"],
        age_seconds=max(0.0, round(now - verdict["ended_at"], 3)),
        violations_by_class=dict(verdict["violations_by_class"]),
        missing=tuple(one.missing for one in unseen if one.subject == _COVERAGE),
        unknown=tuple(one for one in unseen if one.subject != _COVERAGE),
    )


def _useless(known: Known, last: LastRun | None, now: float, max_age: float | None) -> str:
    """Why the last verdict says nothing of the present, whatever it is."""
    if last is None:
        return "its first run is under way" if known.running else "no run of it has ended yet"
    if known.outdated:
        return f"run {last.run} was of the experiment before that was changed"
    if last.ended - now > _SKEW_SECONDS:
        return f"run {last.run} ends in the future by the daemon's clock, so that its age is not known"
    if max_age is not None and now - last.ended > max_age:
        return f"run {last.run} ended {duration(last.age_seconds)} ago, and no more than {duration(max_age)} is allowed"
    return ""


def _against(last: LastRun | None) -> Iterator[str]:
    """What the last run itself says against a pass."""
    if last is None or last.exit_code == 0:
        return
    found = ", ".join(f"{count} {name}" for name, count in sorted(last.violations_by_class.items()))
    if found:
        yield f"run {last.run} found violations: {found}"
    if last.aborted:
        yield f"run {last.run} was ended before its end: {last.aborted}"
    yield from last.missing
    yield from (f"{one.subject}: {one.missing}" for one in last.unknown)
