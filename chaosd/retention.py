"""Retention: what is judged and old is compacted, what is owed never.

A run's history is needed to judge by only since its last checkpoint, which is taken at the end of a round, when nothing is
under way. How long it is kept beyond that is for people to say.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection

from chaosd.checkers import Panel
from chaosd.checkpoint import restore, taken
from chaosd.compaction import Checkpoint, pieces
from chaosd.coverage import Coverage
from chaosd.errors import LedgerError
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Journal, Ledger, Run, RunLedger
from chaosd.resumption import Unanswered

# A checkpoint costs as much as a few thousand ops, and a restart folds what came after it.
CHECKPOINT_SECONDS = 3600.0


def recalled(ledger: RunLedger, run: Run, panel: Panel, coverage: Coverage) -> Unanswered:
    """Let new folds take in a run's history so far, and tell what it leaves unanswered. Raises LedgerError."""
    unanswered, first = Unanswered(), 0
    if known := ledger.checkpoint(run):
        restore(known, panel, coverage, unanswered)
        first = known.index + 1
    for index, op in enumerate(ledger.history(run, first), first):
        if op.index != index:
            raise LedgerError(
                f"ops {index} to {op.index - 1} of run {run.run} are not in the ledger, and no checkpoint holds them: "
                "it was compacted just now; try again"
            )
        panel.step(op)
        coverage.step(op)
        unanswered.step(op)
    return unanswered


class Retention:
    """Compacts a run while it goes on; a listener of its journal, which the folds listen to before it."""

    def __init__(self, ledger: RunLedger, journal: Journal, panel: Panel, coverage: Coverage, keep_seconds: float) -> None:
        self._ledger = ledger
        self._journal = journal
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
            await self._ledger.compact(self._journal.run, *await self._due.get(), self._journal.epoch)


async def compact_idle(
    ledger: Ledger, keep_seconds: float, now: float, busy: Callable[[], Collection[int]] = tuple
) -> None:
    """Compact the runs that nobody journals: those that are over, and those that may go on some day; not those whose ids
    are `busy` when it is their turn. `now` is in seconds since the epoch. Raises LedgerError."""
    for run, last_at in await asyncio.to_thread(ledger.last_times):
        # What the Lease of one that may go on says of its last ops must be found (resumption.note_loss).
        before = (last_at if run.ended_at is None else now) - keep_seconds
        epoch = await asyncio.to_thread(ledger.epoch, run)  # so that one which goes on from here on is let be
        if run.id not in busy() and (checkpoint := await asyncio.to_thread(_if_old, ledger, run, before)):
            await ledger.compact(run, checkpoint, before, epoch)


def _if_old(ledger: Ledger, run: Run, before: float) -> Checkpoint | None:
    """A checkpoint that lets the run's old rounds go, if it has any."""
    last = ledger.last_op(run)
    going = list(pieces(ledger.milestones(run), last.index - 1, before)) if last else []
    if not going:
        return None
    known = ledger.checkpoint(run)
    if known and going[-1].last <= known.index:
        return known
    panel, coverage = Panel(), Coverage()
    unanswered = recalled(ledger, run, panel, coverage)
    return taken(unanswered.last.index, panel, coverage, unanswered) if unanswered.last else None
