"""What a cluster tells of its clocks, and of the room on its volumes."""

from __future__ import annotations

import pytest

from chaosd.cluster.port import Node, Room
from chaosd.errors import NotFoundError
from tests.conformance.conftest import World


async def test_the_servers_clock_goes_on_in_whole_seconds(world: World) -> None:
    first = await world.cluster.clock()

    async def later() -> bool:
        return await world.cluster.clock() > first

    await world.until(later)
    assert first == int(first) > 1_600_000_000


async def test_every_nodes_clock_is_told_and_no_others(world: World) -> None:
    for node in await world.cluster.list(Node, ""):

        async def right(name: str = node.name) -> bool:
            """All run on one machine; but a Lease that took long to be stored tells of a clock that is behind."""
            return abs(await world.cluster.node_clock(name)) <= 2

        await world.until(right)
    with pytest.raises(NotFoundError):
        await world.cluster.node_clock("absent")


async def test_room_is_told_of_claims_by_their_whole_names(world: World) -> None:
    for node in await world.cluster.list(Node, ""):
        for claim, room in (await world.cluster.volume_room(node.name)).items():
            assert claim.count("/") == 1
            assert isinstance(room, Room)
            assert room.bytes >= 0
