"""kill -9 of chaosd under a real Kubernetes: the next start heals, and goes on with the same run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import kills
from tests.chaosd_process import Chaosd
from tests.real import RealCluster
from tests.seeds import FRESH

KILLS = 2


@pytest.mark.alone
def test_a_chaosd_that_is_killed_loses_nothing(
    web: str, start: Callable[..., Chaosd], experiment: Callable[..., Path], real: RealCluster
) -> None:
    path = experiment(rounds=1000, workload={"files": 8}, disruptions=kills.DISRUPTIONS)
    survived = kills.survive(real, web, start, path, KILLS, random.Random(FRESH))
    assert (survived.left, survived.gone) == ([], set())
    verified = survived.verified
    assert (verified.code, verified.verdict["violations"], verified.verdict["unknown"]) == (0, [], []), verified.told
    assert verified.verdict["coverage"]["chaosd_restarts"] == KILLS
    assert survived.acknowledged > 0
    assert real.get("leases", f"--namespace={web}")["items"] == []
