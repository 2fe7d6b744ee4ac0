"""One simulated run: a StatefulSet in a sandbox in memory, chaosd on it, and what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, cast

from chaosd import resumption, virtual_time
from chaosd.checkers import Judgement, Value
from chaosd.checkers.records import Replica
from chaosd.cluster import target as targets
from chaosd.cluster.lock import TargetLock
from chaosd.cluster.port import TARGET_LABEL, Claim, Cluster, StatefulSet
from chaosd.cluster.sandbox import SandboxCluster, Timings
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.target import Target
from chaosd.cluster.unreliable import Rates, UnreliableCluster
from chaosd.errors import ClusterError
from chaosd.experiment import Experiment
from chaosd.generator import Plan, stream
from chaosd.history import RUN, Kind, Op
from chaosd.ledger import Run
from chaosd.run import Ending, Finished, Runner
from chaosd.simulation.crash import NodeCrash
from chaosd.simulation.ledger import Death, MemoryLedger
from chaosd.taking import heal_target

NAMESPACE, NAME, TEMPLATE = "default", "web", "disk"
LEASE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated. `files` of `file_bytes` go to each replica in each of the `rounds`; `spec` is laid over the
    StatefulSet's, `experiment` over the experiment's document. `crashes` is how often a node's power is cut, against the
    weights of `disruptions`; where the disks are `lying`, what they acknowledged goes with it. `timings` are the
    cluster's, and how long a container outlives its pod and a probe its connection. `keep_seconds` is how long ops are kept
    that were judged, None for ever."""

    seed: int
    rounds: int = 4
    replicas: int = 3
    files: int = 20
    file_bytes: int = 4096
    disruptions: tuple[Mapping[str, Any], ...] = ({"kind": "pod-delete", "weight": 3}, {"kind": "scale"})
    experiment: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    crashes: int = 0
    lying: bool = False
    keep_seconds: float | None = None
    rates: Rates = field(default_factory=Rates)
    timings: Timings = field(default_factory=Timings)


@dataclass(slots=True)
class World:
    """A simulated target while chaosd runs on it: what a plant may touch."""

    scenario: Scenario
    rng: random.Random
    clock: virtual_time.WallClock
    cluster: SandboxCluster
    unreliable: UnreliableCluster
    target: Target
    run: Run
    runner: Runner

    def claim(self, ordinal: int) -> Claim:
        """The claim of a replica."""
        return self.cluster.store.get(Claim, NAMESPACE, f"{TEMPLATE}-{NAME}-{ordinal}")

    def disk(self, ordinal: int) -> MemoryDisk:
        """The disk of a replica."""
        return self.cluster.disk(NAMESPACE, self.claim(ordinal).name)

    def known(self, ordinal: int) -> Replica:
        """What chaosd knows of a replica's records."""
        return self.runner.panel.integrity.replicas[f"{NAMESPACE}/{NAME}-{ordinal}"]

    def path(self, file: str) -> str:
        """A file of the run on a replica's disk."""
        return f".chaosd/{self.run.run}/{file}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a simulated run, which took `seconds` of virtual time. `rounds_decided` are those at whose end nothing
    was unknown."""

    judgement: Judgement = field(repr=False)
    finished: Finished = field(repr=False)
    ops: tuple[Op, ...] = field(repr=False)
    seconds: float
    rounds: int
    rounds_decided: int

    @property
    def classes(self) -> list[str]:
        """The classes that were reported, each once."""
        return sorted({str(v.failure) for v in self.judgement.violations})


Hook = Callable[[World, Plan], None]


@dataclass(frozen=True, slots=True)
class Kill:
    """That the daemon dies when op `at` was journaled. Of that op and those before it, the last `ops_lost` are gone when
    another is started: its ledger was rolled back."""

    at: int
    ops_lost: int = 0


def simulate(
    scenario: Scenario,
    between_rounds: Hook = lambda *_: None,
    *,
    kills: Sequence[Kill] = (),
    ending: Ending | None = None,
) -> Outcome:
    """Run a scenario to its end, or until its `ending`. `between_rounds` is called before each round begins, when nothing
    is under way. After each of the `kills`, in their order, another daemon heals what the one before left, and goes on."""
    return virtual_time.run(_simulate(scenario, between_rounds, kills, ending or Ending()))


async def _simulate(scenario: Scenario, between_rounds: Hook, kills: Sequence[Kill], ending: Ending) -> Outcome:
    clock = virtual_time.WallClock()  # chaosd's, which may step; the cluster has one of its own
    rng, its_clock = stream(scenario.seed, "cluster"), virtual_time.WallClock()
    sandbox = await SandboxCluster.in_memory(rng=rng, clock=its_clock, timings=scenario.timings)
    try:
        await sandbox.apply([_statefulset(scenario)])
        await _all_ready(sandbox, scenario.replicas)
        return await _Chaosd(scenario, clock, sandbox, between_rounds, ending).run(kills)
    finally:
        await sandbox.close()


class _Chaosd:
    """chaosd on the simulated cluster: once, and once more for each time that it is killed."""

    def __init__(
        self,
        scenario: Scenario,
        clock: virtual_time.WallClock,
        sandbox: SandboxCluster,
        between_rounds: Hook,
        ending: Ending,
    ) -> None:
        self._scenario = scenario
        self._clock = clock
        self._sandbox = sandbox
        self._between_rounds = between_rounds
        self._ending = ending
        self._document = _experiment(scenario)
        self._experiment = _with_crashes(self._document, scenario.crashes, self._crash)
        self._lives = 0
        self._ledger = MemoryLedger(clock)
        self._unreliable = UnreliableCluster(sandbox, stream(scenario.seed, "observer"), Rates())

    async def run(self, kills: Sequence[Kill]) -> Outcome:
        """To its end, however often it is killed."""
        began = self._clock()
        for kill in kills:
            self._ledger.death = Death(kill.at)
            living = asyncio.ensure_future(self._live())
            if not await self._dies(living, self._ledger.death):
                break
            self._recover(kill)
        else:
            living = asyncio.ensure_future(self._live())
        run, runner, finished = await living
        ops = tuple(self._ledger.history(run))
        ended = {op.value["round"]: op.value["verdict"] for op in ops if _ends_a_round(op)}
        decided = sum(1 for verdict in ended.values() if verdict != Value.UNKNOWN)
        return Outcome(runner.panel.judge(), finished, ops, self._clock() - began, len(ended), decided)

    def _recover(self, kill: Kill) -> None:
        """Whoever starts it again does so until it starts, on the ledger that is left."""
        self._ledger.death = None
        self._unreliable.rates = Rates()
        run = self._ledger.run()
        if kill.ops_lost and run:
            self._ledger.roll_back(run, max(0, kill.at + 1 - kill.ops_lost))

    async def _live(self) -> tuple[Run, Runner, Finished]:
        """One daemon: takes the lock, heals what one before it left, and goes on with the run, or begins one."""
        cluster = cast(Cluster, _Mortal(self._unreliable, self._ledger.death))
        self._lives += 1
        lock = TargetLock(cluster, NAMESPACE, NAME, f"chaosd-{self._lives}", LEASE_SECONDS, self._clock)
        undo = await lock.acquire()
        key = f"{NAMESPACE}/{NAME}"
        await heal_target(cluster, self._ledger, lock, key, undo, self._clock)
        lost = resumption.note_loss(self._ledger, lock.noted, key, "", self._clock())
        left = resumption.left_behind(self._ledger, lock.noted, lost, key, "", self._document)
        run = left.goes_on or self._begun(key)
        statefulset = await self._sandbox.get(StatefulSet, NAMESPACE, NAME)
        target = targets.resolve(statefulset, path="", container="", require_claim=True)
        keep = self._scenario.keep_seconds
        runner = Runner(cluster, self._ledger, lock, target, self._experiment, run, left.told, keep)
        if left.goes_on:
            runner.resume()
        finished = await runner.run(self._planned(runner, target, run), self._ending)
        with suppress(ClusterError):
            await lock.release()
        return run, runner, finished

    def _begun(self, key: str) -> Run:
        name = f"{self._scenario.seed:025d}{self._lives}"[-26:]
        experiment = self._document.model_dump_json(by_alias=True)
        return self._ledger.begin(name, seed=self._scenario.seed, target=key, experiment=experiment)

    def _planned(self, runner: Runner, target: Target, run: Run) -> Iterator[Plan]:
        """The plans. What is to happen before one happens when it is asked for: nothing is under way then."""
        world = World(
            scenario=self._scenario,
            rng=stream(self._scenario.seed, "plant"),
            clock=self._clock,
            cluster=self._sandbox,
            unreliable=self._unreliable,
            target=target,
            run=run,
            runner=runner,
        )
        plans = self._experiment.plans(run.seed, target.replicas, target.first_ordinal)
        later = takewhile(lambda _: not runner.covered, resumption.after(plans, runner.last_round))
        for asked, plan in enumerate(later):
            if not asked:  # what must hold before the first round is no part of it
                self._unreliable.rates = self._scenario.rates
            self._between_rounds(world, plan)
            yield plan

    def _crash(self, node: str) -> None:
        self._sandbox.crash_node(node, lying=self._scenario.lying)

    async def _dies(self, running: asyncio.Future[Any], death: Death) -> bool:
        """Whether it was killed before its end; then nothing of it is left."""
        struck = asyncio.ensure_future(death.struck.wait())
        either: list[asyncio.Future[Any]] = [running, struck]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        struck.cancel()
        if not death.struck.is_set():
            return False
        running.cancel()
        await asyncio.gather(running, struck, return_exceptions=True)
        return True


class _Mortal:
    """A cluster that does nothing any more for a daemon that is dead."""

    def __init__(self, cluster: Cluster, death: Death | None) -> None:
        self._cluster = cluster
        self._death = death

    def __getattr__(self, name: str) -> Any:
        if self._death and self._death.struck.is_set():
            raise asyncio.CancelledError
        return getattr(self._cluster, name)


async def _all_ready(sandbox: SandboxCluster, replicas: int) -> None:
    while (await sandbox.get(StatefulSet, NAMESPACE, NAME)).ready_replicas < replicas:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.1)


def _statefulset(scenario: Scenario) -> dict[str, Any]:
    labels = {"app": NAME}
    container = {"name": "server", "image": "server", "volumeMounts": [{"name": TEMPLATE, "mountPath": "/data"}]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "serviceName": NAME,
        "replicas": scenario.replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        "volumeClaimTemplates": [{"metadata": {"name": TEMPLATE}, "spec": claim}],
    }
    meta = {"name": NAME, "namespace": NAMESPACE, "labels": {TARGET_LABEL: "true"}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": {**spec, **scenario.spec}}


def _experiment(scenario: Scenario) -> Experiment:
    room = scenario.files * 2
    workload = {
        "files": scenario.files,
        "size": scenario.file_bytes,
        "share": {"bytes": room * scenario.file_bytes + (1 << 20), "files": room + 20},
        "retireAfter": 1,
    }
    document = {
        "name": "simulated",
        "target": {"namespace": NAMESPACE, "statefulset": NAME},
        "workload": workload,
        "rounds": scenario.rounds,
        "disruptions": list(scenario.disruptions),
        "timeouts": {"converge": "60s", "probe": "10s", "write": "60s", "read": "60s"},
    }
    return Experiment.model_validate({**document, **scenario.experiment})


def _with_crashes(experiment: Experiment, weight: int, crash: Callable[[str], None]) -> Experiment:
    if not weight:
        return experiment
    crashes = NodeCrash(weight=weight, crash=crash)
    return experiment.model_copy(update={"disruptions": (*experiment.disruptions, crashes)})


def _ends_a_round(op: Op) -> bool:
    return op.process == RUN and op.f == "round" and op.kind is Kind.OK
