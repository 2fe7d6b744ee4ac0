"""Disks as files: a sparse image each, a file system on it, a loop device under it while it is mounted.

The CSI driver and the faults of `disks` share this, from two processes; `lock` keeps them apart. What lies under a disk is
decided here alone: its image, or for one with a power switch the same image behind `power_server`. The volume handle says
which, so that nobody need keep a record of it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from testbed import power
from testbed.shell import TestbedError, run, wait_until

# Begins the handles of disks with a power switch.
POWER_SWITCH = "p-"

EXT4, XFS = "ext4", "xfs"

# As a cloud's node would mount it: at the first error of the disk an ext4 turns read-only. An xfs then shuts down, unasked;
# it also refuses a copy of a disk beside the disk, unless told otherwise.
_MOUNT_OPTIONS = {EXT4: ("noatime", "noinit_itable", "errors=remount-ro"), XFS: ("noatime", "nouuid")}

# A fresh sparse file reads as zeros, so neither inode tables nor journal need to be written: 20Gi take milliseconds.
_MKFS = {
    EXT4: ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"),
    XFS: ("mkfs.xfs", "-q", "-f", "-K"),
}

# Beside the image of a disk whose file system does not grow with it.
_STUCK = ".stuck"

# What a device answers that is detached, or whose disk has lost its power.
_DEAD = {errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOENT, errno.ENOTCONN}


class DiskStore:
    def __init__(self, folder: Path) -> None:
        self.images, self.powered, self._locks = folder / "images", folder / "powered", folder / "locks"
        for part in (self.images, self._locks):
            part.mkdir(parents=True, exist_ok=True)

    def image(self, handle: str) -> Path:
        """The file that holds the disk: all of it, once it is let go."""
        return self.images / f"{handle}.img"

    def device(self, handle: str) -> Path:
        """The file to put a loop device on."""
        return self.powered / handle if handle.startswith(POWER_SWITCH) else self.image(handle)

    def handles(self) -> list[str]:
        return sorted(image.stem for image in self.images.glob("*.img"))

    @contextmanager
    def lock(self, handle: str) -> Iterator[None]:
        with (self._locks / handle).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def create(self, handle: str, size_bytes: int, file_system: str = EXT4) -> None:
        """Make an empty disk with a new file system, in place of the one there may be."""
        if file_system not in _MKFS:
            raise TestbedError(f"no file system {file_system}: there are {', '.join(_MKFS)}")
        temporary = self.image(handle).with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            file.truncate(size_bytes)
        run(*_MKFS[file_system], temporary)
        temporary.replace(self.image(handle))

    def delete(self, handle: str) -> None:
        """The disk, if it is there, and what stands beside it."""
        for file in (self.image(handle), self._stuck(handle)):
            file.unlink(missing_ok=True)

    def size_bytes(self, handle: str) -> int:
        return self.image(handle).stat().st_size

    def grow(self, handle: str, size_bytes: int) -> int:
        """Make the disk as large as that, unless it is larger; its size then. Whoever has it mounted sees no change yet."""
        if not self.image(handle).exists():
            raise TestbedError(f"there is no disk {handle}")
        if self.size_bytes(handle) < size_bytes:
            os.truncate(self.image(handle), size_bytes)
        return self.size_bytes(handle)

    def grow_file_system(self, handle: str, mounted_at: Path) -> bool:
        """Make an xfs as large as its disk, while it is mounted; whether that was done."""
        if self._stuck(handle).exists():
            return False
        run("losetup", "--set-capacity", f"/dev/{_device_name(mounted_at)}")
        run("xfs_growfs", mounted_at)
        return True

    def stick(self, handle: str) -> None:
        """From now on its file system stays as it is when the disk grows."""
        self._stuck(handle).touch()

    def _stuck(self, handle: str) -> Path:
        return self.image(handle).with_suffix(_STUCK)

    def file_system(self, handle: str) -> str | None:
        """Its type; None if its superblock is broken."""
        with suppress(TestbedError):
            return run("blkid", "--probe", "--match-tag=TYPE", "--output=value", self.image(handle)).strip()
        return None

    def loop_devices(self, handle: str) -> list[str]:
        """The loop devices ("loop3") that hold the disk; none means that no file system of it lives anywhere.

        One whose disk has lost its power does not count: a pod that is going may keep it, but it can never write again.
        """
        device = str(self.device(handle))
        holders = [file.parts[3] for file in Path("/sys/block").glob("loop*/loop/backing_file") if _read(file) == device]
        return [loop for loop in holders if _answers(loop)]

    def is_let_go(self, handle: str) -> bool:
        """Whether the image alone is the disk: no file system of it lives anywhere, no write waits in its cache."""
        return not self.loop_devices(handle) and not (handle.startswith(POWER_SWITCH) and power.status(handle).open)

    def ensure_mounted(self, handle: str, at: Path, options: Iterable[str] = ()) -> None:
        """Mount unless it is. A file system whose disk lost its power is dead for good: it gives way to a new one."""
        if is_mount_point(at):
            if _answers(_device_name(at)):
                return
            self.unmount(handle, at)
        self.mount(handle, at, options)

    def mount(self, handle: str, at: Path, options: Iterable[str] = ()) -> None:
        if not self.image(handle).exists():
            raise TestbedError(f"there is no disk {handle}")
        holders = self.loop_devices(handle)
        if holders:
            raise TestbedError(f"{handle} is still mounted, on {', '.join(holders)}")
        at.mkdir(parents=True, exist_ok=True)
        found = self.file_system(handle)
        file_system = found or EXT4
        together = ",".join([*_MOUNT_OPTIONS[file_system], *options])
        try:
            with self._loop_device(handle) as device:
                if found is None:
                    run("dumpe2fs", "-h", device)  # says what is wrong, where mount would name all that may be
                run("mount", "-t", file_system, "-o", together, device, at)
        except TestbedError:
            self._wait_until_let_go(handle)  # the kernel detaches a moment later
            raise

    @contextmanager
    def _loop_device(self, handle: str) -> Iterator[str]:
        """A fresh one, that goes with its last mount: `mount -o loop` may take one whose disk has lost its power.

        One with a power switch is given whole requests (direct I/O): what an application writes at once is spoilt at once.
        """
        direct = ("--direct-io=on",) if handle.startswith(POWER_SWITCH) else ()
        device = run("losetup", "--find", "--show", *direct, self.device(handle)).strip()
        try:
            yield device
        finally:
            run("losetup", "--detach", device)  # at once, or when the last mount goes

    def unmount(self, handle: str, at: Path) -> None:
        """Unmount, and wait until the disk has been let go.

        A container that is being started holds a copy of the host's mounts for a moment, and a file system in it.
        """
        if is_mount_point(at):
            run("umount", at)
        self._wait_until_let_go(handle)

    def _wait_until_let_go(self, handle: str) -> None:
        wait_until(f"{handle} is let go", lambda: self.is_let_go(handle), timeout_seconds=20, every_seconds=0.02)


def is_mount_point(path: Path) -> bool:
    return any(mount_point == path for _, mount_point in mount_table())


def mount_table() -> list[tuple[str, Path]]:
    """The device number ("7:0") and mount point of every mount, in the order in which they were made."""
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [(row[2], Path(row[4].encode().decode("unicode_escape"))) for row in rows]


def _device_name(mounted_at: Path) -> str:
    number = [number for number, mount_point in mount_table() if mount_point == mounted_at][-1]
    return Path("/sys/dev/block", number).resolve().name


def _answers(device_name: str) -> bool:
    """Whether a block device can be read, past its page cache; a disk that has lost its power cannot."""
    try:
        with open(f"/dev/{device_name}", "rb", buffering=0, opener=_open_direct) as device:
            device.readinto(mmap.mmap(-1, mmap.PAGESIZE))
    except OSError as error:
        if error.errno not in _DEAD:
            raise
        return False
    return True


def _open_direct(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_DIRECT)


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None  # detached meanwhile
