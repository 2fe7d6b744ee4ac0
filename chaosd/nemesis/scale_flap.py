"""`scale-flap`: scale down and up again before the way down has ended, as an autoscaler does that cannot make up its mind.

Its undo is that of `scale`: the count that was wanted, if the one that stands there is still chaosd's.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster
from chaosd.errors import DisruptionError, NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Right, Scene
from chaosd.nemesis.scale import (
    RIGHTS,
    refuse_more_than,
    replicas_now,
    restore_replicas,
    scale_undo,
    set_replicas,
    set_replicas_first,
)


class ScaleFlap(Disruption):
    """Scale down, and up again while pods are still on their way out; finds claims, attachments and pods that are mixed up
    when the controller changes its mind.

    Blocked under `whenScaled: Delete`: the controller does not look again at a claim that it found on its way out, so a
    replica that is wanted again in that moment never comes back (seen on Kubernetes 1.37)."""

    rights: ClassVar[tuple[Right, ...]] = RIGHTS
    undone: ClassVar[str] = "The count of replicas that was found, unless somebody else changed it."

    kind: Literal["scale-flap"]
    to: Annotated[
        int | None,
        Field(
            ge=0, description="Replicas to scale down to; where it is left out, a number below the present one is drawn."
        ),
    ] = None
    times: Annotated[int, Field(ge=1, le=100, description="How often, one after the other.")] = 3

    @property
    def scales(self) -> bool:
        """It does."""
        return True

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The lower count, and how often."""
        return {"to": rng.randrange(max(1, len(ordinals))) if self.to is None else self.to, "times": self.times}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """From the count that is wanted now."""
        statefulset, to = replicas_now(scene), parameters["to"]
        if statefulset.retention_when_scaled == "Delete":
            raise NotReadyError(f"{statefulset.key} has whenScaled: Delete: claims on their way out are not made again")
        refuse_more_than(statefulset, to)
        undo = scale_undo("scale-flap", scene, restore=statefulset.replicas, wrote=(to,))
        more = {"uid": statefulset.uid, "from": statefulset.replicas, "to": to, "times": parameters["times"]}
        return Prepared((), undo, more, frozenset(statefulset.pod_names()[to:]))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Flap, then wait until the target has converged at the count that it had."""
        above, below = prepared.more["from"], prepared.more["to"]
        flaps = [await _flapped(scene, prepared) for _ in range(prepared.more["times"])]
        await scene.observer.converged(above, scene.timeout_seconds)
        if not any(flap["still_there"] for flap in flaps):
            raise DisruptionError(
                f"scaled down to {below} and up to {above}, but each way down had ended before the way up"
            )
        return {"from": above, "to": below, "flaps": flaps}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """The count that was found."""
        return await restore_replicas(cluster, undo, timeout_seconds)


async def _flapped(scene: Scene, prepared: Prepared) -> dict[str, Any]:
    """Down and up once; of the pods that were to go: those that were on their way, and those that were there still, when
    the count was raised again."""
    uid, above, below = (prepared.more[key] for key in ("uid", "from", "to"))

    def on_their_way(view: View) -> list[str] | None:
        there = {name: view.pods.get(name) for name in prepared.takes}
        return sorted(name for name, pod in there.items() if pod is None or pod.deleting) or None

    await set_replicas_first(scene, uid, above, below)
    leaving = await scene.observer.wait(on_their_way, scene.timeout_seconds, "the first pod to be on its way out")
    still_there = sorted(prepared.takes & set(scene.observer.view.pods))
    await set_replicas(scene.cluster, scene.target.key, uid, below, above, scene.timeout_seconds)
    return {"leaving": leaving, "still_there": still_there}
