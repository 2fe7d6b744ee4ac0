"""Manifests of the tests' own targets, as plain documents."""

from __future__ import annotations

from typing import Any

from chaosd.cluster.port import TARGET_LABEL

Document = dict[str, Any]


def statefulset(
    *,
    namespace: str = "default",
    name: str = "web",
    replicas: int = 2,
    image: str = "nginx",
    storage_class: str = "alicloud-disk-ssd",
    pod_management: str = "OrderedReady",
    when_scaled: str = "Retain",
    claim: bool = True,
    label: bool = True,
    size: str = "1Gi",
    pod: Document | None = None,
    command: tuple[str, ...] = (),
    update: Document | None = None,
) -> Document:
    """A StatefulSet with one container that mounts a disk (an emptyDir unless `claim`) at /data. `pod` is laid over the
    template's pod spec, `command` stands in the place of the image's, and `update` is the update strategy."""
    spec: Document = {
        "serviceName": name,
        "replicas": replicas,
        "podManagementPolicy": pod_management,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": when_scaled},
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": _pod(image, pod or {}, command, claim=claim)},
    }
    if update:
        spec["updateStrategy"] = update
    if claim:
        spec["volumeClaimTemplates"] = [_claim(storage_class, size)]
    labels = {TARGET_LABEL: "true"} if label else {}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def budget(*, namespace: str = "default", name: str = "web", min_available: int | str) -> Document:
    """A PodDisruptionBudget on the pods of the StatefulSet `name`."""
    spec = {"minAvailable": min_available, "selector": {"matchLabels": {"app": name}}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def autoscaler(*, namespace: str = "default", name: str = "web") -> Document:
    """A HorizontalPodAutoscaler on the StatefulSet `name`."""
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name},
        "maxReplicas": 1,
        "metrics": [{"type": "Resource", "resource": resource}],
    }
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}


def _pod(image: str, over: Document, command: tuple[str, ...], *, claim: bool) -> Document:
    container: Document = {"name": "app", "image": image, "volumeMounts": [{"name": "disk", "mountPath": "/data"}]}
    if command:
        container["command"] = list(command)
    volumes = [] if claim else [{"name": "disk", "emptyDir": {}}]
    return {"containers": [container], "volumes": volumes, **over}


def _claim(storage_class: str, size: str) -> Document:
    resources = {"requests": {"storage": size}}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": resources}
    return {"metadata": {"name": "disk"}, "spec": spec}
