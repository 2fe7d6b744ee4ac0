"""Retention: what is judged and old is compacted, what is owed never.

A run's history is needed to judge by only since its last checkpoint, which is taken at the end of a round, when nothing is
under way. How long it is kept beyond that is for people to say.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection

from chaosd.checkers import Panel
from chaosd.checkpoint import restore, taken
from chaosd.compaction import Checkpoint, is_milestone
from chaosd.coverage import Coverage
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Ledger, Run, RunLedger
from chaosd.resumption import Unanswered

# A checkpoint costs as much as a few thousand ops, and a restart folds what came after it.
CHECKPOINT_SECONDS = 3600.0


def recalled(ledger: RunLedger, run: Run, panel: Panel, coverage: Coverage) -> Unanswered:
    """Let new folds take in a run's history so far, and tell what it leaves unanswered. Raises LedgerError."""
    unanswered, first = Unanswered(), 0
    if known := ledger.checkpoint(run):
        restore(known, panel, coverage, unanswered)
        first = known.index + 1
    for op in ledger.history(run, first):
        panel.step(op)
        coverage.step(op)
        unanswered.step(op)
    return unanswered


class Retention:
    """Compacts a run while it goes on; a listener of its journal, which the folds listen to before it."""

    def __init__(self, ledger: RunLedger, run: Run, panel: Panel, coverage: Coverage, keep_seconds: float) -> None:
        self._ledger = ledger
        self._run = run
        self._panel = panel
        self._coverage = coverage
        self._keep_seconds = keep_seconds
        self._every_seconds = min(CHECKPOINT_SECONDS, keep_seconds)
        self._looked_at = -math.inf  # on the loop's clock
        self._due: asyncio.Queue[tuple[Checkpoint, float]] = asyncio.Queue()

    def record(self, op: Op) -> None:
        """Take a checkpoint at the end of a round, if it is time for one."""
        if op.process != RUN or op.f != "round" or op.kind is not Kind.OK:
            return
        now = asyncio.get_running_loop().time()
        if now >= self._looked_at + self._every_seconds:
            self._looked_at = now
            checkpoint = taken(op.index, self._panel, self._coverage, Unanswered.after(op))
            self._due.put_nowait((checkpoint, op.time - self._keep_seconds))

    async def run(self) -> None:
        """Compact for ever. Raises LedgerError."""
        while True:
            await self._ledger.compact(self._run, *await self._due.get())


async def compact_idle(ledger: Ledger, keep_seconds: float, now: float, busy: Collection[int] = ()) -> None:
    """Compact the runs that nobody journals: those that are over, and those that may go on some day; not those of the ids
    `busy`. `now` is in seconds since the epoch. Raises LedgerError."""
    for run, last_at in await asyncio.to_thread(ledger.last_times):
        # What the Lease of one that may go on says of its last ops must be found (resumption.note_loss).
        before = (last_at if run.ended_at is None else now) - keep_seconds
        if run.id not in busy and (checkpoint := await asyncio.to_thread(_if_old, ledger, run, before)):
            await ledger.compact(run, checkpoint, before)


def _if_old(ledger: Ledger, run: Run, before: float) -> Checkpoint | None:
    """A checkpoint that lets the run's old rounds go, if it has any."""
    ended = [op for op in ledger.milestones(run) if is_milestone(op) and op.f == "round" and op.time < before]
    if not ended:
        return None
    known = ledger.checkpoint(run)
    if known and ended[-1].index <= known.index:
        return known
    panel, coverage = Panel(), Coverage()
    unanswered = recalled(ledger, run, panel, coverage)
    return taken(unanswered.last.index, panel, coverage, unanswered) if unanswered.last else None
