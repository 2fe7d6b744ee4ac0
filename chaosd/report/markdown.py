"""A report as Markdown, for a comment on a pull request: short, and of bounded length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from chaosd.report import text
from chaosd.report.document import Proof, Report
from chaosd.report.runs import duration, moment
from chaosd.report.verdict import Violation

# GitHub refuses comments of more than 65,536 characters.
_VIOLATIONS, _LINES, _LONGEST = 20, 20, 300
_MARKS = {"pass": "✅", "fail": "❌", "unknown": "❔"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!~$:])")


def render(report: Report) -> str:
    """The document."""
    return "\n".join([*_head(report), *_violations(report), *_unseen(report), *_recovery(report), *_again(report), ""])


def _head(report: Report) -> Iterator[str]:
    verdict = report.verdict
    yield f"## {_MARKS[verdict.verdict]} chaosd: {verdict.verdict}"
    yield from ("", _plain(report.sentence), "")
    if report.state_told:
        yield from (f"> {_plain(report.state_told)}", "")
    simulated = ", simulated" if verdict.cluster.kind == "sandbox" else ""
    yield (
        f"{_code(verdict.experiment)} on {_code(verdict.target)}, {_plain(verdict.cluster.version)}{simulated}; run "
        f"{_code(verdict.run)}, {moment(verdict.started_at)}, {duration(verdict.ended_at - verdict.started_at)}"
    )
    yield from _list("What it rests on", report.rests_on)
    yield from _list("What it does not say", report.does_not_say)


def _list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"**{title}**", "", *(f"- {_plain(line)}" for line in lines[:_LINES]))
        if len(lines) > _LINES:
            yield f"- and {len(lines) - _LINES} more"


def _violations(report: Report) -> Iterator[str]:
    violations = report.verdict.violations
    if not violations:
        return
    yield from ("", "### Violations", "", "| Class | Where | Seen |", "|---|---|---|")
    for violation, proof in zip(violations[:_VIOLATIONS], report.proofs, strict=False):
        yield f"| {_code(violation.failure)} | {_plain(text.where(violation))} | {_seen(violation, proof)} |"
    if len(violations) > _VIOLATIONS:
        yield from ("", f"The first {_VIOLATIONS} of {len(violations)}.")


def _seen(violation: Violation, proof: Proof) -> str:
    if proof.dump:
        row = next(row for row in proof.dump.rows if row.expected != row.found)
        return f"byte {row.offset}: {_code(row.expected or 'nothing')} expected, {_code(row.found or 'nothing')} found"
    return _plain(proof.shown_by.told) if proof.shown_by else _plain(str(violation.evidence))


def _unseen(report: Report) -> Iterator[str]:
    yield from _list("Not seen", [f"{one.subject}: {one.missing}" for one in report.verdict.unknown])


def _recovery(report: Report) -> Iterator[str]:
    rows = [(kind, phases["converged"]) for kind, phases in report.recovery_by_kind.items() if "converged" in phases]
    if rows:
        yield from ("", "| Recovered from | Times | Median | 90 % | Longest |", "|---|---|---|---|---|")
    for kind, told in rows:
        seconds = " | ".join(duration(told[name]) for name in ("p50", "p90", "max"))
        yield f"| {_code(kind)} | {told['count']} | {seconds} |"


def _again(report: Report) -> Iterator[str]:
    yield from ("", f"Again: {_code(report.run_again)}")


def _code(told: str) -> str:
    return f"`{_short(told).replace('`', chr(39)).replace('|', '¦')}`"


def _plain(told: str) -> str:
    """Text that stays text: no mark, no tag, no mention of anybody, no line of its own."""
    return _SPECIAL.sub(r"\\\1", _short(told)).replace("@", "@\u200b")


def _short(told: str) -> str:
    line = " ".join(str(told).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
