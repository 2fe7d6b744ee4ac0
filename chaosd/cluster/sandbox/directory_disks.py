"""Disks and containers as folders.

    DIR/disks/<volume handle>/          a disk: what a container sees at the mount path of its volume
    DIR/pods/<pod uid>/volumes/<name>/  an emptyDir, gone with the pod
    DIR/pods/<pod uid>/root/            the container's own disk, gone with the pod
    DIR/pods/<pod uid>/proc/            what the probe reads of /proc

The layout is documented (README) and people break disks in it by hand, so nothing of it is ever cached. Each disk's file
system has a UUID, kept in its lost+found: kubelet formats what has none when it mounts it, so a disk whose folder was
wiped comes back as another file system. There is no page cache but the real one: a crash of a node loses nothing.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from chaosd.cluster.port import Container, Node, Pod
from chaosd.cluster.sandbox.disks import Mounting, mountinfo, refuse_absent
from chaosd.cluster.sandbox.memory_disk import fsid_of
from chaosd.cluster.sandbox.process import LocalProcess

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class DirectoryDisks:
    """The folders of one sandbox."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self._disks = directory / "disks"
        self._pods = directory / "pods"
        self._rng = rng
        self._mountings: dict[str, list[Mounting]] = {}
        self._file_systems: dict[str, uuid.UUID] = {}

    def __getitem__(self, handle: str) -> Path:
        """The folder of a disk."""
        return self._disks / handle

    def create(self, handle: str, capacity: str = "1Gi") -> Path:
        """A new disk, as ext4 makes it. Its capacity is not kept to: the folder has what room is there."""
        folder = self._disks / handle
        (folder / "lost+found").mkdir(parents=True)
        return folder

    def grow(self, handle: str, capacity: str) -> None:
        """The folder has what room is there."""

    def delete(self, handle: str) -> None:
        """The disk is gone."""
        shutil.rmtree(self._disks / handle, ignore_errors=True)

    def mount(self, pod: Pod, mountings: Sequence[Mounting], node: Node) -> None:
        """Make a pod's folders. Raises OSError where a disk is not there."""
        node_file_system = uuid.UUID(node.uid)
        file_systems = {one.path: self._file_system(one.handle) if one.handle else node_file_system for one in mountings}
        for one in mountings:
            if not one.handle:
                self._folder(one).mkdir(parents=True, exist_ok=True)
        self._root(pod.uid).mkdir(parents=True, exist_ok=True)
        self._mountings[pod.uid] = list(mountings)
        for path, file_system in file_systems.items():
            self._file_systems[f"{pod.uid}:{path}"] = file_system
        self._tell(pod.uid, "sys/kernel/hostname", pod.hostname)
        self._tell(pod.uid, "sys/kernel/random/boot_id", node.boot_id)
        self._tell_mounts(pod.uid)

    def mount_also(self, pod: Pod, mountings: Sequence[Mounting]) -> None:
        """They are the same folders."""
        self._mountings[pod.uid] += mountings

    def restart(self, pod: Pod, container: Container) -> None:
        """Containers of one pod have one folder for their own disks, so that of several it stays."""
        if len(pod.containers) == 1:
            shutil.rmtree(self._root(pod.uid), ignore_errors=True)
            self._root(pod.uid).mkdir(parents=True)

    def unmount(self, pod_uid: str) -> None:
        """The pod's own folders are gone; its disks stay."""
        for one in self._mountings.pop(pod_uid, ()):
            self._file_systems.pop(f"{pod_uid}:{one.path}", None)
        shutil.rmtree(self._pods / pod_uid, ignore_errors=True)

    def crash(self, pod_uids: Sequence[str], *, lying: bool, keep: float) -> None:
        """Nothing is lost but the containers' own disks."""
        for uid in pod_uids:
            shutil.rmtree(self._root(uid), ignore_errors=True)

    def mounted(self) -> list[str]:
        """UIDs of the pods that have folders."""
        return sorted(path.name for path in self._pods.iterdir()) if self._pods.exists() else []

    def drop_mount(self, pod_uid: str, path: str) -> None:
        """Paths below it lead into the container's own disk from now on."""
        self._mountings[pod_uid] = [one for one in self._mountings[pod_uid] if one.path != path]
        (self._root(pod_uid) / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._tell_mounts(pod_uid)

    async def start(self, pod: Pod, container: Container, argv: Sequence[str]) -> LocalProcess:
        """Absolute paths in its arguments, but for the program's, lead into folders."""
        refuse_absent(container, argv[0])
        mountings = [one for one in self._mountings[pod.uid] if one.container == container.name]
        arguments = [self._translated(pod.uid, mountings, argument) for argument in argv[1:]]
        program = sys.executable if argv[0] == "python3" else argv[0]
        proc = self._pods / pod.uid / "proc"
        environment = {"PATH": _PATH, "LANG": "C", "HOSTNAME": pod.hostname, "CHAOSD_PROC": str(proc)}
        return await LocalProcess.start([program, *arguments], environment, self._root(pod.uid))

    def _translated(self, pod_uid: str, mountings: Sequence[Mounting], argument: str) -> str:
        if not argument.startswith("/"):
            return argument
        for one in sorted(mountings, key=lambda one: len(one.path), reverse=True):
            if argument == one.path or argument.startswith(one.path.rstrip("/") + "/"):
                # The process asks about the file system that it was started for.
                self._tell(pod_uid, "fsid", fsid_of(self._file_systems[f"{pod_uid}:{one.path}"]))
                return str(self._folder(one)) + argument[len(one.path.rstrip("/")) :]
        return f"{self._root(pod_uid)}{argument}"

    def _folder(self, one: Mounting) -> Path:
        base = self._disks / one.handle if one.handle else self._pods / one.pod_uid / "volumes" / one.volume
        return base / one.sub_path if one.sub_path else base

    def _file_system(self, handle: str) -> uuid.UUID:
        """The UUID of a disk's file system, which is made where there is none. Raises OSError where there is no disk."""
        folder = self._disks / handle
        if not folder.is_dir():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        superblock = folder / "lost+found" / "superblock"
        try:
            return uuid.UUID(superblock.read_text().strip())
        except (OSError, ValueError):
            made = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        superblock.parent.mkdir(exist_ok=True)
        superblock.write_text(f"{made}\n")
        return made

    def _root(self, pod_uid: str) -> Path:
        return self._pods / pod_uid / "root"

    def _tell_mounts(self, pod_uid: str) -> None:
        lines = mountinfo(self._mountings[pod_uid], lambda one: str(self._folder(one)))
        self._tell(pod_uid, "self/mountinfo", "\n".join(lines))

    def _tell(self, pod_uid: str, name: str, text: str) -> None:
        file = self._pods / pod_uid / "proc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
