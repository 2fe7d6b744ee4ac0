"""`verdict.json`: what came of a run, for machines. Its schema is versioned: fields are added, never changed or removed,
within a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from chaosd.checkers import Judgement
from chaosd.checkers.verdict import Class, Value
from chaosd.checkers.verdict import Violation as Found
from chaosd.coverage import notes

SCHEMA_VERSION: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClusterInfo(_Model):
    """Where it ran."""

    kind: Annotated[Literal["kubernetes", "sandbox"], Field(description="A sandbox is a simulated cluster.")]
    version: str


class Violation(_Model):
    """One broken promise."""

    failure: Annotated[
        Class,
        Field(validation_alias=AliasChoices("class", "failure"), serialization_alias="class", description="Its name."),
    ]
    namespace: str
    statefulset: str
    pod: str
    claim: Annotated[str, Field(description="Empty where the path has no claim.")]
    volume_handle: Annotated[str, Field(description="The disk's name at its vendor; empty where it has none.")]
    file: Annotated[str, Field(description="The first damaged file, relative to the mount; empty where it is no file.")]
    block: Annotated[int | None, Field(description="The first damaged block of that file, of 4,096 bytes, from 0.")]
    evidence: Annotated[dict[str, Any], Field(description="What was seen, by class.")]


class Unseen(_Model):
    """Something that could not be seen."""

    subject: str
    missing: str


class Verdict(_Model):
    """What came of a run."""

    schema_version: Annotated[Literal[1], Field(description="The version of this schema.")] = SCHEMA_VERSION
    verdict: Value
    aborted: Annotated[str, Field(description="Why the run was ended before its end; empty where it was not.")] = ""
    run: str
    experiment: str
    seed: int
    started_at: Annotated[float, Field(description="Seconds since the epoch.")]
    ended_at: Annotated[float, Field(description="Seconds since the epoch.")]
    cluster: ClusterInfo
    target: Annotated[str, Field(description="NAMESPACE/STATEFULSET.")]
    violations_by_class: Annotated[dict[str, int], Field(description="Every class that was found, and how often.")]
    violations: tuple[Violation, ...]
    unknown: tuple[Unseen, ...]
    by_policy: Annotated[tuple[str, ...], Field(description="What the StatefulSet's own policies allowed.")]
    not_applicable: Annotated[tuple[str, ...], Field(description="Checks that this target cannot have.")]
    notes: Annotated[tuple[str, ...], Field(description="What else a reader should know; counts for nothing.")]
    steps: Annotated[tuple[dict[str, Any], ...], Field(description="Of a script: expected and seen, line by line.")]
    recovery: Annotated[dict[str, Any], Field(description="Seconds to converge, and to each phase.")]
    coverage: Annotated[dict[str, Any], Field(description="What was done, so that the verdict can be weighed.")]

    def as_json(self) -> str:
        """The document, with a newline at its end."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def make_verdict(
    judgement: Judgement,
    *,
    aborted: str,
    run: str,
    experiment: str,
    seed: int,
    started_at: float,
    ended_at: float,
    cluster: Mapping[str, str],
    target: str,
    coverage: Mapping[str, Any],
) -> Verdict:
    """The document of a judgement."""
    measured = {v.checker: v.measured for v in judgement.verdicts}
    by_class: dict[str, int] = {}
    for found in judgement.violations:
        by_class[found.failure] = by_class.get(found.failure, 0) + 1
    return Verdict(
        verdict=judgement.value,
        aborted=aborted,
        run=run,
        experiment=experiment,
        seed=seed,
        started_at=started_at,
        ended_at=ended_at,
        cluster=ClusterInfo.model_validate(dict(cluster)),
        target=target,
        violations_by_class=by_class,
        violations=tuple(_violation(found, target) for found in judgement.violations),
        unknown=tuple(Unseen(subject=u.subject, missing=u.missing) for u in judgement.unknowns),
        by_policy=judgement.by_policy,
        not_applicable=judgement.not_applicable,
        notes=(*judgement.notes, *notes(coverage)),
        steps=tuple(measured.get("steps", {}).get("expectations", ())),
        recovery=dict(measured.get("recovery", {})),
        coverage={**coverage, **measured.get("integrity", {})},
    )


def _violation(found: Found, target: str) -> Violation:
    namespace, statefulset = target.split("/")
    return Violation(
        failure=found.failure,
        namespace=namespace,
        statefulset=statefulset,
        pod=found.replica.rpartition("/")[2],
        claim=found.binding.claim,
        volume_handle=found.binding.handle,
        file=found.file,
        block=found.block,
        evidence=dict(found.evidence),
    )
