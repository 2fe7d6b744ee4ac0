"""The drawing: a picture as lines of a terminal, none wider than it is, and no more than it has. Pure, but for rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from rich.text import Text

from chaosd.narration import printable, rough
from chaosd.requirements import Requirement
from chaosd.terminal.picture import Phase, Picture, Pod, short, told

# Below it, words are left out.
_NARROW = 70
_LONGEST_BAR, _SHORTEST_BAR = 24, 6
_VIOLATIONS_SHOWN = 5
_LABEL = 10
_LINES_OF_ONE = 3
_ACTIVE: Mapping[Phase, str] = {
    Phase.WRITE: "writing",
    Phase.DISRUPT: "disrupting",
    Phase.RECOVER: "waiting for recovery",
    Phase.READ: "reading back what is owed",
    Phase.JUDGE: "judging",
}
_STYLE: Mapping[Pod, str] = {Pod.READY: "green", Pod.UNSEEN: "dim"}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What stands for what; plain letters where the terminal has no others."""

    full: str = "━"
    empty: str = "─"
    done: str = "✓"
    active: str = "▶"
    awaited: str = "·"
    pod: str = "●"
    broken: str = "✗"
    cut: str = "…"


ASCII = Glyphs("#", "-", "+", ">", ".", "*", "x", "~")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn at a moment `now`, in seconds since the epoch: what stays true for the whole run, the round (`3 of 10:
    pod-delete`), how long it took and takes, and what is required."""

    head: Sequence[tuple[str, str]]
    picture: Picture | None
    round: str
    now: float
    elapsed_seconds: float
    left: str
    counts: str
    required: Sequence[Requirement]


def draw(scene: Scene, width: int, height: int, glyphs: Glyphs = Glyphs()) -> list[Text]:
    """The lines. Where they are more than fit, replicas are left out first, then what comes last."""
    brush = _Brush(width, glyphs)
    picture = scene.picture
    above = [
        brush.rule(),
        *brush.head(scene),
        *(brush.round(scene, picture) if picture else [brush.field("round", Text(scene.round))]),
    ]
    below = [*brush.required(scene.required), *brush.recoveries(picture), *brush.violations(picture)] if picture else []
    above, below = brush.fitted(above), brush.fitted(below)
    rows = brush.replicas(picture, max(2, height - len(above) - len(below))) if picture else []
    return [*above, *map(brush.cut, rows), *below][:height]


class _Brush:
    def __init__(self, width: int, glyphs: Glyphs) -> None:
        self._width = width
        self._glyphs = glyphs
        self._narrow = width < _NARROW

    def fitted(self, lines: Iterable[Text]) -> list[Text]:
        """The lines; on a narrow terminal, those that are too long go on below."""
        return [self.cut(part) for line in lines for part in (self._broken(line) if self._narrow else [line])]

    def _broken(self, line: Text) -> Iterator[Text]:
        for _ in range(_LINES_OF_ONE - 1):
            at = line.plain.rfind(" ", _LABEL + 1, self._width + 1)
            if line.cell_len <= self._width or at < 0:
                break
            part, line = line.divide([at])
            yield part
            line = Text.assemble(" " * (_LABEL + 1), line[1:])
        yield line

    def cut(self, line: Text) -> Text:
        """No wider than the terminal, since a line that wraps cannot be erased; and nothing in it moves the cursor."""
        line.plain = printable(line.plain)
        if line.cell_len > self._width:
            line.truncate(self._width - 1)
            line.append(self._glyphs.cut)
        return line

    def rule(self) -> Text:
        """Parts what is drawn from the lines above it."""
        return Text(self._glyphs.empty * self._width, "dim")

    def field(self, name: str, value: Text) -> Text:
        """One line: what it is, and the value."""
        return Text.assemble((f"{name:<{_LABEL}} ", "bold"), value)

    def head(self, scene: Scene) -> Iterator[Text]:
        for name, value in scene.head:
            yield self.field(name, Text(value, "yellow" if name == "warning" or "SIMULATED" in value else ""))

    def round(self, scene: Scene, picture: Picture) -> Iterator[Text]:
        yield self.field("round", Text(scene.round, "bold cyan"))
        if picture.held:
            yield self.field("held back", Text(_held(picture, scene.now), "yellow"))
        elif picture.phases:
            yield self.field("phase", self._phases(picture, scene.now))
        if picture.disruption:
            failed = picture.outcome and Text(f" {self._glyphs.broken} not done: {picture.outcome}", "yellow")
            yield self.field("disruption", Text.assemble(picture.disruption, failed or ""))
        if picture.ended:
            yield self.field("ends", Text(f"nothing is disrupted any more: {picture.ended}", "yellow"))
        yield self.field("data", Text(scene.counts))
        times = filter(None, (rough(scene.elapsed_seconds), scene.left))
        yield self.field("elapsed", Text(", ".join(times)))

    def _phases(self, picture: Picture, now: float) -> Text:
        phases, seconds = picture.phases, f"{max(0.0, now - picture.since):.0f} s"
        passed = phases.index(picture.phase) if picture.phase else len(phases)
        if self._narrow:
            active = f"{self._glyphs.active} {picture.phase} {seconds}" if picture.phase else f"{self._glyphs.done} done"
            return Text.assemble((active, "bold cyan"), f" ({min(passed + 1, len(phases))} of {len(phases)})")
        steps = [(f"{self._glyphs.done} {phase}", "green") for phase in phases[:passed]]
        steps += [
            (f"{self._glyphs.active} {_ACTIVE[phase]} {seconds}", "bold cyan") for phase in phases[passed : passed + 1]
        ]
        steps += [(f"{self._glyphs.awaited} {phase}", "dim") for phase in phases[passed + 1 :]]
        return Text("  ").join(Text(*step) for step in steps)

    def replicas(self, picture: Picture, room: int) -> Iterator[Text]:
        names = [*picture.replicas]
        if len(names) > room:  # whoever lags is what one waits for
            lagging = sorted(names, key=lambda name: (_verified(picture, name), names.index(name)))
            names = sorted(lagging[: room - 1], key=names.index)
        width = max((len(short(name)) for name in names), default=0)
        for name in names:
            yield self._replica(picture, name, min(width, self._width // 3))
        if hidden := len(picture.replicas) - len(names):
            yield Text(f"{self._glyphs.cut} and {hidden} more replicas", "dim")

    def _replica(self, picture: Picture, name: str, width: int) -> Text:
        shown, owed = picture.replicas[name], picture.owed(name)
        verified = min(shown.verified, owed)
        line = Text.assemble((f"{short(name)[:width]:<{width}} ", "bold"))
        line.append(f"{self._glyphs.pod} ", _STYLE.get(shown.pod, "yellow"))
        if not self._narrow:
            line.append(f"{shown.pod:<9}", _STYLE.get(shown.pod, "yellow"))
            line.append(f"{shown.written:>5} written  verified ")
        else:
            line.append(f"{shown.written:>3} new ")
        broken = any(violation.replica == name for violation in picture.violations)
        numbers = f" {verified}/{owed}{f' {self._glyphs.broken}' if broken else ''}"
        room = self._width - line.cell_len - len(numbers)
        line.append(self._bar(verified / owed if owed else 0.0, room))
        line.append(numbers, "bold red" if broken else "")
        return line

    def _bar(self, share: float, room: int) -> Text:
        if room < _SHORTEST_BAR:
            return Text()
        cells = min(_LONGEST_BAR, room)
        full = int(share * cells)
        style = "green" if share >= 1 else "cyan"
        return Text.assemble((self._glyphs.full * full, style), (self._glyphs.empty * (cells - full), "dim"))

    def required(self, required: Sequence[Requirement]) -> Iterator[Text]:
        width = max((len(one.name) for one in required), default=0)
        for number, one in enumerate(required):
            mark = (f"{self._glyphs.done} ", "green") if one.met else (f"{self._glyphs.awaited} ", "yellow")
            words = Text(one.words.removeprefix(f"{one.name}: "))
            line = Text.assemble((f"{'' if number else 'required':<{_LABEL}} ", "bold"), mark)
            if self._narrow:
                line.append(one.words)
            else:
                line.append(f"{one.name:<{width}} ").append(self._bar(one.share, self._width - line.cell_len - len(words)))
                line.append(" ").append(words)
            yield line

    def recoveries(self, picture: Picture | None) -> Iterator[Text]:
        for number, (kind, seconds) in enumerate(picture.recoveries.items() if picture else ()):
            told = f"{kind} {median(seconds):.1f} s"
            if len(seconds) > 1:
                told += f" ({len(seconds)} times, at most {max(seconds):.1f} s)"
            yield self.field("" if number else "recovery", Text(told))

    def violations(self, picture: Picture | None) -> Iterator[Text]:
        found = picture.violations if picture else ()
        if not found:
            yield self.field("violations", Text("none", "green"))
            return
        yield self.field("violations", Text(str(len(found)), "bold red"))
        for violation in found[:_VIOLATIONS_SHOWN]:
            yield Text(f"  {self._glyphs.broken} {told(violation)}", "bold red")
        if len(found) > _VIOLATIONS_SHOWN:
            yield Text(f"  {self._glyphs.cut} and {len(found) - _VIOLATIONS_SHOWN} more", "red")


def _held(picture: Picture, now: float) -> str:
    held = picture.held
    assert held is not None
    if held.until is None:
        return held.why
    until = datetime.fromtimestamp(held.until, UTC)
    return f"until {until:%H:%M:%S} UTC, in {rough(max(0.0, held.until - now))}: {held.why}"


def _verified(picture: Picture, name: str) -> float:
    return picture.replicas[name].verified / max(1, picture.owed(name))
