"""`/api/status`: what a daemon does now, for machines, and what the page is made of. Its schema is versioned: fields are
added, never changed or removed, within a version."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from chaosd import __version__
from chaosd.checkers.verdict import Value

SCHEMA_VERSION: Literal[1] = 1
At = Annotated[float, Field(description="Seconds since the epoch.")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Replica(_Model):
    """A replica, and what its path stands on, as its last session told; empty strings where it has no such thing, or it was
    not seen."""

    replica: Annotated[str, Field(description="NAMESPACE/POD.")]
    pod: Annotated[str, Field(description="Such as `Ready` or `terminating`.")]
    since: At | None
    claim: str
    volume: str
    handle: Annotated[str, Field(description="The disk's name at its vendor.")]
    node: str


class Target(_Model):
    """A StatefulSet under test, as the run saw it that is under way on it, or was last."""

    target: Annotated[str, Field(description="NAMESPACE/STATEFULSET.")]
    experiment: Annotated[str, Field(description="Whose run saw it.")]
    replicas: tuple[Replica, ...]


class Violation(_Model):
    """A broken promise, found by the last run of an experiment."""

    failure: Annotated[str, Field(serialization_alias="class", description="Its name.")]
    target: str
    replica: str
    experiment: str
    run: str
    claim: str
    handle: str
    file: str
    since: Annotated[
        float,
        Field(
            description="When it was seen, in seconds since the epoch; of a run that an earlier "
            "process of the daemon ended, when that was judged."
        ),
    ]


class Round(_Model):
    """Where a run is."""

    number: int
    name: str
    phase: str
    since: At
    disruption: Annotated[str, Field(description="The last one, or what holds it back; empty where there was none yet.")]
    disrupted_at: At | None


class Run(_Model):
    """A run that is under way."""

    run: str
    seed: int
    cluster: str
    started_at: At
    round: Round


class Judged(_Model):
    """A verdict."""

    verdict: Value
    at: At
    run: str
    ended: Annotated[bool, Field(description="Of the whole run; else of its rounds so far.")]
    violations: int


class Experiment(_Model):
    """An experiment of the daemon."""

    name: str
    target: str
    state: Annotated[
        Literal["starting", "running", "waiting", "paused", "failed", "stopped"],
        Field(
            description="`waiting` for its time or its turn, `paused` by the kill switch or a guard, `stopped` by a guard "
            "for good."
        ),
    ]
    why: Annotated[str, Field(description="It is paused, failed or stopped; empty else.")]
    run: Run | None
    judged: Judged | None
    next_at: Annotated[float | None, Field(description="When its next run is due; null where it goes on for ever.")]


class Refused(_Model):
    """A file that is no experiment."""

    file: str
    why: str


class Status(_Model):
    """What a daemon does now."""

    schema_version: Annotated[Literal[1], Field(description="The version of this schema.")] = SCHEMA_VERSION
    chaosd: Annotated[str, Field(description="The version of chaosd.")] = __version__
    at: At
    not_ready: Annotated[str, Field(description="What keeps the daemon from its work; empty where nothing does.")]
    experiments: tuple[Experiment, ...] = ()
    targets: tuple[Target, ...] = ()
    violations: tuple[Violation, ...] = ()
    violations_count: Annotated[int, Field(description="Of each experiment only the first 50 are listed.")] = 0
    refused: tuple[Refused, ...] = ()

    def as_json(self) -> str:
        """The document, with a newline at its end."""
        return self.model_dump_json(by_alias=True) + "\n"
