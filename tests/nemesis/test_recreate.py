"""`recreate`: the StatefulSet is another, everything else the same; and however it ends, there is one afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from chaosd.cluster.port import Claim, StatefulSet
from chaosd.errors import BlockedError, ConflictError, NotFoundError, NotReadyError, RefusedError
from tests.nemesis.stage import Stage, spec, stage

CONFIG = "chaosd-web-manifest"


def _recreate(deletion: str = "orphan"):  # type: ignore[no-untyped-def]
    return spec("recreate", deletion=deletion, mayDelete=True)


def _claims(on: Stage) -> dict[str, str]:
    return {claim.name: claim.uid for claim in on.cluster.store.all(Claim)}


async def _statefulset(on: Stage) -> StatefulSet:
    return await on.cluster.get(StatefulSet, "default", "web")


async def test_orphaned_pods_stay_and_are_adopted() -> None:
    async with stage() as on:
        uids, claims, was, disruption = on.uids, _claims(on), await _statefulset(on), _recreate()
        prepared = on.prepared(disruption)
        assert (prepared.deletes, prepared.takes) == ((), frozenset())
        evidence = await disruption.invoke(on.scene, prepared)
        now = await _statefulset(on)
        assert evidence == {"uid": {"was": was.uid, "is": now.uid}, "pods_kept": ["web-0", "web-1", "web-2"]}
        assert (on.uids, _claims(on)) == (uids, claims)
        assert {pod.controller_uid for pod in on.view.pods.values()} == {now.uid}
        await on.healed(prepared.undo)
        with pytest.raises(NotFoundError):
            await on.cluster.get_config("default", CONFIG)


async def test_with_foreground_deletion_the_pods_go_first_and_the_claims_stay() -> None:
    async with stage() as on:
        uids, claims, was, disruption = on.uids, _claims(on), await _statefulset(on), _recreate("foreground")
        prepared = on.prepared(disruption)
        assert [one["uid"] for one in prepared.deletes] == list(uids.values())
        evidence = await disruption.invoke(on.scene, prepared)
        now = await _statefulset(on)
        assert evidence == {"uid": {"was": was.uid, "is": now.uid}, "pods_kept": []}
        assert (now.replicas, now.labels, now.selector) == (was.replicas, was.labels, was.selector)
        assert not set(uids.values()) & set(on.uids.values())
        assert _claims(on) == claims


async def test_it_is_made_again_from_the_cluster_alone() -> None:
    """chaosd dies when it has deleted the StatefulSet."""
    async with stage() as on:
        undo, was = on.prepared(_recreate()).undo, await _statefulset(on)
        assert undo is not None
        await _stored(on, undo)
        await on.cluster.delete_statefulset("default", "web", uid=was.uid, orphan=False)
        assert "was created again from ConfigMap" in await on.healed(undo)
        await on.converged(3)
        assert (await _statefulset(on)).uid != was.uid
        assert "is there" in await on.healed(undo)
        with pytest.raises(NotFoundError):
            await on.cluster.get_config("default", CONFIG)


async def test_one_that_was_not_deleted_yet_stays() -> None:
    async with stage() as on:
        undo, was = on.prepared(_recreate()).undo, await _statefulset(on)
        assert undo is not None
        await _stored(on, undo)
        assert "is there" in await on.healed(undo)
        assert (await _statefulset(on)).uid == was.uid


async def test_one_that_somebody_else_took_away_with_its_manifest_is_left() -> None:
    async with stage() as on:
        undo, was = on.prepared(_recreate()).undo, await _statefulset(on)
        await on.cluster.delete_statefulset("default", "web", uid=was.uid, orphan=True)
        with pytest.raises(ConflictError, match="somebody else took both away"):
            await on.healed(undo)


async def test_a_manifest_that_a_dead_run_left_is_replaced_and_somebody_elses_is_not() -> None:
    async with stage() as on:
        await on.cluster.create(_config({"manifest": "{}", "uid": "older"}))
        await on.done(_recreate())
        assert (await on.cluster.get_config("default", CONFIG))["uid"] != "older"
        left = await on.cluster.get_config("default", CONFIG)
        await on.cluster.delete_config("default", CONFIG, expected=left)
        await on.cluster.create(_config({"theirs": "1"}))
        was = await _statefulset(on)
        with pytest.raises(ConflictError, match="is not chaosd's"):
            await on.done(_recreate())
        assert (await _statefulset(on)).uid == was.uid


async def test_nothing_is_deleted_that_could_not_be_created_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as on:
        was, create = await _statefulset(on), on.cluster.create

        async def denied(document: Mapping[str, Any], *, dry_run: bool = False) -> None:
            if document["kind"] == "StatefulSet":
                assert dry_run
                raise RefusedError("admission webhook denied the request: not on Fridays")
            await create(document, dry_run=dry_run)

        monkeypatch.setattr(on.cluster, "create", denied)
        with pytest.raises(BlockedError, match=r"could not be created again: .*not on Fridays"):
            await on.done(_recreate())
        assert (await _statefulset(on)).uid == was.uid
        with pytest.raises(NotFoundError):
            await on.cluster.get_config("default", CONFIG)


async def test_who_changes_it_meanwhile_keeps_his_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as on:
        was, create = await _statefulset(on), on.cluster.create

        async def and_then_annotated(document: Mapping[str, Any], *, dry_run: bool = False) -> None:
            await create(document, dry_run=dry_run)
            await on.cluster.annotate(StatefulSet, "default", "web", {"mine": "1"})

        monkeypatch.setattr(on.cluster, "create", and_then_annotated)
        with pytest.raises(ConflictError, match="not any more what it was"):
            await on.done(_recreate())
        now = await _statefulset(on)
        assert (now.uid, now.annotations) == (was.uid, {"mine": "1"})


async def test_what_is_owned_and_what_takes_its_claims_along_is_refused() -> None:
    async with stage() as on:
        was = await _statefulset(on)
        await on.put(replace(was, owner="Database/shop"))
        with pytest.raises(NotReadyError, match="belongs to Database/shop"):
            on.prepared(_recreate())
        await on.put(replace(was, retention_when_deleted="Delete"))
        with pytest.raises(NotReadyError, match="whenDeleted: Delete"):
            on.prepared(_recreate())


def test_it_must_be_allowed_in_so_many_words() -> None:
    for fields in ({}, {"mayDelete": False}):
        with pytest.raises(ValidationError, match="mayDelete"):
            spec("recreate", deletion="orphan", **fields)


async def _stored(on: Stage, undo: object) -> None:
    from chaosd.nemesis import recreate

    manifest = await on.cluster.manifest("default", "web")
    await recreate._store(on.cluster, undo, manifest, 5.0)  # type: ignore[arg-type]


def _config(data: dict[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": CONFIG}, "data": data}
