"""The StatefulSet controller. Source: Kubernetes docs, "StatefulSets", Deployment and Scaling Guarantees, Pod Management
Policies, PersistentVolumeClaim retention; and its code, pkg/controller/statefulset/stateful_set_control.go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chaosd.cluster.port import Claim, Pod, StatefulSet
from chaosd.cluster.sandbox.store import Store, pods_on


def reconcile(store: Store, statefulset: StatefulSet) -> None:
    """One step towards what is wanted: creates and deletes what the rules allow now."""
    pods = _pods(store, statefulset)
    if not statefulset.deleting:
        _move(store, statefulset, pods)
    _retain(store, statefulset)
    _status(store, statefulset)


def terminate(store: Store, pod: Pod, grace_seconds: int | None) -> None:
    """Mark a pod as being deleted; the kubelet does the rest. A forced deletion removes the object at once."""
    if grace_seconds == 0:
        store.remove(pod)
    elif not pod.deleting:
        store.put(replace(pod, deleting=True, grace_seconds=30 if grace_seconds is None else grace_seconds))


def _move(store: Store, statefulset: StatefulSet, pods: Mapping[int, Pod]) -> None:
    ordered = statefulset.pod_management == "OrderedReady"
    wanted = range(statefulset.first_ordinal, statefulset.first_ordinal + statefulset.replicas)
    for ordinal in wanted:
        pod = pods.get(ordinal)
        if pod is None:
            create(store, statefulset, ordinal)
        if ordered and (pod is None or pod.deleting or not _available(store, statefulset, pod)):
            return
    for ordinal in sorted(set(pods) - set(wanted), reverse=True):
        if not pods[ordinal].deleting:
            terminate(store, pods[ordinal], None)
        if ordered:
            return


def _available(store: Store, statefulset: StatefulSet, pod: Pod) -> bool:
    if not pod.ready or pod.ready_at is None:
        return False
    return store.clock() - pod.ready_at >= statefulset.min_ready_seconds


def create(store: Store, statefulset: StatefulSet, ordinal: int) -> None:
    """Create a replica's pod, and its claims where they are absent, whatever the rules of order say. A claim that is being
    deleted must be gone first (stateful_pod_control.go, createPersistentVolumeClaims)."""
    name = statefulset.pod_name(ordinal)
    spec = store.manifests[statefulset.key]
    claims = [f"{template}-{name}" for template in statefulset.template_claims]
    if any((claim := store.find(Claim, statefulset.namespace, one)) and claim.deleting for one in claims):
        return
    for template in spec.get("volumeClaimTemplates", ()):
        _create_claim(store, statefulset, f"{template['metadata']['name']}-{name}", template["spec"])
    store.put(
        Pod(
            namespace=statefulset.namespace,
            name=name,
            uid=store.uid(),
            phase="Pending",
            hostname=name,
            controller_uid=statefulset.uid,
            revision=statefulset.update_revision,
            created_at=store.now(),
            claims={template: f"{template}-{name}" for template in statefulset.template_claims},
            containers=statefulset.containers,
        )
    )


def _create_claim(store: Store, statefulset: StatefulSet, name: str, spec: Mapping[str, Any]) -> None:
    if store.find(Claim, statefulset.namespace, name):
        return
    store.put(
        Claim(
            namespace=statefulset.namespace,
            name=name,
            uid=store.uid(),
            phase="Pending",
            requested=spec["resources"]["requests"]["storage"],
            storage_class=spec.get("storageClassName", ""),
            access_modes=tuple(spec["accessModes"]),
        )
    )


def _retain(store: Store, statefulset: StatefulSet) -> None:
    """Claims of replicas that are scaled away, or whose StatefulSet is deleted, go only where the policy says so."""
    policy = statefulset.retention_when_deleted if statefulset.deleting else statefulset.retention_when_scaled
    if policy != "Delete":
        return
    replicas = 0 if statefulset.deleting else statefulset.replicas
    kept = {f"{t}-{pod}" for t in statefulset.template_claims for pod in statefulset.pod_names(replicas)}
    for claim in store.all(Claim, statefulset.namespace):
        if claim.name not in kept and _belongs(statefulset, claim) and not any(pods_on(store, claim)):
            store.put(replace(claim, deleting=True))


def _belongs(statefulset: StatefulSet, claim: Claim) -> bool:
    return any(claim.name.startswith(f"{t}-{statefulset.name}-") for t in statefulset.template_claims)


def _status(store: Store, statefulset: StatefulSet) -> None:
    pods = _pods(store, statefulset)
    if statefulset.deleting and not pods:
        store.remove(statefulset)
        return
    ready = sum(1 for pod in pods.values() if pod.ready and not pod.deleting)
    told = {
        "ready_replicas": ready,
        "observed_generation": statefulset.generation,
        "current_revision": statefulset.update_revision,
        "updated_replicas": len(pods),
    }
    if any(getattr(statefulset, name) != value for name, value in told.items()):
        store.put(replace(statefulset, **told))  # type: ignore[arg-type]


def _pods(store: Store, statefulset: StatefulSet) -> dict[int, Pod]:
    return {
        int(pod.name.rpartition("-")[2]): pod
        for pod in store.all(Pod, statefulset.namespace)
        if pod.controller_uid == statefulset.uid
    }
