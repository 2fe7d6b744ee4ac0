"""`report.txt`: what came of a run, for people: the verdict first, then what it rests on, then the evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from chaosd.report.verdict import Verdict, Violation

_MEANING = {
    "pass": "everything that was acknowledged was still there, unchanged, on the same disk",
    "fail": "a promise was broken",
    "unknown": "not everything could be seen, so nothing is promised",
}


def summary(verdict: Verdict) -> str:
    """The last line that a command prints."""
    found = ", ".join(f"{count} {name}" for name, count in sorted(verdict.violations_by_class.items()))
    unseen = len(verdict.unknown)
    missing = f"{unseen} thing{'s' if unseen > 1 else ''} not seen" if verdict.verdict == "unknown" else ""
    detail = found or missing or f"{verdict.coverage['files_acknowledged']} files acknowledged and kept"
    simulated = ", on a simulated cluster" if verdict.cluster.kind == "sandbox" else ""
    aborted = ", aborted" if verdict.aborted else ""
    return f"verdict: {verdict.verdict} ({detail}{aborted}{simulated}; run {verdict.run}, seed {verdict.seed})"


def began(verdict: Verdict) -> datetime:
    """When its run did."""
    return datetime.fromtimestamp(verdict.started_at, UTC)


def render(verdict: Verdict) -> str:
    """The whole report."""
    return "\n".join([*_head(verdict), *_steps(verdict), *_violations(verdict), *_rest(verdict), "", summary(verdict), ""])


def _head(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.verdict.upper()}: {_MEANING[verdict.verdict]}"
    yield ""
    yield f"experiment  {verdict.experiment}"
    yield f"target      {verdict.target}"
    simulated = " (SIMULATED: says nothing of any real storage)" if verdict.cluster.kind == "sandbox" else ""
    yield f"cluster     {verdict.cluster.kind} {verdict.cluster.version}{simulated}"
    yield f"run         {verdict.run}"
    yield f"seed        {verdict.seed}"
    yield f"began       {began(verdict):%Y-%m-%d %H:%M:%S} UTC, took {verdict.ended_at - verdict.started_at:.1f} s"
    if verdict.aborted:
        yield f"aborted     {verdict.aborted}"


def _steps(verdict: Verdict) -> Iterator[str]:
    step = None
    for line in verdict.steps:
        if line["step"] != step:
            step = line["step"]
            yield ""
            yield f"step: {step}"
        yield f"  [{line['result']}] {line['replica']} {line['expectation']}"
        yield f"      expected  {line['expected']}"
        yield f"      seen      {line['seen']}"


def _violations(verdict: Verdict) -> Iterator[str]:
    for violation in verdict.violations:
        yield ""
        yield f"{violation.failure.upper()} {where(violation)}"
        for key, value in violation.evidence.items():
            yield f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"


def where(violation: Violation) -> str:
    """What is damaged, from the pod to the block."""
    parts = [f"{violation.namespace}/{violation.pod}"]
    if violation.claim:
        parts.append(f"claim {violation.claim}")
    if violation.volume_handle:
        parts.append(f"disk {violation.volume_handle}")
    if violation.file:
        parts.append(f"file {violation.file}")
    if violation.block is not None:
        parts.append(f"block {violation.block}")
    return ", ".join(parts)


def _rest(verdict: Verdict) -> Iterator[str]:
    for title, lines in (
        ("not seen", [f"{u.subject}: {u.missing}" for u in verdict.unknown]),
        ("by policy, no fault", verdict.by_policy),
        ("not applicable", verdict.not_applicable),
        ("notes", verdict.notes),
    ):
        if lines:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in lines)
    yield ""
    yield "coverage:"
    for key, value in verdict.coverage.items():
        yield f"  {key.replace('_', ' ')}: {_words(value)}"
    if not verdict.coverage["crashes"]:
        yield "  no node or disk lost power: deleting a pod flushes its volume, so nothing is said of fsync"
    yield ""
    yield "recovery, in seconds:"
    phases = {"converged": verdict.recovery["converged_seconds"], **verdict.recovery["phases_seconds"]}
    yield from (f"  {phase:<10} {_words(measured)}" for phase, measured in phases.items())


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_words, value)) or "none"
    return str(value)
