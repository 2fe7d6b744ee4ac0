"""A bad way to the API server of a real Kubernetes: a fifth of all requests fails, and nobody is accused for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import api_faults
from tests.real import RealCluster
from tests.seeds import FRESH

_ROUNDS = 3


@pytest.mark.alone
@pytest.mark.parametrize("seed", [FRESH])
def test_a_run_through_a_bad_way_accuses_nobody_and_leaves_nothing(
    real: RealCluster, real_namespace: str, tmp_path: Path, seed: int
) -> None:
    """`python -m benchmarks api_faults` runs twenty rounds, and counts how many are decided."""
    api_faults.start(real, real_namespace)
    told = api_faults.ran(real, real_namespace, tmp_path, seed=seed, rounds=_ROUNDS)
    assert sum(told.faults.values()) > 5, told
    assert (len(told.verdicts), told.violations, told.breaches, told.left) == (_ROUNDS, 0, [], []), told.told
