"""What the sandbox's kubelets ask of disks and containers, whether these are folders and local processes or in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from chaosd.cluster.port import Container, ExecStream, Node, Pod
from chaosd.errors import RefusedError

# Device numbers as in proc(5), mountinfo: of the node's own disk and of a container's root.
_NODE_DEVICE = "254:0"
_ROOT_DEVICE = "0:50"


@dataclass(frozen=True, slots=True)
class Mounting:
    """What kubelet is about to mount into a container: a disk, or where `handle` is empty an emptyDir of the node's."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    volume: str
    path: str
    handle: str = ""
    sub_path: str = ""
    read_only: bool = False


class Process(ExecStream, Protocol):
    """A process in a sandbox's container."""

    @property
    def exited(self) -> bool:
        """Whether it is gone."""

    def kill(self) -> None:
        """Its container stops."""

    async def end(self) -> None:
        """Its connection ends."""


class Disks(Protocol):
    """The disks of a sandbox, and what its containers have of them."""

    def create(self, handle: str, capacity: str = "1Gi") -> object:
        """A new disk with an empty file system; `capacity` as Kubernetes writes it."""

    def grow(self, handle: str, capacity: str) -> None:
        """The disk and its file system are larger from now on."""

    def delete(self, handle: str) -> None:
        """The disk is gone."""

    def mount(self, pod: Pod, mountings: Sequence[Mounting], node: Node) -> None:
        """Make what a pod's containers see. Raises OSError where a disk cannot be mounted."""

    def mount_also(self, pod: Pod, mountings: Sequence[Mounting]) -> None:
        """Let a container that was added to the pod see volumes of the pod's."""

    def restart(self, pod: Pod, container: Container) -> None:
        """A container of the pod is made anew: its own disk is empty, its volumes stay mounted, in the same page cache."""

    def unmount(self, pod_uid: str) -> None:
        """The pod's containers have ended in good order; what is its own is gone, its disks are written back."""

    def crash(self, pod_uids: Sequence[str], *, lying: bool, keep: float) -> None:
        """The node of these pods lost its power, and with it what was only in its page cache."""

    def mounted(self) -> list[str]:
        """UIDs of the pods that have something mounted."""

    def drop_mount(self, pod_uid: str, path: str) -> None:
        """What is mounted at a path goes, behind everybody's back: what it hid, the container's own disk, is seen."""

    async def start(self, pod: Pod, container: Container, argv: Sequence[str]) -> Process:
        """A process in a container. Raises RefusedError when there is no such program."""


def refuse_absent(container: Container, program: str) -> None:
    """An image whose name says `noshell` has no sh, one that says `nopython` no python3. Raises RefusedError."""
    lacks = {"sh": "noshell", "python3": "nopython"}.get(program)
    if lacks and lacks in container.image:
        raise RefusedError(f'exec: "{program}": executable file not found in $PATH')


def mountinfo(
    mountings: Sequence[Mounting],
    point: Callable[[Mounting], str] = lambda one: one.path,
    is_read_only: Callable[[Mounting], bool] = lambda _: False,
) -> Iterator[str]:
    """Lines as in proc(5), mountinfo, each path once: the container's root, what kubelet mounts of the node's disk, and the
    volumes. A disk has a device number of its own, made from its handle; `is_read_only` is of its file system."""
    yield f"20 1 {_ROOT_DEVICE} / / rw,relatime - overlay overlay rw"
    uid = mountings[0].pod_uid if mountings else "none"
    yield f"21 20 {_NODE_DEVICE} {_of_pod(uid, 'etc-hosts')} /etc/hosts rw,relatime - ext4 /dev/sandbox/node rw"
    for number, one in enumerate({one.path: one for one in mountings}.values(), 22):
        root = f"/{one.sub_path}" if one.sub_path else "/"
        device, source = _NODE_DEVICE, "/dev/sandbox/node"
        if one.handle:
            device, source = f"7:{zlib.crc32(one.handle.encode()) % (1 << 20)}", f"/dev/sandbox/{one.handle}"
        else:
            root = _of_pod(uid, f"volumes/kubernetes.io~empty-dir/{one.volume}").rstrip("/") + root.rstrip("/")
        options = "ro,relatime" if one.read_only else "rw,relatime"
        state = "ro" if is_read_only(one) else "rw"
        yield f"{number} 20 {device} {_escaped(root)} {_escaped(point(one))} {options} - ext4 {source} {state}"


def _of_pod(uid: str, name: str) -> str:
    return f"/var/lib/kubelet/pods/{uid}/{name}"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\134").replace(" ", "\\040")
