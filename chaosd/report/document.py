"""`report.json`: verdict.json and what a report adds to it, for machines; every other format is made from it. Its schema is
versioned like that of the verdict: fields are added, never changed or removed, within a version."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from chaosd.report.verdict import Verdict

SCHEMA_VERSION: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Moment(_Model):
    """One op of the history."""

    index: int
    at: Annotated[float, Field(description="Seconds since the epoch.")]
    process: str
    told: Annotated[str, Field(description="What it says, in words.")]


class Row(_Model):
    """Eight bytes, or fewer at the end, in hex; empty where there are none."""

    offset: Annotated[int, Field(description="In the record, in bytes.")]
    expected: str
    found: str


class Dump(_Model):
    """Bytes around the first one that differs."""

    block: Annotated[int, Field(description="Of the file, of 4,096 bytes, from 0.")]
    offset: Annotated[int, Field(description="Of the first byte that differs, in the record.")]
    part: Annotated[str, Field(description="In which part of the block that byte is; empty where it is not known.")]
    made_again: Annotated[
        bool, Field(description="Whether the whole expected block was made again from the seed, and agrees.")
    ]
    rows: tuple[Row, ...]


class Proof(_Model):
    """What shows that a violation is one."""

    shown_by: Annotated[Moment | None, Field(description="The op that showed it; null where it is not found any more.")] = (
        None
    )
    kept_until: Annotated[Moment | None, Field(description="The last op that showed the promise kept.")] = None
    expected: Annotated[dict[str, str] | None, Field(description="Whose data is to be there.")] = None
    found: Annotated[dict[str, str], Field(description="Whose the data there says that it is; empty where nothing.")] = {}
    dump: Dump | None = None
    moments: Annotated[tuple[Moment, ...], Field(description="The replica's life before that, and right after.")] = ()
    moments_left_out: Annotated[int, Field(description="Of the 5,000 ops before, those of its life not told.")] = 0
    evidence: Annotated[dict[str, Any], Field(description="What else was seen, by class.")] = {}


class Disrupted(_Model):
    """One disruption."""

    index: int
    kind: str
    words: str
    round: int
    began_at: Annotated[float, Field(description="Seconds since the epoch.")]
    seconds: Annotated[float, Field(description="How long the act took.")]
    outcome: Annotated[Literal["done", "not-done", "in-doubt"], Field(description="Whether it happened.")]
    error: str
    recovered_seconds: Annotated[float | None, Field(description="Until the target had converged; null: it had not.")]


class Report(_Model):
    """What came of a run, what it rests on, and what shows it."""

    schema_version: Annotated[Literal[1], Field(description="The version of this schema.")] = SCHEMA_VERSION
    chaosd: Annotated[str, Field(description="The version that made the report.")]
    made_at: Annotated[float, Field(description="Seconds since the epoch.")]
    state: Annotated[Literal["finished", "running", "killed"], Field(description="How the run stands.")]
    state_told: Annotated[str, Field(description="The same in a sentence; empty for a finished run.")]
    ops: Annotated[int, Field(description="How many the history has.")]
    sentence: Annotated[str, Field(description="The verdict in one sentence.")]
    rests_on: Annotated[tuple[str, ...], Field(description="What was done, in words.")]
    does_not_say: Annotated[tuple[str, ...], Field(description="What cannot be concluded from the verdict.")]
    judged_again: Annotated[
        str, Field(description="Where the checkers of this version find something else in the history; mostly empty.")
    ]
    run_again: Annotated[str, Field(description="The command that repeats the run's decisions.")]
    experiment: Annotated[dict[str, Any], Field(description="The experiment, as an experiment file may have it.")]
    verdict: Annotated[Verdict, Field(description="As in verdict.json.")]
    proofs: Annotated[tuple[Proof, ...], Field(description="Of the verdict's first 50 violations, in their order.")]
    recovery_by_kind: Annotated[
        dict[str, dict[str, dict[str, Any]]],
        Field(description="Seconds by kind of disruption and phase: count, p50, p90, p95, p99, max, sampled."),
    ]
    disruptions: Annotated[
        tuple[Disrupted, ...], Field(description="Those that recovery from took longest, up to 200, in their order.")
    ]
    disruptions_seen: Annotated[int, Field(description="How many there were.")]

    def as_json(self) -> str:
        """The document, with a newline at its end."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"
