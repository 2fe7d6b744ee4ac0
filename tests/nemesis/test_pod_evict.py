"""`pod-evict`: pods go as budgets allow, and a budget that never allows it is named."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from chaosd.cluster.port import Budget
from chaosd.errors import BlockedError, DeadlineError
from tests import manifests
from tests.chaosd_process import chaosd
from tests.nemesis.stage import Stage, spec, stage


async def _fewest_ready(on: Stage) -> int:
    """How few pods were Ready at once, until it is cancelled; no more than there are."""
    fewest = len(on.uids)
    with suppress(asyncio.CancelledError):
        while True:
            ready = sum(1 for pod in on.view.pods.values() if pod.ready and not pod.deleting)
            fewest = min(fewest, ready)
            await asyncio.sleep(0.001)
    return fewest


async def test_pods_are_evicted_one_after_the_other_and_a_budget_holds() -> None:
    async with stage(manifests.statefulset(replicas=3), manifests.budget(min_available=2)) as on:
        before, watching = on.uids, asyncio.create_task(_fewest_ready(on))
        evidence = await on.done(spec("pod-evict", count="all"))
        await on.converged(3)
        watching.cancel()
        assert evidence["gone"] == sorted(before.values())
        assert set(on.uids.values()) & set(before.values()) == set()
        assert await watching == 2
        told = evidence["evictions"]
        assert [one["replica"] for one in told] == ["default/web-0", "default/web-1", "default/web-2"]
        assert (told[0]["attempts"], told[1]["attempts"] > 1) == (1, True)


async def test_a_budget_that_can_never_be_met_is_named_and_nobody_waits() -> None:
    async with stage(manifests.statefulset(replicas=3), manifests.budget(name="web", min_available="100%")) as on:
        before = on.uids
        with pytest.raises(BlockedError, match=r"default/web wants 3 healthy pods of 3, so it never allows one") as caught:
            async with asyncio.timeout(30):
                await on.done(spec("pod-evict"))
        assert caught.value.reason == "budget"
        assert on.uids == before


async def test_a_budget_that_refuses_until_the_end_of_patience_is_named() -> None:
    async with stage(manifests.statefulset(replicas=3), manifests.budget(min_available=2)) as on:
        await on.cluster.delete_pod("default", "web-0", uid=on.uids["web-0"])
        on.cluster.tamper(type(on.view.pods["web-1"]), lambda pod: pod if pod.name != "web-0" or not pod.ready else None)
        with suppress(DeadlineError):
            await on.scene.observer.wait(lambda view: None if view.pods["web-0"].ready else True, 2, "web-0 to go")
        before = on.uids
        with pytest.raises(BlockedError, match=r"Budget web allowed no eviction of default/web-2 within 0.5 s"):
            await on.done(spec("pod-evict", ordinals=[2], patience="500ms"))
        assert on.uids["web-2"] == before["web-2"]


async def test_budgets_of_other_pods_are_not_asked() -> None:
    other = manifests.statefulset(name="other", replicas=1)
    async with stage(manifests.statefulset(replicas=2), other, manifests.budget(name="other", min_available=1)) as on:
        assert [budget.name for budget in await on.cluster.list(Budget, "default")] == ["other"]
        before = on.uids
        await on.done(spec("pod-evict", pick="highest"))
        await on.converged(2)
        assert on.uids["web-1"] != before["web-1"]


def test_a_run_whose_budget_allows_nothing_says_so_and_ends(tmp_path: Path) -> None:
    documents = [manifests.statefulset(replicas=2), manifests.budget(min_available=2)]
    (tmp_path / "target.yaml").write_text(yaml.safe_dump_all(documents))
    document = {
        "name": "budgeted",
        "target": {"statefulset": "web", "manifest": "target.yaml"},
        "rounds": 1,
        "disruptions": [{"kind": "pod-evict"}],
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(document))
    done = chaosd("run", tmp_path / "experiment.yaml", "--cluster", "sandbox", "--out", tmp_path / "out", "--seed", "1")
    assert done.code == 3, done.told
    assert "PodDisruptionBudget default/web wants 2 healthy pods of 2" in done.told
    assert done.verdict["coverage"]["disruptions_not_done"] == {"pod-evict": 1}
