"""A pod with the processes of its node, for what no container can do to itself: `container-kill` with KILL.

It is made for one signal and taken away again: its deletion is the disruption's undo, so that none outlives chaosd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import Cluster, Pod
from chaosd.errors import BlockedError, ConflictError, DeadlineError, NotFoundError, RefusedError
from chaosd.nemesis.base import REFUSED, Right, Scene

RIGHTS: tuple[Right, ...] = tuple((verb, "pods") for verb in ("get", "create", "delete"))
_PROGRAM = resources.files("chaosd.nemesis").joinpath("host_signal.sh").read_text()
_LOOK_SECONDS = 0.2


class HostHelper(BaseModel):
    """A pod on the container's node, with hostPID, as root and with no capability but KILL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Annotated[str, Field(min_length=1, description="An image with a POSIX shell, such as busybox.")]
    namespace: Annotated[
        str, Field(description="Where it may run (Pod Security: privileged); left out: the target's own.")
    ] = ""


def name_of(kill: Mapping[str, Any]) -> str:
    """Of the pod that kills a container once."""
    return f"chaosd-kill-{kill['uid']}-{kill['was']['restarts']}"


async def signal(scene: Scene, helper: Mapping[str, str], kill: Mapping[str, Any], number: str) -> None:
    """Have a container's first process signalled from its node. Safe to repeat: the container has another id then.

    Raises BlockedError where the pod may not run, or found no such process; ClusterError, DeadlineError.
    """
    namespace, name = helper["namespace"], name_of(kill)
    async for attempt in patiently(scene.timeout_seconds):
        with attempt, suppress(ConflictError):  # an attempt whose answer was lost made it
            try:
                await unbroken(scene.cluster.create(_document(namespace, name, helper["image"], kill, number)))
            except RefusedError as error:
                raise BlockedError(f"the helper with the node's processes may not run: {error}", REFUSED) from error
    phase = await _ended(scene, namespace, name)
    if phase != "Succeeded":
        raise BlockedError(f"helper {namespace}/{name} sent no signal: it ended {phase}: kubectl logs tells why", REFUSED)


async def remove(cluster: Cluster, namespace: str, name: str, timeout_seconds: float) -> str:
    """Delete the pod, if it is there. Safe to repeat. Raises ClusterError."""
    async for attempt in patiently(timeout_seconds):
        with attempt:
            try:
                found = await cluster.get(Pod, namespace, name)
                await unbroken(cluster.delete_pod(namespace, name, uid=found.uid, grace_seconds=0))
            except (NotFoundError, ConflictError):
                return f"helper {namespace}/{name} is gone"
    return f"helper {namespace}/{name} deleted"


async def _ended(scene: Scene, namespace: str, name: str) -> str:
    """The phase in which the pod ended."""
    try:
        async with asyncio.timeout(scene.timeout_seconds):
            while True:
                async for attempt in patiently(scene.timeout_seconds):
                    with attempt:
                        phase = (await scene.cluster.get(Pod, namespace, name)).phase
                if phase in ("Succeeded", "Failed"):
                    return phase
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        raise DeadlineError(f"helper {namespace}/{name} did not end in {scene.timeout_seconds:.0f} s") from error


def _document(namespace: str, name: str, image: str, kill: Mapping[str, Any], number: str) -> dict[str, Any]:
    container_id = kill["was"]["id"].rpartition("/")[2]
    container = {
        "name": "kill",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _PROGRAM, "chaosd-host-signal", container_id, number],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["KILL"]}},
    }
    spec = {
        "nodeName": kill["node"],
        "hostPID": True,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    metadata = {"namespace": namespace, "name": name, "labels": {"app.kubernetes.io/managed-by": "chaosd"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
