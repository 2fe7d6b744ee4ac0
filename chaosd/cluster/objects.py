"""Kubernetes' JSON, as the API server sends it and as manifests write it, into the value types of the port.

Pure. Missing fields take the defaults that the API server would give them (Kubernetes API reference, v1.37), so that a
manifest and the stored object read alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from chaosd.cluster.port import (
    CORDONED_ANNOTATION,
    Attachment,
    Autoscaler,
    Budget,
    Claim,
    ClusterEvent,
    Container,
    Lease,
    Mount,
    Namespace,
    Node,
    Object,
    Pod,
    Room,
    StatefulSet,
    Volume,
)
from chaosd.errors import NotFoundError, UnreachableError

Json = Mapping[str, Any]

# A cordon brings this taint of its own: Kubernetes docs, "Taints and Tolerations", Taint Nodes by Condition.
_CORDON_TAINT = "node.kubernetes.io/unschedulable"
_KEEPS_PODS_OFF = ("NoSchedule", "NoExecute")


def epoch(timestamp: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 timestamp, or None."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else None


def pod(document: Json) -> Pod:
    """A Pod."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    return Pod(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        phase=status.get("phase", "Pending"),
        node=spec.get("nodeName", ""),
        hostname=spec.get("hostname", meta["name"]),
        controller_uid=_controller(meta),
        revision=(meta.get("labels") or {}).get("controller-revision-hash", ""),
        created_at=epoch(meta.get("creationTimestamp")) or 0.0,
        scheduled_at=epoch(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        ready=ready.get("status") == "True",
        ready_at=epoch(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        deleting="deletionTimestamp" in meta,
        grace_seconds=meta.get("deletionGracePeriodSeconds"),
        unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        labels=dict(meta.get("labels") or {}),
        claims={
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in spec.get("volumes") or ()
            if "persistentVolumeClaim" in v
        },
        containers=_containers(spec, status),
        ephemeral=_containers(spec, status, "ephemeralContainers", "ephemeralContainerStatuses"),
        shared_processes=bool(spec.get("shareProcessNamespace")),
    )


def claim(document: Json) -> Claim:
    """A PersistentVolumeClaim."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    return Claim(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        phase=status.get("phase", "Pending"),
        volume=spec.get("volumeName", ""),
        capacity=status.get("capacity", {}).get("storage", ""),
        requested=spec.get("resources", {}).get("requests", {}).get("storage", ""),
        storage_class=spec.get("storageClassName") or "",
        access_modes=tuple(spec.get("accessModes") or ()),
        deleting="deletionTimestamp" in meta,
    )


def volume(document: Json) -> Volume:
    """A PersistentVolume."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    csi, ref = spec.get("csi", {}), spec.get("claimRef") or {}
    return Volume(
        name=meta["name"],
        uid=meta.get("uid", ""),
        phase=status.get("phase", "Pending"),
        driver=csi.get("driver", ""),
        handle=csi.get("volumeHandle", ""),
        claim=f"{ref.get('namespace', '')}/{ref['name']}" if ref else "",
        claim_uid=ref.get("uid", ""),
        capacity=spec.get("capacity", {}).get("storage", ""),
        reclaim_policy=spec.get("persistentVolumeReclaimPolicy", "Retain"),
        node_terms=_node_terms(spec.get("nodeAffinity") or {}),
        deleting="deletionTimestamp" in meta,
    )


def attachment(document: Json) -> Attachment:
    """A VolumeAttachment."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    error = status.get("attachError") or status.get("detachError") or {}
    return Attachment(
        name=meta["name"],
        uid=meta.get("uid", ""),
        volume=spec.get("source", {}).get("persistentVolumeName") or "",
        node=spec["nodeName"],
        attached=bool(status.get("attached")),
        error=error.get("message", ""),
    )


def statefulset(document: Json) -> StatefulSet:
    """A StatefulSet."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    template = spec["template"]["spec"]
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    update = spec.get("updateStrategy") or {}
    return StatefulSet(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        replicas=spec.get("replicas", 1),
        ready_replicas=status.get("readyReplicas", 0),
        generation=meta.get("generation", 0),
        observed_generation=status.get("observedGeneration", 0),
        current_revision=status.get("currentRevision", ""),
        update_revision=status.get("updateRevision", ""),
        updated_replicas=status.get("updatedReplicas", 0),
        labels=dict(meta.get("labels") or {}),
        annotations=dict(meta.get("annotations") or {}),
        selector=dict(spec.get("selector", {}).get("matchLabels") or {}),
        service=spec.get("serviceName", ""),
        pod_management=spec.get("podManagementPolicy", "OrderedReady"),
        retention_when_deleted=retention.get("whenDeleted", "Retain"),
        retention_when_scaled=retention.get("whenScaled", "Retain"),
        first_ordinal=(spec.get("ordinals") or {}).get("start", 0),
        min_ready_seconds=spec.get("minReadySeconds", 0),
        template_claims=tuple(t["metadata"]["name"] for t in spec.get("volumeClaimTemplates") or ()),
        template_volumes={v["name"]: _volume_kind(v) for v in template.get("volumes") or ()},
        host_network=bool(template.get("hostNetwork")),
        containers=_containers(template, {}),
        owner=_owner(meta),
        update_strategy=update.get("type", "RollingUpdate"),
        partition=(update.get("rollingUpdate") or {}).get("partition", 0),
        deleting="deletionTimestamp" in meta,
    )


def node(document: Json) -> Node:
    """A Node."""
    meta, spec, status = document["metadata"], document.get("spec", {}), document.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return Node(
        name=meta["name"],
        uid=meta.get("uid", ""),
        ready=conditions.get("Ready") == "True",
        unschedulable=bool(spec.get("unschedulable")),
        boot_id=status.get("nodeInfo", {}).get("bootID", ""),
        cordoned_by=(meta.get("annotations") or {}).get(CORDONED_ANNOTATION, ""),
        tainted=any(t["key"] != _CORDON_TAINT and t["effect"] in _KEEPS_PODS_OFF for t in spec.get("taints") or ()),
        labels=dict(meta.get("labels") or {}),
    )


def namespace(document: Json) -> Namespace:
    """A Namespace."""
    meta = document["metadata"]
    return Namespace(
        name=meta["name"],
        uid=meta.get("uid", ""),
        annotations=dict(meta.get("annotations") or {}),
        terminating="deletionTimestamp" in meta,
    )


def budget(document: Json) -> Budget:
    """A policy/v1 PodDisruptionBudget. Of its selector the expressions are left out, so that it may seem to match more pods
    than it does, never fewer."""
    meta, spec, status = document["metadata"], document["spec"], document.get("status", {})
    return Budget(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        selector=dict((spec.get("selector") or {}).get("matchLabels") or {}),
        allowed=status.get("disruptionsAllowed", 0),
        wanted=status.get("desiredHealthy", 0),
    )


def autoscaler(document: Json) -> Autoscaler:
    """An autoscaling/v2 HorizontalPodAutoscaler, or a ScaledObject of keda.sh/v1alpha1, whose target is a Deployment unless
    it says so. Source: KEDA docs, "ScaledObject specification", scaleTargetRef."""
    meta, target = document["metadata"], document["spec"]["scaleTargetRef"]
    return Autoscaler(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        kind=document.get("kind", "HorizontalPodAutoscaler"),  # which says its kind on its own, but not in a list
        target=f"{target.get('kind') or 'Deployment'}/{target['name']}",
    )


def event(document: Json) -> ClusterEvent:
    """A core/v1 Event. One that was written through events.k8s.io counts and dates itself in its series, or not at all.
    Source: Kubernetes API reference, "Event v1 core"."""
    meta, about, series = document["metadata"], document["involvedObject"], document.get("series") or {}
    seen = series.get("lastObservedTime") or document.get("lastTimestamp") or document.get("eventTime")
    return ClusterEvent(
        namespace=meta.get("namespace", "default"),
        name=meta["name"],
        uid=meta.get("uid", ""),
        about_kind=about.get("kind", ""),
        about_name=about.get("name", ""),
        about_uid=about.get("uid", ""),
        reason=document.get("reason", ""),
        message=document.get("message", ""),
        warning=document.get("type") == "Warning",
        count=series.get("count") or document.get("count") or 1,
        last_seen=epoch(seen or meta.get("creationTimestamp")) or 0.0,
    )


def lease(document: Json) -> Lease:
    """A coordination.k8s.io/v1 Lease."""
    meta, spec = document["metadata"], document.get("spec", {})
    return Lease(
        namespace=meta["namespace"],
        name=meta["name"],
        holder=spec.get("holderIdentity") or "",
        duration_seconds=spec.get("leaseDurationSeconds") or 0,
        renewed_at=epoch(spec.get("renewTime")) or 0.0,
        annotations=dict(meta.get("annotations") or {}),
        version=meta.get("resourceVersion", ""),
    )


def http_date(header: str) -> float:
    """Seconds since the epoch of a Date header (RFC 9110), which has whole seconds. Raises UnreachableError for none."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError as error:
        raise UnreachableError(f"the answer has the Date {header!r}, which is none: is that an API server?") from error


def clock_ahead(document: Json) -> float:
    """By how many seconds the clock of a Lease's holder is ahead of the API server's: renewTime is by its own clock, and
    when that was stored is by the server's, with a second's resolution (API reference, ManagedFieldsEntry). Raises
    NotFoundError where a Lease tells not both."""
    meta = document["metadata"]
    renewed = epoch(document.get("spec", {}).get("renewTime"))
    stored = max((epoch(entry.get("time")) or 0.0 for entry in meta.get("managedFields") or ()), default=0.0)
    if not renewed or not stored:
        raise NotFoundError(f"Lease {meta['namespace']}/{meta['name']} does not tell when it was renewed")
    return renewed - stored - min(max(renewed - stored, 0.0), 1.0)


def volume_room(summary: Json) -> Mapping[str, Room]:
    """What a kubelet's summary says of the volumes that claims are behind, by NAMESPACE/CLAIM."""
    volumes = (volume for pod in summary.get("pods") or () for volume in pod.get("volume") or ())
    return {
        f"{volume['pvcRef']['namespace']}/{volume['pvcRef']['name']}": Room(
            volume["availableBytes"], volume.get("inodesFree") if volume.get("inodes") else None
        )
        for volume in volumes
        if "pvcRef" in volume and "availableBytes" in volume
    }


PARSERS: Mapping[type, Callable[[Json], Object]] = {
    Pod: pod,
    Claim: claim,
    Volume: volume,
    Attachment: attachment,
    StatefulSet: statefulset,
    Node: node,
    ClusterEvent: event,
    Namespace: namespace,
    Budget: budget,
    Autoscaler: autoscaler,
}


def _controller(meta: Json) -> str:
    return next((str(o["uid"]) for o in meta.get("ownerReferences") or () if o.get("controller")), "")


def _owner(meta: Json) -> str:
    return next((f"{o['kind']}/{o['name']}" for o in meta.get("ownerReferences") or () if o.get("controller")), "")


def _node_terms(affinity: Json) -> tuple[tuple[tuple[str, str, tuple[str, ...]], ...], ...]:
    terms = (affinity.get("required") or {}).get("nodeSelectorTerms") or ()
    return tuple(
        tuple((r["key"], r["operator"], tuple(r.get("values") or ())) for r in term.get("matchExpressions") or ())
        for term in terms
    )


def _volume_kind(volume: Json) -> str:
    return next((key for key in volume if key != "name"), "emptyDir")


def _containers(
    spec: Json, status: Json, field: str = "containers", statuses: str = "containerStatuses"
) -> tuple[Container, ...]:
    states = {s["name"]: s for s in status.get(statuses) or ()}
    return tuple(_container(c, states.get(c["name"], {})) for c in spec.get(field) or ())


def _container(spec: Json, status: Json) -> Container:
    state = status.get("state") or {}
    return Container(
        name=spec["name"],
        image=spec.get("image", ""),
        id=status.get("containerID", ""),
        ready=bool(status.get("ready")),
        restarts=status.get("restartCount", 0),
        waiting=(state.get("waiting") or {}).get("reason", ""),
        ended=_ended(state.get("terminated")),
        mounts=tuple(
            Mount(m["name"], m["mountPath"], bool(m.get("readOnly")), m.get("subPath") or m.get("subPathExpr", ""))
            for m in spec.get("volumeMounts") or ()
        ),
    )


def _ended(terminated: Json | None) -> str:
    """The API requires only the exit code of a state that ended."""
    return (terminated.get("reason") or f"exit code {terminated['exitCode']}") if terminated else ""
