"""Watches that are shared, held to the same conformance as others. Each test's own subscribers come late: others listen
already."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import ClusterEvent, Pod, StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.cluster.shared_watches import sharing_watches
from tests.conformance.conftest import RealHarness, Recording, SandboxHarness, World
from tests.conformance.test_disruptions import (  # noqa: F401
    test_a_foreground_deletion_takes_the_pods_and_a_new_statefulset_finds_the_claims,
    test_a_restart_replaces_all_pods_from_the_highest_each_ready_before_the_next,
)
from tests.conformance.test_events import *  # noqa: F403
from tests.conformance.test_statefulset import *  # noqa: F403


@pytest.fixture(params=["sandbox", pytest.param("kubernetes", marks=[pytest.mark.e2e, pytest.mark.timeout(600)])])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A cluster in memory, in real time, or a real one."""
    async with AsyncExitStack() as held:
        if request.param == "sandbox":
            sandbox = await SandboxCluster.in_memory(rng=random.Random(1), clock=time.time)
            held.push_async_callback(sandbox.close)
            harness: SandboxHarness | RealHarness = SandboxHarness(sandbox)
        else:
            real = request.getfixturevalue("real")
            kubernetes = await KubernetesCluster.open(kubeconfig=real.path, qps=50, burst=100)
            held.push_async_callback(kubernetes.close)
            harness = RealHarness(kubernetes, real, request.getfixturevalue("real_namespace"))
        world = World(harness)
        world.cluster = await held.enter_async_context(sharing_watches(harness.cluster))
        held.push_async_callback(world.end)
        others = [Recording(kind, world.cluster.watch(kind, world.namespace)) for kind in (Pod, StatefulSet, ClusterEvent)]
        for other in others:
            held.push_async_callback(other.end)

        async def others_listen() -> bool:
            return all(other.changes for other in others)

        await world.until(others_listen)
        yield world
