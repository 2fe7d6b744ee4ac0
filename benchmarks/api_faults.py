"""A bad way to the API server on the testbed: a fifth of all requests is dropped, late, cut off, or refused."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import real_cluster
from benchmarks.figure import Figure

_ROUNDS, _SEED = 20, 1


def measure() -> Iterator[Figure]:
    """Rounds that were decided, false verdicts, and what the guards did not keep."""
    from tests import api_faults

    real = real_cluster.of_testbed()
    with real_cluster.own_namespace(real) as namespace, tempfile.TemporaryDirectory() as folder:
        api_faults.start(real, namespace)
        told = api_faults.ran(real, namespace, Path(folder), seed=_SEED, rounds=_ROUNDS)
    if told.code or told.breaches or told.left:
        print(told.told, file=sys.stderr)
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(told.faults.items()))
    detail = f"{sum(told.faults.values())} of {told.requests} requests: {faults}"
    decided = 100 * told.decided / _ROUNDS
    yield Figure("rounds decided through a bad way to the API server", decided, "%", detail, at_least=95)
    yield Figure("violations that were reported in them", told.violations, f"in {_ROUNDS} rounds", detail, at_most=0)
    amiss = [*told.breaches, *told.left]
    kept = ", ".join(amiss) or "at most one replica away, no disruption too soon, nothing left behind"
    yield Figure("guards and undos that were not kept", len(amiss), f"in {_ROUNDS} rounds", kept, at_most=0)
