"""The kill switch on a real Kubernetes: whenever and however it is thrown, nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill_switch import thrown
from tests.real import RealCluster
from tests.seeds import FRESH


@pytest.mark.alone
@pytest.mark.parametrize("seed", [FRESH])
def test_the_kill_switch_is_obeyed_at_any_moment(web: str, real: RealCluster, tmp_path: Path, seed: int) -> None:
    """Four moments of four runs. `python -m benchmarks kill_switch` tries fifty, and times them."""
    for number in range(4):
        one = thrown(real, web, tmp_path, seed + number)
        assert (one.code, one.disturbed_later) == (4, False), f"seed {seed + number}: {one}"
        real.wait_ready(web, "web")
        assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2
        assert not [n for n in real.get("nodes")["items"] if n["spec"].get("unschedulable")]
