"""Progress: what a run is doing, on a terminal as it changes, elsewhere as plain lines.

rich is imported on a terminal only: it takes memory, and time, that a daemon and a pipeline have other uses for.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from chaosd.checkers.verdict import Violation
from chaosd.cluster.target import Target
from chaosd.history import Op
from chaosd.ledger import Run
from chaosd.narration import Narrator, printable
from chaosd.run import Runner
from chaosd.terminal import is_live
from chaosd.terminal.picture import Picture, told

if TYPE_CHECKING:
    from chaosd.terminal.screen import Screen

Result = TypeVar("Result")

_SECONDS_BETWEEN_FRAMES = 0.25
# Whoever waits for a pipeline wants to know that it lives; many end one that says nothing for ten minutes.
_HEARTBEAT_SECONDS = 60.0
_WAITING = "waiting for the target"


class Progress:
    """Follows one run, or one after the other. `watch` is handed to whoever runs them; what there is to tell comes through
    the run's journal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._screen: Screen | None = None
        self._runner: Runner | None = None
        self._narrator: Narrator | None = None
        self._picture: Picture | None = None
        self._head: dict[str, str] = {}
        self._told: set[tuple[str, str, int]] = set()
        self._began = self._said = time.time()

    async def beside(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do the work, and show meanwhile what is done."""
        with self._shown():
            showing = asyncio.create_task(self._show(), name="progress")
            try:
                return await work
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
                if self._screen:
                    self._screen.draw_over()
                self._look()

    def watch(self, target: Target, runner: Runner, run: Run) -> None:
        """Begin to follow a run."""
        self._runner = runner
        self._narrator = Narrator(run, runner.coverage, lambda: runner.required)
        self._picture = Picture(runner.panel)
        self._head.pop("warning", None)
        kind, version = run.cluster.split(" ", 1)
        simulated = " - SIMULATED, says nothing of real storage" if kind == "sandbox" else ""
        self.tell("target", target.key)
        self.tell("cluster", f"{kind} {version}{simulated}")
        self.tell("run", f"{run.run}, seed {run.seed}")
        runner.journal.listen(self._follow)

    def tell(self, name: str, value: str) -> None:
        """What stays true for the whole run, until the next one."""
        self._head[name] = value
        if self._screen is None:
            self._say(f"{name} {value}")

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if not is_live(self._stream):
            yield
            return
        from rich.console import Console

        from chaosd.terminal.screen import Above, Screen

        self._screen = Screen(Console(file=self._stream))
        try:
            with redirect_stderr(Above(self._say)):
                yield
        finally:
            self._screen = None

    async def _show(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_SECONDS_BETWEEN_FRAMES)

    def _look(self) -> None:
        """What no single op tells: violations as soon as they are known, how time goes on, and that it goes on at all."""
        if self._picture:
            self._picture.look_again()
            self._accuse(self._picture.violations)
        if self._screen:
            self._draw(self._screen)
        elif time.time() - self._said >= _HEARTBEAT_SECONDS:
            self._say(f"goes on: {self._narrator.standing(time.time()) if self._narrator else _WAITING}")

    def _follow(self, op: Op) -> None:
        assert self._narrator is not None, "followed only once a run is watched"
        assert self._picture is not None, "made with it"
        self._picture.record(op)
        for line in self._narrator.lines(op):
            first, _, rest = line.partition(" ")
            if first == "warning":
                self._head[first] = rest
            self._say(line)

    def _accuse(self, violations: tuple[Violation, ...]) -> None:
        for violation in violations:
            which = (str(violation.failure), violation.replica, violation.index)
            if which not in self._told:
                self._told.add(which)
                self._say(f"violation {told(violation)}", "bold red")

    def _say(self, line: str, style: str = "") -> None:
        self._said = time.time()
        moment = f"{datetime.now(UTC):%H:%M:%S}"
        if self._screen:
            self._draw(self._screen, (moment, printable(line), style))
        else:
            self._stream.write(f"{moment} {printable(line)}\n")
            self._stream.flush()

    def _draw(self, screen: Screen, *lines: tuple[str, str, str]) -> None:
        from rich.text import Text

        from chaosd.terminal.drawing import ASCII, Glyphs, Scene, draw

        now, narrator, runner = time.time(), self._narrator, self._runner
        scene = Scene(
            head=[*self._head.items()],
            picture=self._picture,
            round=narrator.round if narrator and narrator.round else _WAITING,
            now=now,
            elapsed_seconds=now - self._began,
            left=narrator.left(now) if narrator else "",
            counts=narrator.counts() if narrator else "",
            required=runner.required if runner else (),
        )
        frame = draw(scene, *screen.size, ASCII if screen.plain else Glyphs())
        screen.draw(frame, [Text.assemble((moment, "dim"), " ", (line, style)) for moment, line, style in lines])
