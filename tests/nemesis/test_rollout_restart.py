"""`rollout-restart`: every pod that the controller may replace is replaced, and the evidence tells which it may not."""

from __future__ import annotations

from typing import Any

import pytest

from chaosd.errors import NotReadyError
from tests import manifests
from tests.nemesis.stage import spec, stage


def _with(strategy: dict[str, Any], replicas: int = 3) -> dict[str, Any]:
    document = manifests.statefulset(replicas=replicas)
    document["spec"]["updateStrategy"] = strategy
    return document


async def test_every_pod_is_updated_and_ready() -> None:
    async with stage() as on:
        before = on.uids
        assert on.view.statefulset is not None
        was = on.view.statefulset.update_revision
        evidence = await on.done(spec("rollout-restart"))
        now = on.view.statefulset
        assert {pod.revision for pod in on.view.pods.values()} == {now.update_revision} == {now.current_revision}
        assert not set(before.values()) & set(on.uids.values())
        assert evidence["revision"] == {"was": was, "is": now.update_revision}
        assert (evidence["restarted"], evidence["held_back"]) == (["web-0", "web-1", "web-2"], 0)


async def test_it_can_be_done_again() -> None:
    async with stage(manifests.statefulset(replicas=1)) as on:
        revisions = [(await on.done(spec("rollout-restart")))["revision"] for _ in range(2)]
        assert revisions[0]["is"] == revisions[1]["was"] != revisions[1]["is"]


async def test_a_partition_holds_pods_back_and_the_evidence_tells_how_many() -> None:
    async with stage(_with({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}})) as on:
        before = on.uids
        evidence = await on.done(spec("rollout-restart"))
        await on.converged(3)
        assert (evidence["restarted"], evidence["held_back"]) == (["web-2"], 2)
        assert [name for name in before if on.uids[name] != before[name]] == ["web-2"]


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ({"type": "OnDelete"}, "updateStrategy OnDelete: no rollout replaces its pods"),
        ({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}, "partition 3 keeps all 3 pods as they are"),
    ],
)
async def test_it_is_blocked_where_no_pod_would_be_replaced(strategy: dict[str, Any], told: str) -> None:
    async with stage(_with(strategy)) as on:
        with pytest.raises(NotReadyError, match=told):
            on.prepared(spec("rollout-restart"))
