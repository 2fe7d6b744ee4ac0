"""The ledger: many callers that share commits, against a commit for each op."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from chaosd.history import Event, Kind, Op
from chaosd.ledger import Ledger, Run

_CALLERS = 32
_BATCHES = 40
_EVENTS = 16  # of a batch, as a worker appends them
_SINGLE = 300


def measure() -> Iterator[Figure]:
    """Ops per second, durable, in SQLite."""
    with tempfile.TemporaryDirectory() as folder, Ledger.open(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger:
        single = _one_commit_for_each(ledger, _run(ledger, "one"))
        group = asyncio.run(_group_commit(ledger, _run(ledger, "many")))
    detail = f"{group:,.0f} ops/s, against {single:,.0f} ops/s with a commit for each: {group / single:,.1f} times as fast"
    yield Figure("ledger, group commit", group, "ops/s", detail, at_least=10_000)


def _run(ledger: Ledger, name: str) -> Run:
    names = {"experiment": "{}", "target": "default/web", "cluster": "sandbox v1", "cluster_id": ""}
    return ledger.begin(name, seed=1, started_at=0.0, **names)


def _value(sequence: int) -> dict[str, Any]:
    return {"sequence": sequence, "length": 65536, "digest": f"{sequence:064x}"}


def _one_commit_for_each(ledger: Ledger, run: Run) -> float:
    began = time.perf_counter()
    for index in range(_SINGLE):
        ledger._write(run, [Op(index, 0.0, "default/web-0", "write", Kind.INVOKE, _value(index))])
    return _SINGLE / (time.perf_counter() - began)


async def _group_commit(ledger: Ledger, run: Run) -> float:
    journal = ledger.journal(run)
    writer = asyncio.create_task(journal.write())

    async def caller(number: int) -> None:
        for batch in range(_BATCHES):
            first = batch * _EVENTS
            await journal.append(
                [Event(f"default/web-{number}", "write", Kind.INVOKE, _value(first + i)) for i in range(_EVENTS)]
            )

    began = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(_CALLERS)))
    seconds = time.perf_counter() - began
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    return _CALLERS * _BATCHES * _EVENTS / seconds
