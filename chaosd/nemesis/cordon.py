"""Cordons: a node that takes no pods for a while, as `node-drain` and `reschedule` need it, and its undo.

Only a cordon of chaosd's own is lifted: who set it stands on the node, and in the undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import Cluster, Node, Pod
from chaosd.errors import NotFoundError, NotReadyError
from chaosd.nemesis.base import Right, Scene

CLUSTER_RIGHTS: tuple[Right, ...] = tuple((verb, "nodes") for verb in ("get", "list", "watch", "patch"))
UNDONE = "The cordon, if it is chaosd's own still."


def node_of(scene: Scene, pod: Pod) -> Node:
    """The node that a pod runs on. Raises NotReadyError where it cannot be cordoned."""
    if "node" in scene.observer.view.unobservable:
        raise NotReadyError(f"nodes may not be watched: {scene.observer.view.unobservable['node']}")
    node = scene.observer.view.all_nodes.get(pod.node)
    if node is None:
        raise NotReadyError(f"{scene.target.namespace}/{pod.name} is on no node that could be cordoned")
    if node.unschedulable:
        who = f" by {node.cordoned_by}" if node.cordoned_by else ""
        raise NotReadyError(f"node {node.name} of {pod.name} is cordoned already{who}: uncordon it first")
    return node


def undo_of(kind: str, scene: Scene, node: Node) -> dict[str, str]:
    """What lifts the cordon that is about to be set."""
    return {"kind": kind, "node": node.name, "uid": node.uid, "by": scene.by}


async def cordon(scene: Scene, node: Mapping[str, str]) -> None:
    """Cordon the node that an undo names. Raises ConflictError when somebody else was quicker."""
    async for attempt in patiently(scene.timeout_seconds):
        with attempt:
            await unbroken(scene.cluster.cordon(node["node"], uid=node["uid"], by=node["by"]))


async def uncordon(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
    """Lift the cordon that an undo names. Raises ConflictError when it is somebody else's, or the node is another."""
    try:
        async for attempt in patiently(timeout_seconds):
            with attempt:
                await unbroken(cluster.uncordon(undo["node"], uid=undo["uid"], by=undo["by"]))
    except NotFoundError:
        return f"node {undo['node']} is gone, and its cordon with it"
    return f"node {undo['node']} is not cordoned by chaosd any more"
