"""A ledger in memory, for runs in virtual time: durable at once, without a thread, a file or JSON.

What a run left in it can be told as text (`canonical`), so that two runs of one seed can be compared byte by byte.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chaosd.compaction import Checkpoint, is_milestone, pieces
from chaosd.history import NEMESIS, Event, Kind, Op
from chaosd.ledger import Journal, Run


class Death:
    """That the daemon is killed as soon as op `at` of a run is durable; `struck` once it was."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.struck = asyncio.Event()


class MemoryJournal(Journal):
    """Ops are durable as soon as they are appended, and nobody waits."""

    def __init__(self, run: Run, held: list[Op], clock: Callable[[], float], death: Death | None, epoch: int) -> None:
        super().__init__(run, _next_index(held), clock, _refused, epoch)
        self._held = held
        self._death = death

    async def append(self, events: Sequence[Event]) -> list[Op]:
        """See Journal."""
        ops = self._number(events)
        if self._death and ops and ops[-1].index >= self._death.at:
            self._held.extend(op for op in ops if op.index <= self._death.at)
            self._death.struck.set()
            await asyncio.get_running_loop().create_future()  # who died is told nothing
        self._held.extend(ops)
        self._tell(ops)
        return ops

    async def write(self) -> None:
        """Nothing is ever left to commit."""
        await asyncio.get_running_loop().create_future()


def _next_index(ops: Sequence[Op]) -> int:
    return ops[-1].index + 1 if ops else 0


def _refused(_: Sequence[Op]) -> asyncio.Future[None]:
    raise AssertionError("there is no database to commit to")


class MemoryLedger:
    """Runs and their ops, by the run's id."""

    id = "memory"

    def __init__(self, clock: Callable[[], float]) -> None:
        self.death: Death | None = None
        self._clock = clock
        self._runs: dict[int, Run] = {}
        self._ops: dict[int, list[Op]] = {}
        self._epochs: Counter[int] = Counter()
        self._checkpoints: dict[int, list[Checkpoint]] = {}  # all of them, since a copy may be restored

    def begin(self, run: str, *, seed: int, target: str, experiment: str = "{}") -> Run:
        """A new run on the sandbox."""
        made = Run(
            id=len(self._runs) + 1,
            run=run,
            name=json.loads(experiment).get("name", ""),
            experiment=experiment,
            seed=seed,
            target=target,
            cluster="sandbox simulated",
            cluster_id="",
            started_at=self._clock(),
        )
        self._runs[made.id], self._ops[made.id], self._checkpoints[made.id] = made, [], []
        return made

    def run(
        self, name: str | None = None, target: str | None = None, cluster_id: str = "", experiment: str | None = None
    ) -> Run | None:
        """See Ledger."""
        wanted = ((name, "run"), (target, "target"), (experiment, "name"))
        found = (r for r in reversed(self._runs.values()) if all(w in (None, getattr(r, of)) for w, of in wanted))
        return next(found, None)

    def end(self, run: Run, *, verdict: str, ended_at: float) -> None:
        """Store what came of a run."""
        self._runs[run.id] = replace(run, verdict=verdict, ended_at=ended_at)

    def history(self, run: Run, first: int = 0) -> Iterator[Op]:
        """Every op of a run from an index on, in order, but for what was compacted."""
        ops = self._ops[run.id]
        return iter(ops[_place(ops, first) :])

    def checkpoint(self, run: Run) -> Checkpoint | None:
        """The latest of a run; None where there is none."""
        return next(reversed(self._checkpoints[run.id]), None)

    async def compact(self, run: Run, checkpoint: Checkpoint, before: float, epoch: int) -> None:
        """See RunLedger."""
        if epoch != self._epochs[run.id]:
            return
        if (known := self.checkpoint(run)) is None or known.index < checkpoint.index:
            self._checkpoints[run.id].append(Checkpoint(checkpoint.index, json.loads(json.dumps(checkpoint.state))))
        ops = self._ops[run.id]
        kept = next((op for op in reversed(ops) if op.f == "undo"), None)
        last = min(checkpoint.index, ops[-1].index - 1)
        for piece in pieces(filter(is_milestone, list(ops)), last, before):
            going = slice(_place(ops, piece.first), _place(ops, piece.last + 1))
            undo = [op for op in ops[going] if op is kept]
            ops[going] = sorted([piece.mark._replace(index=piece.first + (undo[:1] == ops[going][:1])), *undo])

    def op(self, run: Run, index: int) -> Op | None:
        """The op of that index; None where there is none."""
        return next((op for op in self.history(run, index) if op.index == index), None)

    def roll_back(self, run: Run, ops: int) -> None:
        """To what it was when the run had no more ops than these."""
        held = self._ops[run.id]
        del held[_place(held, ops) :]
        self._checkpoints[run.id] = [known for known in self._checkpoints[run.id] if known.index < ops]

    def open_undo(self) -> list[tuple[Run, Mapping[str, Any]]]:
        """What runs registered and never undid: the last entry of each run, if it is open."""
        found = []
        for key, ops in self._ops.items():
            last = next((op for op in reversed(ops) if op.f == "undo"), None)
            if last and last.kind is Kind.INVOKE:
                found.append((self._runs[key], last.value))
        return found

    def disrupted_since(self, run: Run, since: float) -> list[float]:
        """See Ledger."""
        ops = (op for key, ops in self._ops.items() if self._runs[key].target == run.target for op in ops)
        found = (op for op in ops if op.process == NEMESIS and op.kind is Kind.INVOKE and op.value.get("disrupts"))
        return sorted(op.time for op in found if op.time > since)

    def journal(self, run: Run) -> MemoryJournal:
        """The journal of a run, which continues where its history ends."""
        self._epochs[run.id] += 1
        return MemoryJournal(run, self._ops[run.id], self._clock, self.death, self._epochs[run.id])

    def append(self, run: Run, event: Event, now: float) -> Op:
        """One more op, at `now`, of a run that nobody journals."""
        op = Op(_next_index(self._ops[run.id]), now, event.process, event.f, event.kind, event.value)
        self._ops[run.id].append(op)
        if self.death and op.index >= self.death.at:
            self.death.struck.set()
            raise asyncio.CancelledError
        return op


def _place(ops: Sequence[Op], index: int) -> int:
    """Of the first op that has this index, or a later one."""
    return bisect_left(ops, index, key=lambda op: op.index)


def canonical(ops: Sequence[Op]) -> str:
    """The history as text, one op a line: the same history is the same text."""
    rows = ([op.index, round(op.time, 6), op.process, op.f, str(op.kind), op.value] for op in ops)
    return "".join(json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows)
