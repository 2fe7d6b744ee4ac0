"""A month of rounds in one ledger that keeps a week of them: how many rows and bytes it has, day by day."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.figure import Figure
from chaosd.checkers import Panel
from chaosd.checkpoint import restore, taken
from chaosd.compaction import Checkpoint
from chaosd.coverage import Coverage
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Ledger, Run
from chaosd.resumption import Unanswered
from chaosd.simulation.world import Scenario, simulate

_DAYS, _KEPT_DAYS, _ROUNDS_A_DAY, _DAY = 30, 7, 100, 86400.0
_TEMPLATE_ROUNDS = 12


def measure() -> Iterator[Figure]:
    """The ledger at the end of the month, against when it first held as much as it keeps; and what a checkpoint costs."""
    ops = simulate(Scenario(1, rounds=_TEMPLATE_ROUNDS)).ops
    folds = Panel(), Coverage(), Unanswered()
    for op in ops:
        for fold in folds:
            fold.step(op)
    began = time.process_time()
    checkpoint = taken(ops[-1].index, *folds)
    took = time.process_time() - began
    began = time.process_time()
    restore(checkpoint, Panel(), Coverage(), Unanswered())
    read = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder, Ledger.open(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger:
        sizes, longest = asyncio.run(_month(ledger, _rounds(ops), checkpoint))
    full = _KEPT_DAYS + 2  # a day is compacted once it is over
    in_all = f"{_ROUNDS_A_DAY * _DAYS:,} rounds of 3 replicas x 20 files, {sizes[-1][0]:,} ops in all"
    rows = f"{in_all}; rows after days {full}, 15, {_DAYS}: {sizes[full - 1][1]:,}, {sizes[14][1]:,}, {sizes[-1][1]:,}"
    yield Figure("rows after a month, to those of a week", sizes[-1][1] / sizes[full - 1][1], "times", rows, at_most=1.01)
    megabytes = ", ".join(f"{sizes[day - 1][2] / 1e6:.1f}" for day in (full, 15, _DAYS))
    detail = (
        f"after days {full}, 15, {_DAYS}: {megabytes} MB with the WAL; a commit waited {longest:.2f} s at most for a piece"
    )
    yield Figure(
        "bytes after a month, to those of a week", sizes[-1][2] / sizes[full - 1][2], "times", detail, at_most=1.05
    )
    owed = sum(len(replica.owed) for replica in folds[0].integrity.replicas.values())
    detail = f"of {owed} owed records; to read it back takes {read * 1000:.1f} ms"
    yield Figure("time to take a checkpoint, in the event loop", took * 1000, "ms", detail)


def _rounds(ops: Sequence[Op]) -> list[Sequence[Op]]:
    """Those that were like all later ones will be: files retire as others come."""
    ends = [place for place, op in enumerate(ops) if op.process == RUN and op.f == "round" and op.kind is Kind.OK]
    return [ops[before + 1 : end + 1] for before, end in pairwise(ends[2:])]


async def _month(
    ledger: Ledger, rounds: Sequence[Sequence[Op]], known: Checkpoint
) -> tuple[list[tuple[int, int, int]], float]:
    """Of each day's end: ops in all, rows, bytes; and the longest that an append waited while it was compacted."""
    run = ledger.begin("RUN", experiment="{}", seed=1, target="a/b", cluster="sandbox v1", cluster_id="", started_at=0.0)
    sizes, index, longest = [], 0, 0.0
    for day in range(_DAYS):
        for number in range(_ROUNDS_A_DAY):
            at = (day + number / _ROUNDS_A_DAY) * _DAY
            ops = _moved(rounds[number % len(rounds)], index, at, day * _ROUNDS_A_DAY + number + 1)
            ledger._write(run, ops)
            index += len(ops)
        compacting = asyncio.create_task(
            ledger.compact(run, Checkpoint(index - 1, known.state), (day - _KEPT_DAYS + 1) * _DAY, epoch=0)
        )
        while not compacting.done():
            began = time.perf_counter()
            await asyncio.get_running_loop().run_in_executor(ledger._thread, time.monotonic)
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0.005)
        await compacting
        sizes.append((index, _rows(ledger, run), ledger.size_bytes()))
    return sizes, longest


def _moved(ops: Sequence[Op], index: int, at: float, number: int) -> list[Op]:
    """The same at another time of the run, in which nothing is found."""
    first = ops[0]
    moved = [op._replace(index=index + place, time=at + op.time - first.time) for place, op in enumerate(ops)]
    ended = {**moved[-1].value, "round": number, "violations": 0, "unknowns": 0}
    return [*moved[:-1], moved[-1]._replace(value=ended)]


def _rows(ledger: Ledger, run: Run) -> int:
    with ledger._engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM ops WHERE run_id = {run.id}").scalar() or 0)
