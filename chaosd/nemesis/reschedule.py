"""`reschedule`: make a replica come back on another node, so that its volume must be detached here and attached there.

The cordon is lifted once the pod is Ready there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from chaosd.cluster.affinity import places
from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster, Node, Pod, Volume
from chaosd.errors import NotReadyError
from chaosd.nemesis import cordon
from chaosd.nemesis.base import Prepared, Right, Scene
from chaosd.nemesis.pods import OfOnePod, delete, doomed, names, picked


class Reschedule(OfOnePod):
    """Cordon the node of a replica and delete its pod, so that it comes back elsewhere; finds volumes that do not move,
    are attached to the wrong node, or come back as another disk.

    Blocked where no other node is Ready, takes pods, and satisfies the node affinity of the pod's volumes."""

    rights: ClassVar[tuple[Right, ...]] = (("delete", "pods"),)
    cluster_rights: ClassVar[tuple[Right, ...]] = cordon.CLUSTER_RIGHTS
    undone: ClassVar[str] = cordon.UNDONE

    kind: Literal["reschedule"]

    @property
    def awaits_pods(self) -> bool:
        """Until it is Ready elsewhere."""
        return True

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The pod and its node, and where else it might go."""
        (pod,) = picked(scene, parameters)
        node = cordon.node_of(scene, pod)
        elsewhere = _elsewhere(scene, pod, node)
        undo = cordon.undo_of("reschedule", scene, node)
        return Prepared(doomed(scene, [pod]), undo, {"node": node.name, "elsewhere": elsewhere}, names([pod]))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Cordon, delete, and wait until the pod is Ready on another node."""
        assert prepared.undo is not None, "prepared so"
        (one,) = prepared.deletes
        await cordon.cordon(scene, prepared.undo)
        await delete(scene, one)
        now = await _ready_elsewhere(scene, one)
        return {"gone": [one["uid"]], "uid": now.uid, "node": {"was": one["node"], "is": now.node}}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Uncordon."""
        return await cordon.uncordon(cluster, undo, timeout_seconds)


def _elsewhere(scene: Scene, pod: Pod, node: Node) -> list[str]:
    volumes = _volumes(scene.observer.view, pod)
    others = [other for other in scene.observer.view.all_nodes.values() if other.name != node.name]
    if found := places(others, volumes):
        return found
    if not places(others, ()):
        raise NotReadyError(f"{pod.name} cannot move from {node.name}: no other node is Ready and takes pods")
    bound = ", ".join(volume.name for volume in volumes if volume.node_terms)
    raise NotReadyError(f"{pod.name} cannot move from {node.name}: the node affinity of {bound} allows no other node")


def _volumes(view: View, pod: Pod) -> list[Volume]:
    claims = [view.claims[name] for name in pod.claims.values() if name in view.claims]
    return [view.volumes[claim.volume] for claim in claims if claim.volume in view.volumes]


async def _ready_elsewhere(scene: Scene, one: Mapping[str, str]) -> Pod:
    name = one["replica"].rpartition("/")[2]

    def moved(view: View) -> Pod | None:
        pod = view.pods.get(name)
        return pod if pod and pod.uid != one["uid"] and pod.node != one["node"] and pod.ready else None

    return await scene.observer.wait(moved, scene.timeout_seconds, f"{name} to be Ready on another node than {one['node']}")
