"""`pod-delete`: delete pods, gracefully or by force, and let the StatefulSet bring them back.

Kubernetes puts it right itself, so there is nothing to undo. The delete has the pod's UID as precondition, so that it
is safe to repeat and never hits the pod that came after. `when` waits for a moment that is worse than others: each is seen
in the objects and told in the evidence, or the disruption did not happen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.observer import View
from chaosd.cluster.port import Pod
from chaosd.errors import BlockedError, DisruptionError, NotReadyError
from chaosd.nemesis.base import NOT_READY, Prepared, Right, Scene, all_done
from chaosd.nemesis.pods import OfSeveralPods, delete, doomed, may_be_deleted, names, picked, until_gone

# A write is a few milliseconds long on a fast disk.
_LOOK_SECONDS = 0.001


class PodDelete(OfSeveralPods):
    """Delete pods; finds what does not survive a restart of the pod, such as data that never was on the volume.

    With grace 0 the deletion is forced: the pod's object is gone at once, its processes may run on for a while."""

    rights: ClassVar[tuple[Right, ...]] = (("delete", "pods"),)

    kind: Literal["pod-delete"]
    grace: Annotated[
        Annotated[int, Field(ge=0)] | Literal["default"],
        Field(description="Grace period in seconds; 0 deletes by force; `default` takes the pod's own."),
    ] = "default"
    when: Annotated[
        Literal["now", "writing", "mounting", "another-starting"],
        Field(
            description="`now`; `writing`: while writes to the pod are unanswered; `mounting`: its replacement is deleted, "
            "too, once it is scheduled and does not run yet; `another-starting`: one more pod is deleted while the "
            "replacement starts."
        ),
    ] = "now"

    @property
    def awaits_pods(self) -> bool:
        """To see them start."""
        return self.when in ("mounting", "another-starting")

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Pods, grace and moment; with `another-starting` also the order in which the others are tried."""
        drawn = {**super().draw(rng, ordinals, turn), "grace": self.grace, "when": self.when}
        if self.when == "another-starting":
            others = [ordinal for ordinal in ordinals if ordinal not in drawn.get("ordinals", ())]
            drawn["then"] = rng.sample(others, len(others))
        return drawn

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The pods as they are now."""
        first = picked(scene, parameters)
        then = [_another(scene, first, parameters["then"])] if parameters["when"] == "another-starting" else []
        more = {"grace": parameters["grace"], "when": parameters["when"]}
        return Prepared(doomed(scene, [*first, *then]), None, more, names([*first, *then]))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Delete them when the moment has come, then wait until each is gone."""
        await may_be_deleted(scene, prepared.deletes)
        grace = prepared.more["grace"]
        act = _MOMENTS[prepared.more["when"]]
        evidence = await act(scene, prepared, None if grace == "default" else int(grace))
        uids = {one["uid"] for one in prepared.deletes}
        await until_gone(scene, uids)
        return {"gone": sorted(uids), **evidence}


def _another(scene: Scene, first: Sequence[Pod], ordinals: Sequence[int]) -> Pod:
    for ordinal in ordinals:
        pod = scene.observer.view.pods.get(f"{scene.target.statefulset}-{ordinal}")
        if pod and pod not in first:
            return pod
    raise NotReadyError(f"{scene.target.key} has no other pod that could be deleted while one starts")


async def _now(scene: Scene, prepared: Prepared, grace_seconds: int | None) -> dict[str, Any]:
    await all_done(delete(scene, one, grace_seconds) for one in prepared.deletes)
    return {}


async def _writing(scene: Scene, prepared: Prepared, grace_seconds: int | None) -> dict[str, Any]:
    """Each as soon as it is written to."""

    async def strike(one: Mapping[str, str]) -> str:
        replica = one["replica"]
        try:
            async with asyncio.timeout(scene.timeout_seconds):
                while not scene.is_writing(replica):  # noqa: ASYNC110 - what it looks at tells nobody that it changed
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError as error:
            waited = f"waited {scene.timeout_seconds:.0f} s for a write to {replica}: give the experiment files to write"
            raise BlockedError(waited, NOT_READY) from error
        await delete(scene, one, grace_seconds)
        return replica

    return {"writing": await all_done(map(strike, prepared.deletes))}


async def _mounting(scene: Scene, prepared: Prepared, grace_seconds: int | None) -> dict[str, Any]:
    """Each, and its replacement once that has a node and does not run yet."""

    async def strike(one: Mapping[str, str]) -> Mapping[str, str]:
        await delete(scene, one, grace_seconds)
        new = await _replacement(scene, one)
        if not (new.node and _is_starting(new)):
            raise DisruptionError(f"{one['replica']} was deleted, but its replacement ran before it could be, too")
        (again,) = doomed(scene, [new])
        await delete(scene, again, grace_seconds)
        await until_gone(scene, {new.uid})
        return again

    return {"mounting": await all_done(map(strike, prepared.deletes))}


async def _replacement(scene: Scene, one: Mapping[str, str]) -> Pod:
    """The pod that came in the place of another, once it has a node."""
    name = one["replica"].rpartition("/")[2]

    def scheduled(view: View) -> Pod | None:
        pod = view.pods.get(name)
        return pod if pod and pod.uid != one["uid"] and pod.node else None

    return await scene.observer.wait(scheduled, scene.timeout_seconds, f"the replacement of {name} to be scheduled")


async def _another_starting(scene: Scene, prepared: Prepared, grace_seconds: int | None) -> dict[str, Any]:
    """The last one while a replacement of the others starts."""
    *first, last = prepared.deletes
    for one in first:
        await delete(scene, one, grace_seconds)
    gone = {one["replica"].rpartition("/")[2]: one["uid"] for one in first}

    def replaced(view: View) -> list[Pod] | None:
        return [pod for name, uid in gone.items() if (pod := view.pods.get(name)) and pod.uid != uid] or None

    new = await scene.observer.wait(replaced, scene.timeout_seconds, "a replacement of the deleted pods")
    starting = [pod for pod in new if _is_starting(pod)]
    if not starting:
        raise DisruptionError(f"{new[0].name} was Ready again before {last['replica']} could be deleted")
    await delete(scene, last, grace_seconds)
    return {"starting": [{"replica": one["replica"], "uid": one["uid"]} for one in doomed(scene, starting)]}


def _is_starting(pod: Pod) -> bool:
    return pod.phase == "Pending" and not pod.ready and not pod.deleting


_MOMENTS = {"now": _now, "writing": _writing, "mounting": _mounting, "another-starting": _another_starting}
