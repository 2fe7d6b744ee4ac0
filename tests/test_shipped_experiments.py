"""Every experiment that is shipped, as a user would first try it: on the sandbox, for a short while."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosd import experiment
from tests.chaosd_process import chaosd

EXPERIMENTS = sorted((Path(__file__).resolve().parents[1] / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_it_does_what_it_says_and_passes_on_a_healthy_target(path: Path, tmp_path: Path) -> None:
    shipped = experiment.load(path)
    short = () if shipped.steps else ("--rounds", "2")
    done = chaosd("run", path, *short, "--cluster", "sandbox", "--out", tmp_path, "--seed", "11")
    assert done.code == 0, done.told
    coverage = done.verdict["coverage"]
    wanted = sum(1 for step in shipped.steps if step.disrupt) or 2
    assert (sum(coverage["disruptions"].values()), coverage["disruptions_not_done"]) == (wanted, {})
    assert coverage["files_acknowledged"] > 0
