"""Power cuts on the testbed as a disruption of an experiment, and what the history of a run with such cuts says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaosd.checkers.records import name_of, sequence_of
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Ledger
from tests.manifests import Document
from tests.real import RealCluster

_POWER = Path(__file__).parent / "testbed" / "power.py"


def cut(real: RealCluster, after_writes: int | None, *, first: str = "true") -> Document:
    """Does `first`, which is told as much as the rest, cuts the power of a replica's disk at a write in its burst (or at
    once), and deletes the pod, so that the disk is unstaged, staged, and its journal recovered."""
    moment = f" --after-writes {after_writes}" if after_writes else ""
    power_off = f"{sys.executable} {_POWER} cut {{handle}}{moment}"
    delete = f"{real.kubectl_command} delete pod {{pod}} --namespace={{namespace}}"
    return {"kind": "external", "crash": True, "command": ["sh", "-c", f"{first} && {power_off} && {delete}"]}


def lie() -> str:
    """What comes first so that the disk lies from then on; long enough for writes of every kind, which come each second, to
    be acknowledged on a busy machine, too."""
    return f"{sys.executable} {_POWER} mode {{handle}} lying && sleep 10"


def history(out: Path) -> Sequence[Op]:
    """Of the latest run in a folder."""
    with Ledger.open(f"sqlite:///{out / 'chaosd.db'}") as ledger:
        run = ledger.run()
        assert run is not None
        return list(ledger.history(run))


def decided(ops: Iterable[Op]) -> list[str]:
    """The verdict at the end of each round."""
    return [end.value["verdict"] for end in _ends(ops)]


def acknowledged(ops: Iterable[Op]) -> set[str]:
    """Names of the files, of those that are written once, that were acknowledged."""
    return {name_of(op.value["sequence"]) for op in ops if op.f == "write" and op.kind is Kind.OK and "how" not in op.value}


def found_damaged(ops: Iterable[Op]) -> set[str]:
    """Names of the files, of those that are written once, that a reading found missing, or other than they were written."""
    readings = (op.value for op in ops if op.f == "read" and op.kind is Kind.OK)
    named = {Path(value["file"]).name for value in readings if value["finding"] not in ("intact", "unsettled")}
    return {name for name in named if sequence_of(name) is not None}


def violations(ops: Iterable[Op]) -> list[int]:
    """How many there were at the end of each round."""
    return [end.value["violations"] for end in _ends(ops)]


def _ends(ops: Iterable[Op]) -> list[Op]:
    return [op for op in ops if (op.process, op.f, op.kind) == (RUN, "round", Kind.OK)]
