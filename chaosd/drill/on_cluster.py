"""The drill on a cluster: for each plant a short run, the fault through the probe, and a `verify` that must find it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaosd import commands
from chaosd.adapters import open_cluster
from chaosd.checkers.verdict import Value
from chaosd.cluster.target import Target
from chaosd.drill.plants import WORKLOAD, ProbePlant, Site
from chaosd.drill.progress import DrillProgress
from chaosd.drill.table import Drilled
from chaosd.errors import AbortedError
from chaosd.experiment import Experiment
from chaosd.generator import stream
from chaosd.history import Op
from chaosd.ledger import Run
from chaosd.nemesis.pod_delete import PodDelete
from chaosd.nemesis.scale import Scale
from chaosd.own_target import Wanted, own_target
from chaosd.preflight import rights
from chaosd.probe.session import Place, open_session
from chaosd.run import Ending, Finished, Runner
from chaosd.settings import Settings

Done = Callable[[Drilled], None]

WHERE = "on a real cluster; AFTER: from the planting on"
NAME = "drill"
_BEFORE = "before it was planted: "


@dataclass(frozen=True, slots=True)
class Ground:
    """Where it is drilled: the cluster that `settings` name, and their folder for what the runs leave; the namespace of the
    target; the manifest that an empty sandbox is given."""

    settings: Settings
    namespace: str
    manifest: Path | None = None


async def drill_in_own_target(
    settings: Settings,
    wanted: Wanted,
    plants: Sequence[ProbePlant],
    seed: int,
    count: int,
    ending: Ending,
    progress: DrillProgress,
) -> None:
    """Drill on a real cluster, in a namespace made for it. What the runs left stays where a fault was not found.

    Raises what stands in the way (RightsError, NotReadyError, ClusterError) or ends it (AbortedError).
    """
    out = Path(tempfile.mkdtemp(prefix="chaosd-drill-"))
    try:
        async with own_target(settings, wanted, _needed, ending, progress.tell) as namespace:
            ground = Ground(settings.model_copy(update={"out": out}), namespace)
            await drill(ground, plants, seed, count, ending, progress.done)
    except AbortedError as error:
        raise AbortedError(ending.reason or str(error)) from error
    finally:
        if wanted.keep or not all(result.right for result in progress.results):
            progress.tell(f"what the runs left: {out}")
        else:
            shutil.rmtree(out, ignore_errors=True)


def _needed(namespace: str) -> list[rights.Placed]:
    return rights.placed(namespace, (*rights.RIGHTS, *PodDelete.rights, *Scale.rights))


async def drill(ground: Ground, plants: Sequence[ProbePlant], seed: int, count: int, ending: Ending, done: Done) -> None:
    """Plant each `count` times, in runs with seeds of their own from `seed` on, and tell what came of each. Raises what
    ends a run early."""
    numbered = enumerate(((plant, number) for plant in plants for number in range(seed, seed + count)), 1)
    for run, (plant, number) in numbered:
        # Folders and ledgers of their own: neither the user's ledger nor a report of another plant is written over.
        settings = ground.settings.model_copy(update={"out": ground.settings.out / f"{run:03d}", "ledger": ""})
        done(await _Drill(ground, settings, plant, number, ending).drilled())


@dataclass(slots=True)
class _Watched:
    """A run, and what it journaled since it was watched."""

    target: Target
    runner: Runner
    run: Run
    ops: list[Op] = field(default_factory=list)


class _Drill:
    """One plant in one run."""

    def __init__(self, ground: Ground, settings: Settings, plant: ProbePlant, seed: int, ending: Ending) -> None:
        self._ground = ground
        self._settings = settings
        self._plant = plant
        self._seed = seed
        self._ending = ending
        self._began = time.perf_counter()
        self._watched: list[_Watched] = []

    async def drilled(self) -> Drilled:
        """Run, plant, verify."""
        experiment = _experiment(self._ground.namespace, self._plant, self._seed)
        finished = _whole(
            await commands.run_experiment(
                self._settings, experiment, self._ground.manifest, self._ending, watch=self._watch
            )
        )
        if finished.verdict.verdict is not Value.PASS:
            return self._result(finished, _BEFORE, None)
        await self._planted(experiment)
        planted_at = time.time()
        (finished,) = await commands.verify_runs(self._settings, None, self._ending, watch=self._watch)
        _whole(finished)
        return self._result(finished, "", self._shown_at(planted_at))

    def _watch(self, target: Target, runner: Runner, run: Run) -> None:
        watched = _Watched(target, runner, run)
        runner.journal.listen(watched.ops.append)
        self._watched.append(watched)

    async def _planted(self, experiment: Experiment) -> None:
        """Put the fault on the volume of one replica. Raises ProbeError, InconclusiveError, ClusterError."""
        before = self._watched[-1]
        target, replicas = before.target, before.runner.panel.integrity.replicas
        place = Place(target, experiment.target.folder, before.run.run, "drill")
        rng = stream(self._seed, "plant")
        pod, other = rng.sample(target.pods, 2)
        seconds = experiment.timeouts.probe
        async with (
            open_cluster(self._settings) as cluster,
            open_session(cluster, place, pod, seconds) as session,
            open_session(cluster, place, other, seconds) as other_session,
        ):
            site = Site(
                seed=before.run.seed,
                rng=rng,
                replica=replicas[target.replica(pod)],
                session=session,
                other=replicas[target.replica(other)],
                other_session=other_session,
            )
            await self._plant.act(site)

    def _shown_at(self, planted_at: float) -> float | None:
        """Seconds from the planting to the first op that showed a fault."""
        after = self._watched[-1]
        violations = after.runner.panel.judge().violations
        first = min((violation.index for violation in violations), default=-1)
        return next((round(op.time - planted_at, 3) for op in after.ops if op.index == first), None)

    def _result(self, finished: Finished, prefix: str, seconds: float | None) -> Drilled:
        return Drilled(
            plant=self._plant.what,
            wanted=str(self._plant.found_as or ""),
            found=tuple(prefix + str(name) for name in sorted(finished.verdict.violations_by_class)),
            verdict=str(finished.verdict.verdict),
            seed=self._seed,
            rounds=1 if seconds is not None else None,
            seconds=seconds,
            took_seconds=time.perf_counter() - self._began,
            report=str(self._settings.out / "report.txt"),
        )


def _whole(finished: Finished) -> Finished:
    if finished.error:
        raise finished.error
    return finished


def _experiment(namespace: str, plant: ProbePlant, seed: int) -> Experiment:
    document = {
        "name": "drill",
        "target": {"namespace": namespace, "statefulset": NAME},
        "workload": WORKLOAD,
        "seed": seed,
        "steps": list(plant.steps),
    }
    return Experiment.model_validate(document)
