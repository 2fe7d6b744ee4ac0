"""Breaks disks from the host, by volume handle, under the feet of Kubernetes and of the application.

Faults of a file work on a disk that is staged (mounted on a node), through its mount, and on one that is not. Faults of a
whole disk need it unstaged, because its page cache would hide them, or write over them: `wait_until_unstaged` first.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from testbed import power
from testbed.disk_store import EXT4, DiskStore, mount_table
from testbed.layout import DISKS, RUN
from testbed.power_disk import Mode, Status
from testbed.shell import TestbedError, run, wait_until

_FILLING = ".testbed-filling"

# That of xfs is at the beginning of the disk, that of ext4 takes the second KiB.
_SUPERBLOCK_BYTES = 2048


class Disks:
    def __init__(self, folder: Path = DISKS) -> None:
        self._store = DiskStore(folder)
        self._copies = folder / "copies"
        self._private = RUN / "mnt"

    def handles(self) -> list[str]:
        return self._store.handles()

    def image(self, handle: str) -> Path:
        """The file that is the disk."""
        image = self._store.image(handle)
        if not image.exists():
            raise TestbedError(f"there is no disk {handle}")
        return image

    def mounts(self, handle: str) -> list[Path]:
        """Where the disk is mounted on the host (not inside containers): first where it is staged, then for each pod."""
        devices = {Path("/sys/block", loop, "dev").read_text().strip() for loop in self._store.loop_devices(handle)}
        return [place for device, place in mount_table() if device in devices]

    def is_staged(self, handle: str) -> bool:
        """Whether a file system of the disk lives anywhere: on a node, or yet in a container that is going."""
        return not self._store.is_let_go(handle)

    def wait_until_unstaged(self, handle: str, timeout_seconds: float = 240) -> None:
        """Raises TestbedError past the deadline. A disk is unstaged seconds after the last pod with it left the node."""
        wait_until(f"{handle} is unstaged", lambda: not self.is_staged(handle), timeout_seconds)

    # Faults of a file. `path` is relative to the root of the disk.

    def read(self, handle: str, path: str) -> bytes:
        """The file as it is on the disk now."""
        with self._file(handle, path) as file:
            return file.read_bytes()

    def names(self, handle: str, path: str) -> list[str]:
        """What is in a folder of the disk now, in order."""
        with self._file(handle, path) as folder:
            return sorted(entry.name for entry in folder.iterdir())

    def flip_bit(self, handle: str, path: str, offset: int, bit: int = 0) -> None:
        """Invert one bit of one byte. Size and times of the file stay as they were, as with real rot."""
        with self._file(handle, path) as file, _times_kept(file), file.open("r+b", buffering=0) as opened:
            opened.seek(offset)
            byte = opened.read(1)
            if not byte:
                raise TestbedError(f"{path} has no byte {offset}")
            opened.seek(offset)
            opened.write(bytes([byte[0] ^ 1 << bit]))
            _write_through(opened.fileno())

    def truncate(self, handle: str, path: str, size_bytes: int) -> None:
        with self._file(handle, path) as file, file.open("r+b", buffering=0) as opened:
            opened.truncate(size_bytes)
            _write_through(opened.fileno())

    def remove(self, handle: str, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        with self._file(handle, path) as file:
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink()
            _sync(file.parent)

    # Faults of a whole disk.

    def swap(self, handle_a: str, handle_b: str) -> None:
        """Exchange what two disks hold, as a storage system does that mixes up two volumes."""
        with self._unstaged(handle_a, handle_b):
            a, b, between = self.image(handle_a), self.image(handle_b), self.image(handle_a).with_suffix(".swap")
            a.rename(between)
            b.rename(a)
            between.rename(b)

    def snapshot(self, handle: str) -> Path:
        """A copy of the disk, to `restore` later. One that is staged is frozen meanwhile, so that the copy is clean."""
        self._copies.mkdir(exist_ok=True)
        number = len(list(self._copies.glob(f"{handle}-*")))
        copy = self._copies / f"{handle}-{number}.img"
        with self._store.lock(handle):
            staged = self.mounts(handle)[:1]
            for place in staged:
                run("fsfreeze", "--freeze", place)
            try:
                run("cp", "--sparse=always", self._store.device(handle), copy)
            finally:
                for place in staged:
                    run("fsfreeze", "--unfreeze", place)
        return copy

    def restore(self, handle: str, copy: Path) -> None:
        """Roll the disk back to a copy (or make it the copy of another disk)."""
        with self._unstaged(handle):
            image = self.image(handle)
            temporary = image.with_suffix(".restore")
            run("cp", "--sparse=always", copy, temporary)
            temporary.rename(image)

    def create(self, handle: str, size_bytes: int) -> None:
        """A new, empty disk that no volume names yet."""
        with self._store.lock(handle):
            self._store.create(handle, size_bytes)

    def reformat(self, handle: str) -> None:
        """Make its file system anew: empty, with another UUID."""
        with self._unstaged(handle):
            self._store.create(handle, self.image(handle).stat().st_size, self._store.file_system(handle) or EXT4)

    def stick(self, handle: str) -> None:
        """When the disk is expanded its file system stays as small as it is, and the driver says that it grew."""
        self._store.stick(handle)

    def break_superblock(self, handle: str) -> None:
        """It can no longer be mounted: kubelet tries on, and tells of it in events of the pod (FailedMount)."""
        self._invert_superblock(handle, whole=True)

    def mend_superblock(self, handle: str) -> None:
        self._invert_superblock(handle, whole=False)

    # Faults of a disk with a power switch. A pod with the disk must be deleted after a cut: all that it has open is dead.

    def set_mode(self, handle: str, mode: str, seed: int = 0) -> Status:
        """What becomes of flushed writes from now on, see `Mode`; the seed draws which ones a faulty mode spoils."""
        return power.set_mode(handle, Mode(mode), seed)

    def cut_power(self, handle: str) -> Status:
        """Off and on again. Returns the status after it; `lost_bytes` is 0 if all had been flushed."""
        return power.cut(handle)

    def cut_power_in_burst(self, handle: str, after_writes: int, timeout_seconds: float = 240) -> Status:
        """Cut it at the write with this number from now on, before its flush: so there is always something to lose.

        Waits for that write, and raises TestbedError if it does not come in time. Returns the status after the cut.
        """
        return power.cut_in_burst(handle, after_writes, timeout_seconds)

    def power_status(self, handle: str) -> Status:
        return power.status(handle)

    # Faults that can be taken back.

    def remount_read_only(self, handle: str, timeout_seconds: float = 60) -> None:
        """Every write answers EROFS, in every pod. The kernel refuses while a file is open for writing: tries on."""
        self._remount(handle, "ro", timeout_seconds)

    def remount_read_write(self, handle: str, timeout_seconds: float = 60) -> None:
        self._remount(handle, "rw", timeout_seconds)

    def fill(self, handle: str) -> None:
        """Take all room for data, what is reserved for root too: writes answer ENOSPC, though empty files can be made."""
        with self._root(handle) as root:
            descriptor = os.open(root / _FILLING, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _allocate_all(descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def unfill(self, handle: str) -> None:
        with self._root(handle) as root:
            (root / _FILLING).unlink(missing_ok=True)
            _sync(root)

    def _invert_superblock(self, handle: str, *, whole: bool) -> None:
        with self._unstaged(handle):
            if (self._store.file_system(handle) is not None) is not whole:
                raise TestbedError(f"the superblock of {handle} is {'broken' if whole else 'whole'} already")
            with self.image(handle).open("r+b") as image:
                inverted = bytes(byte ^ 0xFF for byte in image.read(_SUPERBLOCK_BYTES))
                image.seek(0)
                image.write(inverted)

    def _remount(self, handle: str, how: str, timeout_seconds: float) -> None:
        places = self.mounts(handle)
        if not places:
            raise TestbedError(f"{handle} is not staged, so it cannot be mounted anew")

        def remounted() -> bool:
            with suppress(TestbedError):
                run("mount", "-o", f"remount,{how}", places[0])
                return True
            return False

        wait_until(f"{handle} is mounted {how}", remounted, timeout_seconds)

    @contextmanager
    def _file(self, handle: str, path: str) -> Iterator[Path]:
        with self._root(handle) as root:
            file = root / path
            if not file.resolve().is_relative_to(root):
                raise TestbedError(f"{path} leads out of the disk")
            if not file.exists():
                raise TestbedError(f"{handle} has no {path}")
            yield file

    @contextmanager
    def _root(self, handle: str) -> Iterator[Path]:
        """The root of the disk: where it is staged, else where it is mounted for as long as this lasts."""
        with self._store.lock(handle):
            staged = self.mounts(handle)
            if staged:
                yield staged[0]
                return
            at = self._private / handle
            self._store.mount(handle, at)
            try:
                yield at
            finally:
                self._store.unmount(handle, at)
                at.rmdir()

    @contextmanager
    def _unstaged(self, *handles: str) -> Iterator[None]:
        """Keeps the CSI driver from staging them meanwhile."""
        with ExitStack() as locks:
            for handle in sorted(handles):  # in one order, so that two callers cannot wait for each other
                locks.enter_context(self._store.lock(handle))
            for handle in handles:
                if self.is_staged(handle):
                    places = ", ".join(str(place) for place in self.mounts(handle))
                    raise TestbedError(f"{handle} is staged ({places}): wait until it is not")
            yield


@contextmanager
def _times_kept(file: Path) -> Iterator[None]:
    before = file.stat()
    yield
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _write_through(descriptor: int) -> None:
    """To the disk and out of the page cache, which all nodes share: so the next reading is the disk's own."""
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocate_all(descriptor: int) -> None:
    """Allocated, not written, so the image stays sparse. Halves what it asks for until not even a block is left."""
    end, step = os.fstat(descriptor).st_size, 1 << 30
    while step >= 4096:
        try:
            os.posix_fallocate(descriptor, end, step)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            step //= 2
        else:
            end += step
