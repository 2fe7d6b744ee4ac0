"""The sandbox's controllers beyond what conformance holds them to: rare rules, and what only a model can be asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosd.cluster.port import (
    Autoscaler,
    Budget,
    Change,
    ChangeKind,
    Claim,
    EphemeralContainer,
    Mount,
    Namespace,
    Node,
    Pod,
    StatefulSet,
    Volume,
)
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.errors import ConflictError, NotFoundError, RefusedError, SessionLostError, UnreachableError
from tests import manifests
from tests.cluster.sandbox.simulated import FILES, Simulated, simulated

ZONE = ("kubernetes.io/hostname", "In", ("sandbox-1",))


# Rollouts.


async def _restart(sim: Simulated, at: str = "now") -> StatefulSet:
    web = sim.store.get(StatefulSet, "default", "web")
    await sim.cluster.restart_rollout("default", "web", uid=web.uid, at=at)
    return sim.store.get(StatefulSet, "default", "web")


def _complete(sim: Simulated) -> bool:
    web = sim.store.get(StatefulSet, "default", "web")
    return web.current_revision == web.update_revision and web.updated_replicas == web.ready_replicas == web.replicas


def test_a_pod_that_does_not_become_ready_holds_a_rollout_up() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(2)
        kept = sim.pod(0)
        await sim.cluster.apply([manifests.statefulset(image="noimage")])
        await sim.until(lambda: any(c.waiting for pod in sim.store.all(Pod) for c in pod.containers))
        await asyncio.sleep(60)
        assert sim.pod(0) == kept
        web = sim.store.get(StatefulSet, "default", "web")
        assert (web.current_revision, web.updated_replicas) == (kept.revision, 1)
        # Going back does not help the pod that waits: Kubernetes docs, "StatefulSets", Forced rollback.
        await sim.cluster.apply([manifests.statefulset()])
        await asyncio.sleep(60)
        assert not sim.pod(1).ready
        await sim.delete(1)
        await sim.until(lambda: _complete(sim))
        assert sim.pod(0).uid == kept.uid
        assert sim.pod(1).revision == kept.revision

    simulated(check)


def test_what_a_restart_left_in_the_template_stays_when_the_manifest_is_applied_again() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(2)
        restarted = await _restart(sim)
        await sim.until(lambda: _complete(sim))
        before = [sim.pod(n).uid for n in (0, 1)]
        await sim.cluster.apply([manifests.statefulset(replicas=2)])
        again = sim.store.get(StatefulSet, "default", "web")
        assert (again.update_revision, again.generation) == (restarted.update_revision, restarted.generation)
        await asyncio.sleep(10)
        assert [sim.pod(n).uid for n in (0, 1)] == before

    simulated(check)


def test_templates_of_revisions_that_nobody_has_are_forgotten() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1)
        for number in range(5):
            await _restart(sim, str(number))
            await sim.until(lambda: _complete(sim))
        assert len(sim.store.templates) == 2

    simulated(check)


def test_a_parallel_statefulset_rolls_one_pod_at_a_time_as_well() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(3, pod_management="Parallel")
        away: list[int] = []

        def counted(pod: Pod) -> Pod:
            away.append(sum(not one.ready or one.deleting for one in sim.store.all(Pod)))
            return pod

        ends = sim.cluster.tamper(Pod, counted)
        await _restart(sim)
        await sim.until(lambda: _complete(sim))
        ends()
        assert max(away) == 1

    simulated(check)


# Signals.


def meant(pod: Pod, name: str = "app") -> dict[str, str]:
    """The preconditions of a signal to a container as it is now."""
    return {"uid": pod.uid, "container_id": next(one.id for one in pod.containers if one.name == name)}


def test_a_container_that_is_signalled_loses_what_was_started_in_it_and_keeps_its_page_cache() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1, pod={"shareProcessNamespace": True})
        pod, disk = sim.pod(), sim.disk()
        async with sim.session() as session:
            await session.store(FILES)
            disk.write("unsynced", b"x" * 100)
            await sim.cluster.signal_container("default", "web-0", "app", "KILL", **meant(pod))
            with pytest.raises(SessionLostError):
                await session.names()
        assert (sim.pod().ready, sim.pod().containers[0].ended, sim.pod().containers[0].running) == (False, "Error", False)
        with pytest.raises(RefusedError, match="not running"):
            async with sim.cluster.exec("default", "web-0", "app", ["sh"]):
                pass
        await sim.ready(1)
        assert sim.pod().uid == pod.uid
        assert (sim.pod().containers[0].restarts, sim.pod().containers[0].ended) == (1, "")
        assert disk.read("unsynced", 100)[0] == b"x" * 100, "the node's page cache outlives a container"
        assert await sim.found() == FILES

    simulated(check)


def test_who_does_not_handle_term_gets_it_where_processes_are_shared() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1, image="noterm", pod={"shareProcessNamespace": True})
        before = sim.pod()
        await sim.cluster.signal_container("default", "web-0", "app", "TERM", **meant(before))
        assert sim.pod().containers[0].ended == "Completed"
        await sim.ready(1)
        assert sim.pod().containers[0].id != before.containers[0].id

    simulated(check)


def test_other_containers_of_the_pod_run_on() -> None:
    async def check(sim: Simulated) -> None:
        two = [{"name": name, "image": "x", "volumeMounts": []} for name in ("app", "side")]
        await sim.apply(1, claim=False, pod={"containers": two, "shareProcessNamespace": True})
        before = sim.pod()
        await sim.cluster.signal_container("default", "web-0", "side", "KILL", **meant(before, "side"))
        assert sim.pod().containers[0] == before.containers[0]
        await sim.ready(1)
        app, side = sim.pod().containers
        assert app == before.containers[0]
        assert (side.restarts, side.id != before.containers[1].id) == (1, True)

    simulated(check)


def test_a_container_on_a_node_that_is_away_cannot_be_signalled() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1)
        sim.cluster.crash_node(sim.pod().node, boots=False)
        with pytest.raises(UnreachableError, match="no route"):
            await sim.cluster.signal_container("default", "web-0", "app", "TERM", **meant(sim.pod()))

    simulated(check)


def test_a_node_that_crashes_while_a_container_restarts_starts_it_when_it_is_back() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1)
        pod = sim.pod()
        await sim.cluster.signal_container("default", "web-0", "app", "TERM", **meant(pod))
        await asyncio.sleep(0.01)
        sim.cluster.crash_node(pod.node)
        await sim.ready(1)
        assert (sim.pod().uid, sim.pod().containers[0].running, sim.pod().containers[0].ended) == (pod.uid, True, "")

    simulated(check)


async def test_only_processes_of_the_container_that_is_signalled_end(tmp_path: Path) -> None:
    cluster = await SandboxCluster.open(tmp_path)
    await cluster.apply([manifests.statefulset(replicas=2)])
    await _until(lambda: sum(pod.ready for pod in cluster.store.all(Pod)) == 2)
    pod = cluster.store.get(Pod, "default", "web-0")
    aside = EphemeralContainer("aside", "python:3", ("x",), (Mount("disk", "/data"),))
    await cluster.add_ephemeral_container("default", "web-0", aside, uid=pod.uid)
    await _until(lambda: any(one.running for one in cluster.store.get(Pod, "default", "web-0").ephemeral))
    argv = ["sh", "-c", 'echo own >"$1"; read line; echo "$line"', "sh", "/own"]
    async with (
        cluster.exec("default", "web-0", "app", argv) as hit,
        cluster.exec("default", "web-0", "aside", argv) as beside,
        cluster.exec("default", "web-1", "app", argv) as other,
    ):
        own = tmp_path / "pods" / pod.uid / "root" / "own"
        await _until(own.exists)
        await cluster.signal_container("default", "web-0", "app", "TERM", **meant(pod))
        with pytest.raises(SessionLostError):
            await hit.read()
        for process in (beside, other):
            await process.write(b"alive\n")
            assert await process.read() == b"alive\n"
        await _until(lambda: cluster.store.get(Pod, "default", "web-0").ready)
        assert not own.exists(), "a new container has a new disk of its own"
    await cluster.close()


# Scheduling.


def test_a_volume_that_only_one_node_may_have_keeps_its_pod_there() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1)
        sim.store.put(replace(sim.volume(), node_terms=((ZONE,),)))
        assert (await sim.delete()).node == "sandbox-1"
        node = sim.store.get(Node, "", "sandbox-1")
        await sim.cluster.cordon(node.name, uid=node.uid, by="run-1")
        gone = sim.pod()
        await sim.cluster.delete_pod("default", "web-0", uid=gone.uid)
        await sim.until(lambda: any(pod.unschedulable for pod in sim.store.all(Pod)))
        why = "0/2 nodes are available: 1 node(s) were unschedulable, 1 node(s) had volume node affinity conflict"
        assert sim.pod().unschedulable == why
        await sim.cluster.uncordon(node.name, uid=node.uid, by="run-1")
        assert (await sim.replaced(gone)).node == "sandbox-1"

    simulated(check)


def test_a_cordon_outlives_a_crash_of_its_node() -> None:
    async def check(sim: Simulated) -> None:
        node = sim.store.get(Node, "", "sandbox-1")
        await sim.cluster.cordon(node.name, uid=node.uid, by="run-1")
        sim.cluster.crash_node("sandbox-1")
        await sim.until(lambda: sim.store.get(Node, "", "sandbox-1").ready)
        found = sim.store.get(Node, "", "sandbox-1")
        assert (found.unschedulable, found.cordoned_by) == (True, "run-1")

    simulated(check)


def test_a_cordon_that_somebody_lifted_leaves_no_mark() -> None:
    async def check(sim: Simulated) -> None:
        node = sim.store.get(Node, "", "sandbox-1")
        await sim.cluster.cordon(node.name, uid=node.uid, by="run-1")
        sim.store.put(replace(sim.store.get(Node, "", "sandbox-1"), unschedulable=False))
        await sim.cluster.uncordon(node.name, uid=node.uid, by="run-1")
        assert sim.store.get(Node, "", "sandbox-1") == node

    simulated(check)


# Expansion.


def test_the_file_system_grows_with_its_claim() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1)
        claim = sim.claim()
        async with sim.session() as session:
            before = session.facts.total_bytes
        await sim.cluster.expand_claim("default", claim.name, uid=claim.uid, storage="2560Mi")
        assert (sim.claim().capacity, sim.claim().requested) == ("1Gi", "2560Mi")
        await sim.until(lambda: sim.claim().capacity == "2560Mi")
        assert (sim.volume().capacity, sim.disk().total_bytes) == ("2560Mi", 2560 << 20)
        async with sim.session() as session:
            assert session.facts.total_bytes == before * 5 // 2

    simulated(check)


def test_a_class_whose_name_says_so_does_not_expand() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(1, storage_class="fixed-disk")
        claim = sim.claim()
        with pytest.raises(RefusedError, match="must support resize"):
            await sim.cluster.expand_claim("default", claim.name, uid=claim.uid, storage="2Gi")
        assert sim.claim() == claim

    simulated(check)


# Recreation.


def test_orphans_are_adopted_only_by_their_names_and_labels() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(2)
        web = sim.store.get(StatefulSet, "default", "web")
        document = dict(await sim.cluster.manifest("default", "web"))
        await sim.cluster.delete_statefulset("default", "web", uid=web.uid, orphan=True)
        sim.store.put(replace(sim.pod(1), labels={"app": "other"}))
        await sim.cluster.create(manifests.statefulset(name="we", replicas=0))
        await sim.cluster.create(document)
        await asyncio.sleep(10)
        new = sim.store.get(StatefulSet, "default", "web")
        assert sim.pod(0).controller_uid == new.uid
        assert sim.pod(1).controller_uid == "", "who has the name stands in the way, as on a real cluster"

    simulated(check)


def test_an_orphan_that_is_deleted_stays_away_until_somebody_wants_it_again() -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(2)
        web = sim.store.get(StatefulSet, "default", "web")
        document = await sim.cluster.manifest("default", "web")
        await sim.cluster.delete_statefulset("default", "web", uid=web.uid, orphan=True)
        await sim.cluster.delete_pod("default", "web-1", uid=sim.pod(1).uid)
        await asyncio.sleep(10)
        assert [pod.name for pod in sim.store.all(Pod)] == ["web-0"]
        await sim.cluster.create(document)
        await sim.ready(2)

    simulated(check)


# Namespaces, pods, budgets, autoscalers.


def test_a_namespace_goes_with_all_that_is_in_it() -> None:
    async def check(sim: Simulated) -> None:
        shop: dict[str, Any] = {"namespace": "shop"}
        meta = {"name": "config", "namespace": "shop"}
        await sim.cluster.apply(
            [
                manifests.statefulset(**shop),
                manifests.budget(min_available=1, **shop),
                manifests.autoscaler(**shop),
                {"kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}},
            ]
        )
        await sim.ready(2)
        await sim.cluster.delete_namespace("shop")
        assert sim.store.get(Namespace, "", "shop").terminating
        with pytest.raises(RefusedError, match="because it is being terminated"):
            await sim.cluster.create(manifests.statefulset(name="new", **shop))
        with pytest.raises(ConflictError):
            await sim.cluster.delete_namespace("shop")
        await sim.until(lambda: sim.store.find(Namespace, "", "shop") is None)
        left = [sim.store.all(kind) for kind in (StatefulSet, Pod, Claim, Budget, Autoscaler)]  # type: ignore[type-var]
        assert left == [[]] * 5
        await sim.until(lambda: sim.store.all(Volume) == [])
        with pytest.raises(NotFoundError):
            await sim.cluster.get_config("shop", "config")
        assert [namespace.name for namespace in sim.store.all(Namespace)] == ["default"]

    simulated(check)


def test_a_pod_of_ones_own_runs_and_is_nobodys() -> None:
    async def check(sim: Simulated) -> None:
        document: dict[str, Any] = {
            "kind": "Pod",
            "metadata": {"name": "alone", "namespace": "default", "labels": {"app": "alone"}},
            "spec": {"containers": [{"name": "app", "image": "x"}]},
        }
        await sim.cluster.create(document)
        await sim.ready(1)
        pod = sim.store.get(Pod, "default", "alone")
        assert (pod.controller_uid, pod.labels) == ("", {"app": "alone"})
        with pytest.raises(ConflictError):
            await sim.cluster.create(document)
        with pytest.raises(RefusedError, match="a sandbox's nodes have no processes"):
            await sim.cluster.create({**document, "spec": {**document["spec"], "hostPID": True}})

    simulated(check)


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [({"minAvailable": 2}, 0), ({"minAvailable": "50%"}, 0), ({"maxUnavailable": 1}, 0), ({"maxUnavailable": "50%"}, 1)],
)
def test_a_budget_reckons_with_the_replicas_that_are_wanted(limit: dict[str, Any], allowed: int) -> None:
    async def check(sim: Simulated) -> None:
        await sim.apply(3)
        document = manifests.budget(min_available=1)
        document["spec"] = {**limit, "selector": document["spec"]["selector"]}
        await sim.cluster.apply([document])
        await sim.cluster.delete_pod("default", "web-2", uid=sim.pod(2).uid)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sim.store.get(Budget, "default", "web").allowed == allowed

    simulated(check)


def test_budgets_and_autoscalers_are_watched() -> None:
    async def check(sim: Simulated) -> None:
        changes = sim.cluster.watch(Autoscaler, "default")
        assert await anext(changes) == Change(ChangeKind.SYNCED)
        scaled = {"kind": "ScaledObject", "metadata": {"name": "k"}, "spec": {"scaleTargetRef": {"name": "web"}}}
        await sim.cluster.apply([scaled])
        added = (await anext(changes)).object
        assert isinstance(added, Autoscaler)
        assert (added.kind, added.target) == ("ScaledObject", "Deployment/web")

    simulated(check)


# What is stored.


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_stored_is_there_again(tmp_path: Path) -> None:
    first = await SandboxCluster.open(tmp_path)
    meta = {"name": "config", "namespace": "default"}
    config = {"kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}}
    await first.apply([manifests.statefulset(), manifests.budget(min_available=1), manifests.autoscaler(), config])
    await _until(lambda: first.store.get(StatefulSet, "default", "web").ready_replicas == 2)
    await _until(lambda: first.store.get(Budget, "default", "web").allowed == 1)
    kinds: tuple[Any, ...] = (Namespace, Budget, Autoscaler, Node, StatefulSet)
    before = [first.store.all(kind) for kind in kinds]
    await first.close()
    second = await SandboxCluster.open(tmp_path)
    await _until(lambda: second.store.all(Budget))
    assert [second.store.all(kind) for kind in kinds] == before
    assert await second.get_config("default", "config") == {"a": "b"}
    await second.close()


async def test_what_an_older_version_stored_is_read(tmp_path: Path) -> None:
    first = await SandboxCluster.open(tmp_path)
    await first.apply([manifests.statefulset(namespace="shop"), manifests.budget(namespace="shop", min_available=1)])
    await _until(lambda: sum(pod.ready for pod in first.store.all(Pod)) == 2)
    await first.close()
    file = tmp_path / "state.json"
    state = json.loads(file.read_text())
    for later in ("namespaces", "autoscalers", "configs", "templates"):
        del state[later]
    for pod in state["pods"]:
        del pod["labels"], pod["shared_processes"]
    for budget in state["budgets"]:
        del budget["uid"]
    file.write_text(json.dumps(state))
    second = await SandboxCluster.open(tmp_path)
    assert [namespace.name for namespace in second.store.all(Namespace)] == ["default", "shop"]
    assert [pod.labels["app"] for pod in await second.list(Pod, "shop", {"app": "web"})] == ["web", "web"]
    await _until(lambda: second.store.all(Budget))
    assert second.store.get(Budget, "shop", "web").allowed == 1
    web, before = second.store.get(StatefulSet, "shop", "web"), {pod.uid for pod in second.store.all(Pod)}
    await second.restart_rollout("shop", "web", uid=web.uid, at="now")
    await _until(lambda: second.store.get(StatefulSet, "shop", "web").current_revision != web.current_revision)
    assert not before & {pod.uid for pod in second.store.all(Pod)}
    await second.close()
