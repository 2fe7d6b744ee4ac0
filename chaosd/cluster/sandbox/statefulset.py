"""The StatefulSet controller. Source: Kubernetes docs, "StatefulSets", Deployment and Scaling Guarantees, Pod Management
Policies, Update strategies, PersistentVolumeClaim retention; and its code, pkg/controller/statefulset, of which
stateful_set_control.go and stateful_set_utils.go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chaosd.cluster import objects
from chaosd.cluster.port import Claim, Pod, StatefulSet
from chaosd.cluster.sandbox.store import Store, pods_on


def reconcile(store: Store, statefulset: StatefulSet) -> None:
    """One step towards what is wanted: creates and deletes what the rules allow now."""
    if not statefulset.deleting:
        _adopt(store, statefulset)
        _move(store, statefulset, _pods(store, statefulset))
    _retain(store, statefulset)
    _status(store, statefulset)


def terminate(store: Store, pod: Pod, grace_seconds: int | None) -> None:
    """Mark a pod as being deleted; the kubelet does the rest. A forced deletion removes the object at once."""
    if grace_seconds == 0:
        store.remove(pod)
    elif not pod.deleting:
        store.put(replace(pod, deleting=True, grace_seconds=30 if grace_seconds is None else grace_seconds))


def delete(store: Store, statefulset: StatefulSet, *, orphan: bool) -> None:
    """Delete it: its pods become nobody's, or go before it does."""
    deleted = store.put(replace(statefulset, deleting=True))
    for pod in _pods(store, statefulset).values():
        if orphan:
            store.put(replace(pod, controller_uid=""))
        else:
            terminate(store, pod, None)
    if orphan:
        _forget(store, deleted)


def revision_of(name: str, template: Mapping[str, Any]) -> str:
    """The name of a revision, the same for the same template, so that who is deleted and made again knows its pods."""
    text = json.dumps(template, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def label_pods(store: Store) -> None:
    """Pods that an older version stored have no labels of their own."""
    for statefulset in store.all(StatefulSet):
        for ordinal, pod in _pods(store, statefulset).items():
            if not pod.labels:
                store.put(replace(pod, labels=_labels(store, statefulset, ordinal, pod.revision)))


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
    if statefulset.update_strategy == "RollingUpdate":
        _update(store, statefulset, pods)


def _update(store: Store, statefulset: StatefulSet, pods: Mapping[int, Pod]) -> None:
    """Delete the highest pod of another revision, if all above it are available. The partition counts from the first."""
    first = statefulset.first_ordinal
    for ordinal in reversed(range(first + statefulset.partition, first + statefulset.replicas)):
        pod = pods.get(ordinal)
        if pod and not pod.deleting and pod.revision != statefulset.update_revision:
            terminate(store, pod, None)
            return
        if pod is None or pod.deleting or not _available(store, statefulset, pod):
            return


def _adopt(store: Store, statefulset: StatefulSet) -> None:
    """Pods of nobody's that have its names and that its selector matches become its own."""
    for pod in store.all(Pod, statefulset.namespace):
        if pod.controller_uid or pod.deleting or not statefulset.selector.items() <= pod.labels.items():
            continue
        base, _, ordinal = pod.name.rpartition("-")
        if base == statefulset.name and ordinal.isdecimal():
            store.put(replace(pod, controller_uid=statefulset.uid))


def _available(store: Store, statefulset: StatefulSet, pod: Pod) -> bool:
    if not pod.ready or pod.ready_at is None:
        return False
    return not statefulset.min_ready_seconds or store.clock() - pod.ready_at >= statefulset.min_ready_seconds


def create(store: Store, statefulset: StatefulSet, ordinal: int) -> None:
    """Create a replica's pod, and its claims where they are absent, whatever the rules of order say. A claim that is being
    deleted must be gone first (stateful_pod_control.go, createPersistentVolumeClaims), and so must somebody else's pod of
    that name."""
    name = statefulset.pod_name(ordinal)
    if store.find(Pod, statefulset.namespace, name):
        return
    spec = store.manifests[statefulset.key]
    claims = {template: f"{template}-{name}" for template in statefulset.template_claims}
    if any((claim := store.find(Claim, statefulset.namespace, one)) and claim.deleting for one in claims.values()):
        return
    for template in spec.get("volumeClaimTemplates", ()):
        _create_claim(store, statefulset, f"{template['metadata']['name']}-{name}", template["spec"])
    revision = _revision(statefulset, ordinal)
    meta = {"namespace": statefulset.namespace, "name": name, "uid": store.uid()}
    labels = _labels(store, statefulset, ordinal, revision)
    template = _template(store, statefulset, revision)
    made = objects.pod({"metadata": {**meta, "labels": labels}, "spec": template["spec"]})
    store.put(replace(made, hostname=name, controller_uid=statefulset.uid, created_at=store.now(), claims=claims))


def _revision(statefulset: StatefulSet, ordinal: int) -> str:
    """Below the partition of a rolling update pods are made as they were."""
    behind = ordinal < statefulset.first_ordinal + statefulset.partition
    if behind and statefulset.update_strategy == "RollingUpdate":
        return statefulset.current_revision or statefulset.update_revision
    return statefulset.update_revision


def _template(store: Store, statefulset: StatefulSet, revision: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = store.templates.get(revision) or store.manifests[statefulset.key]["template"]
    return found


def _labels(store: Store, statefulset: StatefulSet, ordinal: int, revision: str) -> dict[str, str]:
    return {
        **_template(store, statefulset, revision)["metadata"]["labels"],
        "apps.kubernetes.io/pod-index": str(ordinal),
        "controller-revision-hash": revision,
        "statefulset.kubernetes.io/pod-name": statefulset.pod_name(ordinal),
    }


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
        _forget(store, statefulset)
        return
    there = [pod for pod in pods.values() if not pod.deleting]
    ready = sum(1 for pod in there if pod.ready)
    updated = sum(1 for pod in there if pod.revision == statefulset.update_revision)
    # A rollout is complete only where it is a rolling one (completeRollingUpdate; kubernetes/kubernetes#73492).
    complete = statefulset.update_strategy == "RollingUpdate" and updated == ready == len(pods)
    current = "" if complete else statefulset.current_revision
    told = {
        "ready_replicas": ready,
        "observed_generation": statefulset.generation,
        "current_revision": current or statefulset.update_revision,
        "updated_replicas": updated,
    }
    if any(getattr(statefulset, name) != value for name, value in told.items()):
        store.put(replace(statefulset, **told))  # type: ignore[arg-type]


def _forget(store: Store, statefulset: StatefulSet) -> None:
    store.remove(statefulset)
    store.manifests.pop(statefulset.key, None)


def _pods(store: Store, statefulset: StatefulSet) -> dict[int, Pod]:
    return {
        int(pod.name.rpartition("-")[2]): pod
        for pod in store.all(Pod, statefulset.namespace)
        if pod.controller_uid == statefulset.uid
    }
