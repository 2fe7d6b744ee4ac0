"""The real Kubernetes behind the port."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, cast

from chaosd.cluster import objects
from chaosd.cluster.kubernetes import documents, signals, writes
from chaosd.cluster.kubernetes.client import REQUEST_SECONDS, Client, Query, load_configuration
from chaosd.cluster.kubernetes.exec import ExecSession, open_exec
from chaosd.cluster.kubernetes.informer import Informer, list_all
from chaosd.cluster.kubernetes.pace import Pace
from chaosd.cluster.kubernetes.resources import (
    CONFIGS,
    CREATED,
    HORIZONTAL_AUTOSCALERS,
    LEASES,
    RESOURCES,
    SCALED_OBJECTS,
    Resource,
)
from chaosd.cluster.port import (
    Autoscaler,
    Change,
    ClusterEvent,
    EphemeralContainer,
    Lease,
    Namespace,
    Node,
    Pod,
    Room,
    StatefulSet,
    T,
)
from chaosd.errors import ConflictError, ForbiddenError, NotFoundError, RefusedError, UnreachableError

Json = dict[str, Any]


class KubernetesCluster:
    """A cluster behind an API server. Open it with `open`."""

    kind = "kubernetes"

    def __init__(self, client: Client, rng: random.Random) -> None:
        self._client = client
        self._rng = rng

    @classmethod
    async def open(
        cls, *, kubeconfig: Path | None = None, context: str | None = None, qps: float, burst: int
    ) -> KubernetesCluster:
        """Read the configuration; connects with the first request. It makes at most `burst` requests at once, and `qps` a
        second on average. Raises UsageError."""
        rng = random.SystemRandom()
        return cls(Client(await load_configuration(kubeconfig, context), Pace(qps, burst, rng)), rng)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def version(self) -> str:
        """Such as `v1.37.2`."""
        return str((await self._client.ask("GET", ("version",)))["gitVersion"])

    async def cluster_id(self) -> str:
        """The UID of the namespace kube-system. Source: OpenTelemetry semantic conventions, k8s.cluster.uid."""
        try:
            found = await self._client.ask("GET", ("api", "v1", "namespaces", "kube-system"))
        except ForbiddenError:
            return ""
        return str(found["metadata"]["uid"])

    async def clock(self) -> float:
        """See the port."""
        asked = self._client.response("GET", ("version",), timeout_seconds=REQUEST_SECONDS)
        async with asked as response:
            return objects.http_date(response.headers.get("Date", ""))

    async def node_clock(self, node: str) -> float:
        """See the port."""
        return objects.clock_ahead(await self._client.ask("GET", LEASES.path("kube-node-lease", node)))

    async def volume_room(self, node: str) -> Mapping[str, Room]:
        """See the port. Source: Kubernetes docs, "Node metrics data", Summary API source."""
        path = RESOURCES[Node].path("", node, "proxy", "stats", "summary")
        return objects.volume_room(await self._client.ask("GET", path))

    async def get(self, kind: type[T], namespace: str, name: str) -> T:
        """See the port."""
        document = await self._client.ask("GET", _resource(kind).path(namespace, name))
        return cast(T, objects.PARSERS[kind](document))

    async def list(self, kind: type[T], namespace: str, selector: Mapping[str, str] | None = None) -> Sequence[T]:
        """See the port."""
        query = [("labelSelector", ",".join(f"{k}={v}" for k, v in selector.items()))] if selector else []
        if kind is Autoscaler:
            found = await self._autoscalers(namespace, query)
        else:
            found, _ = await list_all(self._client, _resource(kind).path(namespace), query)
        return [cast(T, objects.PARSERS[kind](document)) for document in found]

    def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """See the port."""
        return Informer(self._client, _resource(kind).path(namespace), objects.PARSERS[kind], self._rng).changes()

    async def delete_pod(
        self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """See the port."""
        options = documents.delete_options(uid, grace_seconds=grace_seconds, dry_run=dry_run)
        await self._client.request("DELETE", RESOURCES[Pod].path(namespace, name), body=options)

    async def evict_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """See the port."""
        eviction = documents.eviction(namespace, name, documents.delete_options(uid, grace_seconds=grace_seconds))
        await self._client.request("POST", RESOURCES[Pod].path(namespace, name, "eviction"), body=eviction)

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        """See the port."""
        found = await self._client.ask("GET", RESOURCES[Pod].path(namespace, pod))
        writes.check_uid(found, uid)
        added = {"spec": {"ephemeralContainers": [documents.ephemeral(container, found)]}}
        path = RESOURCES[Pod].path(namespace, pod, "ephemeralcontainers")
        await writes.patch(self._client, path, uid, added, writes.STRATEGIC_MERGE)

    async def scale(self, namespace: str, name: str, *, uid: str, replicas: int, expected: int) -> None:
        """See the port."""
        await writes.scale(self._client, namespace, name, uid=uid, replicas=replicas, expected=expected)

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str]
    ) -> AbstractAsyncContextManager[ExecSession]:
        """See the port."""
        return open_exec(self._client, namespace, pod, container, argv)

    async def signal_container(
        self, namespace: str, pod: str, container: str, signal: str, *, uid: str, container_id: str
    ) -> None:
        """See the port. Whose container the session leads into is read before it is opened, and again before the signal."""
        await self._refuse_another(namespace, pod, container, uid, container_id)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                async with self.exec(namespace, pod, container, signals.argv(signal)) as stream:
                    await signals.ready(stream)
                    await self._refuse_another(namespace, pod, container, uid, container_id)
                    await signals.send(stream)
        except TimeoutError as error:
            raise UnreachableError(f"{container} of {namespace}/{pod}: nobody knows whether it got SIG{signal}") from error

    async def cordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        await writes.cordon(self._client, node, uid=uid, by=by)

    async def uncordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        await writes.uncordon(self._client, node, uid=uid, by=by)

    async def annotate(
        self, kind: type[StatefulSet] | type[Namespace], namespace: str, name: str, changes: Mapping[str, str | None]
    ) -> None:
        """See the port."""
        patch = {"metadata": {"annotations": dict(changes)}}
        path = RESOURCES[kind].path(namespace, name)
        await self._client.request("PATCH", path, body=patch, content_type=writes.MERGE)

    async def restart_rollout(self, namespace: str, name: str, *, uid: str, at: str) -> None:
        """See the port."""
        await writes.patch(self._client, RESOURCES[StatefulSet].path(namespace, name), uid, documents.restart(at))

    async def expand_claim(self, namespace: str, name: str, *, uid: str, storage: str) -> None:
        """See the port."""
        await writes.expand_claim(self._client, namespace, name, uid=uid, storage=storage)

    async def manifest(self, namespace: str, name: str) -> Mapping[str, Any]:
        """See the port."""
        return documents.manifest(await self._client.ask("GET", RESOURCES[StatefulSet].path(namespace, name)))

    async def delete_statefulset(
        self, namespace: str, name: str, *, uid: str, orphan: bool, expected: Mapping[str, Any] | None = None
    ) -> None:
        """See the port."""
        await writes.delete_statefulset(self._client, namespace, name, uid=uid, orphan=orphan, expected=expected)

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """See the port."""
        if document["kind"] not in CREATED:
            raise ValueError(f"{document['kind']} is none of {', '.join(CREATED)}")
        path = CREATED[document["kind"]].path(document["metadata"].get("namespace", ""))
        await self._client.request("POST", path, query=[("dryRun", "All")] if dry_run else (), body=document)

    async def get_config(self, namespace: str, name: str) -> Mapping[str, str]:
        """See the port."""
        return dict((await self._client.ask("GET", CONFIGS.path(namespace, name))).get("data") or {})

    async def delete_config(self, namespace: str, name: str, *, expected: Mapping[str, str]) -> None:
        """See the port."""
        await writes.delete_config(self._client, namespace, name, expected=expected)

    async def get_lease(self, namespace: str, name: str) -> Lease:
        """See the port."""
        return objects.lease(await self._client.ask("GET", LEASES.path(namespace, name)))

    async def put_lease(self, lease: Lease) -> Lease:
        """See the port."""
        method, names = ("PUT", (lease.name,)) if lease.version else ("POST", ())
        path = LEASES.path(lease.namespace, *names)
        return objects.lease(await self._client.request(method, path, body=documents.lease(lease)))

    async def delete_lease(self, lease: Lease) -> None:
        """See the port."""
        options = {"preconditions": {"resourceVersion": lease.version}}
        await self._client.request("DELETE", LEASES.path(lease.namespace, lease.name), body=options)

    async def allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """See the port."""
        path = ("apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews")
        review = documents.access_review(verb, resource, namespace)
        return bool((await self._client.ask("POST", path, body=review))["status"].get("allowed"))

    async def post_event(
        self, about: StatefulSet | Pod, topic: str, *, reason: str, message: str, warning: bool, count: int
    ) -> None:
        """See the port. One that was told for the last time an hour ago is gone."""
        event = documents.event(about, topic, reason=reason, message=message, warning=warning, count=count)
        path, name = RESOURCES[ClusterEvent].path(about.namespace), event["metadata"]["name"]
        try:
            again = {key: event[key] for key in ("count", "message", "lastTimestamp")}
            await self._client.request("PATCH", (*path, name), body=again, content_type=writes.MERGE)
        except NotFoundError:
            await self._client.request("POST", path, body=event)

    # Beyond the port: for a namespace that chaosd made for itself.

    async def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; the cluster goes on with that after it has answered. Raises
        NotFoundError, ConflictError when it is being deleted, ForbiddenError."""
        await self._client.request("DELETE", RESOURCES[Namespace].path("", name))

    # Beyond the port: for the daemon's own Deployment.

    async def stop_deployment(self, namespace: str, name: str) -> None:
        """Scale it to nothing; its pods end as they do. Raises NotFoundError, ForbiddenError."""
        await writes.stop_deployment(self._client, namespace, name)

    async def _autoscalers(self, namespace: str, query: Query) -> Sequence[Json]:
        """Of both kinds; a cluster without KEDA has no place for its own. Who may not see those sees the
        HorizontalPodAutoscaler that KEDA makes of each."""
        found, _ = await list_all(self._client, HORIZONTAL_AUTOSCALERS.path(namespace), query)
        with suppress(NotFoundError, ForbiddenError):
            scaled, _ = await list_all(self._client, SCALED_OBJECTS.path(namespace), query)
            return [*found, *scaled]
        return found

    async def _refuse_another(self, namespace: str, pod: str, container: str, uid: str, container_id: str) -> None:
        """Raises ConflictError where a pod or its container is another than was meant, NotFoundError, RefusedError where it
        does not run."""
        document = await self._client.ask("GET", RESOURCES[Pod].path(namespace, pod))
        writes.check_uid(document, uid)
        for one in objects.pod(document).containers:
            if one.name == container:
                if one.id != container_id:
                    raise ConflictError(
                        f"{container} of {namespace}/{pod} is {one.id or 'not started'}, not {container_id}"
                    )
                if not one.running:
                    raise RefusedError(f"{container} of {namespace}/{pod} does not run: {one.ended or one.waiting}")
                return
        raise NotFoundError(f"{namespace}/{pod} has no container {container}")


def _resource(kind: type) -> Resource:
    if kind is Autoscaler:
        raise ValueError("autoscalers are of two kinds, which can only be listed")
    return RESOURCES[kind]
