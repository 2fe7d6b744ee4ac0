"""Disks with a volatile cache and a power switch: what is written is safe only once it has been flushed, as on real ones.

An image file is the platter. Writes wait in memory until a flush brings them to the platter, as the disk's mode will have
it. A power cut drops those that wait and kills every file handle for good: nothing that was open can write again. When the
last handle is released the waiting writes are brought to the platter, so the image of a disk that nobody has open holds all
there is. `power_server` gives these disks to the kernel.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from pathlib import Path
from random import Random

SECTOR = 512

# Of a full cache the older half is brought to the platter, flushed or not. It is larger than a real disk's, so that a lie
# lasts.
_CACHE_BYTES = 256 << 20

# Faulty modes spoil one in so many large writes that are not ext4's own. Small ones mostly are (journal, inodes), and
# without those whole there is soon no file system in which an application could miss something.
_LARGE_BYTES = 64 << 10
_ONE_IN = 8


_Write = tuple[int, bytes]  # offset and data


class Mode(StrEnum):
    """What happens to waiting writes at a flush. Every flush is acknowledged."""

    HONEST = "honest"  # all are on the platter afterwards
    LYING = "lying"  # they keep waiting
    DROP = "drop"  # some large ones never arrive
    TEAR = "tear"  # of some large ones only the first sectors arrive
    MISDIRECT = "misdirect"  # some large ones arrive in the place of the large one before them


@dataclass(frozen=True)
class Status:
    """The counts are those since the mode was set."""

    mode: Mode
    seed: int
    spoilt_writes: int
    cuts: int
    lost_bytes: int  # waited in the cache when the power was cut
    open: bool  # in use by a loop device that works
    waiting_bytes: int  # in the cache


@dataclass
class Behaviour:
    mode: Mode = Mode.HONEST
    seed: int = 0  # of the choice which writes are spoilt, and how
    spoilt_writes: int = 0
    cuts: int = 0
    lost_bytes: int = 0
    large_before: tuple[int, int] | None = None  # offset and length of the last large write
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)


class PowerDisk:
    """One disk, from the moment it is opened until its power is cut or its last handle is released."""

    def __init__(self, image: Path, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.has_power = True
        self.writes_until_cut: int | None = None
        self.waiting_bytes = 0
        self._platter = os.open(image, os.O_RDWR)
        self._waiting: list[_Write] = []  # in the order of writing
        self._newest: dict[int, _Write] = {}  # the last waiting write of each sector

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        data = os.pread(self._platter, length, offset)
        if not self._newest:
            return data
        merged = bytearray(data)
        for at in range(0, len(data), SECTOR):
            write = self._newest.get((offset + at) // SECTOR)
            if write:
                inside = offset + at - write[0]
                merged[at : at + SECTOR] = write[1][inside : inside + SECTOR]
        return bytes(merged)

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        write = (offset, data)
        self._waiting.append(write)
        self._note(write)
        if self.waiting_bytes > _CACHE_BYTES:
            self._settle(len(self._waiting) // 2)
        self._count_down()

    def flush(self) -> None:
        self._check()
        if self.behaviour.mode is not Mode.LYING:
            self._settle()

    def cut_power(self) -> None:
        self.has_power = False
        self.behaviour.cuts += 1
        self.behaviour.lost_bytes += self.waiting_bytes
        self._keep_waiting([])

    def close(self) -> None:
        if self.has_power:
            self._settle()
        os.close(self._platter)

    def _count_down(self) -> None:
        """The write that is due to be the last is not acknowledged: so a cut has something to lose, and is in a burst."""
        if self.writes_until_cut is None:
            return
        self.writes_until_cut -= 1
        if self.writes_until_cut <= 0:
            self.cut_power()
            self._check()

    def _check(self, *numbers: int) -> None:
        if not self.has_power:
            raise OSError(errno.EIO, "the power was cut")
        if any(number % SECTOR for number in numbers):
            raise OSError(errno.EINVAL, "a disk reads and writes whole sectors")

    def _settle(self, oldest: int | None = None) -> None:
        """Bring so many of the waiting writes, or all, to the platter."""
        for offset, data in self._waiting[:oldest]:
            os.pwrite(self._platter, *self._arrival(offset, data))
        self._keep_waiting([] if oldest is None else self._waiting[oldest:])

    def _keep_waiting(self, writes: list[_Write]) -> None:
        self._waiting, self._newest, self.waiting_bytes = writes, {}, 0
        for write in writes:
            self._note(write)

    def _note(self, write: _Write) -> None:
        offset, data = write
        self._newest.update(dict.fromkeys(range(offset // SECTOR, (offset + len(data)) // SECTOR), write))
        self.waiting_bytes += len(data)

    def _arrival(self, offset: int, data: bytes) -> tuple[bytes, int]:
        """What of a write reaches the platter, and where."""
        it = self.behaviour
        if it.mode in (Mode.HONEST, Mode.LYING) or len(data) < _LARGE_BYTES or _is_ext4s_own(data):
            return data, offset
        before, it.large_before = it.large_before, (offset, len(data))
        # One that is longer than the place of the other would also hit what lies behind that.
        if before is None or before[1] < len(data) or it.random.randrange(_ONE_IN):
            return data, offset
        it.spoilt_writes += 1
        if it.mode is Mode.DROP:
            return b"", offset
        if it.mode is Mode.TEAR:
            return data[: it.random.randrange(1, len(data) // SECTOR) * SECTOR], offset
        return data, before[0]


def _is_ext4s_own(data: bytes) -> bool:
    """A transaction of its journal (jbd2.h, JBD2_MAGIC_NUMBER), or inode tables that are made ready: what lands there, no
    application misses."""
    return data.startswith(b"\xc0\x3b\x39\x98") or not any(data)


class Rack:
    """The disks of a folder, by their volume handle (`name`), and the open file handles on them."""

    def __init__(self, images: Path) -> None:
        self._images = images
        self._behaviours: dict[str, Behaviour] = {}
        self._disks: dict[str, PowerDisk] = {}  # the newest of each that are open
        self._handles: dict[int, PowerDisk] = {}
        self._numbers = count(1)

    def image(self, name: str) -> Path:
        return self._images / f"{name}.img"

    def open(self, name: str) -> int:
        """A new handle. After a power cut it is one on a disk that starts from what is on the platter."""
        disk = self._live(name) or PowerDisk(self.image(name), self._behaviour(name))
        number = next(self._numbers)
        self._disks[name] = self._handles[number] = disk
        return number

    def __getitem__(self, handle: int) -> PowerDisk:
        return self._handles[handle]

    def release(self, handle: int) -> None:
        disk = self._handles.pop(handle)
        if disk in self._handles.values():
            return
        self._disks = {name: other for name, other in self._disks.items() if other is not disk}
        disk.close()

    # What the control socket offers.

    def status(self, name: str) -> Status:
        it, disk = self._behaviour(name), self._live(name)
        waiting_bytes = disk.waiting_bytes if disk else 0
        return Status(it.mode, it.seed, it.spoilt_writes, it.cuts, it.lost_bytes, disk is not None, waiting_bytes)

    def set_mode(self, name: str, mode: str, seed: int) -> Status:
        self._behaviours[name] = Behaviour(Mode(mode), seed)
        disk = self._live(name)
        if disk:
            disk.behaviour = self._behaviours[name]
        return self.status(name)

    def cut_power(self, name: str) -> Status:
        """Returns the status as it was when the power went: the bytes that waited are lost."""
        status, disk = self.status(name), self._live(name)
        if disk:
            disk.cut_power()
        return status

    def cut_power_after(self, name: str, writes: int | None) -> Status:
        """Cut it at the write with this number from now on, if the disk stays open so long; never, if it is None."""
        disk = self._live(name)
        if disk:
            disk.writes_until_cut = writes
        return self.status(name)

    def _live(self, name: str) -> PowerDisk | None:
        disk = self._disks.get(name)
        return disk if disk and disk.has_power else None

    def _behaviour(self, name: str) -> Behaviour:
        return self._behaviours.setdefault(name, Behaviour())
