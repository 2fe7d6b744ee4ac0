"""Progress: what a run is doing, on a terminal as it changes, elsewhere as plain lines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chaosd.cluster.target import Target
from chaosd.history import NEMESIS, RESTART, RUN, Kind, Op, in_words
from chaosd.ledger import Run
from chaosd.nemesis import DISRUPTIONS
from chaosd.run import Runner

_SECONDS_BETWEEN_FRAMES = 0.25
_WAITING = "waiting for the target"


class Progress:
    """Follows one run, or one after the other. `watch` is handed to the daemon; what there is to tell comes through the
    run's journal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._runner: Runner | None = None
        self._head: dict[str, str] = {}
        self._round = _WAITING
        self._rounds = 0  # 0: for ever
        self._disruption = "none yet"
        self._violations = 0
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

    def serving(self, address: str) -> None:
        """Tell where the metrics are."""
        self._tell("metrics", f"{address}/metrics")

    def watch(self, target: Target, runner: Runner, run: Run) -> None:
        """Begin to follow a run."""
        self._runner = runner
        experiment = json.loads(run.experiment)
        self._rounds = experiment["rounds"] or len(experiment["steps"])
        kind, version = run.cluster.split(" ", 1)
        simulated = " - SIMULATED, says nothing of real storage" if kind == "sandbox" else ""
        self._tell("target", target.key)
        self._tell("cluster", f"{kind} {version}{simulated}")
        self._tell("run", f"{run.run}, seed {run.seed}")
        runner.journal.listen(self._follow)

    def _follow(self, op: Op) -> None:
        if op.process == RUN and op.f == "round":
            self._followed_round(op)
        elif op.process == RUN and op.f == "warning":
            self._tell("warning", op.value["warning"])
        elif op.process == RUN and op.f == RESTART:
            self._say(f"goes on with this run, after round {op.value['round']}: the chaosd before died")
        elif op.process == RUN and op.f == "healed":
            self._say(f"undone what a chaosd that died left: {op.value['done']}")
        elif op.process == RUN and op.f == "unfinished":
            self._say(f"begins anew, and leaves run {op.value['run']} unfinished: {op.value['why']}")
        elif op.process == NEMESIS and op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
            self._disruption = in_words(op)
            self._say(self._disruption)
        elif op.process == NEMESIS and op.f == "hold":
            self._disruption = f"held back: {op.value['error']}"
            self._say(self._disruption)
        elif op.process == NEMESIS and op.kind is not Kind.INVOKE and (error := op.value.get("error")):
            self._say(f"{op.f} {op.kind}: {error}")
        elif op.process == NEMESIS and op.f == "converge" and op.kind is Kind.OK:
            self._say(f"converged after {op.value['seconds']:.1f} s")

    def _followed_round(self, op: Op) -> None:
        if op.kind is Kind.INVOKE:
            number = op.value["round"]
            of = f" of {self._rounds}" if self._rounds and number <= self._rounds else ""
            self._round = f"{number}{of}: {op.value['name']}"
            self._say(f"round {self._round}")
        elif op.kind is Kind.OK:
            self._violations = op.value["violations"]
            self._say(f"round {op.value['round']} done: {self._counts()}, violations {self._violations}")
            if ended := op.value.get("ended"):
                self._tell("ends", f"nothing is disrupted any more: {ended}")

    def _counts(self) -> str:
        assert self._runner is not None, "followed only once a run is watched"
        coverage = self._runner.coverage.as_json()
        cold, cached = coverage["records_verified_cold"], coverage["records_verified_cached"]
        return f"{coverage['files_acknowledged']} files written, {cold + cached} readings verified ({cold} cold)"

    def _tell(self, name: str, value: str) -> None:
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
        table.add_row("round", self._round)
        if self._runner and self._runner.generator:
            table.add_row("phase", str(self._runner.generator.phase))
            table.add_row("disruption", self._disruption)
            table.add_row("data", self._counts())
            colour = "red" if self._violations else "green"
            table.add_row("violations", Text(str(self._violations), style=f"bold {colour}"))
        table.add_row("elapsed", f"{time.monotonic() - self._began:.0f} s")
        return Group(table)
