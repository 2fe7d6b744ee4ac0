"""Writes that must reach the object that was meant, in the state that was believed, or not happen.

A patch carries the UID that it is meant for, which the API server lets nobody change, or the resourceVersion that was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from chaosd.cluster import objects
from chaosd.cluster.kubernetes import documents
from chaosd.cluster.kubernetes.client import Client
from chaosd.cluster.kubernetes.resources import CONFIGS, DEPLOYMENTS, RESOURCES
from chaosd.cluster.port import CORDONED_ANNOTATION, Claim, Node, StatefulSet
from chaosd.errors import ConflictError, RefusedError, ThrottledError
from chaosd.quantities import parse_quantity

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_ATTEMPTS = 10


async def patch(
    client: Client, path: Sequence[str], uid: str, change: Mapping[str, Any], content_type: str = MERGE
) -> None:
    """Change the object that has this UID. Raises ConflictError when it has another; ClusterError."""
    body = {**change, "metadata": {"uid": uid}}
    try:
        await client.request("PATCH", path, body=body, content_type=content_type)
    except RefusedError as error:
        if "metadata.uid" in str(error):
            raise ConflictError(f"it has not the UID {uid}, or was replaced meanwhile: {error}") from error
        raise


async def scale(client: Client, namespace: str, name: str, *, uid: str, replicas: int, expected: int) -> None:
    """See the port."""
    path = RESOURCES[StatefulSet].path(namespace, name, "scale")

    def change(found: Json) -> Json:
        check_uid(found, uid)
        now = found["spec"].get("replicas", 0)
        if now != expected:
            raise ConflictError(f"{namespace}/{name} has {now} replicas, not {expected}")
        return {**found, "spec": {**found["spec"], "replicas": replicas}}

    await _written(client, path, "PUT", change)


async def stop_deployment(client: Client, namespace: str, name: str) -> None:
    """Scale a Deployment to nothing. Safe to repeat."""

    def change(found: Json) -> Json:
        return {**found, "spec": {**found["spec"], "replicas": 0}}

    await _written(client, DEPLOYMENTS.path(namespace, name, "scale"), "PUT", change)


async def cordon(client: Client, node: str, *, uid: str, by: str) -> None:
    """See the port. Safe to repeat."""

    def change(found: Json) -> Json | None:
        now = _node(found, uid)
        if not now.unschedulable:
            return _schedulable(found, unschedulable=True, mark=by)
        if now.cordoned_by != by:
            raise ConflictError(f"node {node} is cordoned already, by {now.cordoned_by or 'somebody else'}")
        return None

    await _written(client, RESOURCES[Node].path("", node), "PATCH", change)


async def uncordon(client: Client, node: str, *, uid: str, by: str) -> None:
    """See the port. Where somebody lifted the cordon, its mark goes, too, or the next one's cordon would seem ours."""

    def change(found: Json) -> Json | None:
        now = _node(found, uid)
        if now.cordoned_by == by:
            return _schedulable(found, unschedulable=None, mark=None)
        if now.unschedulable:
            raise ConflictError(f"node {node} was cordoned by {now.cordoned_by or 'somebody else'}, not by {by}")
        return None

    await _written(client, RESOURCES[Node].path("", node), "PATCH", change)


async def expand_claim(client: Client, namespace: str, name: str, *, uid: str, storage: str) -> None:
    """See the port. What is no larger is refused here: the API server takes the same size for no change."""

    def change(found: Json) -> Json:
        check_uid(found, uid)
        asked = objects.claim(found).requested
        if parse_quantity(storage) <= parse_quantity(asked):
            raise RefusedError(f"{namespace}/{name} has asked for {asked}, and {storage} is no more")
        return {"metadata": {"resourceVersion": _version(found)}, "spec": {"resources": {"requests": {"storage": storage}}}}

    await _written(client, RESOURCES[Claim].path(namespace, name), "PATCH", change)


async def delete_statefulset(
    client: Client, namespace: str, name: str, *, uid: str, orphan: bool, expected: Mapping[str, Any] | None
) -> None:
    """See the port."""

    def change(found: Json) -> Json:
        check_uid(found, uid)
        if expected is not None and documents.manifest(found) != expected:
            raise ConflictError(f"{namespace}/{name} is not any more what it was when its manifest was read")
        return documents.delete_options(uid, propagation="Orphan" if orphan else "Foreground", version=_version(found))

    await _written(client, RESOURCES[StatefulSet].path(namespace, name), "DELETE", change)


async def delete_config(client: Client, namespace: str, name: str, *, expected: Mapping[str, str]) -> None:
    """See the port."""

    def change(found: Json) -> Json:
        if (found.get("data") or {}) != expected:
            raise ConflictError(f"ConfigMap {namespace}/{name}: its data are not the expected ones")
        return documents.delete_options(found["metadata"]["uid"], version=_version(found))

    await _written(client, CONFIGS.path(namespace, name), "DELETE", change)


def check_uid(found: Json, uid: str) -> None:
    """Raises ConflictError where an object is another than the one that was meant."""
    meta = found["metadata"]
    if meta["uid"] != uid:
        raise ConflictError(f"{meta['namespace']}/{meta['name']} has the UID {meta['uid']}, not {uid}")


async def _written(client: Client, path: Sequence[str], method: str, change: Callable[[Json], Json | None]) -> None:
    """Write what `change` makes of the object as it was read (None: nothing is to be done), if it still is that. The
    resourceVersion that makes the write conditional changes with the status too, and a controller at work writes that many
    times a second, so a conflict alone does not say that what matters changed."""
    content_type = MERGE if method == "PATCH" else "application/json"
    for _ in range(_ATTEMPTS):
        body = change(await client.ask("GET", path))
        if body is None:
            return
        with suppress(ConflictError):
            await client.request(method, path, body=body, content_type=content_type)
            return
    raise ThrottledError(f"/{'/'.join(path)} changed {_ATTEMPTS} times while it was to be written")


def _version(found: Json) -> str:
    return str(found["metadata"]["resourceVersion"])


def _node(document: Json, uid: str) -> Node:
    node = objects.node(document)
    if node.uid != uid:
        raise ConflictError(f"node {node.name} has the UID {node.uid}, not {uid}")
    return node


def _schedulable(found: Json, *, unschedulable: bool | None, mark: str | None) -> Json:
    meta = {"resourceVersion": _version(found), "annotations": {CORDONED_ANNOTATION: mark}}
    return {"metadata": meta, "spec": {"unschedulable": unschedulable}}
