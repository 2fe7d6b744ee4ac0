"""Disks and containers as folders.

    DIR/disks/<volume handle>/          a disk: what a container sees at the mount path of its volume
    DIR/pods/<pod uid>/volumes/<name>/  an emptyDir, gone with the pod
    DIR/pods/<pod uid>/root/            the container's own disk, gone with the pod
    DIR/pods/<pod uid>/proc/            what the probe reads of /proc

The layout is documented (README) and people break disks in it by hand, so nothing of it is ever cached.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chaosd.cluster.port import Container, Mount, Node, Pod


class Disks:
    """The folders of one sandbox."""

    def __init__(self, directory: Path) -> None:
        self._disks = directory / "disks"
        self._pods = directory / "pods"

    def create(self, handle: str) -> None:
        """A new disk, as ext4 makes it."""
        (self._disks / handle / "lost+found").mkdir(parents=True)

    def delete(self, handle: str) -> None:
        """The disk is gone."""
        shutil.rmtree(self._disks / handle, ignore_errors=True)

    def mount(self, pod: Pod, handles: Mapping[str, str], node: Node) -> None:
        """Make a pod's folders. `handles` maps the pod's volume names to disks."""
        for container in pod.containers:
            for mount in container.mounts:
                if mount.volume not in handles:
                    self._folder(pod, mount, handles).mkdir(parents=True, exist_ok=True)
        root = self._pods / pod.uid / "root"
        root.mkdir(parents=True, exist_ok=True)
        proc = self.proc(pod)
        for name, text in (
            ("self/mountinfo", "".join(self._mountinfo(pod, handles))),
            ("sys/kernel/hostname", f"{pod.hostname}\n"),
            ("sys/kernel/random/boot_id", f"{node.boot_id}\n"),
        ):
            (proc / name).parent.mkdir(parents=True, exist_ok=True)
            (proc / name).write_text(text)

    def unmount(self, pod_uid: str) -> None:
        """The pod's own folders are gone; its disks stay."""
        shutil.rmtree(self._pods / pod_uid, ignore_errors=True)

    def mounted(self) -> list[str]:
        """UIDs of the pods that have folders."""
        return [path.name for path in self._pods.iterdir()] if self._pods.exists() else []

    def proc(self, pod: Pod) -> Path:
        """The pod's /proc."""
        return self._pods / pod.uid / "proc"

    def root(self, pod: Pod) -> Path:
        """The container's own disk."""
        return self._pods / pod.uid / "root"

    def translate(self, pod: Pod, container: Container, handles: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
        """Arguments as the local process must see them: absolute paths, but for the program's, lead into folders."""
        return [*arguments[:1], *(self._translated(pod, container, handles, a) for a in arguments[1:])]

    def _translated(self, pod: Pod, container: Container, handles: Mapping[str, str], argument: str) -> str:
        if not argument.startswith("/"):
            return argument
        for mount in sorted(container.mounts, key=lambda m: len(m.path), reverse=True):
            if argument == mount.path or argument.startswith(mount.path.rstrip("/") + "/"):
                return str(self._folder(pod, mount, handles)) + argument[len(mount.path.rstrip("/")) :]
        return f"{self.root(pod)}{argument}"

    def _folder(self, pod: Pod, mount: Mount, handles: Mapping[str, str]) -> Path:
        handle = handles.get(mount.volume)
        base = self._disks / handle if handle else self._pods / pod.uid / "volumes" / mount.volume
        return base / mount.sub_path if mount.sub_path else base

    def _mountinfo(self, pod: Pod, handles: Mapping[str, str]) -> Iterator[str]:
        """Lines as in proc(5), mountinfo. A disk has a device number of its own, made from its handle."""
        yield "20 1 254:0 / / rw,relatime - overlay overlay rw\n"
        mounts = {mount.path: mount for container in pod.containers for mount in container.mounts}
        for number, mount in enumerate(mounts.values(), 21):
            handle = handles.get(mount.volume)
            device, source = (7, f"/dev/sandbox/{handle}") if handle else (254, "/dev/sandbox/node")
            minor = zlib.crc32(handle.encode()) % (1 << 20) if handle else 0
            point = str(self._folder(pod, mount, handles)).replace(" ", "\\040")
            yield f"{number} 20 {device}:{minor} / {point} rw,relatime - ext4 {source} rw\n"
