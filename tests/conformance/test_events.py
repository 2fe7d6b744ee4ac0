"""Kubernetes Events: why a pod does not start, as the components tell it."""

from __future__ import annotations

from chaosd.cluster.port import Change, ChangeKind, ClusterEvent, Pod
from tests.conformance.conftest import World


def _about_web_0(change: Change) -> bool:
    """A warning about it and its claim, which the scheduler may know of a moment after the pod."""
    found = change.object
    is_one = isinstance(found, ClusterEvent) and found.warning and "PersistentVolumeClaim" in found.message
    return is_one and (found.about_kind, found.about_name) == ("Pod", "web-0")


async def test_a_pod_that_cannot_be_scheduled_yields_a_warning(world: World) -> None:
    events = await world.record(ClusterEvent)
    await world.start(replicas=1, ready=False, storage_class="none")

    async def told() -> bool:
        return any(map(_about_web_0, events.changes))

    await world.until(told)
    change = events.changes[events.first(_about_web_0)]
    event = change.object
    assert isinstance(event, ClusterEvent)
    assert change.kind is ChangeKind.ADDED
    assert (event.namespace, event.reason) == (world.namespace, "FailedScheduling")
    assert event.about_uid == (await world.cluster.get(Pod, world.namespace, "web-0")).uid
    assert event.count >= 1
    assert event.last_seen > 1_600_000_000
    assert event.uid
    listed = await world.cluster.list(ClusterEvent, world.namespace)
    assert event.uid in {found.uid for found in listed}
    again = await world.record(ClusterEvent)
    assert again.changes[again.first(_about_web_0)].kind is ChangeKind.PRESENT
