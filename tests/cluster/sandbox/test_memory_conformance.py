"""The sandbox in memory, held to the same conformance as the one of folders and the real Kubernetes, except for what needs
programs other than the probe."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import pytest

from chaosd.cluster.sandbox import SandboxCluster
from tests.conformance.conftest import SandboxHarness, World
from tests.conformance.test_clocks_and_room import *  # noqa: F403
from tests.conformance.test_disruptions import *  # noqa: F403
from tests.conformance.test_ephemeral import (  # noqa: F401
    test_it_is_bound_to_the_uid_of_the_pod,
    test_the_agent_does_not_hold_up_the_pods_deletion,
    test_the_agent_writes_and_reads_cold_beside_a_container_without_a_shell,
    test_the_agents_container_is_used_again,
    test_what_the_api_server_refuses,
    test_without_an_image_a_container_without_a_shell_is_refused_with_the_mend,
)
from tests.conformance.test_events import *  # noqa: F403
from tests.conformance.test_exec import (  # noqa: F401
    test_a_container_without_a_shell_cannot_run_the_probe,
    test_no_such_pod_and_no_such_container,
    test_no_such_program_is_refused,
    test_the_probe_sees_the_pod_that_it_is_in,
    test_what_the_probe_stored_is_there_after_the_pod_was_replaced,
)
from tests.conformance.test_lease import *  # noqa: F403
from tests.conformance.test_statefulset import *  # noqa: F403


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A cluster in memory, in real time, as the tests of conformance measure it."""
    cluster = await SandboxCluster.in_memory(rng=random.Random(1), clock=time.time)
    world = World(SandboxHarness(cluster))
    yield world
    await world.end()
    await cluster.close()
