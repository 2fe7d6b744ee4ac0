"""The timeline as an SVG that stands in a page: what was done, and below it each replica, so that cause and effect stand
one above the other. It needs no script: every mark tells itself when it is pointed at, and a table beside it says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from chaosd.report.runs import duration, moment
from chaosd.report.timeline import Counts, Lane, Span, Timeline, Track

_WIDTH, _GUTTER, _RIGHT = 1000.0, 118.0, 12.0
_PLOT = _WIDTH - _GUTTER - _RIGHT
_TOP, _LANE, _POD, _DISK, _IO, _GAP = 24.0, 16.0, 12.0, 15.0, 36.0, 6.0
_LABEL_PIXELS = 6.2  # of a character, about
_TICKS = 8
_TICK_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400, 604_800)
# So much is drawn that the page stays small; of replicas those with violations come first, then those that were hit.
REPLICAS = 24
_MARKS = 6_000

_SAID = {
    "writing": "writes",
    "disrupting": "disrupts",
    "recovering": "waits for the target",
    "reading": "reads back",
    "away": "chaosd was away",
    "done": "done",
    "not-done": "not done",
    "in-doubt": "nobody knows whether it was done",
    "terminating": "terminating",
    "pending": "no node yet",
    "scheduled": "scheduled, its volume not attached yet",
    "attached": "volume attached, not Ready yet",
    "ready": "Ready",
    "disk": "stands on",
    "other-disk": "stands on another disk than at first",
    "several": "changes",
    "cut": "cut out",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """The SVG, and how many replicas it leaves out."""

    svg: str
    left_out: int


def draw(timeline: Timeline, seen: Sequence[tuple[str, int, float]]) -> Drawing:
    """`seen` tells each violation by replica, number and place on the axis; a mark leads to the element `v` and its
    number."""
    chosen = _chosen(timeline, {replica for replica, _, _ in seen})
    axes = _Axes(timeline)
    height = _TOP + 2 * _LANE + 3 * _GAP + len(chosen) * (_LANE + _POD + _DISK + _IO + 3 * _GAP)
    body = [*_grid(axes, height), *_doings(axes)]
    marks: list[str] = []
    top = _TOP + 2 * _LANE + 3 * _GAP
    most = _most(timeline, chosen)
    for name in chosen:
        body += _replica(axes, name, timeline.tracks[name], top, most)
        marks += (_violation(axes, number, place, top) for replica, number, place in seen if replica == name)
        top += _LANE + _POD + _DISK + _IO + 3 * _GAP
    title = "What happened when"
    told = (
        "One row for the rounds, one for the disruptions, and for each replica its pod, its disk, what was written (up) "
        "and what was read (down), over time. The tables below say the same in words."
    )
    head = (
        f'<svg class="timeline" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="group" aria-labelledby="tl-title tl-desc">'
        f'<title id="tl-title">{title}</title><desc id="tl-desc">{told}</desc>'
    )
    # Marks are not read out one by one; what leads somewhere can be reached.
    inside = f'<g aria-hidden="true">{"".join(body)}</g>{"".join(marks)}'
    return Drawing(f"{head}{inside}</svg>", len(timeline.tracks) - len(chosen))


def _chosen(timeline: Timeline, violated: set[str]) -> list[str]:
    """Which replicas are drawn, in their order."""

    def rank(name: str) -> tuple[bool, bool, list[object]]:
        return name not in violated, not timeline.tracks[name].hit, _natural(name)

    chosen: list[str] = []
    marks = 0
    for name in sorted(timeline.tracks, key=rank)[:REPLICAS]:
        track = timeline.tracks[name]
        marks += len(track.pod.spans) + len(track.disk.spans)
        if chosen and marks > _MARKS:
            break
        chosen.append(name)
    return sorted(chosen, key=_natural)


def _natural(name: str) -> list[object]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


class _Axes:
    """Seconds on the axis into pixels."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.length = max(timeline.length, timeline.step_seconds)
        self.step_pixels = max(1.0, timeline.step_seconds / self.length * _PLOT)

    def x(self, seconds: float) -> float:
        return _GUTTER + min(seconds, self.length) / self.length * _PLOT

    def wide(self, span: Span) -> tuple[float, float]:
        """Where a span begins, and how wide it is: never too narrow to be seen."""
        begin, end = self.x(span.begin), self.x(span.end)
        return begin, max(end - begin, 1.4)


def _grid(axes: _Axes, height: float) -> Iterator[str]:
    every = next((s for s in _TICK_SECONDS if axes.length / s <= _TICKS), _TICK_SECONDS[-1])
    at = 0.0
    while at <= axes.length:
        x = axes.x(at)
        anchor = "start" if at == 0 else "middle" if x < _WIDTH - 40 else "end"
        yield f'<path class="grid" d="M{x:.1f} {_TOP - 4}V{height:.0f}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="12" text-anchor="{anchor}">{"+" if at else ""}{duration(at)}</text>'
        at += every
    for cut in axes.timeline.cuts.spans:
        x, wide = axes.wide(cut)
        said = escape(cut.label or f"{cut.count} silent stretches")
        yield f'<rect class="cut" x="{x:.1f}" y="{_TOP}" width="{wide:.1f}" height="{height - _TOP:.0f}">'
        yield f"<title>{said}, cut out of the axis</title></rect>"


def _doings(axes: _Axes) -> Iterator[str]:
    timeline, top = axes.timeline, _TOP
    yield _label("rounds", top + 12)
    yield from _marks(axes, timeline.rounds, top, _LANE)
    top += _LANE + _GAP
    yield _label("disruptions", top + 12)
    spans = timeline.acts.spans
    if not spans:
        return
    lines = "".join(f"M{axes.x(span.begin):.1f} {top:.0f}V9999" for span in spans)
    yield f'<path class="struck" d="{lines}"/>'
    yield from _marks(axes, timeline.acts, top, _LANE)
    ends = [axes.x(span.begin) for span in spans[1:]] + [_WIDTH - _RIGHT]
    for span, end in zip(spans, ends, strict=True):
        x, wide = axes.wide(span)
        if said := _fitting(span.label or f"{span.count} disruptions", end - x - wide - 2):
            yield f'<text class="beside" x="{x + wide + 3:.1f}" y="{top + 12:.1f}">{escape(said)}</text>'


def _replica(axes: _Axes, name: str, track: Track, top: float, most: tuple[int, int]) -> Iterator[str]:
    yield f'<path class="rule" d="M0 {top:.0f}H{_WIDTH:.0f}"/>'
    yield f'<text class="name" x="4" y="{top + 13:.0f}">{escape(name)}</text>'
    top += _LANE + _GAP / 2
    yield _label("pod", top + 10)
    yield from _marks(axes, track.pod, top, _POD)
    top += _POD + _GAP / 2
    yield _label("disk", top + 11)
    yield from _marks(axes, track.disk, top, _DISK, text=True)
    top += _DISK + _GAP
    middle = top + _IO / 2
    yield _label("written", middle - 6)
    yield _label("read", middle + 14)
    yield f'<path class="grid" d="M{_GUTTER} {middle:.1f}H{_WIDTH - _RIGHT}"/>'
    half = _IO / 2 - 1
    yield _bars(axes, track.writes, "writes", middle, -half / max(1, most[0]))
    yield _bars(axes, track.reads, "reads", middle, half / max(1, most[1]))
    yield _dots(axes, track.failed, "failed", middle)


def _marks(axes: _Axes, lane: Lane, top: float, tall: float, *, text: bool = False) -> Iterator[str]:
    for span in lane.spans:
        x, wide = axes.wide(span)
        yield f'<rect class="{span.state}" x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.0f}">'
        yield f"<title>{escape(_told(axes, span))}</title></rect>"
        if text and (said := _fitting(span.label, wide)):
            yield f'<text class="in {span.state}" x="{x + 3:.1f}" y="{top + tall - 4:.1f}">{escape(said)}</text>'


def _told(axes: _Axes, span: Span) -> str:
    said = _SAID[span.state] if span.count == 1 else f"{span.count} times {_SAID[span.state]}"
    about = f" {span.label}" if span.label else ""
    return f"{said}{about}, {moment(axes.timeline.time_at(span.begin))[11:19]}, {duration(span.end - span.begin)}"


def _fitting(label: str, pixels: float) -> str:
    """As much of a label as has room, by its ends: they tell the most."""
    room = int((pixels - 6) / _LABEL_PIXELS)
    if len(label) <= room:
        return label
    return f"{label[: room - 1]}…" if room >= 6 else ""


def _bars(axes: _Axes, counts: Counts, name: str, base: float, pixels_each: float) -> str:
    bars = "".join(
        f"M{axes.x((step + 0.5) * axes.timeline.step_seconds):.1f} {base:.0f}v{_at_least_one(count * pixels_each):.1f}"
        for step, count in sorted(counts.of.items())
    )
    return f'<path class="{name}" stroke-width="{axes.step_pixels:.1f}" d="{bars}"/>' if bars else ""


def _at_least_one(pixels: float) -> float:
    return min(pixels, -1.0) if pixels < 0 else max(pixels, 1.0)


def _dots(axes: _Axes, counts: Counts, name: str, base: float) -> str:
    wide = max(2.0, axes.step_pixels)
    dots = "".join(
        f"M{axes.x((step + 0.5) * axes.timeline.step_seconds):.1f} {base - 3:.0f}v6" for step in sorted(counts.of)
    )
    return f'<path class="{name}" stroke-width="{wide:.1f}" d="{dots}"/>' if dots else ""


def _most(timeline: Timeline, chosen: Iterable[str]) -> tuple[int, int]:
    """The most writes and readings in a step, of those that are drawn."""
    tracks = [timeline.tracks[name] for name in chosen]
    return _highest(track.writes.of for track in tracks), _highest(track.reads.of for track in tracks)


def _highest(counts: Iterable[Mapping[int, int]]) -> int:
    return max((max(of.values(), default=0) for of in counts), default=0)


def _violation(axes: _Axes, number: int, place: float, top: float) -> str:
    x, y = min(axes.x(place), _WIDTH - 9), top + _LANE / 2
    shape = f"M{x:.1f} {y - 8:.1f}l8 8l-8 8l-8 -8z"
    return (
        f'<a href="#v{number}" aria-label="violation {number}"><path class="violation" d="{shape}"/>'
        f'<path class="violation-line" d="M{x:.1f} {y + 8:.1f}v{_POD + _DISK + _IO + 2 * _GAP + 4:.0f}"/>'
        f'<text class="number" x="{x:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{number}</text></a>'
    )


def _label(text: str, y: float) -> str:
    return f'<text class="lane" x="{_GUTTER - 8}" y="{y:.0f}" text-anchor="end">{text}</text>'
