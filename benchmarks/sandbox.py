"""A full round on the sandbox, against the plain work that is in it: write, fsync and read the same files."""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.figure import Figure
from benchmarks.rounds import history_of
from chaosd.history import RUN, Kind
from chaosd.settings import Settings

_REPLICAS, _FILES, _BYTES, _ROUNDS = 3, 50, 65536, 10
# Room for two rounds' files: from the third round on each writes 50, reads up to 100 and lets 50 go, on every replica.
_SHARE = {"bytes": "256Mi", "files": 2 * _FILES}
_TARGET = Path(__file__).resolve().parents[1] / "experiments" / "targets" / "web.yaml"


def measure() -> Iterator[Figure]:
    """Seconds for a round of 3 replicas with 50 new files each, in which everything owed is read back."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = _rounds(Path(folder))
        plain = _plain(Path(folder))
    took = statistics.median(rounds)
    detail = (
        f"the slowest of {len(rounds)} took {max(rounds):.2f} s; the plain files take {plain:.2f} s: {took / plain:.1f}"
    )
    yield Figure("sandbox, a round of 3 x 50 files", took, "s", f"{detail} times as long", at_most=2.0)


def _rounds(folder: Path) -> list[float]:
    documents = list(yaml.safe_load_all(_TARGET.read_text()))
    documents[1]["spec"]["replicas"] = _REPLICAS
    manifest = folder / "target.yaml"
    manifest.write_text(yaml.safe_dump_all(documents))
    experiment = {
        "name": "bench",
        "target": {"statefulset": "web"},
        "workload": {"files": _FILES, "size": _BYTES, "share": _SHARE},
        "rounds": _ROUNDS,
        "disruptions": [{"kind": "pod-delete", "weight": 3}, {"kind": "scale", "weight": 1}],
    }
    settings = Settings(cluster="sandbox", out=folder / "out")
    marks = [op for op in history_of(experiment, settings, manifest) if op.process == RUN and op.f == "round"]
    began = {op.value["round"]: op.time for op in marks if op.kind is Kind.INVOKE}
    return [op.time - began[op.value["round"]] for op in marks if op.kind is Kind.OK]


def _plain(folder: Path) -> float:
    data = os.urandom(_BYTES)
    began = time.perf_counter()
    for number in range(_REPLICAS * _FILES):
        file = folder / f"{number}"
        with file.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        hashlib.sha256(file.read_bytes())
    return time.perf_counter() - began
