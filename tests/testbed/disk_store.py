"""Disks as files: a sparse image each, an ext4 on it, a loop device under it while it is mounted.

The CSI driver and the faults of `disks` share this, from two processes; `lock` keeps them apart. What lies under a disk is
decided here alone: to put something else there (a disk that lies about its flushes, say), change `image`.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.shell import TestbedError, run, wait_until

# As a cloud's node would mount it: at the first error of the disk the file system turns read-only.
_MOUNT_OPTIONS = "loop,noatime,errors=remount-ro"

# A fresh sparse file reads as zeros, so neither inode tables nor journal need to be written: 20Gi take milliseconds.
_MKFS = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")


class DiskStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for part in ("images", "locks"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def image(self, handle: str) -> Path:
        return self._folder / "images" / f"{handle}.img"

    def handles(self) -> list[str]:
        return sorted(image.stem for image in (self._folder / "images").glob("*.img"))

    @contextmanager
    def lock(self, handle: str) -> Iterator[None]:
        with (self._folder / "locks" / handle).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def create(self, handle: str, size_bytes: int) -> None:
        """Make an empty disk with a new file system, in place of the one there may be."""
        temporary = self.image(handle).with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            file.truncate(size_bytes)
        run(*_MKFS, temporary)
        temporary.replace(self.image(handle))

    def loop_devices(self, handle: str) -> list[str]:
        """The loop devices ("loop3") that hold the disk; none means that no file system of it lives anywhere."""
        image = str(self.image(handle))
        return [file.parts[3] for file in Path("/sys/block").glob("loop*/loop/backing_file") if _read(file) == image]

    def mount(self, handle: str, at: Path) -> None:
        if not self.image(handle).exists():
            raise TestbedError(f"there is no disk {handle}")
        holders = self.loop_devices(handle)
        if holders:
            raise TestbedError(f"{handle} is still mounted, on {', '.join(holders)}")
        at.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "ext4", "-o", _MOUNT_OPTIONS, self.image(handle), at)

    def unmount(self, handle: str, at: Path) -> None:
        """Unmount, and wait until the image has been let go.

        A container that is being started holds a copy of the host's mounts for a moment, and a file system in it.
        """
        if is_mount_point(at):
            run("umount", at)
        wait_until(f"{handle} is let go", lambda: not self.loop_devices(handle), timeout_seconds=20, every_seconds=0.02)


def is_mount_point(path: Path) -> bool:
    return any(mount_point == path for _, mount_point in mount_table())


def mount_table() -> list[tuple[str, Path]]:
    """The device number ("7:0") and mount point of every mount, in the order in which they were made."""
    rows = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [(row[2], Path(row[4].encode().decode("unicode_escape"))) for row in rows]


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None  # detached meanwhile
