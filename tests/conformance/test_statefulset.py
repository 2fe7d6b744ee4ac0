"""What a StatefulSet promises, seen through the port: the sandbox must keep to it as the real controllers do.

Source: Kubernetes docs, "StatefulSets" (Deployment and Scaling Guarantees, Stable Storage, PVC retention).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaosd.cluster.port import Attachment, Change, ChangeKind, Claim, Pod, StatefulSet, Volume
from chaosd.errors import ConflictError, NotFoundError, ThrottledError
from tests import manifests
from tests.conformance.conftest import Recording, World

Matches = Callable[[Change], bool]


def _created(name: str) -> Matches:
    return lambda c: c.kind is ChangeKind.ADDED and c.object is not None and c.object.name == name


def _ready(name: str) -> Matches:
    return lambda c: isinstance(c.object, Pod) and c.object.name == name and c.object.ready


def _leaving(name: str) -> Matches:
    return lambda c: isinstance(c.object, Pod) and c.object.name == name and c.object.deleting


def _gone(name: str) -> Matches:
    return lambda c: c.kind is ChangeKind.DELETED and c.object is not None and c.object.name == name


def _places(recording: Recording, *matches: Matches) -> list[int]:
    return [recording.first(match) for match in matches]


async def _claim(world: World, ordinal: int) -> Claim:
    return await world.cluster.get(Claim, world.namespace, f"disk-web-{ordinal}")


async def _pod(world: World, ordinal: int) -> Pod:
    return await world.cluster.get(Pod, world.namespace, f"web-{ordinal}")


async def test_pods_start_in_order_each_ready_before_the_next(world: World) -> None:
    pods = await world.record(Pod)
    await world.start(replicas=3)
    places = _places(pods, _ready("web-0"), _created("web-1"), _ready("web-1"), _created("web-2"), _ready("web-2"))
    assert places == sorted(places)


async def test_pods_stop_from_the_highest_ordinal_each_gone_before_the_next(world: World) -> None:
    await world.start(replicas=3)
    pods = await world.record(Pod)
    await world.scale(0)
    stops = [match(f"web-{n}") for n in (2, 1, 0) for match in (_leaving, _gone)]
    places = _places(pods, *stops)
    assert places == sorted(places)


async def test_the_parallel_policy_waits_for_nobody(world: World) -> None:
    pods = await world.record(Pod)
    await world.start(replicas=3, pod_management="Parallel")
    created = _places(pods, *(_created(f"web-{n}") for n in range(3)))
    assert max(created) < min(_places(pods, *(_ready(f"web-{n}") for n in range(3))))


async def test_scaling_down_keeps_claims_and_scaling_up_finds_them_again(world: World) -> None:
    await world.start(replicas=2)
    before = [await _claim(world, n) for n in (0, 1)]
    await world.scale(1)
    assert [await _claim(world, n) for n in (0, 1)] == before
    await world.scale(2)
    assert [await _claim(world, n) for n in (0, 1)] == before
    assert (await _pod(world, 1)).claims == {"disk": "disk-web-1"}


async def test_each_replica_has_a_claim_of_its_own_bound_to_a_volume_of_its_own(world: World) -> None:
    await world.start(replicas=2)
    claims = [await _claim(world, n) for n in (0, 1)]
    assert [(c.phase, c.capacity, c.requested, c.access_modes) for c in claims] == [
        ("Bound", "1Gi", "1Gi", ("ReadWriteOnce",)),
        ("Bound", "1Gi", "1Gi", ("ReadWriteOnce",)),
    ]
    assert claims[0].volume != claims[1].volume
    for claim in claims:
        volume = await world.cluster.get(Volume, "", claim.volume)
        assert (volume.claim, volume.claim_uid) == (f"{world.namespace}/{claim.name}", claim.uid)


async def test_retention_policy_when_scaled_delete_takes_the_claim_and_its_volume(world: World) -> None:
    await world.start(replicas=2, when_scaled="Delete")
    kept, gone = await _claim(world, 0), await _claim(world, 1)
    await world.scale(1)

    async def claim_and_volume_gone() -> bool:
        claims = {c.name for c in await world.cluster.list(Claim, world.namespace)}
        volumes = {v.name for v in await world.cluster.list(Volume, "")}
        return gone.name not in claims and gone.volume not in volumes

    await world.until(claim_and_volume_gone)
    assert await _claim(world, 0) == kept
    await world.scale(2)
    remade = await _claim(world, 1)
    assert remade.uid != gone.uid
    assert remade.volume != gone.volume


async def test_a_deleted_pod_comes_back_to_its_claim_and_volume(world: World) -> None:
    await world.start(replicas=2)
    pod, claim = await _pod(world, 1), await _claim(world, 1)
    volume = await world.cluster.get(Volume, "", claim.volume)
    await world.cluster.delete_pod(world.namespace, pod.name, uid=pod.uid)
    back = await world.replaced(pod)
    assert (back.name, back.hostname, back.claims) == (pod.name, pod.hostname, pod.claims)
    assert await _claim(world, 1) == claim
    assert await world.cluster.get(Volume, "", claim.volume) == volume


async def test_a_graceful_deletion_is_seen_before_the_pod_goes(world: World) -> None:
    await world.start(replicas=1)
    pods = await world.record(Pod)
    pod = await _pod(world, 0)
    await world.cluster.delete_pod(world.namespace, pod.name, uid=pod.uid)
    await world.replaced(pod)
    leaving, gone = pods.first(_leaving("web-0")), pods.first(_gone("web-0"))
    assert leaving < gone
    told = pods.changes[leaving].object
    assert isinstance(told, Pod)
    assert told.grace_seconds == 30


async def test_a_forced_deletion_lets_the_name_be_used_at_once(world: World) -> None:
    await world.start(replicas=1)
    pods = await world.record(Pod)
    pod = await _pod(world, 0)
    await world.cluster.delete_pod(world.namespace, pod.name, uid=pod.uid, grace_seconds=0)
    back = await world.replaced(pod)
    gone, created = pods.first(_gone("web-0")), pods.first(_created("web-0"))
    assert gone < created
    assert back.claims == pod.claims


async def test_only_the_pod_with_this_uid_is_deleted(world: World) -> None:
    await world.start(replicas=1)
    with pytest.raises(ConflictError):
        await world.cluster.delete_pod(world.namespace, "web-0", uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(NotFoundError):
        await world.cluster.delete_pod(world.namespace, "web-9", uid="00000000-0000-0000-0000-000000000000")
    assert not (await _pod(world, 0)).deleting


async def test_an_eviction_waits_for_the_disruption_budget(world: World) -> None:
    await world.start(replicas=2)
    pod = await _pod(world, 0)
    await world.harness.apply(manifests.budget(namespace=world.namespace, min_available=2))
    with pytest.raises(ThrottledError):
        await world.cluster.evict_pod(world.namespace, pod.name, uid=pod.uid)
    assert not (await _pod(world, 0)).deleting
    await world.harness.apply(manifests.budget(namespace=world.namespace, min_available=1))

    async def evicted() -> bool:
        try:
            await world.cluster.evict_pod(world.namespace, pod.name, uid=pod.uid)
        except ThrottledError:
            return False  # the new limit is not reckoned with yet
        return True

    await world.until(evicted)
    assert (await world.replaced(pod)).uid != pod.uid


async def test_volume_handle_and_attachment_are_seen(world: World) -> None:
    await world.start(replicas=1)
    pod, claim = await _pod(world, 0), await _claim(world, 0)
    volume = await world.cluster.get(Volume, "", claim.volume)
    assert volume.driver
    assert volume.handle
    attached = [a for a in await world.cluster.list(Attachment, "") if a.volume == volume.name]
    assert [(a.node, a.attached, a.error) for a in attached] == [(pod.node, True, "")]


async def test_a_scale_that_expects_another_statefulset_or_count_changes_nothing(world: World) -> None:
    await world.start(replicas=1)
    uid = (await world.cluster.get(StatefulSet, world.namespace, "web")).uid
    with pytest.raises(ConflictError):
        await world.cluster.scale(world.namespace, "web", uid=uid, replicas=5, expected=3)
    with pytest.raises(NotFoundError):
        await world.cluster.scale(world.namespace, "absent", uid=uid, replicas=1, expected=1)
    with pytest.raises(ConflictError):
        await world.cluster.scale(world.namespace, "web", uid="of-another", replicas=5, expected=1)
    assert (await world.cluster.get(StatefulSet, world.namespace, "web")).replicas == 1


async def test_the_status_follows_the_pods(world: World) -> None:
    await world.start(replicas=2)

    async def reported() -> bool:
        found = await world.cluster.get(StatefulSet, world.namespace, "web")
        counts = (found.replicas, found.ready_replicas, found.updated_replicas)
        return counts == (2, 2, 2) and found.observed_generation == found.generation

    await world.until(reported)
    found = await world.cluster.get(StatefulSet, world.namespace, "web")
    pod = await _pod(world, 0)
    assert found.current_revision == found.update_revision == pod.revision
    assert pod.controller_uid == found.uid
    assert (found.template_claims, found.pod_management, found.retention_when_scaled) == (
        ("disk",),
        "OrderedReady",
        "Retain",
    )


async def test_a_watch_tells_what_is_there_then_what_happens(world: World) -> None:
    await world.start(replicas=1)
    pods = await world.record(Pod)
    pod = await _pod(world, 0)
    await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid, grace_seconds=0)
    await world.replaced(pod)
    kinds = [change.kind for change in pods.changes]
    assert kinds[:2] == [ChangeKind.PRESENT, ChangeKind.SYNCED]
    assert pods.changes[0].object == pod

    def last_known(change: Change) -> bool:
        return change.kind is ChangeKind.DELETED and isinstance(change.object, Pod) and change.object.uid == pod.uid

    assert pods.first(last_known) < pods.first(_created("web-0"))


async def test_a_pod_whose_claim_cannot_be_bound_stays_pending(world: World) -> None:
    await world.start(replicas=1, ready=False, storage_class="none")

    async def unschedulable() -> bool:
        pods = await world.cluster.list(Pod, world.namespace)
        return bool(pods) and "PersistentVolumeClaim" in pods[0].unschedulable

    await world.until(unschedulable)
    assert (await _claim(world, 0)).phase == "Pending"
