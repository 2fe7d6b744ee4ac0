"""What disruptions ask of a cluster beyond deleting and scaling: cordons, rollouts, recreation, signals, expansion.

Source: Kubernetes docs, "StatefulSets" (Update strategies), "Safely Drain a Node", "Garbage Collection", "Share Process
Namespace", "Persistent Volumes" (Expanding); Linux, pid_namespaces(7).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from chaosd.cluster.port import Autoscaler, Budget, Change, ChangeKind, Claim, Namespace, Node, Pod, StatefulSet, Volume
from chaosd.errors import ConflictError, NotFoundError, RefusedError
from chaosd.probe.session import open_session
from tests import manifests
from tests.conformance.conftest import World

NOBODY = "00000000-0000-4000-8000-000000000000"
AT = "2026-11-25T00:00:00Z"


async def _web(world: World) -> StatefulSet:
    return await world.cluster.get(StatefulSet, world.namespace, "web")


async def _pods(world: World) -> dict[str, Pod]:
    return {pod.name: pod for pod in await world.cluster.list(Pod, world.namespace)}


async def _pod(world: World, ordinal: int = 0) -> Pod:
    return await world.cluster.get(Pod, world.namespace, f"web-{ordinal}")


async def _claims(world: World) -> list[Claim]:
    return sorted(await world.cluster.list(Claim, world.namespace), key=lambda claim: claim.name)


@asynccontextmanager
async def _cordoned(world: World, node: Node, by: str) -> AsyncIterator[None]:
    """The node is cordoned, and is not any more at the end, whatever happens."""
    await world.cluster.cordon(node.name, uid=node.uid, by=by)
    try:
        yield
    finally:
        await world.cluster.uncordon(node.name, uid=node.uid, by=by)


# Cordons.


@pytest.mark.alone
async def test_a_cordon_keeps_new_pods_off_a_node_until_it_is_lifted(world: World) -> None:
    await world.start(replicas=1)
    pod = await _pod(world)
    node = await world.cluster.get(Node, "", pod.node)
    async with _cordoned(world, node, "run-1"):
        found = await world.cluster.get(Node, "", pod.node)
        assert (found.unschedulable, found.cordoned_by, found.tainted) == (True, "run-1", node.tainted)
        assert (await _pod(world)).ready, "who is there already stays"
        await world.cluster.delete_pod(world.namespace, pod.name, uid=pod.uid)
        moved = await world.replaced(pod)
        assert moved.node != pod.node
        assert moved.claims == pod.claims
    found = await world.cluster.get(Node, "", pod.node)
    assert (found.unschedulable, found.cordoned_by) == (False, "")
    other = await world.cluster.get(Node, "", moved.node)
    async with _cordoned(world, other, "run-1"):
        await world.cluster.delete_pod(world.namespace, moved.name, uid=moved.uid)
        assert (await world.replaced(moved)).node == pod.node


@pytest.mark.alone
async def test_only_who_cordoned_a_node_lifts_that(world: World) -> None:
    node = (await world.cluster.list(Node, ""))[0]
    with pytest.raises(ConflictError):
        await world.cluster.cordon(node.name, uid=NOBODY, by="run-1")
    with pytest.raises(NotFoundError):
        await world.cluster.cordon("absent", uid=node.uid, by="run-1")
    await world.cluster.uncordon(node.name, uid=node.uid, by="run-1")  # it is not cordoned
    async with _cordoned(world, node, "run-1"):
        await world.cluster.cordon(node.name, uid=node.uid, by="run-1")  # ours already
        with pytest.raises(ConflictError, match="run-1"):
            await world.cluster.cordon(node.name, uid=node.uid, by="run-2")
        with pytest.raises(ConflictError, match="run-1"):
            await world.cluster.uncordon(node.name, uid=node.uid, by="run-2")
        assert (await world.cluster.get(Node, "", node.name)).cordoned_by == "run-1"
    assert not (await world.cluster.get(Node, "", node.name)).unschedulable


# Rollouts.


async def _rolled_out(world: World, uid: str = "") -> None:
    """Restart the rollout, and wait until every pod is of the new revision."""
    found = await _web(world)
    await world.cluster.restart_rollout(world.namespace, "web", uid=uid or found.uid, at=AT)

    async def complete() -> bool:
        now = await _web(world)
        is_current = now.current_revision == now.update_revision != found.update_revision
        return is_current and now.ready_replicas == now.updated_replicas == now.replicas

    await world.until(complete)
    await world.told()


async def test_a_restart_replaces_all_pods_from_the_highest_each_ready_before_the_next(world: World) -> None:
    await world.start(replicas=3)
    before, claims = await _pods(world), await _claims(world)
    pods = await world.record(Pod)
    await _rolled_out(world)
    after = await _pods(world)
    assert not {pod.uid for pod in after.values()} & {pod.uid for pod in before.values()}
    assert len({pod.revision for pod in (*before.values(), *after.values())}) == 2
    assert await _claims(world) == claims

    def leaving(name: str) -> int:
        return pods.first(lambda c: isinstance(c.object, Pod) and c.object.name == name and c.object.deleting)

    def ready(name: str) -> int:
        def is_it(change: Change) -> bool:
            one = change.object
            return isinstance(one, Pod) and one.uid == after[name].uid and one.ready

        return pods.first(is_it)

    places = [place(f"web-{ordinal}") for ordinal in (2, 1, 0) for place in (leaving, ready)]
    assert places == sorted(places)


async def test_a_restart_is_bound_to_the_uid(world: World) -> None:
    await world.start(replicas=1)
    found = await _web(world)
    with pytest.raises(ConflictError):
        await world.cluster.restart_rollout(world.namespace, "web", uid=NOBODY, at=AT)
    with pytest.raises(NotFoundError):
        await world.cluster.restart_rollout(world.namespace, "absent", uid=found.uid, at=AT)
    assert (await _web(world)).update_revision == found.update_revision


async def test_a_partition_holds_a_rollout_back_and_on_delete_waits_for_deletions(world: World) -> None:
    await world.start(replicas=2, update={"type": "RollingUpdate", "rollingUpdate": {"partition": 1}})
    before = await _pods(world)
    found = await _web(world)
    assert (found.update_strategy, found.partition) == ("RollingUpdate", 1)
    await world.cluster.restart_rollout(world.namespace, "web", uid=found.uid, at=AT)
    new = await world.replaced(before["web-1"])
    lowest = await _pod(world, 0)
    assert (lowest.uid, lowest.revision) == (before["web-0"].uid, before["web-0"].revision)
    assert new.revision != lowest.revision
    await world.cluster.delete_pod(world.namespace, "web-0", uid=lowest.uid)
    assert (await world.replaced(lowest)).revision == lowest.revision, "below the partition pods are made as they were"

    async def told() -> bool:
        now = await _web(world)
        return (now.current_revision, now.update_revision, now.updated_replicas) == (lowest.revision, new.revision, 1)

    await world.until(told)


async def test_on_delete_pods_are_updated_only_when_they_are_deleted(world: World) -> None:
    await world.start(replicas=1, update={"type": "OnDelete"})
    pod, found = await _pod(world), await _web(world)
    assert found.update_strategy == "OnDelete"
    await world.cluster.restart_rollout(world.namespace, "web", uid=found.uid, at=AT)

    async def seen() -> bool:
        now = await _web(world)
        return now.observed_generation == now.generation > found.generation

    await world.until(seen)
    assert (await _pod(world)).uid == pod.uid
    await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid)
    assert (await world.replaced(pod)).revision == (await _web(world)).update_revision != pod.revision


# Recreation.


async def _gone(world: World) -> None:
    async def gone() -> bool:
        return not await world.cluster.list(StatefulSet, world.namespace)

    await world.until(gone)
    await world.told()


async def test_an_orphaning_deletion_keeps_the_pods_and_a_new_statefulset_adopts_them(world: World) -> None:
    await world.start(replicas=2)
    before, claims, found = await _pods(world), await _claims(world), await _web(world)
    document = await world.cluster.manifest(world.namespace, "web")
    with pytest.raises(ConflictError):
        await world.cluster.create(document)
    await world.cluster.delete_statefulset(world.namespace, "web", uid=found.uid, orphan=True)
    await _gone(world)
    orphans = await _pods(world)
    assert {name: (pod.uid, pod.controller_uid, pod.ready) for name, pod in orphans.items()} == {
        name: (pod.uid, "", True) for name, pod in before.items()
    }
    await world.cluster.create(document)
    new = await _web(world)

    async def adopted() -> bool:
        now = await _web(world)
        return now.ready_replicas == now.updated_replicas == 2 and now.observed_generation == now.generation

    await world.until(adopted)
    assert new.uid != found.uid
    assert new.update_revision in ("", found.update_revision), "what is not observed yet has none"
    after = await _pods(world)
    assert {name: (pod.uid, pod.controller_uid) for name, pod in after.items()} == {
        name: (pod.uid, new.uid) for name, pod in before.items()
    }
    assert await _claims(world) == claims


async def test_a_foreground_deletion_takes_the_pods_and_a_new_statefulset_finds_the_claims(world: World) -> None:
    await world.start(replicas=2)
    before, claims, found = await _pods(world), await _claims(world), await _web(world)
    document = await world.cluster.manifest(world.namespace, "web")
    sets = await world.record(StatefulSet)
    pods = await world.record(Pod)
    with pytest.raises(ConflictError):
        await world.cluster.delete_statefulset(world.namespace, "web", uid=NOBODY, orphan=False)
    await world.cluster.delete_statefulset(world.namespace, "web", uid=found.uid, orphan=False)
    await _gone(world)
    assert await _pods(world) == {}
    assert sets.first(lambda c: isinstance(c.object, StatefulSet) and c.object.deleting) >= 0
    assert sum(change.kind is ChangeKind.DELETED for change in pods.changes) == 2
    with pytest.raises(NotFoundError):
        await world.cluster.manifest(world.namespace, "web")
    await world.cluster.create(document)
    await world.converged(2)
    assert await _claims(world) == claims
    after = await _pods(world)
    assert {name: pod.claims for name, pod in after.items()} == {name: pod.claims for name, pod in before.items()}
    assert not {pod.uid for pod in after.values()} & {pod.uid for pod in before.values()}


async def test_a_statefulset_that_somebody_changed_is_not_deleted(world: World) -> None:
    await world.start(replicas=1)
    found, manifest = await _web(world), await world.cluster.manifest(world.namespace, "web")
    await world.cluster.annotate(StatefulSet, world.namespace, "web", {"example.com/mine": "1"})
    with pytest.raises(ConflictError):
        await world.cluster.delete_statefulset(world.namespace, "web", uid=found.uid, orphan=False, expected=manifest)
    now = await world.cluster.manifest(world.namespace, "web")
    assert (await _web(world)).annotations["example.com/mine"] == "1"
    await world.cluster.delete_statefulset(world.namespace, "web", uid=found.uid, orphan=False, expected=now)
    await _gone(world)


async def test_a_dry_run_does_nothing(world: World) -> None:
    await world.start(replicas=1)
    pod, manifest = await _pod(world), await world.cluster.manifest(world.namespace, "web")
    await world.cluster.delete_pod(world.namespace, pod.name, uid=pod.uid, dry_run=True)
    with pytest.raises(ConflictError):
        await world.cluster.delete_pod(world.namespace, pod.name, uid=NOBODY, dry_run=True)
    with pytest.raises(NotFoundError):
        await world.cluster.delete_pod(world.namespace, "absent", uid=pod.uid, dry_run=True)
    assert (await _pod(world), (await _pod(world)).deleting) == (pod, False)
    with pytest.raises(ConflictError):
        await world.cluster.create(manifest, dry_run=True)
    meta = {"name": "chaosd-dry", "namespace": world.namespace}
    await world.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {}}, dry_run=True)
    with pytest.raises(NotFoundError):
        await world.cluster.get_config(world.namespace, "chaosd-dry")


async def test_an_event_is_told_once_and_again(world: World) -> None:
    await world.start(replicas=1, ready=False)
    web = await _web(world)
    for count, warning in ((1, False), (2, False), (1, True)):
        told = {"reason": "ChaosdVerdict", "message": f"number {count}", "warning": warning, "count": count}
        await world.cluster.post_event(web, f"01run.verdict-{'fail' if warning else 'pass'}", **told)


async def test_a_manifest_makes_the_same_statefulset_again(world: World) -> None:
    await world.start(replicas=2)
    await world.scale(1)
    found = await _web(world)
    document: Any = await world.cluster.manifest(world.namespace, "web")
    assert "status" not in document
    assert {"uid", "resourceVersion", "generation", "creationTimestamp"}.isdisjoint(document["metadata"])
    await world.cluster.delete_statefulset(world.namespace, "web", uid=found.uid, orphan=True)
    await _gone(world)
    await world.cluster.create(document)
    again = await _web(world)
    assert (again.replicas, again.labels, again.selector, again.template_claims, again.containers) == (
        *(1, found.labels, found.selector, found.template_claims, found.containers),
    )
    assert await world.cluster.manifest(world.namespace, "web") == document


# Annotations, configs, namespaces.


async def test_annotations_are_set_and_taken_away(world: World) -> None:
    await world.start(replicas=1)
    pod = await _pod(world)
    marks: dict[str, str | None] = {"chaosd.io/a": "1", "chaosd.io/b": "2"}
    await world.cluster.annotate(StatefulSet, world.namespace, "web", marks)
    await world.cluster.annotate(StatefulSet, world.namespace, "web", {"chaosd.io/a": None, "chaosd.io/absent": None})
    found = (await _web(world)).annotations
    assert {key: found.get(key) for key in marks} == {"chaosd.io/a": None, "chaosd.io/b": "2"}
    await world.cluster.annotate(Namespace, "", world.namespace, {"chaosd.io/a": "1"})
    namespace = await world.cluster.get(Namespace, "", world.namespace)
    assert (namespace.annotations["chaosd.io/a"], namespace.terminating) == ("1", False)
    await world.cluster.annotate(Namespace, "", world.namespace, {"chaosd.io/a": None})
    assert "chaosd.io/a" not in (await world.cluster.get(Namespace, "", world.namespace)).annotations
    with pytest.raises(NotFoundError):
        await world.cluster.annotate(StatefulSet, world.namespace, "absent", {"chaosd.io/a": "1"})
    assert (await _pod(world)).uid == pod.uid, "annotations of the StatefulSet restart nothing"


async def test_a_config_is_created_once_read_and_deleted(world: World) -> None:
    meta = {"name": "chaosd-web", "namespace": world.namespace}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"manifest": "{}"}}
    with pytest.raises(NotFoundError):
        await world.cluster.get_config(world.namespace, "chaosd-web")
    await world.cluster.create(document)
    assert await world.cluster.get_config(world.namespace, "chaosd-web") == {"manifest": "{}"}
    with pytest.raises(ConflictError):
        await world.cluster.create(document)
    with pytest.raises(ConflictError):
        await world.cluster.delete_config(world.namespace, "chaosd-web", expected={"manifest": "another"})
    await world.cluster.delete_config(world.namespace, "chaosd-web", expected={"manifest": "{}"})
    with pytest.raises(NotFoundError):
        await world.cluster.delete_config(world.namespace, "chaosd-web", expected={})


async def test_nothing_is_created_in_a_namespace_that_is_not_there(world: World) -> None:
    absent = "chaosd-e2e-absent"
    with pytest.raises(NotFoundError):
        await world.cluster.create(manifests.statefulset(namespace=absent))
    with pytest.raises(NotFoundError):
        await world.cluster.get(Namespace, "", absent)
    with pytest.raises(ValueError, match="Service is none of"):
        await world.cluster.create({"kind": "Service", "metadata": {"name": "web", "namespace": world.namespace}})


# Signals.


async def _restarted(world: World, before: Pod) -> Pod:
    """The pod once its container runs anew."""
    found = [before]

    async def anew() -> bool:
        found[0] = await _pod(world)
        return found[0].ready and found[0].containers[0].id != before.containers[0].id

    await world.until(anew)
    return found[0]


async def _signal(
    world: World, signal: str, pod: Pod, *, uid: str = "", container: str = "app", container_id: str = ""
) -> None:
    meant = {"uid": uid or pod.uid, "container_id": container_id or pod.containers[0].id}
    await world.cluster.signal_container(world.namespace, pod.name, container, signal, **meant)


async def test_term_restarts_a_container_that_handles_it_and_its_files_stay(world: World) -> None:
    await world.start()
    place = await world.place()
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        await session.begin(b"{}")
        await session.store({"00000001": b"x" * 8192})
    before = await _pod(world)
    await _signal(world, "TERM", before)
    after = await _restarted(world, before)
    assert (after.uid, after.node) == (before.uid, before.node)
    assert after.containers[0].restarts == before.containers[0].restarts + 1
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert "00000001" in await session.names()


async def test_kill_does_not_reach_the_first_process_of_a_pid_namespace_and_is_refused(world: World) -> None:
    await world.start()
    pod = await _pod(world)
    with pytest.raises(RefusedError, match=r"process 1 .* no SIGKILL from inside.*shareProcessNamespace"):
        await _signal(world, "KILL", pod)
    assert (await _pod(world)).containers == pod.containers


async def test_kill_works_where_the_processes_are_shared(world: World) -> None:
    await world.start(pod={"shareProcessNamespace": True})
    before = await _pod(world)
    assert before.shared_processes
    async with open_session(world.cluster, await world.place(), "web-0", 180.0):  # which is no first process
        await _signal(world, "KILL", before)
        after = await _restarted(world, before)
    assert (after.uid, after.containers[0].restarts) == (before.uid, 1)


async def test_term_is_refused_where_it_is_not_handled_or_no_shell_sends_it(world: World) -> None:
    await world.start(**world.harness.deaf)
    pod = await _pod(world)
    with pytest.raises(RefusedError, match="process 1 does not handle SIGTERM"):
        await _signal(world, "TERM", pod)
    assert (await _pod(world)).containers == pod.containers
    await world.harness.apply(manifests.statefulset(namespace=world.namespace, name="bare", **world.harness.bare))

    async def ready() -> bool:
        return (await world.cluster.get(StatefulSet, world.namespace, "bare")).ready_replicas == 1

    await world.until(ready)
    bare = await world.cluster.get(Pod, world.namespace, "bare-0")
    with pytest.raises(RefusedError, match='"sh": executable file not found'):
        await _signal(world, "TERM", bare)


async def test_a_signal_is_bound_to_the_uid_and_the_container(world: World) -> None:
    await world.start()
    pod = await _pod(world)
    with pytest.raises(ConflictError):
        await _signal(world, "TERM", pod, uid=NOBODY)
    with pytest.raises(ConflictError):
        await _signal(world, "TERM", pod, container_id="of-one-that-ended")
    with pytest.raises(NotFoundError):
        await _signal(world, "TERM", pod, container="absent")
    with pytest.raises(NotFoundError):
        await _signal(world, "TERM", replace(pod, name="web-9"))
    assert (await _pod(world)).containers == pod.containers


# Expansion.


async def test_a_claim_grows_where_its_class_allows_that(world: World) -> None:
    await world.start()
    (claim,) = await _claims(world)
    if not world.harness.expands:
        with pytest.raises(RefusedError, match="must support resize"):
            await world.cluster.expand_claim(world.namespace, claim.name, uid=claim.uid, storage="2Gi")
        assert await _claims(world) == [claim]
        return
    await world.cluster.expand_claim(world.namespace, claim.name, uid=claim.uid, storage="2Gi")

    async def grown() -> bool:
        return (await _claims(world))[0].capacity == "2Gi"

    await world.until(grown)
    (after,) = await _claims(world)
    assert (after.uid, after.volume, after.requested) == (claim.uid, claim.volume, "2Gi")
    assert (await world.cluster.get(Volume, "", claim.volume)).capacity == "2Gi"


async def test_a_claim_does_not_shrink(world: World) -> None:
    await world.start()
    (claim,) = await _claims(world)
    for storage in ("1Gi", "1024Mi", "512Mi"):
        with pytest.raises(RefusedError):
            await world.cluster.expand_claim(world.namespace, claim.name, uid=claim.uid, storage=storage)
    with pytest.raises(ConflictError):
        await world.cluster.expand_claim(world.namespace, claim.name, uid=NOBODY, storage="2Gi")
    with pytest.raises(NotFoundError):
        await world.cluster.expand_claim(world.namespace, "absent", uid=claim.uid, storage="2Gi")
    assert await _claims(world) == [claim]


# Budgets and autoscalers.


async def test_a_budget_says_how_many_evictions_it_allows(world: World) -> None:
    await world.start(replicas=2)
    await world.harness.apply(manifests.budget(namespace=world.namespace, min_available=1))

    async def reckoned() -> bool:
        found = await world.cluster.list(Budget, world.namespace)
        return [(b.name, b.selector, b.allowed, b.wanted) for b in found] == [("web", {"app": "web"}, 1, 1)]

    await world.until(reckoned)
    (budget,) = await world.cluster.list(Budget, world.namespace)
    assert budget == await world.cluster.get(Budget, world.namespace, "web")
    await world.scale(1)

    async def exhausted() -> bool:
        return (await world.cluster.get(Budget, world.namespace, "web")).allowed == 0

    await world.until(exhausted)


async def test_who_owns_the_replica_count_is_seen(world: World) -> None:
    await world.start(replicas=1)
    assert await world.cluster.list(Autoscaler, world.namespace) == []
    await world.harness.apply(manifests.autoscaler(namespace=world.namespace))
    (found,) = await world.cluster.list(Autoscaler, world.namespace)
    assert (found.kind, found.name, found.target) == ("HorizontalPodAutoscaler", "web", "StatefulSet/web")
