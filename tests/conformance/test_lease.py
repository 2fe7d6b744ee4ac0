"""Leases: compare-and-swap, which the lock on a target stands on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.cluster.port import Lease
from chaosd.errors import ConflictError, NotFoundError
from tests.conformance.conftest import World


async def test_a_lease_is_created_once_and_replaced_only_at_its_version(world: World) -> None:
    wanted = Lease(world.namespace, "chaosd-web", "one", 15, 1_700_000_000.25, {"chaosd.io/undo": "{}"})
    with pytest.raises(NotFoundError):
        await world.cluster.get_lease(world.namespace, "chaosd-web")
    made = await world.cluster.put_lease(wanted)
    assert replace(made, version="") == wanted
    assert await world.cluster.get_lease(world.namespace, "chaosd-web") == made
    with pytest.raises(ConflictError):
        await world.cluster.put_lease(wanted)
    renewed = await world.cluster.put_lease(replace(made, renewed_at=1_700_000_001.0, annotations={}))
    assert (renewed.renewed_at, renewed.annotations) == (1_700_000_001.0, {})
    with pytest.raises(ConflictError):
        await world.cluster.put_lease(replace(made, holder="two"))
    with pytest.raises(ConflictError):
        await world.cluster.delete_lease(made)
    await world.cluster.delete_lease(renewed)
    with pytest.raises(NotFoundError):
        await world.cluster.delete_lease(renewed)


async def test_rights_are_asked_for(world: World) -> None:
    assert await world.cluster.allowed("update", "statefulsets.apps/scale", world.namespace)
    assert await world.cluster.allowed("list", "persistentvolumes", "")
