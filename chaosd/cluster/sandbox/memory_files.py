"""What one container sees of disks in memory: the port `Files` of the probe's agent."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chaosd.cluster.sandbox.disks import Mounting, mountinfo
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.probe.agent import IrregularError


@dataclass(frozen=True, slots=True)
class MemoryMount:
    """A disk at a path; `mounting` is None for the container's root."""

    path: str
    disk: MemoryDisk
    mounting: Mounting | None = None

    @property
    def base(self) -> str:
        """The folder of the disk that is mounted."""
        return self.mounting.sub_path if self.mounting else ""


class MemoryFiles:
    """The mounts of one container, its root first. Every method but `drop` is the port's."""

    def __init__(self, mounts: Sequence[MemoryMount], hostname: str, boot_id: str) -> None:
        self._hostname = hostname
        self._boot_id = boot_id
        self._mounts = list(mounts)
        self._places: dict[str, tuple[MemoryMount, str]] = {}

    def drop(self, path: str) -> None:
        """The mount at a path goes, as after an unmount behind the pod's back: what it hid is seen again."""
        self._mounts = [mount for mount in self._mounts if mount.path != path]
        self._places.clear()

    def facts(self, mount: str) -> Iterator[str]:
        """As LocalFiles tells them."""
        yield f"hostname {self._hostname}"
        yield f"boot {self._boot_id}"
        yield from (f"mountinfo {line}" for line in self._mountinfo())
        resolved = posixpath.normpath(mount)
        try:
            found, path = self._place(resolved)
            names = found.disk.names(path)
        except (FileNotFoundError, NotADirectoryError):
            yield f"absent {mount}"
            return
        except OSError:
            names = []
        disk = found.disk
        yield f"resolved {resolved}"
        free, total = disk.free_bytes // 4096, disk.total_bytes // 4096
        yield f"space {free} 4096 {disk.total_inodes} {disk.free_inodes} {total}"
        yield f"fsid {disk.fsid}"
        if disk.kind == "ext4":
            yield f"uuid {disk.file_system.hex}"
        yield from (f"entry {name}" for name in names)

    def make_folder(self, path: str) -> bool:
        """mkdir(2)."""
        disk, inside = self._writable(*self._file(path))
        return disk.make_folder(inside)

    def write(self, path: str, data: bytes, *, append: bool = False, create: bool = True) -> None:
        """write(2) and fsync(2)."""
        disk, inside = self._writable(*self._file(path))
        disk.flush(disk.write(inside, data, append=append, create=create))

    def move(self, names: Sequence[str], folder: str, to: str) -> None:
        """rename(2)."""
        disk, inside = self._writable(*self._place(folder))
        other, target = self._writable(*self._place(to))
        if other is not disk:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), folder)
        for name in names:
            disk.rename(f"{inside}/{name}" if inside else name, f"{target}/{name}" if target else name)

    def remove(self, names: Sequence[str], folder: str) -> None:
        """unlink(2)."""
        disk, inside = self._writable(*self._place(folder))
        for name in names:
            with suppress(FileNotFoundError):
                disk.remove(f"{inside}/{name}" if inside else name)

    def sync(self, folder: str) -> None:
        """fsync(2) on the folder."""
        mount, inside = self._place(folder)
        mount.disk.sync(inside)

    def names(self, folder: str) -> list[str]:
        """readdir(3)."""
        mount, inside = self._place(folder)
        return mount.disk.names(inside)

    def described(self, path: str) -> str:
        """lstat(2)."""
        mount, inside = self._file(path)
        found = mount.disk.described(inside)
        return found and f"{found.split()[0]} {path}"

    def read(self, path: str, most: int) -> tuple[bytes, bool]:
        """As LocalFiles reads: past the page cache where the file system can, else after dropping the file's pages."""
        mount, inside = self._file(path)
        try:
            return mount.disk.read(inside, most)
        except IsADirectoryError as error:
            raise IrregularError(self.described(path)) from error

    def _mountinfo(self) -> Iterator[str]:
        read_only = {mount.path for mount in self._mounts if mount.disk.read_only}
        mountings = [mount.mounting for mount in self._mounts if mount.mounting]
        return mountinfo(mountings, is_read_only=lambda one: one.path in read_only)

    def _writable(self, mount: MemoryMount, inside: str) -> tuple[MemoryDisk, str]:
        if mount.mounting and mount.mounting.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), inside)
        return mount.disk, inside

    def _file(self, path: str) -> tuple[MemoryMount, str]:
        """A mount, and a path on its disk. Folders are looked up once, since a probe goes on in few of them."""
        folder, _, name = path.rpartition("/")
        mount, inside = self._places.get(folder) or self._place(folder)
        return mount, f"{inside}/{name}" if inside else name

    def _place(self, folder: str) -> tuple[MemoryMount, str]:
        found = self._places.get(folder)
        if found is None:
            found = self._places[folder] = self._looked_up(posixpath.normpath(folder or "/"))
        return found

    def _looked_up(self, folder: str) -> tuple[MemoryMount, str]:
        """The mount that is nearest above; of several at one path the last, which hides the others."""
        found: MemoryMount | None = None
        for mount in self._mounts:
            above = mount.path == "/" or folder == mount.path or folder.startswith(f"{mount.path}/")
            if above and (found is None or len(mount.path) >= len(found.path)):
                found = mount
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
        rest = folder[len(found.path) :].strip("/")
        return found, "/".join(part for part in (found.base, rest) if part)
