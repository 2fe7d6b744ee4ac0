"""The real Kubernetes behind the port."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from chaosd.cluster import objects
from chaosd.cluster.kubernetes.client import Client, load_configuration
from chaosd.cluster.kubernetes.exec import ExecSession, open_exec
from chaosd.cluster.kubernetes.informer import Informer, list_all
from chaosd.cluster.port import (
    Attachment,
    Change,
    Claim,
    ClusterEvent,
    EphemeralContainer,
    Lease,
    Mount,
    Node,
    Pod,
    StatefulSet,
    T,
    Volume,
)
from chaosd.errors import ConflictError, ForbiddenError, RefusedError, ThrottledError

Json = dict[str, Any]
_SCALE_ATTEMPTS = 10
_STRATEGIC_MERGE = "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class _Resource:
    """Where the API server has a kind of object."""

    prefix: tuple[str, ...]
    plural: str


_RESOURCES: Mapping[type, _Resource] = {
    Pod: _Resource(("api", "v1"), "pods"),
    Claim: _Resource(("api", "v1"), "persistentvolumeclaims"),
    Volume: _Resource(("api", "v1"), "persistentvolumes"),
    Node: _Resource(("api", "v1"), "nodes"),
    ClusterEvent: _Resource(("api", "v1"), "events"),
    StatefulSet: _Resource(("apis", "apps", "v1"), "statefulsets"),
    Attachment: _Resource(("apis", "storage.k8s.io", "v1"), "volumeattachments"),
}
_LEASES = _Resource(("apis", "coordination.k8s.io", "v1"), "leases")
_NAMESPACES = _Resource(("api", "v1"), "namespaces")
# What `create` makes, by kind.
_CREATED: Mapping[str, _Resource] = {"Namespace": _NAMESPACES, "StatefulSet": _RESOURCES[StatefulSet]}


class KubernetesCluster:
    """A cluster behind an API server. Open it with `open`."""

    kind = "kubernetes"

    def __init__(self, client: Client, rng: random.Random) -> None:
        self._client = client
        self._rng = rng

    @classmethod
    async def open(cls, *, kubeconfig: Path | None = None, context: str | None = None) -> KubernetesCluster:
        """Read the configuration; connects with the first request. Raises UsageError."""
        return cls(Client(await load_configuration(kubeconfig, context)), random.SystemRandom())

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def version(self) -> str:
        """Such as `v1.37.2`."""
        return str((await self._client.request("GET", ("version",)))["gitVersion"])

    async def cluster_id(self) -> str:
        """The UID of the namespace kube-system. Source: OpenTelemetry semantic conventions, k8s.cluster.uid."""
        try:
            found = await self._client.request("GET", ("api", "v1", "namespaces", "kube-system"))
        except ForbiddenError:
            return ""
        return str(found["metadata"]["uid"])

    async def get(self, kind: type[T], namespace: str, name: str) -> T:
        """See the port."""
        document = await self._client.request("GET", (*_path(_RESOURCES[kind], namespace), name))
        return cast(T, objects.PARSERS[kind](document))

    async def list(self, kind: type[T], namespace: str, selector: Mapping[str, str] | None = None) -> Sequence[T]:
        """See the port."""
        query = [("labelSelector", ",".join(f"{k}={v}" for k, v in selector.items()))] if selector else []
        documents, _ = await list_all(self._client, _path(_RESOURCES[kind], namespace), query)
        return [cast(T, objects.PARSERS[kind](document)) for document in documents]

    def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """See the port."""
        path = _path(_RESOURCES[kind], namespace)
        return Informer(self._client, path, objects.PARSERS[kind], self._rng).changes()

    async def delete_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """See the port."""
        path = (*_path(_RESOURCES[Pod], namespace), name)
        await self._client.request("DELETE", path, body=_delete_options(uid, grace_seconds))

    async def evict_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """See the port."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": _delete_options(uid, grace_seconds),
        }
        await self._client.request("POST", (*_path(_RESOURCES[Pod], namespace), name, "eviction"), body=eviction)

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        """See the port. The UID in the patch is a precondition, since the API server lets nobody change it."""
        path = (*_path(_RESOURCES[Pod], namespace), pod)
        found = await self._client.request("GET", path)
        if found["metadata"]["uid"] != uid:
            raise ConflictError(f"{namespace}/{pod} has the UID {found['metadata']['uid']}, not {uid}")
        patch = {"metadata": {"uid": uid}, "spec": {"ephemeralContainers": [_ephemeral(container, found)]}}
        try:
            await self._client.request("PATCH", (*path, "ephemeralcontainers"), body=patch, content_type=_STRATEGIC_MERGE)
        except RefusedError as error:
            if "metadata.uid" in str(error):
                raise ConflictError(f"{namespace}/{pod} was replaced meanwhile: {error}") from error
            raise
        except ForbiddenError as error:
            # Admission, such as Pod Security, answers 403 as well; the authorizers' answer says who may not do what.
            # Source: k8s.io/apiserver, endpoints/handlers/responsewriters/errors.go, forbiddenMessage.
            if " cannot patch resource " in str(error):
                raise
            raise RefusedError(str(error)) from error

    async def scale(self, namespace: str, name: str, *, replicas: int, expected: int) -> None:
        """See the port. The resourceVersion that was read makes the write conditional; it changes with the status too, and
        a controller at work writes that many times a second, so a conflict alone does not say that the count changed."""
        path = (*_path(_RESOURCES[StatefulSet], namespace), name, "scale")
        for _ in range(_SCALE_ATTEMPTS):
            scale = await self._client.request("GET", path)
            now = scale["spec"].get("replicas", 0)
            if now != expected:
                raise ConflictError(f"{namespace}/{name} has {now} replicas, not {expected}")
            with suppress(ConflictError):
                await self._client.request("PUT", path, body={**scale, "spec": {**scale["spec"], "replicas": replicas}})
                return
        raise ThrottledError(f"{namespace}/{name} changed {_SCALE_ATTEMPTS} times while it was to be scaled")

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str]
    ) -> AbstractAsyncContextManager[ExecSession]:
        """See the port."""
        return open_exec(self._client, namespace, pod, container, argv)

    async def get_lease(self, namespace: str, name: str) -> Lease:
        """See the port."""
        return objects.lease(await self._client.request("GET", (*_path(_LEASES, namespace), name)))

    async def put_lease(self, lease: Lease) -> Lease:
        """See the port."""
        path = _path(_LEASES, lease.namespace)
        if lease.version:
            stored = await self._client.request("PUT", (*path, lease.name), body=_lease(lease))
        else:
            stored = await self._client.request("POST", path, body=_lease(lease))
        return objects.lease(stored)

    async def delete_lease(self, lease: Lease) -> None:
        """See the port."""
        options = {"preconditions": {"resourceVersion": lease.version}}
        await self._client.request("DELETE", (*_path(_LEASES, lease.namespace), lease.name), body=options)

    async def allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """See the port. Source: Kubernetes docs, "Authorization", Checking API access."""
        kind, _, subresource = resource.partition("/")
        plural, _, group = kind.partition(".")
        asked = {"verb": verb, "resource": plural, "group": group, "subresource": subresource, "namespace": namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}},
        }
        path = ("apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews")
        return bool((await self._client.request("POST", path, body=review))["status"].get("allowed"))

    async def post_event(self, target: StatefulSet, *, reason: str, message: str, warning: bool) -> None:
        """See the port."""
        now = _micro_time(datetime.now(UTC))
        involved = {"apiVersion": "apps/v1", "kind": "StatefulSet", "uid": target.uid}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{target.name}.{secrets.token_hex(8)}", "namespace": target.namespace},
            "involvedObject": {**involved, "namespace": target.namespace, "name": target.name},
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "action": reason,
            "eventTime": now,
            "reportingComponent": "chaosd.io/chaosd",
            "reportingInstance": "chaosd",
            "source": {"component": "chaosd"},
        }
        await self._client.request("POST", ("api", "v1", "namespaces", target.namespace, "events"), body=event)

    # Beyond the port: for a target that chaosd makes for itself.

    async def create(self, document: Mapping[str, Any]) -> None:
        """Create the Namespace or StatefulSet that a manifest describes. Raises ConflictError when it is there,
        RefusedError, ForbiddenError, NotFoundError when its namespace is not there; ValueError for other kinds."""
        if document["kind"] not in _CREATED:
            raise ValueError(f"{document['kind']} is none of {', '.join(_CREATED)}")
        path = _path(_CREATED[document["kind"]], document["metadata"].get("namespace", ""))
        await self._client.request("POST", path, body=document)

    async def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; the cluster goes on with that after it has answered. Raises
        NotFoundError, ConflictError when it is being deleted, ForbiddenError."""
        await self._client.request("DELETE", (*_path(_NAMESPACES, ""), name))


def _path(resource: _Resource, namespace: str) -> tuple[str, ...]:
    scope = ("namespaces", namespace) if namespace else ()
    return (*resource.prefix, *scope, resource.plural)


def _delete_options(uid: str, grace_seconds: int | None) -> Json:
    grace = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
    return {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, **grace}


def _ephemeral(container: EphemeralContainer, pod: Json) -> Json:
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


def _mount(mount: Mount) -> Json:
    sub_path = {"subPath": mount.sub_path} if mount.sub_path else {}
    return {"name": mount.volume, "mountPath": mount.path, "readOnly": mount.read_only, **sub_path}


def _lease(lease: Lease) -> Json:
    meta: Json = {"name": lease.name, "namespace": lease.namespace, "annotations": dict(lease.annotations)}
    if lease.version:
        meta["resourceVersion"] = lease.version
    renewed = _micro_time(datetime.fromtimestamp(lease.renewed_at, UTC))
    spec = {"holderIdentity": lease.holder, "leaseDurationSeconds": lease.duration_seconds, "renewTime": renewed}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
