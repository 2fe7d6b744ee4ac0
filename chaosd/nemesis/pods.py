"""Which pods a disruption is about, and what is done to them in the same way by several."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Pod
from chaosd.errors import ConflictError, NotFoundError, NotReadyError
from chaosd.nemesis.base import Disruption, Scene, unless_refused


class OfPods(Disruption):
    """The part of a spec that says how pods are picked."""

    pick: Annotated[
        Literal["random", "lowest", "highest", "round-robin", "leader"],
        Field(description="Which, where not all: drawn, by ordinal, by turn, or the one that has `leaderLabel` then."),
    ] = "random"
    leader_label: Annotated[
        str,
        Field(
            alias="leaderLabel",
            pattern=r"^([^=\s]+=[^=\s]*)?$",
            description="The label of the leader's pod, such as `role=primary`; for `pick: leader`.",
        ),
    ] = ""

    @model_validator(mode="after")
    def _a_leader_has_a_label(self) -> OfPods:
        if (self.pick == "leader") != bool(self.leader_label):
            raise ValueError("pick: leader and leaderLabel belong together: give both, or neither")
        return self

    def _picked(self, rng: random.Random, ordinals: Sequence[int], turn: int, count: int) -> dict[str, Any]:
        """Parameters: the `ordinals`, or the `leader`'s label."""
        present = sorted(ordinals)
        count = min(count, len(present))
        if self.pick == "leader":
            return {"leader": self.leader_label}
        if self.pick == "round-robin":
            return {"ordinals": sorted(present[(turn * count + i) % len(present)] for i in range(count))}
        if self.pick == "random":
            return {"ordinals": sorted(rng.sample(present, count))}
        return {"ordinals": present[:count] if self.pick == "lowest" else present[-count:]}


class OfOnePod(OfPods):
    """The part of a spec that says which pod."""

    ordinal: Annotated[int | None, Field(ge=0, description="This ordinal, and no other.")] = None

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Its ordinal, or the leader's label."""
        return {"ordinals": [self.ordinal]} if self.ordinal is not None else self._picked(rng, ordinals, turn, 1)


class OfSeveralPods(OfPods):
    """The part of a spec that says which pods, and how many."""

    count: Annotated[Annotated[int, Field(ge=1)] | Literal["all"], Field(description="How many pods at once.")] = 1
    ordinals: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(description="These ordinals and no others."),
    ] = ()

    @model_validator(mode="after")
    def _one_leader(self) -> OfSeveralPods:
        if self.pick == "leader" and (self.count != 1 or self.ordinals):
            raise ValueError("pick: leader is one pod: leave count and ordinals out")
        return self

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Ordinals, or the leader's label."""
        if self.ordinals:
            return {"ordinals": list(self.ordinals)}
        return self._picked(rng, ordinals, turn, len(ordinals) if self.count == "all" else self.count)


def picked(scene: Scene, parameters: Mapping[str, Any]) -> list[Pod]:
    """The pods that drawn parameters mean now. Raises NotReadyError where they are not there."""
    if label := parameters.get("leader"):
        return [_leader(scene, label)]
    if not parameters["ordinals"]:
        raise NotReadyError(f"{scene.target.key} has no replica that could be disturbed")
    return [_present(scene, ordinal) for ordinal in parameters["ordinals"]]


def doomed(scene: Scene, pods: Iterable[Pod]) -> tuple[Mapping[str, str], ...]:
    """How the history tells pods that will be gone."""
    return tuple({"replica": scene.target.replica(pod.name), "uid": pod.uid, "node": pod.node} for pod in pods)


def names(pods: Iterable[Pod]) -> frozenset[str]:
    """Their names."""
    return frozenset(pod.name for pod in pods)


async def delete(scene: Scene, doomed: Mapping[str, str], grace_seconds: int | None = None) -> None:
    """Delete a pod; one that is gone, or was replaced, is left. Its UID is the precondition, so that it is safe to repeat
    and never hits the pod that came after. Raises BlockedError where the API server refuses it."""
    namespace, name = doomed["replica"].split("/")
    async for attempt in patiently(scene.timeout_seconds):
        with attempt, suppress(NotFoundError, ConflictError):
            deleting = scene.cluster.delete_pod(namespace, name, uid=doomed["uid"], grace_seconds=grace_seconds)
            await unless_refused(unbroken(deleting), f"{name} cannot be deleted")


async def may_be_deleted(scene: Scene, doomed: Sequence[Mapping[str, str]]) -> None:
    """Ask first whether any of several may not be, such as for a webhook's sake, so that not only some are. Raises
    BlockedError."""
    for one in doomed if len(doomed) > 1 else ():
        namespace, name = one["replica"].split("/")
        async for attempt in patiently(scene.timeout_seconds):
            with attempt, suppress(NotFoundError, ConflictError):
                asked = scene.cluster.delete_pod(namespace, name, uid=one["uid"], dry_run=True)
                await unless_refused(asked, f"{name} cannot be deleted")


async def until_gone(scene: Scene, uids: Collection[str]) -> None:
    """Wait until none of these pods is there any more. Raises DeadlineError."""

    def gone(view: View) -> bool | None:
        return None if any(pod.uid in uids for pod in view.pods.values()) else True

    await scene.observer.wait(gone, scene.timeout_seconds, "the deleted pods to be gone")


def _present(scene: Scene, ordinal: int) -> Pod:
    name = f"{scene.target.statefulset}-{ordinal}"
    pod = scene.observer.view.pods.get(name)
    if pod is None:
        raise NotReadyError(f"{scene.target.namespace}/{name} cannot be disturbed: there is no such pod")
    return pod


def _leader(scene: Scene, label: str) -> Pod:
    key, _, value = label.partition("=")
    found = [pod for pod in scene.observer.view.pods.values() if pod.labels.get(key) == value and not pod.deleting]
    if len(found) != 1:
        which = ", ".join(sorted(pod.name for pod in found)) or "no pod"
        raise NotReadyError(f"{scene.target.key} has no one leader to disturb: {which} has the label {label}")
    return found[0]
