"""The watches of a hundred targets in one process, each with its own or all shared: what their observers take."""

from __future__ import annotations

import asyncio
import copy
import gc
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, cast

from benchmarks.figure import Figure
from chaosd import virtual_time
from chaosd.cluster import target as targets
from chaosd.cluster.observer import Observer
from chaosd.cluster.port import TARGET_LABEL, Change, Cluster, Pod, StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.cluster.shared_watches import sharing_watches
from chaosd.history import Event

_TARGETS, _REPLICAS, _NAMESPACE = 100, 3, "default"
_NONE, _OWN, _SHARED = "none", "own", "shared"


def measure() -> Iterator[Figure]:
    """What the observers take of CPU and memory when watches are shared, of what they take when they are not."""
    nothing, own, shared = _Cost.of(_NONE), _Cost.of(_OWN), _Cost.of(_SHARED)
    own_seconds, shared_seconds = own.seconds - nothing.seconds, shared.seconds - nothing.seconds
    own_bytes, shared_bytes = own.bytes - nothing.bytes, shared.bytes - nothing.bytes
    what = f"of {_TARGETS} targets x {_REPLICAS} in one namespace, that is of their own"
    told = "to list everything and to see every pod replaced once"
    seconds = f"{shared_seconds:.2f} s instead of {own_seconds:.2f} s, {told}"
    yield Figure(f"CPU of shared watches {what}", shared_seconds / own_seconds, "times", seconds, at_most=1)
    size = f"{shared_bytes / 1e6:.1f} MB instead of {own_bytes / 1e6:.1f} MB, {shared.watches} watches, not {own.watches}"
    yield Figure(f"memory of shared watches {what}", shared_bytes / own_bytes, "times", size, at_most=1)


@dataclass(frozen=True)
class _Cost:
    seconds: float
    bytes: int
    watches: int

    @staticmethod
    def of(how: str) -> _Cost:
        began = time.process_time()
        watches, _ = virtual_time.run(_observed(how))
        seconds = time.process_time() - began
        tracemalloc.start()
        _, taken = virtual_time.run(_observed(how))
        tracemalloc.stop()
        return _Cost(seconds, taken, watches)


class _Copying:
    """A cluster whose watches make objects of their own, as each watch of an API server parses them."""

    def __init__(self, inner: Cluster) -> None:
        self.watches = 0
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def watch(self, kind: Any, namespace: str) -> AsyncIterator[Change]:
        self.watches += 1
        async for change in self._inner.watch(kind, namespace):
            yield Change(change.kind, copy.deepcopy(change.object))


async def _observed(how: str) -> tuple[int, int]:
    """How many watches were opened, and bytes that are held in the end."""
    clock = virtual_time.WallClock()
    sandbox = await SandboxCluster.in_memory(rng=random.Random(1), clock=clock)
    async with AsyncExitStack() as held:
        held.push_async_callback(sandbox.close)
        await sandbox.apply([_statefulset(number) for number in range(_TARGETS)])
        await _until_ready(sandbox)
        copying = _Copying(sandbox)
        cluster = cast(Cluster, copying)
        if how == _SHARED:
            cluster = await held.enter_async_context(sharing_watches(cluster))
        observers = [] if how == _NONE else [await _observer(sandbox, cluster, number) for number in range(_TARGETS)]
        running = [asyncio.create_task(observer.run()) for observer in observers]
        for observer in observers:
            await observer.synced(60)
        for pod in await sandbox.list(Pod, _NAMESPACE):
            await sandbox.delete_pod(_NAMESPACE, pod.name, uid=pod.uid)
        await asyncio.sleep(60)
        await _until_ready(sandbox)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
        assert all(len(observer.view.pods) == _REPLICAS for observer in observers)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return copying.watches, taken


async def _observer(sandbox: SandboxCluster, cluster: Cluster, number: int) -> Observer:
    statefulset = await sandbox.get(StatefulSet, _NAMESPACE, f"web{number}")
    target = targets.resolve(statefulset, path="", container="", require_claim=True)
    return Observer(cluster, target, _sink)


async def _sink(events: list[Event]) -> None:
    """Nothing is kept: the ledger is not what is measured."""


async def _until_ready(sandbox: SandboxCluster) -> None:
    while any(found.ready_replicas < _REPLICAS for found in await sandbox.list(StatefulSet, _NAMESPACE)):  # noqa: ASYNC110
        await asyncio.sleep(1)


def _statefulset(number: int) -> dict[str, Any]:
    name = f"web{number}"
    labels = {"app": name}
    container = {"name": "server", "image": "server", "volumeMounts": [{"name": "disk", "mountPath": "/data"}]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "serviceName": name,
        "replicas": _REPLICAS,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        "volumeClaimTemplates": [{"metadata": {"name": "disk"}, "spec": claim}],
    }
    meta = {"name": name, "namespace": _NAMESPACE, "labels": {TARGET_LABEL: "true"}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}
