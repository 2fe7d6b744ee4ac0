"""A sandbox in memory, in virtual time, with a StatefulSet on it and probes in its pods."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from chaosd import virtual_time
from chaosd.cluster import target as targets
from chaosd.cluster.port import Attachment, Claim, Pod, StatefulSet, Volume
from chaosd.cluster.sandbox import MemoryDisk, SandboxCluster, Timings
from chaosd.probe.session import Place, Session, open_session
from tests import manifests

FILES = {f"{n:08d}": bytes([n]) * 8192 for n in range(1, 21)}


class Simulated:
    """The cluster, and the steps that many tests share."""

    def __init__(self, cluster: SandboxCluster, clock: virtual_time.WallClock) -> None:
        self.cluster = cluster
        self.store = cluster.store
        self.clock = clock

    async def apply(self, replicas: int = 1, *, ready: bool = True, **options: Any) -> None:
        """Apply the StatefulSet `web`, and wait until it has converged."""
        await self.cluster.apply([manifests.statefulset(replicas=replicas, **options)])
        if ready:
            await self.ready(replicas)

    async def ready(self, replicas: int) -> None:
        """Wait for so many pods, all Ready."""
        await self.until(lambda: [p.ready and not p.deleting for p in self.store.all(Pod)] == [True] * replicas)

    async def scale(self, replicas: int) -> None:
        """Scale, and wait."""
        found = self.store.get(StatefulSet, "default", "web")
        await self.cluster.scale("default", "web", uid=found.uid, replicas=replicas, expected=found.replicas)
        await self.ready(replicas)

    async def delete(self, ordinal: int = 0, *, force: bool = False) -> Pod:
        """Delete a pod, wait for the one in its place, and return that."""
        pod = self.pod(ordinal)
        await self.cluster.delete_pod("default", pod.name, uid=pod.uid, grace_seconds=0 if force else None)
        return await self.replaced(pod)

    async def replaced(self, pod: Pod) -> Pod:
        """The Ready pod of this one's name with another UID."""

        def there() -> bool:
            found = self.store.find(Pod, "default", pod.name)
            return found is not None and found.uid != pod.uid and found.ready

        await self.until(there)
        return self.store.get(Pod, "default", pod.name)

    async def until(self, holds: Callable[[], object], seconds: float = 60) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    def pod(self, ordinal: int = 0) -> Pod:
        return self.store.get(Pod, "default", f"web-{ordinal}")

    def claim(self, ordinal: int = 0) -> Claim:
        return self.store.get(Claim, "default", f"disk-web-{ordinal}")

    def volume(self, ordinal: int = 0) -> Volume:
        return self.store.get(Volume, "", self.claim(ordinal).volume)

    def attachment(self, ordinal: int = 0) -> Attachment:
        (found,) = (a for a in self.store.all(Attachment) if a.volume == self.claim(ordinal).volume)
        return found

    def disk(self, ordinal: int = 0) -> MemoryDisk:
        return self.cluster.disk("default", f"disk-web-{ordinal}")

    @asynccontextmanager
    async def session(self, ordinal: int = 0, **place: Any) -> AsyncIterator[Session]:
        """A probe in a pod; its folders are made."""
        found = await self.cluster.get(StatefulSet, "default", "web")
        target = targets.resolve(found, path="/data", container="", require_claim=False)
        there = replace(Place(target, ".chaosd", "01JD0000000000000000000000", "e1"), **place)
        async with open_session(self.cluster, there, f"web-{ordinal}", 30.0) as session:
            await session.begin(f'{{"replica":{ordinal}}}'.encode())
            yield session

    async def stored(self, ordinal: int = 0) -> None:
        """Store files in a pod."""
        async with self.session(ordinal) as session:
            assert (await session.store(FILES)).durable == FILES.keys()

    async def found(self, ordinal: int = 0) -> dict[str, bytes]:
        """What is there of them, read cold."""
        async with self.session(ordinal) as session:
            names = [name for name in await session.names() if name != "stage"]
            return {name: (await session.fetch(name, 8192))[0] for name in names}


def simulated(test: Callable[[Simulated], Awaitable[None]], *, seed: int = 1, nodes: int = 2, **timings: float) -> None:
    """Run a test in virtual time."""

    async def main() -> None:
        clock = virtual_time.WallClock()
        rng = random.Random(seed)
        cluster = await SandboxCluster.in_memory(rng=rng, clock=clock, timings=Timings(**timings), nodes=nodes)
        try:
            await test(Simulated(cluster, clock))
        finally:
            await cluster.close()

    virtual_time.run(main())
