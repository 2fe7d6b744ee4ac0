"""The agent's container: an ephemeral container beside the target's own, which mounts the volume behind the path.

Kubernetes neither removes nor restarts ephemeral containers, so one that is there and runs the same image is used again,
by later sessions and later runs alike. Source: Kubernetes docs, "Ephemeral Containers".
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable

from chaosd.cluster.port import Cluster, Container, EphemeralContainer, Mount, Pod
from chaosd.cluster.target import Target
from chaosd.errors import ConflictError, ForbiddenError, NotReadyError, RefusedError, RightsError, TargetError

PREFIX = "chaosd-agent"
_POLL_SECONDS = 0.1
# A container name has 63 characters at most (RFC 1123 label).
_SUFFIX_CHARACTERS = 40
# No waiting mends these: no python3 in the image, no such name for one, or it runs as root where the pod forbids that.
# Source: kubelet, pkg/kubelet/container/sync_result.go, pkg/kubelet/images/types.go.
_HOPELESS = ("RunContainerError", "StartError", "ContainerCannotRun", "CreateContainerConfigError", "InvalidImageName")
# Process 1 of its container: it waits for SIGTERM, which the kernel keeps from a process 1 that neither handles nor blocks
# it, so that the pod's deletion is not held up until the grace period ends.
_WAITS = "import signal as s; term = {s.SIGTERM}; s.pthread_sigmask(s.SIG_BLOCK, term); s.sigwait(term)"
_ARGV = ("python3", "-I", "-c", _WAITS)


async def agent_container(
    cluster: Cluster, target: Target, pod: Pod, image: str, epoch: str, timeout_seconds: float
) -> tuple[Pod, str]:
    """The name of a running agent container in the pod, added if need be, and the pod as it is then.

    Raises TargetError where the pod cannot have one or the image cannot run it, RightsError where it may not be added,
    NotReadyError when it did not run in time or the pod was replaced, ClusterError.
    """
    mount = _mount(target, pod)
    found = next((c for c in pod.ephemeral if _serves(c, image, mount)), None)
    name = found.name if found else _free_name(epoch, pod.ephemeral)
    if not found:
        await _add(cluster, target, pod, EphemeralContainer(name, image, _ARGV, (mount,), like=target.container))
    return await _running(cluster, pod, name, image, timeout_seconds), name


def _mount(target: Target, pod: Pod) -> Mount:
    """The mount at the path in the target's own container, as the agent's is to have it."""
    mounts = (m for c in pod.containers if c.name == target.container for m in c.mounts)
    found = next((m for m in mounts if m.path.rstrip("/") == target.path.rstrip("/")), None)
    if found is None:
        raise TargetError(f"{pod.namespace}/{pod.name}: container {target.container} mounts nothing at {target.path}")
    if found.sub_path:
        raise TargetError(
            f"{pod.namespace}/{pod.name}: {target.path} is the subPath {found.sub_path} of its volume, which an ephemeral "
            "container cannot mount: set target.probe: shell, or name a path that is a whole volume"
        )
    return found


def _serves(container: Container, image: str, mount: Mount) -> bool:
    """One that is hopeless serves to say so: another would be no better."""
    ours = container.name.startswith(PREFIX) and container.image == image and mount in container.mounts
    return ours and (not container.ended or container.ended in _HOPELESS)


def _free_name(epoch: str, there: Iterable[Container]) -> str:
    taken = {container.name for container in there}
    suffix = re.sub(r"[^a-z0-9]+", "-", epoch.lower())[-_SUFFIX_CHARACTERS:].strip("-")
    names = itertools.chain([f"{PREFIX}-{suffix}"], (f"{PREFIX}-{suffix}-{n}" for n in itertools.count(2)))
    return next(name for name in names if name not in taken)


async def _add(cluster: Cluster, target: Target, pod: Pod, container: EphemeralContainer) -> None:
    try:
        await cluster.add_ephemeral_container(pod.namespace, pod.name, container, uid=pod.uid)
    except ForbiddenError as error:
        right = f"patch on pods/ephemeralcontainers in {pod.namespace}"
        raise RightsError(f"{right} is not allowed: grant it ({error})") from error
    except ConflictError as error:
        raise NotReadyError(f"{pod.namespace}/{pod.name} was replaced before it had an agent: {error}") from error
    except RefusedError as error:
        raise TargetError(
            f"{pod.namespace}/{pod.name} cannot have an agent beside container {target.container}: {error}: name a "
            "container with a POSIX shell, or mend what is refused"
        ) from error


async def _running(cluster: Cluster, pod: Pod, name: str, image: str, timeout_seconds: float) -> Pod:
    """The pod once the container runs."""
    key, waiting = f"{pod.namespace}/{pod.name}", ""
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                now = await cluster.get(Pod, pod.namespace, pod.name)
                if now.uid != pod.uid or now.deleting:
                    raise NotReadyError(f"{key} was replaced while its agent was started")
                container = next((c for c in now.ephemeral if c.name == name), Container(name))
                if container.running:
                    return now
                waiting = container.waiting
                if why := container.ended or (waiting if waiting in _HOPELESS else ""):
                    mend = "set target.probeImage to an image with python3 that this pod may run"
                    raise TargetError(f"{key}: image {image} cannot run the agent, its container says {why}: {mend}")
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        why = f"container {name} with image {image} does not run after {timeout_seconds:.0f} s"
        raise NotReadyError(f"{key}: {why}: {waiting or 'it was not started'}") from error
