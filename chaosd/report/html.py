"""A report as one HTML file: no request to anywhere, no script, light and dark, on paper and on a phone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Template
from markupsafe import Markup

from chaosd.checkers.recovery import PHASES
from chaosd.checkers.verdict import Class
from chaosd.report import drawing, evidence
from chaosd.report.making import Made
from chaosd.report.pages import style, templates
from chaosd.report.recoveries import CONVERGED
from chaosd.report.runs import duration, moment

# Lines of one list; what is beyond is in report.json, and the page says so.
_LISTED = 100
_LONGEST = 4_000  # characters of one value of evidence
_NAMES = ("run", "replica", "claim_uid", "volume_handle", "pod_uid", "file", "sequence", "block")

MEANING: Mapping[Class, str] = {
    Class.LOST: "A file that was acknowledged is not there, or lacks what was acknowledged in it.",
    Class.TORN: "Part of what was acknowledged is there; the rest is zero, older, or cut off.",
    Class.CORRUPT: "The bytes are not those that were written, and nobody else's.",
    Class.STALE: "An older value stands there, though a later one was acknowledged.",
    Class.FOREIGN: "The bytes are another claim's, another run's or another pod's.",
    Class.REFORMATTED: "The file system was made anew.",
    Class.NOT_MOUNTED: "What the pod has at the path is not its volume.",
    Class.NOT_EXPANDED: "The claim says that it has grown, and the file system has not.",
    Class.UNEXPECTED: "A file is there that was never written, or whose delete was acknowledged.",
    Class.DOUBLE_WRITER: "Two pods wrote to the same volume.",
    Class.CLAIM_REPLACED: "The claim was made anew: it has another UID.",
    Class.CLAIM_MISSING: "The claim is not there.",
    Class.CLAIM_LOST: "The claim is bound to a volume that does not exist any more.",
    Class.CLAIM_MISMATCH: "The pod mounts another claim than the one of its ordinal.",
    Class.VOLUME_REBOUND: "The same claim is bound to another volume than before.",
    Class.HANDLE_CHANGED: "The volume has the same name and names another disk.",
    Class.DOUBLE_BOUND: "Two claims stand on one volume or on one disk.",
    Class.ATTACHED_ELSEWHERE: "The pod is on one node, and its volume is attached to another.",
    Class.HOSTNAME_CHANGED: "The hostname in the pod is not the pod's name.",
    Class.ORDER_VIOLATED: "A pod was made or stopped out of the order that its StatefulSet promises.",
    Class.NOT_RECOVERED: "The target did not come back in time, and nothing but storage is seen to be the cause.",
}
_LEGEND = (
    ("writing", "round: writes"),
    ("disrupting", "disrupts"),
    ("recovering", "waits for the target"),
    ("reading", "reads back"),
    ("terminating", "pod: terminating"),
    ("pending", "no node"),
    ("scheduled", "scheduled"),
    ("attached", "volume attached"),
    ("ready", "Ready"),
    ("several", "several changes in one step"),
    ("disk", "claim → volume → disk → node"),
    ("other-disk", "another disk than at first"),
    ("writes", "written, up"),
    ("reads", "read, down"),
    ("failed", "failed or unanswered"),
)


def render(made: Made) -> str:
    """The page."""
    report, timeline = made.report, made.timeline
    drawn = drawing.draw(timeline, made.seen)
    return _template().render(
        r=report,
        v=report.verdict,
        style=Markup(style()),  # noqa: S704 - our own file
        drawing=Markup(drawn.svg),  # noqa: S704 - escaped where it is drawn
        rule=_rule(made, drawn.left_out),
        legend=_LEGEND,
        meaning=MEANING,
        names=_NAMES,
        shown=evidence.SHOWN,
        listed=_LISTED,
        experiment=json.dumps(report.experiment, indent=2),
    )


def _rule(made: Made, left_out: int) -> str:
    """How the timeline is drawn, so that nobody takes it for more than it is."""
    timeline = made.timeline
    told = [f"One step is {duration(timeline.step_seconds)}; what falls into one step of a row is one mark that counts it."]
    if timeline.cut_seconds:
        told.append(f"Silence of {duration(timeline.cut_seconds)} in all is cut out, where the grey bars are.")
    if left_out:
        told.append(
            f"{left_out} of {len(timeline.tracks)} replicas are not drawn: those with violations come first, then those "
            "that were disrupted."
        )
    return " ".join(told)


@lru_cache(1)
def _template() -> Template:
    filters: Mapping[str, Callable[..., Any]] = {
        "moment": moment,
        "clock": lambda at: moment(at)[11:19],
        "duration": duration,
        "plain": _plain,
        "pairs": _pairs,
        "in_order": _in_order,
        "consequences": evidence.consequences,
    }
    return templates("chaosd.report", filters).get_template("report.html")


def _pairs(row: Any, side: str) -> Iterator[tuple[str, str]]:
    """Each byte of one side, beside the other side's in its place."""
    own, other = (row.expected, row.found) if side == "expected" else (row.found, row.expected)
    for at in range(0, max(len(own), len(other)), 2):
        yield own[at : at + 2], other[at : at + 2]


def _in_order(phases: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(phase, phases[phase]) for phase in (*PHASES, CONVERGED) if phase in phases]


def _plain(value: Any) -> str:
    """A value of a document as text, of bounded length."""
    if isinstance(value, bool) or value is None:
        told = {True: "yes", False: "no", None: "none"}[value]
    elif isinstance(value, int):
        told = f"{value:,}"
    elif isinstance(value, Mapping):
        told = ", ".join(f"{key} {_plain(part)}" for key, part in value.items()) or "none"
    elif isinstance(value, list | tuple):
        told = ", ".join(map(_plain, value)) or "none"
    else:
        told = str(value)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}… ({len(told):,} characters; all is in report.json)"
