"""`node-drain`: the target's pods leave the node, budgets hold, and only chaosd's own cordon is lifted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.cluster.port import Pod
from chaosd.errors import BlockedError, ConflictError, NotReadyError
from tests import manifests
from tests.nemesis.stage import BY, spec, stage


async def test_the_targets_pods_leave_the_node_and_come_back_elsewhere() -> None:
    other = manifests.statefulset(name="other", replicas=2, claim=False)
    async with stage(manifests.statefulset(replicas=3), other) as on:
        node, before = on.view.pods["web-0"].node, on.uids
        there = [name for name, pod in on.view.pods.items() if pod.node == node]
        others = {pod.uid for pod in on.cluster.store.all(Pod) if pod.name.startswith("other")}
        disruption = spec("node-drain", ordinal=0)
        prepared = on.prepared(disruption)
        evidence = await disruption.invoke(on.scene, prepared)
        await on.converged(3)
        assert evidence["gone"] == sorted(before[name] for name in there)
        assert set(evidence["moved"]) == set(there)
        assert node not in {pod.node for pod in on.view.pods.values()}
        assert {pod.uid for pod in on.cluster.store.all(Pod) if pod.name.startswith("other")} == others
        assert (on.node(node).unschedulable, on.node(node).cordoned_by) == (True, BY)
        await on.healed(prepared.undo)
        assert (on.node(node).unschedulable, on.node(node).cordoned_by) == (False, "")


async def test_pods_that_fit_nowhere_else_stay_pending_until_it_is_undone() -> None:
    async with stage(nodes=1) as on:
        disruption = spec("node-drain")
        prepared = on.prepared(disruption)
        evidence = await disruption.invoke(on.scene, prepared)
        assert (evidence["moved"], evidence["pending"]) == ({}, ["web-0"])
        await on.healed(prepared.undo)
        await on.converged(3)


async def test_a_node_that_somebody_cordoned_is_left() -> None:
    async with stage() as on:
        node = on.node(on.view.pods["web-0"].node)
        await on.put(replace(node, unschedulable=True))
        with pytest.raises(NotReadyError, match="is cordoned already: uncordon it first"):
            on.prepared(spec("node-drain", ordinal=0))


async def test_a_cordon_that_somebody_else_set_meanwhile_is_never_lifted() -> None:
    async with stage() as on:
        undo = on.prepared(spec("node-drain", ordinal=0)).undo
        assert undo is not None
        for by in ("", "another"):
            await on.put(replace(on.node(undo["node"]), unschedulable=True, cordoned_by=by))
            with pytest.raises(ConflictError):
                await on.healed(undo)
            assert on.node(undo["node"]).unschedulable


async def test_a_node_that_is_gone_has_no_cordon_to_lift() -> None:
    async with stage() as on:
        undo = on.prepared(spec("node-drain", ordinal=0)).undo
        assert undo is not None
        assert "gone" in await on.healed({**undo, "node": "nowhere"})


async def test_a_budget_that_allows_nothing_blocks_it_and_the_undo_lifts_the_cordon() -> None:
    async with stage(manifests.statefulset(replicas=2), manifests.budget(min_available=2)) as on:
        disruption, before = spec("node-drain"), on.uids
        prepared = on.prepared(disruption)
        with pytest.raises(BlockedError, match="PodDisruptionBudget default/web wants 2 healthy pods of 2") as caught:
            await disruption.invoke(on.scene, prepared)
        assert (caught.value.reason, on.uids) == ("budget", before)
        await on.healed(prepared.undo)
        assert not any(node.unschedulable for node in on.view.all_nodes.values())
