"""Whatever breaks between chaosd and its probes, storage that keeps its word is never accused."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from chaosd import commands
from chaosd.checkers import Value
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.experiment import Experiment
from chaosd.run import Ending, Runner
from chaosd.settings import Settings
from tests.seeds import FRESH

TARGET = Path(__file__).resolve().parents[1] / "experiments" / "targets" / "web.yaml"


async def _sabotage(clusters: list[SandboxCluster], runners: list[Runner], rng: random.Random) -> None:
    """Once the run has begun, kill a probe every now and then; what it was doing nobody knows."""
    while True:
        await asyncio.sleep(rng.uniform(0.02, 0.4))
        for cluster in clusters if any(runner.began for runner in runners) else ():
            processes = [p for held in cluster._kubelets._processes.values() for p in held]
            if processes:
                process = rng.choice(processes)
                with suppress(ProcessLookupError):
                    os.kill(process._process.pid, rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))


@pytest.mark.parametrize("seed", [FRESH, FRESH + 1])
async def test_probes_that_die_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    print(f"seed {seed}")
    clusters: list[SandboxCluster] = []
    opening = SandboxCluster.open

    async def opened(directory: Path) -> SandboxCluster:
        clusters.append(await opening(directory))
        return clusters[-1]

    monkeypatch.setattr(SandboxCluster, "open", opened)
    experiment = Experiment.model_validate(
        {
            "name": "sabotaged",
            "target": {"statefulset": "web"},
            "workload": {"files": 20, "size": "16Ki", "share": {"bytes": "4Mi", "files": 150}, "retireAfter": 1},
            "seed": seed,
            "rounds": 3,
            "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}],
            "timeouts": {"read": "20s", "write": "20s"},
        }
    )
    runners: list[Runner] = []
    saboteur = asyncio.create_task(_sabotage(clusters, runners, random.Random(seed)))
    settings = Settings(cluster="sandbox", out=tmp_path)
    finished = await commands.run_experiment(
        settings, experiment, TARGET, Ending(), watch=lambda _target, runner, _run: runners.append(runner)
    )
    saboteur.cancel()
    await asyncio.gather(saboteur, return_exceptions=True)
    assert finished.verdict.violations == (), finished.verdict.as_json()
    assert finished.verdict.coverage["files_acknowledged"] > 0
    assert finished.verdict.verdict in (Value.PASS, Value.UNKNOWN)
    assert finished.error is None
