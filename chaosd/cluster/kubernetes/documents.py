"""What is sent to the API server, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chaosd.cluster.port import EphemeralContainer, Lease, Mount, Pod, StatefulSet
from chaosd.errors import RefusedError

Json = dict[str, Any]
# Of an object's metadata what its maker gave it. The rest is the server's.
_GIVEN = ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")
# What a deletion that waits for pods, or leaves them, puts there. Source: Kubernetes docs, "Garbage Collection".
_DELETION_FINALIZERS = ("foregroundDeletion", "orphan")


def delete_options(
    uid: str, *, grace_seconds: int | None = None, propagation: str = "", version: str = "", dry_run: bool = False
) -> Json:
    """The body of a deletion of the object that has this UID and, where that is told, this resourceVersion. A dry run is
    said here, too: where a deletion has a body, the API server ignores its query."""
    preconditions = {"uid": uid, **({"resourceVersion": version} if version else {})}
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
    if dry_run:
        options["dryRun"] = ["All"]
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    if propagation:
        options["propagationPolicy"] = propagation
    return options


def eviction(namespace: str, name: str, options: Json) -> Json:
    """An Eviction of a pod."""
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options}


def ephemeral(container: EphemeralContainer, pod: Json) -> Json:
    """An ephemeral container of a pod. Raises RefusedError where that has not the container that this is to be like."""
    spec: Json = {
        "name": container.name,
        "image": container.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(container.argv),
        "volumeMounts": [_mount(mount) for mount in container.mounts],
    }
    if container.like:
        contexts = {c["name"]: c.get("securityContext") or {} for c in pod["spec"]["containers"]}
        if container.like not in contexts:
            raise RefusedError(f"{pod['metadata']['name']} has no container {container.like}")
        spec["securityContext"] = contexts[container.like]
    return spec


def manifest(stored: Json) -> Json:
    """A StatefulSet as it was given to the server: what is left without what that has made of it."""
    meta = {key: stored["metadata"][key] for key in _GIVEN if stored["metadata"].get(key)}
    finalizers = [name for name in meta.pop("finalizers", ()) if name not in _DELETION_FINALIZERS]
    spec = dict(stored["spec"])
    if templates := spec.get("volumeClaimTemplates"):
        spec["volumeClaimTemplates"] = [{k: v for k, v in one.items() if k != "status"} for one in templates]
    meta |= {"finalizers": finalizers} if finalizers else {}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}


def lease(wanted: Lease) -> Json:
    """A Lease."""
    meta: Json = {"name": wanted.name, "namespace": wanted.namespace, "annotations": dict(wanted.annotations)}
    if wanted.version:
        meta["resourceVersion"] = wanted.version
    renewed = _micro_time(datetime.fromtimestamp(wanted.renewed_at, UTC))
    spec = {"holderIdentity": wanted.holder, "leaseDurationSeconds": wanted.duration_seconds, "renewTime": renewed}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def access_review(verb: str, resource: str, namespace: str) -> Json:
    """The question whether one may do that oneself. Source: Kubernetes docs, "Authorization", Checking API access."""
    kind, _, subresource = resource.partition("/")
    plural, _, group = kind.partition(".")
    asked = {"verb": verb, "resource": plural, "group": group, "subresource": subresource, "namespace": namespace}
    spec = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}


def event(about: StatefulSet | Pod, topic: str, *, reason: str, message: str, warning: bool, count: int) -> Json:
    """An Event on an object, of now. Its name is that of the topic, so that it is found again: of this object, as one of
    the same name that is made anew has Events of its own."""
    kind = type(about).__name__
    involved = {"apiVersion": "apps/v1" if isinstance(about, StatefulSet) else "v1", "kind": kind, "uid": about.uid}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name}.{about.uid[:8]}.{topic}", "namespace": about.namespace},
        "involvedObject": {**involved, "namespace": about.namespace, "name": about.name},
        "reason": reason,
        "message": message[:1024],
        "type": "Warning" if warning else "Normal",
        "count": count,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "chaosd"},
    }


def restart(at: str) -> Mapping[str, Any]:
    """The patch by which a StatefulSet's pods are replaced, as `kubectl rollout restart` makes it."""
    annotations = {"kubectl.kubernetes.io/restartedAt": at}
    return {"spec": {"template": {"metadata": {"annotations": annotations}}}}


def _mount(mount: Mount) -> Json:
    sub_path = {"subPath": mount.sub_path} if mount.sub_path else {}
    return {"name": mount.volume, "mountPath": mount.path, "readOnly": mount.read_only, **sub_path}


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
