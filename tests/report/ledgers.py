"""Ledgers of hand-written histories, as files, for what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chaosd.history import Event, Op
from chaosd.ledger import Ledger, Run

BEGAN = 1_700_000_000.0
EXPERIMENT = '{"name": "soak", "timeouts": {"converge": 600.0}, "rounds": null, "steps": []}'


def url(folder: Path) -> str:
    """The ledger's in a folder, where commands look for it."""
    return f"sqlite:///{folder / 'chaosd.db'}"


def keep(
    folder: Path,
    *events: Event,
    name: str = "RUN",
    verdict: str | None = None,
    seconds: float = 1.0,
    began: float = BEGAN,
    target: str = "default/web",
    cluster: str = "kubernetes v1.37.2",
    experiment: str = EXPERIMENT,
    seed: int = 7,
) -> Run:
    """A run of these events, so many seconds apart; finished where it has a verdict."""
    ops = [Op(i, began + i * seconds, e.process, e.f, e.kind, e.value) for i, e in enumerate(events)]
    with Ledger.open(url(folder)) as ledger:
        told = {"experiment": experiment, "seed": seed, "target": target, "cluster": cluster, "cluster_id": "c"}
        run = ledger.begin(name, started_at=began, **told)  # type: ignore[arg-type]
        _write(ledger, run, ops)
        if verdict is not None:
            ledger.end(run, verdict=verdict, ended_at=began + len(ops) * seconds)
        found = ledger.run(name)
    assert found is not None
    return found


def _write(ledger: Ledger, run: Run, ops: Sequence[Op]) -> None:
    if ops:
        ledger._write(run, ops)
