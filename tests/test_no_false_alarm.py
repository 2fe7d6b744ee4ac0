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
from chaosd.history import Kind, Op
from chaosd.run import Ending, Runner
from chaosd.settings import Settings
from tests.seeds import FRESH

_MOST_IN_A_ROW = 6
TARGET = Path(__file__).resolve().parents[1] / "experiments" / "targets" / "web.yaml"


class _Saboteur:
    """Once the run has begun, kills a probe every now and then; what it was doing nobody knows. A few in a row, and then
    some work is let through, however slow the machine is."""

    def __init__(self, seed: int) -> None:
        self.clusters: list[SandboxCluster] = []
        self._rng = random.Random(seed)
        self._in_a_row = _MOST_IN_A_ROW  # it has not begun

    def follow(self, _target: object, runner: Runner, _run: object) -> None:
        """From now on, this run."""
        runner.journal.listen(self._record)

    def _record(self, op: Op) -> None:
        if op.f in ("write", "read") and op.kind is Kind.OK:
            self._in_a_row = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._rng.uniform(0.02, 0.4))
            for cluster in self.clusters if self._in_a_row < _MOST_IN_A_ROW else ():
                processes = [p for held in cluster._kubelets._processes.values() for p in held]
                if processes:
                    self._in_a_row += 1
                    process = self._rng.choice(processes)
                    with suppress(ProcessLookupError):
                        os.kill(process._process.pid, self._rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))


@pytest.mark.parametrize("seed", [FRESH, FRESH + 1])
async def test_probes_that_die_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    print(f"seed {seed}")
    saboteur = _Saboteur(seed)
    opening = SandboxCluster.open

    async def opened(directory: Path) -> SandboxCluster:
        saboteur.clusters.append(await opening(directory))
        return saboteur.clusters[-1]

    monkeypatch.setattr(SandboxCluster, "open", opened)
    experiment = Experiment.model_validate(
        {
            "name": "sabotaged",
            "target": {"statefulset": "web"},
            "workload": {"files": 20, "size": "16Ki", "share": {"bytes": "4Mi", "files": 150}, "retireAfter": 1},
            "seed": seed,
            "rounds": 3,
            "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}],
            "timeouts": {"read": "60s", "write": "60s"},
        }
    )
    sabotaging = asyncio.create_task(saboteur.run())
    settings = Settings(cluster="sandbox", out=tmp_path)
    finished = await commands.run_experiment(settings, experiment, TARGET, Ending(), watch=saboteur.follow)
    sabotaging.cancel()
    await asyncio.gather(sabotaging, return_exceptions=True)
    assert finished.verdict.violations == (), finished.verdict.as_json()
    assert finished.verdict.coverage["files_acknowledged"] > 0
    assert finished.verdict.verdict in (Value.PASS, Value.UNKNOWN)
    assert finished.error is None
