"""The status page: parts, each the content of one element, that are drawn anew only when what they show has changed."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from chaosd.checkers.verdict import Value
from chaosd.report import pages
from chaosd.report.runs import duration, moment
from chaosd.status.document import Status, Violation

_AGE = re.compile(r'(data-at="(\d+)"><b>)')
_SHOWN_VIOLATIONS = 200


@dataclass(frozen=True, slots=True)
class Overall:
    """What stands on top."""

    value: Value
    word: str
    sentence: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class _Violations:
    shown: tuple[Violation, ...]
    count: int


class Page:
    """Remembers what it has drawn. `parts` gives the content of elements by their ids."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[Any, str]] = {}

    def parts(self, status: Status) -> Mapping[str, str]:
        """The HTML of every part, in the order in which they stand on the page."""
        self._drawn = {id_: self._part(id_, draw, shown) for id_, draw, shown in _parts(status)}
        return {id_: html for id_, (_, html) in self._drawn.items()}

    def _part(self, id_: str, draw: str, shown: Any) -> tuple[Any, str]:
        known = self._drawn.get(id_)
        return known if known and (known[0] is shown or known[0] == shown) else (shown, str(_drawer(draw)(shown)))


def whole(status: Status, parts: Mapping[str, str], version: str, layout: str, *, can_pause: bool) -> str:
    """The page, but for ages."""
    drawn = {id_: Markup(html) for id_, html in parts.items()}  # noqa: S704 - escaped where they are drawn
    return (
        _environment()
        .get_template("status.html")
        .render(status=status, parts=drawn, version=version, layout=layout, can_pause=can_pause, part_of=part_of)
    )


def answer(title: str, told: str) -> str:
    """A page that says what came of a form."""
    return _environment().get_template("answer.html").render(title=title, told=told)


def aged(html: str, now: float) -> str:
    """The page with the age of every moment on it."""
    return _AGE.sub(lambda found: found[1] + _age(now - int(found[2])), html)


def _age(seconds: float) -> str:
    whole_seconds = int(abs(seconds))
    if seconds < -1:
        return f"in {duration(whole_seconds)}"
    return "just now" if whole_seconds < 2 else f"{duration(whole_seconds)} ago"


def part_of(kind: str, name: str) -> str:
    """The id of the element that is an experiment's or a target's, whatever is in its name."""
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _parts(status: Status) -> Iterator[tuple[str, str, Any]]:
    """The id of each part, what draws it, and what it shows."""
    yield "overall", "overall", overall(status)
    yield "violations", "violations", _Violations(status.violations[:_SHOWN_VIOLATIONS], status.violations_count)
    for experiment in status.experiments:
        yield part_of("experiment", experiment.name), "experiment", experiment
    for target in status.targets:
        yield part_of("target", target.target), "replicas", target.replicas
    yield "refused", "refused", status.refused


def overall(status: Status) -> Overall:
    """What can be said of everything together. It promises no more than that nothing was found so far."""
    states = Counter(one.state for one in status.experiments)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    experiments = f"Experiments: {counted}." if counted else "No experiment is loaded."
    simulated = any(one.run and one.run.cluster.startswith("sandbox ") for one in status.experiments)
    if count := status.violations_count:
        broken = f"{count:,} {'promise is' if count == 1 else 'promises are'} broken."
        return Overall(Value.FAIL, "Fail", f"{broken} {experiments}", simulated)
    if status.not_ready:
        return Overall(
            Value.UNKNOWN, "Not ready", f"The daemon cannot do its work: {status.not_ready}. {experiments}", simulated
        )
    judged = [one.judged.verdict for one in status.experiments if one.judged]
    if judged and len(judged) == len(status.experiments) and set(judged) == {Value.PASS}:
        return Overall(
            Value.PASS, "Nothing broken", f"All that was acknowledged was found again so far. {experiments}", simulated
        )
    return Overall(
        Value.UNKNOWN,
        "Not known yet",
        f"Nothing was seen broken; not every experiment has a pass so far. {experiments}",
        simulated,
    )


def script() -> str:
    """What keeps the page up to date, where the browser runs it."""
    return files("chaosd.status").joinpath("templates/status.js").read_text()


def style() -> str:
    """That of the reports, and what the page has beside it."""
    return pages.style() + files("chaosd.status").joinpath("templates/status.css").read_text()


def _drawer(name: str) -> Callable[[Any], str]:
    drawer: Callable[[Any], str] = getattr(_environment().get_template("parts.html").module, name)
    return drawer


@lru_cache(1)
def _environment() -> Environment:
    return pages.templates("chaosd.status", {"moment": moment, "iso": _iso})


def _iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
