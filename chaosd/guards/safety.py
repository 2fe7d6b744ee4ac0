"""Guards of state: what the target and its surroundings must be like when a disruption begins. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from chaosd.cluster.port import Autoscaler, StatefulSet
from chaosd.guards.refusal import AUTOSCALER, NOT_CONVERGED, ROLLOUT, ROOM, TERMINATING, UNAVAILABLE, Refusal
from chaosd.guards.spec import Guards

# Who manages an object, by the labels and annotations that they leave on it. Sources: Argo CD docs, "Resource Tracking";
# Flux docs, "Kustomization", "HelmRelease".
_GITOPS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """What a disruption meets: the StatefulSet as it is, the count of replicas that chaosd `found`, whether its namespace
    is being deleted, what each replica lacks that is not as it must be (`late`), the pods that the disruption `takes`,
    whether it `scales`, which autoscalers there are in the namespace, and of each volume that is seen the bytes that are
    free, and in all (by replica)."""

    statefulset: StatefulSet
    found: int
    terminating: bool
    late: Mapping[str, str]
    takes: Collection[str]
    scales: bool
    autoscalers: Sequence[Autoscaler] = ()
    space: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def unsafe(guards: Guards, met: Situation) -> Refusal | None:
    """The first guard that refuses a disruption."""
    return next((refusal for guard in _GUARDS if (refusal := guard(guards, met))), None)


def gitops(statefulset: StatefulSet) -> str:
    """What manages the StatefulSet from a repository and may undo what chaosd does to it; empty where nothing is seen."""
    marks = {**statefulset.labels, **statefulset.annotations}
    return next((name for mark, name in _GITOPS.items() if mark in marks), "")


def _terminating(_: Guards, met: Situation) -> Refusal | None:
    if met.terminating:
        return Refusal(TERMINATING, f"namespace {met.statefulset.namespace} is being deleted")
    if met.statefulset.deleting:
        return Refusal(TERMINATING, f"{met.statefulset.key} is being deleted")
    return None


def _rollout(_: Guards, met: Situation) -> Refusal | None:
    """Between two disruptions chaosd has none of its own under way."""
    found = met.statefulset
    if found.current_revision == found.update_revision:
        return None
    if found.update_strategy == "OnDelete":
        why = "a new revision waits until pods are deleted (OnDelete), so a disruption would roll it out: delete them first"
        return Refusal(ROLLOUT, f"{found.key}: {why}")
    reached = sum(found.first_ordinal + i >= found.partition for i in range(found.replicas))
    if found.updated_replicas < reached:
        return Refusal(ROLLOUT, f"{found.key}: {found.updated_replicas} of {reached} replicas have the new revision")
    return None


def _not_converged(_: Guards, met: Situation) -> Refusal | None:
    if not met.late:
        return None
    return Refusal(NOT_CONVERGED, "; ".join(f"{pod}: {why}" for pod, why in met.late.items()))


def _autoscaler(_: Guards, met: Situation) -> Refusal | None:
    owner = next((a for a in met.autoscalers if a.target == f"StatefulSet/{met.statefulset.name}"), None)
    if not met.scales or owner is None:
        return None
    why = f"{owner.kind} {owner.namespace}/{owner.name} owns its count of replicas: leave out disruptions that scale"
    return Refusal(AUTOSCALER, f"{met.statefulset.key}: {why}")


def _unavailable(guards: Guards, met: Situation) -> Refusal | None:
    """What a script has scaled away before is unavailable, too."""
    replicas = max(met.found, met.statefulset.replicas)
    gone = replicas - met.statefulset.replicas + len(set(met.takes) | set(met.late))
    allowed = guards.unavailable(replicas)
    if not met.takes or gone <= allowed:
        return None
    limit = f"guards.maxUnavailable {guards.max_unavailable} allows {allowed}"
    return Refusal(UNAVAILABLE, f"{gone} of {replicas} replicas would be unavailable, {limit}")


def _room(guards: Guards, met: Situation) -> Refusal | None:
    for replica, (free, total) in met.space.items():
        if free < guards.free_bytes(total):
            why = f"{replica} has {free} of {total} bytes free, guards.minFree is {guards.min_free}: make room"
            return Refusal(ROOM, why)
    return None


_GUARDS: Sequence[Callable[[Guards, Situation], Refusal | None]] = (
    _terminating,
    _rollout,
    _not_converged,
    _autoscaler,
    _unavailable,
    _room,
)
