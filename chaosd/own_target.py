"""A namespace and a StatefulSet of chaosd's own on a real cluster, for a drill or a gate: made for it, and deleted after it
whatever happens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaosd.cluster import target as targets
from chaosd.cluster.inflight import patiently
from chaosd.cluster.observer import View
from chaosd.cluster.port import TARGET_LABEL, Claim, Cluster, ClusterEvent, Pod, StatefulSet, Volume
from chaosd.errors import (
    ClusterError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    RefusedError,
    RightsError,
    UnreachableError,
)
from chaosd.preflight import rights
from chaosd.run import Ending
from chaosd.settings import Settings

if TYPE_CHECKING:
    from chaosd.cluster.kubernetes import KubernetesCluster

Document = dict[str, Any]
Tell = Callable[[str], None]

TEMPLATE = "disk"
DEFAULT_IMAGE = "busybox:stable"
# Disks and images come within a minute or two, where they come at all.
READY_SECONDS = 300.0
_PATIENCE_SECONDS = 30.0  # for an API server that is away
_POLL_SECONDS = 0.5
# Why a container waits that kubelet has tried already; more of the same mends nothing.
_HOPELESS = ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CrashLoopBackOff", "CreateContainerConfigError")
# Many clouds have no smaller disks.
_SIZE = "20Gi"
# Whoever runs as nobody may do so in any namespace: Kubernetes docs, "Pod Security Standards", Restricted.
_NOBODY = 65534
# What that needs of the cluster, and in the namespace beside what is done there. Without a sight of volumes every run would
# be undecided.
RIGHTS = (("create", "namespaces"), ("delete", "namespaces"), *rights.WISHES)
RIGHTS_INSIDE = (("create", "statefulsets.apps"),)
_SHELL = "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the StatefulSet is made of, and what for (`name`). `storage_class` empty is the cluster's default; with `keep`,
    the namespace stays."""

    name: str
    image: str = DEFAULT_IMAGE
    storage_class: str = ""
    keep: bool = False
    replicas: int = 2


@asynccontextmanager
async def own_target(
    settings: Settings, wanted: Wanted, needed: Callable[[str], Sequence[rights.Placed]], ending: Ending, tell: Tell
) -> AsyncIterator[str]:
    """The namespace in which the StatefulSet is ready, until the context ends; `needed` are the rights that are used there.

    Raises RightsError before anything is made, NotReadyError when the replicas do not come, AbortedError, ClusterError.
    """
    from chaosd.cluster.kubernetes import KubernetesCluster

    cluster = await KubernetesCluster.open(
        kubeconfig=settings.kubeconfig, context=settings.context, qps=settings.qps, burst=settings.burst
    )
    try:
        namespace = f"chaosd-{wanted.name}-{secrets.token_hex(4)}"
        await _check_rights(cluster, wanted, namespace, needed(namespace))
        await _create(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        tell(f"namespace {namespace}")
        try:
            await _create(cluster, statefulset(namespace, wanted))
            await ending.unless_ended(_ready(cluster, namespace, wanted, tell))
            yield namespace
        finally:
            await _leave(cluster, namespace, wanted, tell)
    finally:
        await cluster.close()


def statefulset(namespace: str, wanted: Wanted) -> Document:
    """The manifest of the target."""
    labels = {"app.kubernetes.io/name": f"chaosd-{wanted.name}"}
    container = {
        "name": "shell",
        "image": wanted.image,
        "command": ["sh", "-c", _SHELL],
        "volumeMounts": [{"name": TEMPLATE, "mountPath": "/data"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {"runAsNonRoot": True, "runAsUser": _NOBODY, "runAsGroup": _NOBODY, "fsGroup": _NOBODY}
    pod = {
        "containers": [container],
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
    }
    claim: Document = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": _SIZE}}}
    if wanted.storage_class:
        claim["storageClassName"] = wanted.storage_class
    spec = {
        "serviceName": wanted.name,
        "replicas": wanted.replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        "volumeClaimTemplates": [{"metadata": {"name": TEMPLATE}, "spec": claim}],
    }
    meta = {"name": wanted.name, "namespace": namespace, "labels": {**labels, TARGET_LABEL: "true"}}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}


async def _check_rights(cluster: Cluster, wanted: Wanted, namespace: str, needed: Sequence[rights.Placed]) -> None:
    asked = [*rights.placed("", RIGHTS), *rights.placed(namespace, RIGHTS_INSIDE), *needed]
    verbs: dict[str, list[str]] = {}
    for verb, resource, _ in await rights.missing(cluster, asked):
        verbs.setdefault(resource, []).append(verb)
    if verbs:
        lacking = "; ".join(f"{', '.join(held)} on {resource}" for resource, held in verbs.items())
        raise RightsError(
            f"a {wanted.name} of its own makes a namespace and deletes it, and the credentials lack {lacking}: grant them "
            "for the whole cluster, or try a simulated one with --cluster sandbox"
        )


async def _create(cluster: KubernetesCluster, document: Mapping[str, Any]) -> None:
    """Raises RightsError, ClusterError. Where an answer may be all that was lost, what was made is deleted again."""
    kind, name = document["kind"], document["metadata"]["name"]
    # Admission that refuses a namespace has rules for who may make which.
    refusals = (ForbiddenError, RefusedError) if kind == "Namespace" else (ForbiddenError,)
    try:
        await cluster.create(document)
    except refusals as error:
        raise RightsError(f"the {kind} {name} may not be made: {error}") from error
    except UnreachableError:
        if kind == "Namespace":
            await _delete(cluster, name)
        raise


async def _ready(cluster: Cluster, namespace: str, wanted: Wanted, tell: Tell) -> None:
    """Wait until every replica is. Raises NotReadyError, with what the cluster said of it; ClusterError."""
    now = asyncio.get_running_loop().time
    began, told = now(), ""
    while late := await _late(cluster, namespace, wanted):
        if late != told:
            tell(f"waiting for {late}")
            told = late
        why = "; ".join(dict.fromkeys([late, *await _warnings(cluster, namespace)]))
        no_class = f'"{wanted.storage_class}" not found' in why  # as the volume controller says of one
        if now() - began > READY_SECONDS or no_class or any(reason in late for reason in _HOPELESS):
            mend = "name another --image or --storage-class, or mend the cluster"
            raise NotReadyError(f"{namespace}/{wanted.name} is not ready after {now() - began:.0f} s: {mend}: {why}")
        await asyncio.sleep(_POLL_SECONDS)
    tell(f"{namespace}/{wanted.name} has its {wanted.replicas} replicas after {now() - began:.0f} s")


async def _late(cluster: Cluster, namespace: str, wanted: Wanted) -> str:
    """What keeps the replicas from being ready, in a few words; empty where they are."""
    async for attempt in patiently(_PATIENCE_SECONDS):
        with attempt:
            found = await cluster.get(StatefulSet, namespace, wanted.name)
            pods = {pod.name: pod for pod in await cluster.list(Pod, namespace)}
            claims = {claim.name: claim for claim in await cluster.list(Claim, namespace)}
    target = targets.resolve(found, path="", container="", require_claim=True)
    late = View(statefulset=found, pods=pods, claims=claims).late(target, wanted.replicas)
    return "; ".join(f"{name}: {why}" for name, why in late.items())


async def _warnings(cluster: Cluster, namespace: str) -> list[str]:
    """What events say that stands in the way, the latest last."""
    try:
        events = await cluster.list(ClusterEvent, namespace)
    except ClusterError:
        return []
    told = sorted((event for event in events if event.warning), key=lambda event: event.last_seen)
    return [f"{event.about_name}: {event.reason}: {event.message}" for event in told[-3:]]


async def _leave(cluster: KubernetesCluster, namespace: str, wanted: Wanted, tell: Tell) -> None:
    if wanted.keep:
        tell(f"kept: kubectl delete namespace {namespace}")
        return
    retained = await _retained(cluster, namespace)
    if await _delete(cluster, namespace):
        tell(f"namespace {namespace} is deleted")
    else:
        tell(f"namespace {namespace} is left: kubectl delete namespace {namespace}")
    if retained:
        tell(f"its storage class retains volumes: kubectl delete persistentvolume {' '.join(retained)}, and their disks")


async def _retained(cluster: Cluster, namespace: str) -> list[str]:
    """Volumes that will not go with their claims."""
    try:
        names = [claim.volume for claim in await cluster.list(Claim, namespace) if claim.volume]
        volumes = [await cluster.get(Volume, "", name) for name in names]
    except ClusterError:
        return []
    return [volume.name for volume in volumes if volume.reclaim_policy != "Delete"]


async def _delete(cluster: KubernetesCluster, namespace: str) -> bool:
    """Whether it goes, or was never there."""
    try:
        async for attempt in patiently(_PATIENCE_SECONDS):
            with attempt:
                await cluster.delete_namespace(namespace)
    except (NotFoundError, ConflictError):  # gone, or going
        return True
    except ClusterError:
        return False
    return True
