"""A stage for disruptions: a StatefulSet in a sandbox in memory, observed, on which disruptions are done as the interpreter
does them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from chaosd.cluster import target as targets
from chaosd.cluster.observer import Observer, View
from chaosd.cluster.port import Node, Pod, StatefulSet
from chaosd.cluster.sandbox import SandboxCluster, Timings
from chaosd.nemesis import AnyDisruption, Disruption, Prepared, Scene, heal
from tests import manifests

BY = "01RUN"
SECONDS = 60.0
_ANY: TypeAdapter[Disruption] = TypeAdapter(AnyDisruption)


def spec(kind: str, **fields: Any) -> Disruption:
    """A disruption as an experiment says it."""
    return _ANY.validate_python({"kind": kind, **fields})


@dataclass
class Stage:
    """What stands on it. `writing` are the replicas that are written to."""

    cluster: SandboxCluster
    scene: Scene
    writing: set[str] = field(default_factory=set)

    @property
    def view(self) -> View:
        """The target as it is seen now."""
        return self.scene.observer.view

    @property
    def uids(self) -> dict[str, str]:
        """Of the target's pods, by name."""
        return {name: pod.uid for name, pod in sorted(self.view.pods.items())}

    def prepared(self, disruption: Disruption, *, turn: int = 0, seed: int = 1) -> Prepared:
        """Drawn and prepared, as for a round."""
        statefulset = self.view.statefulset
        assert statefulset is not None, "observed"
        ordinals = range(statefulset.first_ordinal, statefulset.first_ordinal + statefulset.replicas)
        return disruption.prepare(self.scene, disruption.draw(random.Random(seed), ordinals, turn))

    async def done(self, disruption: Disruption, *, turn: int = 0, seed: int = 1) -> Mapping[str, Any]:
        """Drawn, prepared and done; its evidence."""
        return await disruption.invoke(self.scene, self.prepared(disruption, turn=turn, seed=seed))

    async def healed(self, undo: Mapping[str, Any] | None) -> str:
        """Undone; what was."""
        assert undo is not None, "it registered something to undo"
        return await heal(self.cluster, undo, SECONDS)

    async def scaled(self, replicas: int) -> None:
        """Scale it by somebody's hand."""
        found = self.cluster.store.get(StatefulSet, "default", "web")
        await self.cluster.scale("default", "web", uid=found.uid, replicas=replicas, expected=found.replicas)

    async def converged(self, replicas: int) -> None:
        """Wait until the target is."""
        await self.scene.observer.converged(replicas, SECONDS)

    async def label(self, pod: str, **labels: str) -> None:
        """Label a pod, and wait until that is seen."""
        found = self.cluster.store.get(Pod, "default", pod)
        self.cluster.store.put(replace(found, labels={**found.labels, **labels}))
        await self.scene.observer.wait(
            lambda view: labels.items() <= view.pods[pod].labels.items() or None, SECONDS, "the label"
        )

    async def put(self, *objects: Any) -> None:
        """Change objects behind everybody's back, and let the observer see it."""
        for one in objects:
            self.cluster.store.put(one)
        await asyncio.sleep(0.05)
        for _ in range(100):  # turns that the news may take, on a loop that came late
            await asyncio.sleep(0)

    def node(self, name: str) -> Node:
        """A node as it is now."""
        return self.cluster.store.get(Node, "", name)


@asynccontextmanager
async def stage(
    document: Mapping[str, Any] | None = None,
    *more: Mapping[str, Any],
    timings: Timings | None = None,
    nodes: int = 2,
    seconds: float = SECONDS,
) -> AsyncIterator[Stage]:
    """A stage with this StatefulSet (`web` with 3 replicas, unless told), converged, and whatever else is applied."""
    cluster = await SandboxCluster.in_memory(
        rng=random.Random(7), clock=time.time, timings=timings or Timings(start=0.02), nodes=nodes
    )
    observing = None
    try:
        await cluster.apply([document or manifests.statefulset(replicas=3), *more])
        target = targets.resolve(
            await cluster.get(StatefulSet, "default", "web"), path="/data", container="", require_claim=False
        )
        writing: set[str] = set()
        observer = Observer(cluster, target, _nobody)
        observing = asyncio.create_task(observer.run())
        await observer.synced(SECONDS)
        await observer.converged(target.replicas, SECONDS)
        yield Stage(cluster, Scene(cluster, observer, target, seconds, BY, writing.__contains__, time.time), writing)
    finally:
        if observing:
            observing.cancel()
            await asyncio.gather(observing, return_exceptions=True)
        await cluster.close()


async def _nobody(_: object) -> None:
    """Nobody keeps the history."""
