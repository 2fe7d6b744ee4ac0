"""`rollout-restart`: have the controller replace every pod, as `kubectl rollout restart` does.

There is nothing to undo: the annotation kubectl.kubernetes.io/restartedAt stays in the template, since taking it away would
be one more rollout. Source: Kubernetes docs, "StatefulSets", Rolling Updates, Partitioned rolling updates.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Pod, StatefulSet
from chaosd.errors import NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Right, Scene, unless_refused
from chaosd.nemesis.pods import doomed


class RolloutRestart(Disruption):
    """Restart every pod by a rolling update; finds what does not survive the controller's own replacement of pods, one
    after the other.

    The annotation `kubectl.kubernetes.io/restartedAt` stays in the pods' template: taking it away would be one more
    rollout. Blocked under `updateStrategy: OnDelete`, and where a partition keeps every pod as it is; the evidence tells
    how many a partition held back."""

    rights: ClassVar[tuple[Right, ...]] = (("patch", "statefulsets.apps"),)
    undone: ClassVar[str] = "Nothing: the pods are new, and the annotation in their template stays."

    kind: Literal["rollout-restart"]

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Nothing is left to chance."""
        return {}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The pods that a rolling update reaches; one at a time is away."""
        statefulset = scene.observer.view.statefulset
        if statefulset is None:
            raise NotReadyError(f"{scene.target.key} cannot be restarted: it is gone")
        if statefulset.update_strategy == "OnDelete":
            raise NotReadyError(f"{statefulset.key} has updateStrategy OnDelete: no rollout replaces its pods")
        pods = _reached(scene.observer.view, statefulset)
        if not pods:
            held = f"partition {statefulset.partition} keeps all {statefulset.replicas} pods as they are"
            raise NotReadyError(f"{statefulset.key} cannot be restarted: {held}")
        more = {"uid": statefulset.uid, "revision": statefulset.update_revision, "reached": [pod.name for pod in pods]}
        return Prepared(doomed(scene, pods), None, more, frozenset({pods[-1].name}))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Restart, then wait until every pod that is reached is updated and Ready."""
        target, more = scene.target, prepared.more
        at = datetime.fromtimestamp(scene.clock(), UTC).isoformat()
        async for attempt in patiently(scene.timeout_seconds):
            with attempt:
                restarting = scene.cluster.restart_rollout(target.namespace, target.statefulset, uid=more["uid"], at=at)
                await unless_refused(unbroken(restarting), f"{target.key} cannot be restarted")
        now = await scene.observer.wait(
            lambda view: _rolled_out(view, more), scene.timeout_seconds, "every pod to be updated and Ready"
        )
        evidence = {"revision": {"was": more["revision"], "is": now.update_revision}, "restarted": more["reached"]}
        return {**evidence, "held_back": now.replicas - len(more["reached"]), "restarted_at": at}


def _reached(view: View, statefulset: StatefulSet) -> list[Pod]:
    """By ordinal: the pods that the partition does not hold back."""
    wanted = statefulset.pod_names()
    from_partition = max(0, statefulset.partition - statefulset.first_ordinal)
    return [view.pods[name] for name in wanted[from_partition:] if name in view.pods]


def _rolled_out(view: View, more: Mapping[str, Any]) -> StatefulSet | None:
    now = view.statefulset
    if now is None or now.observed_generation < now.generation or now.update_revision == more["revision"]:
        return None
    pods = [view.pods.get(name) for name in more["reached"]]
    updated = all(p and p.revision == now.update_revision and p.ready and not p.deleting for p in pods)
    complete = now.partition > now.first_ordinal or now.current_revision == now.update_revision
    return now if updated and complete else None
