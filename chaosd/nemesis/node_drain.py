"""`node-drain`: what `kubectl drain` does to a target: its node takes no more pods, and those that are there are evicted.

Only the target's own pods are evicted, whoever else is on the node.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster
from chaosd.nemesis import cordon, eviction
from chaosd.nemesis.base import Prepared, Right, Scene
from chaosd.nemesis.pods import OfOnePod, doomed, names, picked


class NodeDrain(OfOnePod):
    """Cordon the node of a replica, and evict the target's pods from it as far as PodDisruptionBudgets allow; finds volumes
    that do not follow their pods to another node, and budgets that are not what they seem.

    Pods that fit nowhere else stay Pending until the node is uncordoned. Blocked where the node is cordoned already, and
    where a budget allows no eviction."""

    rights: ClassVar[tuple[Right, ...]] = eviction.RIGHTS
    cluster_rights: ClassVar[tuple[Right, ...]] = cordon.CLUSTER_RIGHTS
    undone: ClassVar[str] = cordon.UNDONE

    kind: Literal["node-drain"]
    patience: eviction.Patience = eviction.PATIENCE_SECONDS

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica whose node is drained, and patience."""
        return {**super().draw(rng, ordinals, turn), "patience": self.patience}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The node, and the target's pods on it."""
        (pod,) = picked(scene, parameters)
        node = cordon.node_of(scene, pod)
        present = scene.observer.view.pods
        pods = [present[name] for name in sorted(present) if present[name].node == node.name]
        undo = cordon.undo_of("node-drain", scene, node)
        more = {"node": node.name, "patience": parameters["patience"]}
        return Prepared(doomed(scene, pods), undo, more, names(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Cordon, evict, and wait until the pods are elsewhere, or can be nowhere."""
        assert prepared.undo is not None, "prepared so"
        await cordon.cordon(scene, prepared.undo)
        evictions = await eviction.evict(scene, prepared.deletes, prepared.more["patience"])
        evidence = {"gone": sorted(one["uid"] for one in prepared.deletes), "evictions": evictions}
        return {**evidence, **await _settled(scene, prepared.takes)}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Uncordon."""
        return await cordon.uncordon(cluster, undo, timeout_seconds)


async def _settled(scene: Scene, drained: Collection[str]) -> dict[str, Any]:
    """The nodes of those that are Ready again, and those that fit nowhere, for whom others may have to wait."""

    def settled(view: View) -> dict[str, Any] | None:
        there = {name: view.pods.get(name) for name in drained}
        moved = {name: pod.node for name, pod in sorted(there.items()) if pod and pod.ready and not pod.deleting}
        pending = sorted(name for name, pod in there.items() if pod and pod.unschedulable)
        absent = [name for name, pod in there.items() if pod is None and (pending or name not in _wanted(view))]
        done = len(moved) + len(pending) + len(absent) == len(drained)
        return {"moved": moved, "pending": pending} if done else None

    return await scene.observer.wait(settled, scene.timeout_seconds, "the drained pods to be Ready elsewhere")


def _wanted(view: View) -> tuple[str, ...]:
    """A scaling at the same time may take drained pods away for good."""
    return view.statefulset.pod_names() if view.statefulset else ()
