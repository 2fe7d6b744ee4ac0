"""`pod-delete`: delete pods, gracefully or by force, and let the StatefulSet bring them back.

Kubernetes puts it right itself, so there is nothing to undo. The delete has the pod's UID as precondition, so that it
is safe to repeat and never hits the pod that came after.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field

from chaosd.cluster.observer import View
from chaosd.errors import ConflictError, NotFoundError, NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Scene, patiently


class PodDelete(Disruption):
    """Delete pods; finds what does not survive a restart of the pod, such as data that never was on the volume."""

    kind: Literal["pod-delete"]
    grace: Annotated[
        Annotated[int, Field(ge=0)] | Literal["default"],
        Field(description="Grace period in seconds; 0 deletes by force; `default` takes the pod's own."),
    ] = "default"
    count: Annotated[Annotated[int, Field(ge=1)] | Literal["all"], Field(description="How many pods at once.")] = 1
    pick: Annotated[Literal["random", "lowest", "highest"], Field(description="Which pods, where not all are deleted.")] = (
        "random"
    )
    ordinals: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(description="These ordinals and no others."),
    ] = ()

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Ordinals and grace."""
        count = len(ordinals) if self.count == "all" else min(self.count, len(ordinals))
        if self.ordinals:
            chosen = list(self.ordinals)
        elif self.pick == "random":
            chosen = sorted(rng.sample(list(ordinals), count))
        else:
            chosen = sorted(ordinals)[:count] if self.pick == "lowest" else sorted(ordinals)[-count:]
        return {"ordinals": chosen, "grace": self.grace}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The pods of these ordinals as they are now."""
        target, deletes = scene.target, []
        for ordinal in parameters["ordinals"]:
            name = f"{target.statefulset}-{ordinal}"
            pod = scene.observer.view.pods.get(name)
            if pod is None:
                raise NotReadyError(f"{target.namespace}/{name} cannot be deleted: there is no such pod")
            deletes.append({"replica": target.replica(name), "uid": pod.uid, "node": pod.node})
        names = frozenset(doomed["replica"].rpartition("/")[2] for doomed in deletes)
        return Prepared(tuple(deletes), None, {"grace": parameters["grace"]}, names)

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Delete them all, then wait until each is gone."""
        grace = prepared.more["grace"]
        grace_seconds = None if grace == "default" else int(grace)
        for doomed in prepared.deletes:
            namespace, name = doomed["replica"].split("/")
            async for attempt in patiently(scene.timeout_seconds):
                # Not found, or another UID: an earlier attempt, or somebody else, was quicker.
                with attempt, suppress(NotFoundError, ConflictError):
                    await scene.cluster.delete_pod(namespace, name, uid=doomed["uid"], grace_seconds=grace_seconds)
        uids = {doomed["uid"] for doomed in prepared.deletes}

        def gone(view: View) -> bool | None:
            return None if uids & {pod.uid for pod in view.pods.values()} else True

        await scene.observer.wait(gone, scene.timeout_seconds, "the deleted pods to be gone")
        return {"gone": sorted(uids)}
