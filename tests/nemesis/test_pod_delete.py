"""`pod-delete`: which pods go, when, and that no others do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.cluster.port import Pod
from chaosd.cluster.sandbox import Timings
from chaosd.errors import BlockedError, DisruptionError, NotReadyError, RefusedError
from tests import manifests
from tests.nemesis.stage import Stage, spec, stage

SLOW = Timings(start=1.0)


def _replaced(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [name for name in after if after[name] != before[name]]


async def test_pods_that_are_picked_are_replaced_and_no_others() -> None:
    async with stage() as on:
        for fields, gone in (
            ({"pick": "lowest"}, ["web-0"]),
            ({"pick": "highest", "count": 2}, ["web-1", "web-2"]),
            ({"ordinals": [1]}, ["web-1"]),
            ({"count": "all", "grace": 0}, ["web-0", "web-1", "web-2"]),
        ):
            before = on.uids
            evidence = await on.done(spec("pod-delete", **fields))
            await on.converged(3)
            assert _replaced(before, on.uids) == gone
            assert evidence == {"gone": sorted(before[name] for name in gone)}


async def test_round_robin_takes_one_after_the_other() -> None:
    async with stage() as on:
        disruption = spec("pod-delete", pick="round-robin")
        taken = [on.prepared(disruption, turn=turn).takes for turn in range(4)]
        assert taken == [{"web-0"}, {"web-1"}, {"web-2"}, {"web-0"}]
        pairs = [sorted(on.prepared(spec("pod-delete", pick="round-robin", count=2), turn=t).takes) for t in range(2)]
        assert pairs == [["web-0", "web-1"], ["web-0", "web-2"]]


async def test_the_leader_is_who_has_the_label_when_it_comes_to_it() -> None:
    async with stage() as on:
        disruption = spec("pod-delete", pick="leader", leaderLabel="role=primary")
        with pytest.raises(NotReadyError, match="no one leader to disturb: no pod has the label role=primary"):
            on.prepared(disruption)
        await on.label("web-2", role="primary")
        before = on.uids
        await on.done(disruption)
        await on.converged(3)
        assert _replaced(before, on.uids) == ["web-2"]


async def test_of_two_leaders_none_is_deleted() -> None:
    async with stage() as on:
        await on.label("web-0", role="primary")
        await on.label("web-1", role="primary")
        with pytest.raises(NotReadyError, match="web-0, web-1 has the label"):
            on.prepared(spec("pod-delete", pick="leader", leaderLabel="role=primary"))


@pytest.mark.parametrize("fields", [{"pick": "leader"}, {"leaderLabel": "a=b"}, {"pick": "leader", "leaderLabel": "a"}])
def test_a_leader_without_a_label_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="leaderLabel"):
        spec("pod-delete", **fields)


async def test_a_pod_is_deleted_while_it_is_written_to() -> None:
    async with stage() as on:
        before = on.uids
        doing = asyncio.create_task(on.done(spec("pod-delete", when="writing", pick="lowest")))
        await asyncio.sleep(0.1)
        assert on.uids == before
        on.writing.add("default/web-0")
        assert (await doing)["writing"] == ["default/web-0"]
        await on.converged(3)
        assert _replaced(before, on.uids) == ["web-0"]


async def test_a_pod_that_nobody_writes_to_is_left() -> None:
    async with stage(seconds=0.1) as on:
        before = on.uids
        with pytest.raises(BlockedError, match=r"for a write to default/web-0: give the experiment files") as caught:
            await on.done(spec("pod-delete", when="writing", pick="lowest"))
        assert caught.value.reason == "not_ready"
        assert on.uids == before


async def test_a_replacement_is_deleted_while_it_mounts() -> None:
    async with stage(timings=SLOW) as on:
        before = on.uids
        evidence = await on.done(spec("pod-delete", when="mounting", pick="highest"))
        (again,) = evidence["mounting"]
        assert (again["replica"], again["node"] != "") == ("default/web-2", True)
        await on.converged(3)
        assert on.uids["web-2"] not in (before["web-2"], again["uid"])
        assert evidence["gone"] == [before["web-2"]]


async def test_a_replacement_that_runs_already_was_not_deleted_while_it_mounted() -> None:
    async with stage() as on:
        _ready_at_once(on)
        with pytest.raises(DisruptionError, match="its replacement ran before it could be, too"):
            await on.done(spec("pod-delete", when="mounting", pick="highest"))


async def test_another_pod_is_deleted_while_one_starts() -> None:
    async with stage(timings=SLOW) as on:
        before = on.uids
        evidence = await on.done(spec("pod-delete", when="another-starting", pick="lowest"))
        await on.converged(3)
        first, other = _replaced(before, on.uids)
        assert evidence["starting"] == [{"replica": "default/web-0", "uid": on.uids["web-0"]}]
        assert first == "web-0"
        assert evidence["gone"] == sorted([before["web-0"], before[other]])


async def test_what_the_api_server_refuses_is_blocked_and_in_part_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as on:
        delete, before = on.cluster.delete_pod, on.uids

        async def denied(namespace: str, name: str, **how: Any) -> None:
            if name == "web-0":
                raise RefusedError("admission webhook denied the request")
            await delete(namespace, name, **how)

        monkeypatch.setattr(on.cluster, "delete_pod", denied)
        with pytest.raises(BlockedError, match="web-0 cannot be deleted: admission webhook denied") as caught:
            await on.done(spec("pod-delete", ordinals=[0]))
        assert (caught.value.reason, on.uids) == ("refused", before)
        with pytest.raises(BlockedError, match="web-0 cannot be deleted: admission webhook denied"):
            await on.done(spec("pod-delete", ordinals=[0, 1]))  # it is asked for all of them first
        assert on.uids == before

        async def denied_late(namespace: str, name: str, *, dry_run: bool = False, **how: Any) -> None:
            await (delete if dry_run else denied)(namespace, name, dry_run=dry_run, **how)

        monkeypatch.setattr(on.cluster, "delete_pod", denied_late)
        with pytest.raises(DisruptionError, match="done in part, 1 of 2 failed: web-0 cannot be deleted"):
            await on.done(spec("pod-delete", ordinals=[0, 1]))


async def test_a_lone_pod_has_no_other_that_could_be_deleted() -> None:
    async with stage(manifests.statefulset(replicas=1)) as on:
        with pytest.raises(NotReadyError, match="no other pod"):
            on.prepared(spec("pod-delete", when="another-starting"))


def _ready_at_once(on: Stage) -> None:
    """From now on pods are Ready when they are made."""

    def ready(pod: Pod) -> Pod:
        return pod if pod.ready or pod.deleting else replace(pod, phase="Running", ready=True, ready_at=0.0)

    on.cluster.tamper(Pod, ready)
