"""The two clusters that the suite runs on: the sandbox, and (marked e2e) a real Kubernetes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from chaosd.cluster import target as targets
from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import Change, ChangeKind, Cluster, Pod, StatefulSet, T
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.probe.protocol import Program
from chaosd.probe.session import Place
from tests import manifests
from tests.manifests import Document
from tests.real import RealCluster


class Harness(Protocol):
    """A cluster under test, and what the tests need of it beside the port."""

    cluster: Cluster
    namespace: str
    image: str
    agent_image: str
    storage_class: str
    patience_seconds: float

    @property
    def expands(self) -> bool: ...

    @property
    def deaf(self) -> dict[str, Any]: ...

    @property
    def bare_image(self) -> str: ...

    @property
    def bare(self) -> dict[str, Any]: ...

    async def apply(self, document: Document) -> None: ...


class SandboxHarness:
    """The embedded cluster."""

    namespace = "default"
    image = "nginx"
    agent_image = "python:3"
    bare_image = "noshell"
    storage_class = "alicloud-disk-ssd"
    expands = True
    deaf: ClassVar[dict[str, Any]] = {"image": "noterm"}
    bare: ClassVar[dict[str, Any]] = {"replicas": 1, "claim": False, "image": bare_image}
    patience_seconds = 180.0

    def __init__(self, cluster: SandboxCluster) -> None:
        self.cluster = cluster

    async def apply(self, document: Document) -> None:
        await self.cluster.apply([document])


class RealHarness:
    """A real Kubernetes. What the tests set up goes through kubectl, what they test through the adapter."""

    patience_seconds = 300.0
    deaf: ClassVar[dict[str, Any]] = {"command": ("sleep", "1000000")}

    def __init__(self, cluster: KubernetesCluster, real: RealCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.image, self.storage_class = real.image, real.storage_class
        self.agent_image = agent_image()
        self._real = real

    @property
    def bare_image(self) -> str:
        return self._real.bare_image

    @property
    def bare(self) -> dict[str, Any]:
        return {"replicas": 1, "claim": False, "image": self.bare_image}

    @property
    def expands(self) -> bool:
        """Whether the storage class lets claims grow."""
        return bool(self._real.get("storageclass", self.storage_class).get("allowVolumeExpansion"))

    async def apply(self, document: Document) -> None:
        await asyncio.to_thread(self._real.apply, document)


def agent_image() -> str:
    """An image with python3 that the real cluster has, or can pull."""
    default = "python:3-slim" if os.environ.get("KUBECONFIG") else "testbed.local/agent:1"
    return os.environ.get("CHAOSD_E2E_AGENT_IMAGE", default)


class Recording:
    """What a watch tells, kept in order."""

    def __init__(self, kind: type[Any], changes: AsyncIterator[Change]) -> None:
        self.kind = kind
        self.changes: list[Change] = []
        self._task = asyncio.create_task(self._record(changes))

    async def _record(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self.changes.append(change)

    @property
    def present(self) -> dict[str, Any]:
        """What is there, as far as it was told."""
        found: dict[str, Any] = {}
        for change in self.changes:
            if change.kind is ChangeKind.DELETED and change.object is not None:
                found.pop(change.object.name, None)
            elif change.object is not None:
                found[change.object.name] = change.object
        return found

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def first(self, matches: Callable[[Change], bool]) -> int:
        """The place of the first change that matches."""
        return next(place for place, change in enumerate(self.changes) if matches(change))


class World:
    """A harness, and the steps that many tests share."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.cluster = harness.cluster
        self.namespace = harness.namespace
        self._recordings: list[Recording] = []

    async def start(self, *, replicas: int = 1, ready: bool = True, bare: bool = False, **options: Any) -> None:
        """Apply the StatefulSet `web`, and wait until it has converged."""
        image = self.harness.bare_image if bare else self.harness.image
        common = {"namespace": self.namespace, "image": image, "storage_class": self.harness.storage_class}
        await self.harness.apply(manifests.statefulset(replicas=replicas, **{**common, **options}))
        if ready:
            await self.converged(replicas)

    async def place(self, *, path: str = "", program: Program | None = None, image: str = "") -> Place:
        """Where a probe of `web` works."""
        found = await self.cluster.get(StatefulSet, self.namespace, "web")
        target = targets.resolve(found, path=path, container="", require_claim=not path)
        return Place(target, ".chaosd", "01JD0000000000000000000000", "E00001.7", program, image)

    async def converged(self, replicas: int) -> None:
        """Exactly so many replicas, all Ready."""

        async def as_wanted() -> bool:
            pods = await self.cluster.list(Pod, self.namespace)
            return len(pods) == replicas and all(pod.ready and not pod.deleting for pod in pods)

        await self.until(as_wanted)
        await self.told()

    async def told(self) -> None:
        """The watches have told what is the case, which they do a moment later than lists."""

        async def all_told() -> bool:
            for recording in self._recordings:
                found = await self.cluster.list(recording.kind, self.namespace)
                if recording.present != {one.name: one for one in found}:
                    return False
            return True

        await self.until(all_told)

    async def scale(self, replicas: int) -> None:
        """Scale `web`, and wait until it has converged."""
        found = await self.cluster.get(StatefulSet, self.namespace, "web")
        await self.cluster.scale(self.namespace, "web", uid=found.uid, replicas=replicas, expected=found.replicas)
        await self.converged(replicas)

    async def replaced(self, pod: Pod) -> Pod:
        """The Ready pod that has this one's name and another UID."""
        found: list[Pod] = []

        async def there() -> bool:
            found[:] = [
                p
                for p in await self.cluster.list(Pod, self.namespace)
                if p.name == pod.name and p.uid != pod.uid and p.ready and not p.deleting
            ]
            return bool(found)

        await self.until(there)
        return found[0]

    async def until(self, holds: Callable[[], Any]) -> None:
        """Wait until it holds, as long as this cluster may take."""
        deadline = time.monotonic() + self.harness.patience_seconds
        while not await holds():
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.05)

    async def record(self, kind: type[T]) -> Recording:
        """Watch a kind from now on."""
        recording = Recording(kind, self.cluster.watch(kind, self.namespace))
        self._recordings.append(recording)

        async def synced() -> bool:
            return bool(recording.changes)

        await self.until(synced)
        return recording

    async def end(self) -> None:
        for recording in self._recordings:
            await recording.end()


@pytest.fixture(params=["sandbox", pytest.param("kubernetes", marks=[pytest.mark.e2e, pytest.mark.timeout(600)])])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A cluster with nothing of the test's in it yet."""
    if request.param == "sandbox":
        cluster: Any = await SandboxCluster.open(tmp_path)
        world = World(SandboxHarness(cluster))
    else:
        real = request.getfixturevalue("real")
        cluster = await KubernetesCluster.open(kubeconfig=real.path, qps=50, burst=100)
        world = World(RealHarness(cluster, real, request.getfixturevalue("real_namespace")))
    yield world
    await world.end()
    await cluster.close()
