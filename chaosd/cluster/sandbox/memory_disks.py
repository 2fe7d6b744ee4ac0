"""Disks and containers in memory: no file, no process, no real time."""

from __future__ import annotations

import errno
import os
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaosd.cluster.port import Container, Node, Pod
from chaosd.cluster.sandbox.disks import Mounting, refuse_absent
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.sandbox.memory_files import MemoryFiles, MemoryMount
from chaosd.cluster.sandbox.memory_process import MemoryProcess
from chaosd.cluster.sandbox.store import Timings
from chaosd.quantities import parse_quantity

_NODE_BYTES = 100 << 30


@dataclass(slots=True)
class _PodMounts:
    """What one pod has: its mounts, the disks behind them once each, what was made of them for its containers, and what
    runs in these."""

    mountings: list[Mounting]
    disks: dict[str, MemoryDisk]  # by handle
    own: dict[str, MemoryDisk]  # emptyDirs, by volume
    node: Node
    roots: dict[str, MemoryDisk] = field(default_factory=dict)  # by container
    views: list[MemoryFiles] = field(default_factory=list)
    processes: list[MemoryProcess] = field(default_factory=list)


class MemoryDisks:
    """All disks of one sandbox: `disks[handle]` is one."""

    def __init__(self, rng: random.Random, timings: Timings) -> None:
        self._rng = rng
        self.timings = timings
        self._disks: dict[str, MemoryDisk] = {}
        self._pods: dict[str, _PodMounts] = {}

    def __getitem__(self, handle: str) -> MemoryDisk:
        """A disk. Raises KeyError."""
        return self._disks[handle]

    def __iter__(self) -> Iterator[str]:
        """The handles, oldest disk first."""
        return iter(self._disks)

    def create(self, handle: str, capacity: str = "1Gi") -> MemoryDisk:
        """A new disk with an empty file system."""
        disk = self._disks[handle] = self._new(int(parse_quantity(capacity)))
        return disk

    def grow(self, handle: str, capacity: str) -> None:
        """The disk and its file system are larger from now on."""
        self._disks[handle].total_bytes = int(parse_quantity(capacity))

    def delete(self, handle: str) -> None:
        """The disk is gone."""
        self._disks.pop(handle, None)

    def mount(self, pod: Pod, mountings: Sequence[Mounting], node: Node) -> None:
        """Mount each disk once for the pod; emptyDirs that it has stay. Raises OSError where a disk is not there."""
        for one in mountings:
            if one.handle and one.handle not in self._disks:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), f"/dev/sandbox/{one.handle}")
        known = self._pods.get(pod.uid)
        own = known.own if known else {}
        disks = {one.handle: self._disks[one.handle] for one in mountings if one.handle}
        for one in mountings:
            if not one.handle and one.volume not in own:
                own[one.volume] = self._new(_NODE_BYTES)
                own[one.volume].file_system = uuid.UUID(node.uid)
                own[one.volume].lose("lost+found")
        for one in mountings:
            if one.sub_path:
                _make_folders(disks[one.handle] if one.handle else own[one.volume], one.sub_path)
        for disk in (*disks.values(), *own.values()):
            disk.mount()
        self._pods[pod.uid] = _PodMounts(list(mountings), disks, own, node)

    def mount_also(self, pod: Pod, mountings: Sequence[Mounting]) -> None:
        """They are the same disks."""
        self._pods[pod.uid].mountings += mountings

    def restart(self, pod: Pod, container: Container) -> None:
        """Its own disk is made again when something is started in it."""
        self._pods[pod.uid].roots.pop(container.name, None)

    def unmount(self, pod_uid: str) -> None:
        """Its disks are written back."""
        gone = self._pods.pop(pod_uid, None)
        for disk in gone.disks.values() if gone else ():
            disk.unmount()

    def crash(self, pod_uids: Sequence[str], *, lying: bool, keep: float) -> None:
        """Each disk of these pods loses its power; only those that are no emptyDirs may lie. Their containers' own disks
        are gone, emptyDirs stay with the pods."""
        hit: dict[MemoryDisk, bool] = {}
        for uid in pod_uids:
            pod = self._pods.get(uid)
            if pod is None:
                continue
            hit |= dict.fromkeys(pod.disks.values(), lying) | dict.fromkeys(pod.own.values(), False)
            pod.disks, pod.roots, pod.views = {}, {}, []
        for disk, lies in hit.items():
            disk.crash(lying=lies, keep=keep)

    def hang(self, pod_uids: Sequence[str]) -> None:
        """What runs in these pods stands still until `wake`."""
        for process in self._processes(pod_uids):
            process.hang()

    def wake(self, pod_uids: Sequence[str]) -> None:
        """It goes on."""
        for process in self._processes(pod_uids):
            process.wake()

    def _processes(self, pod_uids: Sequence[str]) -> Iterator[MemoryProcess]:
        return (process for uid in pod_uids if uid in self._pods for process in self._pods[uid].processes)

    def mounted(self) -> list[str]:
        """UIDs of the pods that have something mounted."""
        return list(self._pods)

    def drop_mount(self, pod_uid: str, path: str) -> None:
        """Open sessions lose it, too."""
        pod = self._pods[pod_uid]
        pod.mountings = [one for one in pod.mountings if one.path != path]
        for view in pod.views:
            view.drop(path)

    async def start(self, pod: Pod, container: Container, argv: Sequence[str]) -> MemoryProcess:
        """The probe, and nothing else."""
        refuse_absent(container, argv[0])
        started = MemoryProcess.start(self.files(pod, container), argv, self.timings, self._rng)
        mounts = self._pods[pod.uid]
        mounts.processes = [*(process for process in mounts.processes if not process.exited), started]
        return started

    def files(self, pod: Pod, container: Container) -> MemoryFiles:
        """What a container of the pod sees."""
        mounts = self._pods[pod.uid]
        root = mounts.roots.get(container.name)
        if root is None:
            root = mounts.roots[container.name] = self._new(_NODE_BYTES, kind="overlay")
            for mount in container.mounts:
                _make_folders(root, mount.path.strip("/"))
        found = [MemoryMount("/", root)]
        for one in mounts.mountings:
            if one.container == container.name:
                disk = mounts.disks[one.handle] if one.handle else mounts.own[one.volume]
                found.append(MemoryMount(one.path.rstrip("/") or "/", disk, one))
        view = MemoryFiles(found, pod.hostname, mounts.node.boot_id)
        mounts.views.append(view)
        return view

    def _new(self, total_bytes: int, kind: str = "ext4") -> MemoryDisk:
        return MemoryDisk(random.Random(self._rng.getrandbits(64)), total_bytes, kind=kind)  # noqa: S311 - no secret


def _make_folders(disk: MemoryDisk, path: str) -> None:
    made = ""
    for name in path.split("/"):
        made = f"{made}/{name}" if made else name
        disk.make_folder(made)
