"""`scale`: fewer replicas, or more, and back again.

Its undo is the count that chaosd found. It goes through `statefulsets/scale` and only if the count still is what chaosd
believes, so that somebody else's scaling is never overwritten. The undo is bound to the count and not to the UID that was
scaled, since `recreate` may have made the StatefulSet anew since; each write is bound to the UID that was read for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster, StatefulSet
from chaosd.errors import ConflictError, NotFoundError, NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Right, Scene, unless_refused

RIGHTS: tuple[Right, ...] = (
    ("get", "statefulsets.apps/scale"),
    ("update", "statefulsets.apps/scale"),
    ("list", "horizontalpodautoscalers.autoscaling"),  # what has one is not scaled
)


class Scale(Disruption):
    """Scale down and up again; finds claims and data that a scale-down takes away.

    In a script the count lasts until another step changes it, or the script ends."""

    rights: ClassVar[tuple[Right, ...]] = RIGHTS
    undone: ClassVar[str] = "The count of replicas that was found, unless somebody else changed it."

    kind: Literal["scale"]
    to: Annotated[
        int | None,
        Field(ge=0, description="Replicas to scale to; where it is left out, a number below the present one is drawn."),
    ] = None

    @property
    def scales(self) -> bool:
        """It does."""
        return True

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The count to scale to."""
        return {"to": rng.randrange(max(1, len(ordinals))) if self.to is None else self.to}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """From the count that is wanted now; the undo leads to the one that chaosd found."""
        statefulset = replicas_now(scene)
        # In a script the present count is chaosd's, too, and stands there if it dies before it writes the new one.
        undo = scale_undo("scale", scene, scene.target.replicas, (statefulset.replicas, parameters["to"]))
        more = {"uid": statefulset.uid, "from": statefulset.replicas, "to": parameters["to"]}
        return Prepared((), undo, more, frozenset(statefulset.pod_names()[parameters["to"] :]))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Scale, then wait until the target has converged at the new count."""
        before, to = prepared.more["from"], prepared.more["to"]
        await set_replicas_first(scene, prepared.more["uid"], before, to)
        await scene.observer.converged(to, scene.timeout_seconds)
        await _until_claims_are_gone(scene, before, to)
        return {"from": before, "to": to}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """The count that was found."""
        return await restore_replicas(cluster, undo, timeout_seconds)


async def _until_claims_are_gone(scene: Scene, before: int, to: int) -> None:
    """With `whenScaled: Delete`. The controller does not look again at a claim that it found on its way out, so a replica
    that is wanted again in that moment never comes back (seen on Kubernetes 1.37)."""
    statefulset = scene.observer.view.statefulset
    if statefulset is None or statefulset.retention_when_scaled != "Delete":
        return
    removed = tuple(f"-{replica.rpartition('/')[2]}" for replica in scene.target.replicas_up_to(before)[to:])

    def gone(view: View) -> bool | None:
        return None if any(claim.endswith(removed) for claim in view.claims) else True

    await scene.observer.wait(gone, scene.timeout_seconds, "the claims of the replicas that were scaled away to be gone")


def replicas_now(scene: Scene) -> StatefulSet:
    """The StatefulSet with the count that is wanted now. Raises NotReadyError when it is gone."""
    statefulset = scene.observer.view.statefulset
    if statefulset is None:
        raise NotReadyError(f"{scene.target.key} cannot be scaled: it is gone")
    return statefulset


def refuse_more_than(statefulset: StatefulSet, to: int) -> None:
    """Raises NotReadyError where scaling to a count is no way down."""
    if to >= statefulset.replicas:
        raise NotReadyError(f"{statefulset.key} has {statefulset.replicas} replicas, so scaling to {to} is no way down")


def scale_undo(kind: str, scene: Scene, restore: int, wrote: Sequence[int]) -> dict[str, Any]:
    """What leads back to the count `restore` from the counts that chaosd may have left."""
    where = {"namespace": scene.target.namespace, "statefulset": scene.target.statefulset}
    return {"kind": kind, **where, "restore": restore, "wrote": sorted({*wrote})}


async def restore_replicas(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
    """Restore the count, if it still is what chaosd wrote. Says what was done. Raises ConflictError when it is another,
    ClusterError."""
    namespace, name, wrote, restore = undo["namespace"], undo["statefulset"], undo["wrote"], undo["restore"]
    try:
        async for attempt in patiently(timeout_seconds):
            with attempt:
                found = await cluster.get(StatefulSet, namespace, name)
    except NotFoundError:
        return f"{namespace}/{name} is gone, and with it the count of its replicas"
    now = found.replicas
    if now == restore:
        return f"{namespace}/{name} has its {restore} replicas"
    if now not in wrote:
        counts = " or ".join(str(count) for count in wrote if count != restore)
        raise ConflictError(
            f"{namespace}/{name} has {now} replicas, neither the {counts} that chaosd wrote nor the {restore} that it "
            f"found: somebody else scaled it, so it is left; kubectl -n {namespace} scale statefulset {name} "
            f"--replicas={restore} if that was not wanted"
        )
    await set_replicas(cluster, found.key, found.uid, now, restore, timeout_seconds)
    return f"{namespace}/{name} scaled from {now} back to {restore} replicas"


async def set_replicas_first(scene: Scene, uid: str, expected: int, to: int) -> None:
    """Scale, as the first act of a disruption. Raises BlockedError where the API server refuses it, ConflictError."""
    key = scene.target.key
    scaling = set_replicas(scene.cluster, key, uid, expected, to, scene.timeout_seconds)
    await unless_refused(scaling, f"{key} cannot be scaled to {to}")


async def set_replicas(cluster: Cluster, key: str, uid: str, expected: int, to: int, timeout_seconds: float) -> None:
    """Scale NAMESPACE/STATEFULSET. Idempotent: an attempt whose answer was lost is recognised by its result. Raises
    ConflictError, ClusterError."""
    namespace, name = key.split("/")
    async for attempt in patiently(timeout_seconds):
        with attempt:
            try:
                await unbroken(cluster.scale(namespace, name, uid=uid, replicas=to, expected=expected))
            except ConflictError:
                found = await cluster.get(StatefulSet, namespace, name)
                if (found.uid, found.replicas) != (uid, to):
                    raise
