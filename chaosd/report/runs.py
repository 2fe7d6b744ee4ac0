"""The runs of a ledger: which there are, which one is meant, and how each stands, as far as its ledger tells."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chaosd.errors import UsageError
from chaosd.history import Op
from chaosd.ledger import Ledger, Run
from chaosd.report.formats import LATEST

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# A commit, a request and a pause beside the longest wait of an experiment.
_SPARE_SECONDS = 60.0
_LEAST_SILENCE_SECONDS = 300.0
_NEAREST, _NAMES_COMPARED = 3, 1_000
_STYLES = {"pass": "green", "fail": "bold red", "unknown": "yellow"}


class State(StrEnum):
    """How a run stands."""

    FINISHED = "finished"
    RUNNING = "running"
    KILLED = "killed"  # its chaosd died, as far as silence tells


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands at a time, in seconds since the epoch. `last_at` is when something was journaled last, None where
    nothing ever was."""

    run: Run
    state: State
    now: float
    last_at: float | None

    @property
    def took_seconds(self) -> float:
        """How long it took, or has taken until something was journaled last."""
        until = self.run.ended_at if self.run.ended_at is not None else self.last_at
        return max(0.0, until - self.run.started_at) if until is not None else 0.0

    @property
    def told(self) -> str:
        """In a sentence; empty where there is nothing to tell."""
        if self.state is State.FINISHED:
            return ""
        last = f"journaled its last op {duration(self.now - self.last_at)} ago" if self.last_at else "journaled nothing yet"
        if self.state is State.RUNNING:
            return f"It is still running, and {last}: what is told here is what came of it so far."
        return (
            f"It was killed, or cannot reach its ledger: it has no end, and {last}, longer than any wait of its experiment "
            "takes. chaosd started again with the same experiment goes on with it."
        )


def find(ledger: Ledger, name: str) -> Run:
    """The run of that name, or the `latest`. Raises UsageError with the names that are near."""
    run = ledger.run(None if name == LATEST else name)
    if run is None:
        known = [run.run for run in ledger.latest_runs(_NAMES_COMPARED)]
        near = difflib.get_close_matches(name.upper(), known, _NEAREST, 0.0)
        mend = f"there are {', '.join(near)} (chaosd history lists all)" if near else "it has none at all"
        raise UsageError(f"the ledger has no run {name or 'without a name'}: {mend}")
    return run


def standing(ledger: Ledger, run: Run, now: float) -> Standing:
    """How a run stands. Whether it is alive is told by its silence alone: its Lease is in the cluster, which nobody
    opens for a report."""
    last = ledger.last_op(run)
    last_at = last.time if last else None
    if run.ended_at is not None:
        return Standing(run, State.FINISHED, now, last_at)
    silent = now > _heard_from_until(run, last)
    return Standing(run, State.KILLED if silent else State.RUNNING, now, last_at)


def longest_silence(run: Run) -> float:
    """For how many seconds a run that lives may journal nothing, but where a guard holds it back. The experiment is read as
    it was written, whatever later versions make of it."""
    waits = json.loads(run.experiment).get("timeouts", {}).values()
    return max([_LEAST_SILENCE_SECONDS, *(wait for wait in waits if isinstance(wait, (int, float)))]) + _SPARE_SECONDS


def _heard_from_until(run: Run, last: Op | None) -> float:
    held_until = last.value.get("until") if last and last.f == "hold" else None
    return max(last.time if last else run.started_at, held_until or 0.0) + longest_silence(run)


def verdict_of(run: Run) -> str:
    """What stands in the ledger as its verdict; empty where it has none yet."""
    return str(json.loads(run.verdict)["verdict"]) if run.verdict else ""


def as_json(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Plain JSON, one object a run."""
    return [
        {
            "run": one.run.run,
            "experiment": one.run.name,
            "target": one.run.target,
            "cluster": one.run.cluster,
            "seed": one.run.seed,
            "state": str(one.state),
            "verdict": verdict_of(one.run) or None,
            "started_at": one.run.started_at,
            "ended_at": one.run.ended_at,
            "last_op_at": one.last_at,
            "took_seconds": round(one.took_seconds, 3),
        }
        for one in standings
    ]


def table(standings: Sequence[Standing]) -> Table:
    """For a terminal, of any width."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    shown.add_column("run", no_wrap=True)
    for title in ("experiment", "target", "verdict", "began", "took"):
        shown.add_column(title, overflow="fold")
    for one in standings:
        shown.add_row(*_cells(one))
    return shown


def _cells(one: Standing) -> Iterator[Text]:
    from rich.text import Text

    verdict = verdict_of(one.run) or str(one.state)
    yield Text(one.run.run)
    yield Text(one.run.name)
    yield Text(one.run.target)
    yield Text(verdict, style=_STYLES.get(verdict, ""))
    yield Text(moment(one.run.started_at))
    yield Text(duration(one.took_seconds))


def moment(at: float) -> str:
    """Seconds since the epoch as people read them."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """Seconds as people read them, in two units at most."""
    if seconds < 10:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for unit, size, part, part_size in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part_size
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"
