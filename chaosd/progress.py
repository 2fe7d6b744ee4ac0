"""Progress: what a run is doing, on a terminal as it changes, elsewhere as plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaosd.cluster.target import Target
from chaosd.history import Op
from chaosd.ledger import Run
from chaosd.narration import Narrator
from chaosd.run import Runner

_SECONDS_BETWEEN_FRAMES = 0.25
_WAITING = "waiting for the target"


class Progress:
    """Follows one run, or one after the other. `watch` is handed to whoever runs them; what there is to tell comes through
    the run's journal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._runner: Runner | None = None
        self._narrator: Narrator | None = None
        self._head: dict[str, str] = {}
        self._began = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """On a terminal: a live display until the context ends."""
        if not self._console.is_terminal:
            yield
            return
        frames = 1 / _SECONDS_BETWEEN_FRAMES
        with Live(get_renderable=self._frame, console=self._console, refresh_per_second=frames) as self._live:
            yield

    def watch(self, target: Target, runner: Runner, run: Run) -> None:
        """Begin to follow a run."""
        self._runner = runner
        self._narrator = Narrator(run, runner.coverage, lambda: runner.required)
        kind, version = run.cluster.split(" ", 1)
        simulated = " - SIMULATED, says nothing of real storage" if kind == "sandbox" else ""
        self.tell("target", target.key)
        self.tell("cluster", f"{kind} {version}{simulated}")
        self.tell("run", f"{run.run}, seed {run.seed}")
        runner.journal.listen(self._follow)

    def _follow(self, op: Op) -> None:
        assert self._narrator is not None, "followed only once a run is watched"
        for line in self._narrator.lines(op):
            first, _, rest = line.partition(" ")
            if first == "warning":
                self._head[first] = rest
            self._say(line)

    def tell(self, name: str, value: str) -> None:
        """What stays true for the whole run, until the next one."""
        self._head[name] = value
        self._say(f"{name} {value}")

    def _say(self, line: str) -> None:
        if self._live is None:
            self._console.print(f"{datetime.now(UTC):%H:%M:%S} {line}", highlight=False, soft_wrap=True)

    def _frame(self) -> Group:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in self._head.items():
            table.add_row(name, value)
        table.add_row("round", (self._narrator and self._narrator.round) or _WAITING)
        if self._narrator and self._runner and self._runner.generator:
            table.add_row("phase", str(self._runner.generator.phase))
            table.add_row("disruption", self._narrator.disruption)
            table.add_row("data", self._narrator.counts())
            if covered := self._narrator.covered():
                table.add_row("required", covered)
            colour = "red" if self._narrator.violations else "green"
            table.add_row("violations", Text(str(self._narrator.violations), style=f"bold {colour}"))
        table.add_row("elapsed", f"{time.monotonic() - self._began:.0f} s")
        return Group(table)
