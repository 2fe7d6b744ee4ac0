"""`scale-flap`: down and up again before the way down has ended, and what is left of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.cluster.port import StatefulSet
from chaosd.cluster.sandbox import Timings
from chaosd.errors import ConflictError, NotReadyError
from tests import manifests
from tests.nemesis.stage import Stage, spec, stage

SLOW = Timings(start=0.02, stop=1.0)


async def _replicas(on: Stage) -> int:
    return (await on.cluster.get(StatefulSet, "default", "web")).replicas


async def test_it_scales_up_while_pods_are_on_their_way_out() -> None:
    async with stage(timings=SLOW) as on:
        before = on.uids
        evidence = await on.done(spec("scale-flap", to=1, times=2))
        assert (evidence["from"], evidence["to"], len(evidence["flaps"])) == (3, 1, 2)
        assert evidence["flaps"][0] == {"leaving": ["web-2"], "still_there": ["web-1", "web-2"]}
        await on.converged(3)
        assert await _replicas(on) == 3
        assert on.uids["web-0"] == before["web-0"]
        assert on.uids["web-2"] != before["web-2"]


async def test_its_undo_restores_the_count_and_may_be_repeated() -> None:
    async with stage() as on:
        undo = on.prepared(spec("scale-flap", to=0)).undo
        await on.scaled(0)
        assert "scaled from 0 back to 3" in await on.healed(undo)
        assert "has its 3 replicas" in await on.healed(undo)
        assert await _replicas(on) == 3


async def test_a_count_that_somebody_else_wrote_is_left() -> None:
    async with stage() as on:
        undo = on.prepared(spec("scale-flap", to=0)).undo
        await on.scaled(5)
        with pytest.raises(ConflictError, match="somebody else scaled it"):
            await on.healed(undo)
        assert await _replicas(on) == 5


async def test_it_is_blocked_where_claims_go_with_their_replicas_and_where_nothing_is_to_go() -> None:
    async with stage(manifests.statefulset(replicas=2, when_scaled="Delete")) as on:
        with pytest.raises(NotReadyError, match="whenScaled: Delete"):
            on.prepared(spec("scale-flap", to=1))
    async with stage() as on:
        with pytest.raises(NotReadyError, match="no way down"):
            on.prepared(spec("scale-flap", to=3))


async def test_a_target_that_is_gone_has_no_count_to_restore() -> None:
    async with stage() as on:
        undo = on.prepared(spec("scale-flap", to=0)).undo
        on.cluster.store.remove(replace(on.cluster.store.get(StatefulSet, "default", "web")))
        assert "is gone" in await on.healed(undo)
