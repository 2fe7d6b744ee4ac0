"""Targets that are unlike the example, and hands that are not chaosd's: what is well passes, what cannot be tested is said,
and nobody's storage is accused of what somebody else did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from chaosd.checkers.verdict import Value
from chaosd.cluster.port import Node, StatefulSet
from chaosd.errors import NotReadyError
from chaosd.generator import Plan
from chaosd.simulation.world import NAME, NAMESPACE, TEMPLATE, Outcome, Scenario, World, simulate
from tests.seeds import FRESH

DISRUPTIONS = (
    {"kind": "pod-delete"},
    {"kind": "pod-evict"},
    {"kind": "container-kill"},
    {"kind": "scale"},
    {"kind": "scale-flap"},
    {"kind": "node-drain"},
    {"kind": "recreate", "deletion": "orphan", "mayDelete": True},
)
MOUNT = {"name": TEMPLATE, "mountPath": "/data"}


def container(name: str, *mounts: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": name, "volumeMounts": list(mounts)}


def pod(*containers: Mapping[str, Any]) -> dict[str, Any]:
    return {"template": {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": list(containers)}}}


def template(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"metadata": {"name": name}, "spec": spec}


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "OnDelete": {"updateStrategy": {"type": "OnDelete"}},
    "a partition": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
    "two volumeClaimTemplates": {
        "volumeClaimTemplates": [template("logs"), template(TEMPLATE)],
        **pod(container("server", MOUNT, {"name": "logs", "mountPath": "/logs"})),
    },
    "sidecars": pod(container("proxy"), container("server", MOUNT), container("agent")),
    "several mounts of one volume": pod(container("server", MOUNT, {"name": TEMPLATE, "mountPath": "/also"})),
    "subPath": pod(container("server", {**MOUNT, "subPath": "db"})),
    "a sidecar that only reads": pod(container("backup", {**MOUNT, "readOnly": True}), container("server", MOUNT)),
    "ordinals from 5": {"ordinals": {"start": 5}},
    "Parallel": {"podManagementPolicy": "Parallel"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_its_shape_a_healthy_target_passes(shape: str) -> None:
    outcome = simulate(Scenario(FRESH, rounds=8, disruptions=DISRUPTIONS, spec=SHAPES[shape]))
    coverage = outcome.finished.verdict.coverage
    assert (outcome.judgement.value, coverage["disruptions_not_done"]) == (Value.PASS, {}), outcome.judgement
    assert sum(coverage["disruptions"].values()) == outcome.rounds == 8


def test_a_new_revision_that_waits_for_deletions_is_not_rolled_out_by_chaosd() -> None:
    def update(world: World, plan: Plan) -> None:
        if plan.number == 2:
            found = world.cluster.store.get(StatefulSet, NAMESPACE, NAME)
            act = world.cluster.restart_rollout(NAMESPACE, NAME, uid=found.uid, at="2026-01-01T00:00:00Z")
            _later(lambda: act, 0.0)

    outcome = simulate(Scenario(FRESH, rounds=3, disruptions=DISRUPTIONS[:1], spec=SHAPES["OnDelete"]), update)
    assert outcome.finished.verdict.coverage["disruptions_blocked"] == {"rollout": 2}
    assert outcome.judgement.value is Value.PASS


def test_a_path_that_may_only_be_read_is_refused_with_the_mend() -> None:
    with pytest.raises(NotReadyError, match="Read-only file system: mount it writable, or name a container that does"):
        simulate(Scenario(FRESH, spec=pod(container("server", {**MOUNT, "readOnly": True}))))


def disturbed(act: Callable[[World], Coroutine[Any, Any, None]], seconds: float) -> Outcome:
    """Somebody else acts in the middle of the third of five rounds."""

    def hook(world: World, plan: Plan) -> None:
        if plan.number == 3:
            _later(lambda: act(world), seconds)

    return simulate(Scenario(FRESH, rounds=5, disruptions=({"kind": "pod-delete"}, {"kind": "scale"})), hook)


def _later(act: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
    async def waited() -> None:
        await asyncio.sleep(seconds)
        await act()

    task = asyncio.get_running_loop().create_task(waited())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _delete_orphaning(world: World) -> None:
    found = world.cluster.store.get(StatefulSet, NAMESPACE, NAME)
    await world.cluster.delete_statefulset(NAMESPACE, NAME, uid=found.uid, orphan=True)


async def _delete_with_pods(world: World) -> None:
    found = world.cluster.store.get(StatefulSet, NAMESPACE, NAME)
    await world.cluster.delete_statefulset(NAMESPACE, NAME, uid=found.uid, orphan=False)


async def _delete_namespace(world: World) -> None:
    await world.cluster.delete_namespace(NAMESPACE)


async def _forget_a_node(world: World) -> None:
    world.cluster.store.remove(world.cluster.store.all(Node)[0])


def _fight(count: int) -> Callable[[World], Coroutine[Any, Any, None]]:
    """An autoscaler that nobody declared."""

    async def fight(world: World) -> None:
        for _ in range(60):
            found = await world.cluster.get(StatefulSet, NAMESPACE, NAME)
            if found.replicas != count:
                await world.cluster.scale(NAMESPACE, NAME, uid=found.uid, replicas=count, expected=found.replicas)
            await asyncio.sleep(0.5)

    return fight


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(
    "act",
    [_delete_orphaning, _delete_with_pods, _delete_namespace, _forget_a_node, _fight(4), _fight(2)],
    ids=["deleted, pods left", "deleted with its pods", "namespace deleted", "node gone", "scaled up", "scaled down"],
)
def test_what_somebody_else_does_is_no_fault_of_storage(
    act: Callable[[World], Coroutine[Any, Any, None]], seconds: float
) -> None:
    assert disturbed(act, seconds).classes == []


def test_what_went_with_its_namespace_is_told() -> None:
    outcome = disturbed(_delete_namespace, 0.1)
    assert [note.partition(": ")[2] for note in outcome.judgement.by_policy] == ["deleted with its namespace"] * 3
    assert outcome.finished.error is not None
