"""A disk in memory, with a file system: what is on its platter, and what only the node's page cache has yet.

The rules are those that POSIX gives and ext4 keeps: fsync of a file makes its content durable, fsync of a folder the names
in it; a rename is whole or not at all; unmounting writes everything back. What was not made durable may survive a crash
or not, each change of names and each block for itself, as the random generator draws. One file system has one page cache
here, whoever mounts it: two nodes that mount it see each other's writes. It keeps a file that was written or read through
it until the last unmount, a crash, or until it is asked to drop it, where it can do that.

A disk may also lie (it acknowledges flushes that it does not do), lose, tear or misdirect a write, rot, fill up, fail, or
come back as another one: each is a method for tests and drills.
"""

from __future__ import annotations

import errno
import os
import random
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chaosd.cluster.sandbox.memory_tree import (
    BLOCK_BYTES,
    File,
    FlushedFile,
    FlushedFolder,
    Folder,
    Inode,
    NameChange,
    block_of,
    blocks_in,
    flipped,
    of_platter,
    put,
    put_name,
    walk,
    written,
)

SECTOR_BYTES = 512
# ext4's default: an inode for so many bytes (mke2fs.conf, inode_ratio).
_BYTES_PER_INODE = 16_384
# How many flushes a lie can reach back, and how many removed files can be brought back.
_LIE_FLUSHES = 20_000
_REMOVED_KEPT = 256
# How often a block that a crash interrupts is torn within.
_TORN = 0.125

# What a flush of one file puts on the platter, given what was there and what should be.
Plan = Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file system as it was on the platter."""

    root: Folder
    file_system: uuid.UUID


@dataclass(slots=True)
class _Failure:
    number: int
    operations: tuple[str, ...]
    times: int | None


class MemoryDisk:
    """One disk. Paths are relative to the root of its file system, which is the empty path; every method of the first group
    raises OSError as the system call would."""

    def __init__(self, rng: random.Random, total_bytes: int = 1 << 30, *, kind: str = "ext4") -> None:
        self.kind = kind
        self.total_bytes = total_bytes
        self.read_only = False
        self.can_read_directly = True  # O_DIRECT is what it says
        self.can_drop_pages = True  # clean pages go when they are asked to, and that they are gone can be proven
        self.mounts = 0
        self.file_system: uuid.UUID
        self._rng = rng
        self._root: Folder
        self._folders: dict[str, Folder]
        self._dirty_files: dict[File, None] = {}
        self._dirty_folders: dict[Folder, None] = {}
        self._spoilt: dict[File, None] = {}
        self._log: deque[FlushedFile | FlushedFolder] = deque(maxlen=_LIE_FLUSHES)
        self._lies = False
        self._removed: deque[tuple[str, Inode]] = deque(maxlen=_REMOVED_KEPT)
        self._plans: list[Plan] = []
        self._rot: list[int] = []
        self._failures: list[_Failure] = []
        self._mounting = 0  # how often it was mounted anew, with an empty page cache
        self._used_blocks = 0
        self._used_inodes = 0
        self._filler_bytes = 0
        self._filler_inodes = 0
        self.reformat()

    # The file system's facts.

    @property
    def fsid(self) -> str:
        """As statfs(2) tells it and stat(1) prints it: ext4 folds its UUID."""
        return fsid_of(self.file_system)

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        return max(0, self.total_bytes - self._used_blocks * BLOCK_BYTES - self._filler_bytes)

    @property
    def total_inodes(self) -> int:
        """Inodes that the file system has."""
        return self.total_bytes // _BYTES_PER_INODE

    @property
    def free_inodes(self) -> int:
        """Files and folders that can still be made."""
        return max(0, self.total_inodes - self._used_inodes - self._filler_inodes)

    # What processes do.

    def make_folder(self, path: str) -> bool:
        """mkdir(2); False where it is there."""
        head, _, name = path.rpartition("/")
        parent = self._folder(head)
        if name in parent.names:
            return False
        self._check_writable("write", path)
        self._take_inode(path)
        self._rename_to(parent, NameChange(name, Folder()))
        return True

    def write(self, path: str, data: bytes, *, append: bool = False, create: bool = True) -> File:
        """open(2) and write(2), at the start or the end, without cutting off what lies behind; into the page cache."""
        head, _, name = path.rpartition("/")
        parent = self._folders.get(head) or self._folder(head)
        file = parent.names.get(name)
        if self._failures or self.read_only:
            self._check_writable("write", path)
        if file is None:
            if not create:
                raise _error(errno.ENOENT, path)
            self._take_inode(path)
            file = File()
            self._rename_to(parent, NameChange(name, file))
        elif type(file) is Folder:
            raise _error(errno.EISDIR, path)
        assert type(file) is File, "nothing else is left"
        held = len(file.data)
        offset = held if append else 0
        end = offset + len(data)
        if end > held:
            blocks = blocks_in(held)
            growth, fits = blocks_in(end) - blocks, self.free_bytes // BLOCK_BYTES
            if growth > fits:
                self._write(file, offset, data[: max(0, (blocks + fits) * BLOCK_BYTES - offset)], fits)
                raise _error(errno.ENOSPC, path)
            self._write(file, offset, data, growth)
        else:
            self._write(file, offset, data, 0)
        return file

    def flush(self, file: File) -> None:
        """fsync(2) of a file. After a failed one its pages are clean, but not on the platter (fsync(2), NOTES)."""
        if not file.pending:
            return
        before, pending = file.platter, file.pending
        file.pending = []
        del self._dirty_files[file]
        try:
            if self._failures:
                self._check("sync", "fsync")
        except OSError:
            self._spoilt[file] = None
            raise
        after = written(before, pending)
        if self._plans and len(after) >= BLOCK_BYTES:
            after = self._plans.pop(0)(before, after)
            self._spoilt[file] = None
        self._log.append(FlushedFile(file, before, pending))
        file.platter = after

    def sync(self, path: str) -> None:
        """fsync(2) of a folder."""
        folder = self._folder(path)
        if self._failures:
            self._check("sync", path)
        if folder.pending:
            self._flush_names(folder)

    def rename(self, path: str, to: str) -> None:
        """rename(2)."""
        head, _, name = path.rpartition("/")
        source = self._folders.get(head) or self._folder(head)
        inode = source.names.get(name)
        if inode is None:
            raise _error(errno.ENOENT, path)
        head, _, new = to.rpartition("/")
        target = self._folders.get(head) or self._folder(head)
        if self._failures or self.read_only:
            self._check_writable("write", path)
        replaced = target.names.get(new)
        if type(replaced) is Folder:
            raise _error(errno.EISDIR if type(inode) is File else errno.ENOTEMPTY, to)
        if replaced is inode:
            return
        if replaced is not None:
            self._release(replaced)
        if type(inode) is Folder:
            self._folders.clear()
        twin = object()
        self._rename_to(target, NameChange(new, inode, twin))
        self._rename_to(source, NameChange(name, None, twin, None if source is target else target))

    def remove(self, path: str) -> None:
        """unlink(2)."""
        head, _, name = path.rpartition("/")
        parent = self._folders.get(head) or self._folder(head)
        inode = parent.names.get(name)
        if inode is None:
            raise _error(errno.ENOENT, path)
        if type(inode) is Folder:
            raise _error(errno.EISDIR, path)
        if self._failures or self.read_only:
            self._check_writable("write", path)
        self._removed.append((path, inode))
        self._release(inode)
        self._rename_to(parent, NameChange(name, None))

    def names(self, path: str) -> list[str]:
        """readdir(3), sorted."""
        folder = self._folder(path)
        if self._failures:
            self._check("read", path)
        return sorted(folder.names)

    def described(self, path: str) -> str:
        """lstat(2): empty for a regular file, else what stands there."""
        return "" if type(self._inode(path)) is File else f"drwxr-xr-x {path}"

    def read(self, path: str, most: int) -> tuple[bytes, bool]:
        """At most so many bytes from the start, and whether they provably came from the platter: read with O_DIRECT, which
        writes the file's dirty pages back first; or where the file system cannot, after its pages were dropped."""
        file = self._inode(path)
        if type(file) is not File:
            raise _error(errno.EISDIR, path)
        if self._failures:
            self._check("read", path)
        if self.can_read_directly:
            if file.pending:
                self.flush(file)
            found, cold = file.platter, True
        else:
            found, cold = self._read_through_cache(file)
        if len(found) > most:
            found = found[:most]
        if self._rot and len(found) >= BLOCK_BYTES:
            found = flipped(found, self._rot.pop(0))
        return found, cold

    # What nodes do.

    def mount(self) -> None:
        """A node mounts it."""
        self.mounts += 1

    def unmount(self) -> None:
        """A node unmounts it; the last one writes everything back and forgets its pages."""
        self.mounts -= 1
        if self.mounts > 0:
            return
        self.mounts = 0
        self._mounting += 1
        self.flush_all()
        if not self._lies:
            self._log.clear()
        for file in list(self._spoilt):
            self._drop_pages(file)

    def flush_all(self) -> None:
        """sync(2), which tells nobody what failed."""
        for file in list(self._dirty_files):
            with suppress(OSError):
                self.flush(file)
        while self._dirty_folders:
            self._flush_names(next(iter(self._dirty_folders)))

    def crash(self, *, lying: bool = False, keep: float = 0.5) -> None:
        """The power fails. What was flushed is there; of the rest each change and each block is, with the chance `keep`. A
        `lying` disk did not do what it acknowledged, since it was mounted or, if that was called, since `begin_to_lie`."""
        if lying or self._lies:
            while self._log:
                inode = self._log.pop().undo()
                if type(inode) is File:
                    self._dirty_files[inode] = None
                else:
                    self._dirty_folders[inode] = None  # type: ignore[index]
        self._log.clear()
        self._lies = False
        drawn: dict[object, bool] = {}
        for folder in self._dirty_folders:
            for change in folder.pending:
                if change.twin not in drawn or change.twin is None:
                    drawn[change.twin] = self._rng.random() < keep
                if drawn[change.twin]:
                    put_name(folder.platter, change.name, change.inode)
            folder.pending = []
        for file in self._dirty_files:
            file.platter = self._survivors(file.platter, file.pending, keep)
            file.pending = []
        self._dirty_folders.clear()
        self._dirty_files.clear()
        self._spoilt.clear()
        self._rot.clear()
        self.mounts = 0
        self._root = of_platter(self._root)
        self._account()

    # What goes wrong. None of it waits for a process: the platter is changed at once.

    def begin_to_lie(self) -> None:
        """Acknowledge flushes from now on, but do none of them until the next crash, which tells."""
        self._log.clear()
        self._lies = True

    def flip(self, path: str, offset: int, bit: int = 0) -> None:
        """Flip one bit of a file."""
        self._spoil(path, lambda data: flipped(data, offset * 8 + bit))

    def zero(self, path: str, block: int) -> None:
        """Make one block zeros."""
        self._spoil(path, lambda data: put(data, block * BLOCK_BYTES, bytes(len(block_of(data, block)))))

    def truncate(self, path: str, length: int) -> None:
        """Cut a file short, or lengthen it with zeros."""
        self._spoil(path, lambda data: data[:length].ljust(length, b"\0"))

    def replace(self, path: str, data: bytes) -> None:
        """Put something else in a file's place."""
        self._spoil(path, lambda _: data)

    def lose(self, path: str) -> None:
        """Remove a file, or a folder with all in it, behind everybody's back."""
        head, _, name = path.rpartition("/")
        inode = self._inode(path)
        self._removed.append((path, inode))
        self._set_name(self._folder(head), name, None)

    def resurrect(self, path: str = "") -> str:
        """Bring back the file that was removed last, or the last one of this path; returns its path. Raises LookupError."""
        found = next((one for one in reversed(self._removed) if path in ("", one[0])), None)
        if found is None:
            raise LookupError(f"no removed file {path} is remembered")
        self._removed.remove(found)
        head, _, name = found[0].rpartition("/")
        self._set_name(self._folder(head), name, found[1])
        return found[0]

    def lose_next(self) -> None:
        """Acknowledge the next flush of a block or more, but leave on the platter what was there."""
        self._plans.append(lambda before, after: before[: len(after)].ljust(len(after), b"\0"))

    def tear_next(self, sectors: int = 1) -> None:
        """Of the next flush of a block or more only the first sectors arrive."""
        cut = sectors * SECTOR_BYTES
        self._plans.append(lambda before, after: after[:cut] + before[cut : len(after)].ljust(len(after) - cut, b"\0"))

    def misdirect_next(self, to: str, block: int = 0) -> None:
        """The first block of the next flush of a block or more goes to a block of another file."""

        def misdirect(before: bytes, after: bytes) -> bytes:
            written = after[:BLOCK_BYTES]
            self._spoil(to, lambda data: put(data, block * BLOCK_BYTES, written))
            return before[:BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0") + after[BLOCK_BYTES:]

        self._plans.append(misdirect)

    def rot_next_read(self, offset: int = 0, bit: int = 0) -> None:
        """Flip a bit of what the next read of a block or more gives, but not on the platter."""
        self._rot.append(offset * 8 + bit)

    def fill_up(self, *, leave_bytes: int = 0, leave_inodes: int | None = None) -> None:
        """Let somebody else's files take all room but this."""
        self._filler_bytes = self._filler_inodes = 0
        self._filler_bytes = max(0, self.free_bytes - leave_bytes)
        if leave_inodes is not None:
            self._filler_inodes = max(0, self.free_inodes - leave_inodes)

    def make_room(self) -> None:
        """Those files are gone again."""
        self._filler_bytes = self._filler_inodes = 0

    def fail(self, number: int = errno.EIO, *operations: str, times: int | None = None) -> None:
        """Let `read`, `write` and `sync` (all, unless named) fail with this errno, so many times or until `mend`."""
        self._failures.append(_Failure(number, operations or ("read", "write", "sync"), times))

    def mend(self) -> None:
        """Failures end, and it can be written again."""
        self._failures.clear()
        self.read_only = False

    def reformat(self) -> None:
        """Make a new, empty file system."""
        self.file_system = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        root, kept = Folder(), Folder()
        if self.kind == "ext4":
            root.names["lost+found"] = root.platter["lost+found"] = kept
        self._replace_root(root)

    def snapshot(self) -> Snapshot:
        """What is on the platter now, as a storage snapshot has it."""
        return Snapshot(of_platter(self._root), self.file_system)

    def roll_back(self, to: Snapshot) -> None:
        """Become what it was."""
        self.file_system = to.file_system
        self._replace_root(of_platter(to.root))

    def swap(self, other: MemoryDisk) -> None:
        """Exchange the contents of two disks."""
        self.flush_all()
        other.flush_all()
        mine, theirs = self.snapshot(), other.snapshot()
        self.roll_back(theirs)
        other.roll_back(mine)

    def files(self) -> list[str]:
        """The paths of all files, sorted."""
        return sorted(path for path, inode in walk(self._root, "") if type(inode) is File)

    def file(self, path: str) -> File:
        """A file. Raises FileNotFoundError, IsADirectoryError."""
        found = self._inode(path)
        if type(found) is not File:
            raise _error(errno.EISDIR, path)
        return found

    # Within.

    def _folder(self, path: str) -> Folder:
        found = self._folders.get(path)
        if found is None:
            inode = self._inode(path)
            if type(inode) is not Folder:
                raise _error(errno.ENOTDIR, path)
            found = self._folders[path] = inode
        return found

    def _inode(self, path: str) -> Inode:
        head, _, name = path.rpartition("/")
        folder = self._folders.get(head) or self._folder(head)
        found = folder.names.get(name) if name else self._root
        if found is None:
            raise _error(errno.ENOENT, path)
        return found

    def _read_through_cache(self, file: File) -> tuple[bytes, bool]:
        """Whether it is cold: dirty pages are never dropped, and come from no platter."""
        dropped = self.can_drop_pages and not file.pending
        if dropped or not self._is_cached(file):
            self._drop_pages(file)
        file.cached_in = self._mounting
        return file.data, dropped

    def _is_cached(self, file: File) -> bool:
        return bool(file.pending) or file.cached_in == self._mounting

    def _drop_pages(self, file: File) -> None:
        """Processes see what is on the platter."""
        if file in self._spoilt:
            del self._spoilt[file]
            file.data = file.platter
            self._account()

    def _write(self, file: File, offset: int, data: bytes, growth: int) -> None:
        """It takes so many blocks more."""
        file.data = put(file.data, offset, data)
        self._used_blocks += growth
        file.pending.append((offset, data))
        file.cached_in = self._mounting
        self._dirty_files[file] = None

    def _rename_to(self, folder: Folder, change: NameChange) -> None:
        if change.inode is None:
            del folder.names[change.name]
        else:
            folder.names[change.name] = change.inode
        if not folder.pending:
            self._dirty_folders[folder] = None
        folder.pending.append(change)

    def _flush_names(self, folder: Folder) -> None:
        pending, folder.pending = folder.pending, []
        del self._dirty_folders[folder]
        names, platter = folder.names, folder.platter
        for change in pending:
            # The old name never goes before the new one is there: it is one transaction of the journal.
            if change.after is not None and change.after.pending:
                self._flush_names(change.after)
        before = {change.name: platter.get(change.name) for change in pending}
        for name in before:
            if inode := names.get(name):
                platter[name] = inode
            else:
                platter.pop(name, None)
        self._log.append(FlushedFolder(folder, before, pending))

    def _take_inode(self, path: str) -> None:
        if self._used_inodes + self._filler_inodes >= self.total_inodes:
            raise _error(errno.ENOSPC, path)
        self._used_inodes += 1

    def _release(self, inode: Inode) -> None:
        self._used_inodes -= 1
        if type(inode) is File:
            self._used_blocks -= blocks_in(len(inode.data))

    def _check_writable(self, operation: str, path: str) -> None:
        if self.read_only:
            raise _error(errno.EROFS, path)
        self._check(operation, path)

    def _check(self, operation: str, path: str) -> None:
        for failure in self._failures:
            if operation in failure.operations:
                if failure.times is not None:
                    failure.times -= 1
                    if not failure.times:
                        self._failures.remove(failure)
                raise _error(failure.number, path)

    def _survivors(self, platter: bytes, pending: list[tuple[int, bytes]], keep: float) -> bytes:
        """What a crash leaves of a file: of each block one of its versions, now and then torn between two."""
        versions = [platter]
        for offset, data in pending:
            versions.append(put(versions[-1], offset, data))
        size = len(self._draw(versions, keep))
        blocks = []
        for block in range(blocks_in(size)):
            chosen = block_of(self._draw(versions, keep), block).ljust(BLOCK_BYTES, b"\0")
            if self._rng.random() < _TORN:
                cut = self._rng.randrange(1, BLOCK_BYTES // SECTOR_BYTES) * SECTOR_BYTES
                chosen = chosen[:cut] + block_of(self._draw(versions, keep), block).ljust(BLOCK_BYTES, b"\0")[cut:]
            blocks.append(chosen)
        return b"".join(blocks)[:size]

    def _draw(self, versions: list[bytes], keep: float) -> bytes:
        if self._rng.random() < keep:
            return versions[-1]
        if keep and len(versions) > 2 and self._rng.random() < keep:
            return versions[self._rng.randrange(1, len(versions) - 1)]
        return versions[0]

    def _spoil(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """Change a file on the platter. The page cache of a node that has it mounted keeps what it had."""
        file = self.file(path)
        if file.pending:
            self.flush(file)
        file.platter = change(file.platter)
        self._spoilt[file] = None
        if not self._is_cached(file):
            self._drop_pages(file)

    def _set_name(self, folder: Folder, name: str, inode: Inode | None) -> None:
        self.flush_all()
        put_name(folder.names, name, inode)
        put_name(folder.platter, name, inode)
        self._account()

    def _replace_root(self, root: Folder) -> None:
        self._root = root
        self._dirty_files.clear()
        self._dirty_folders.clear()
        self._spoilt.clear()
        self._log.clear()
        self._account()

    def _account(self) -> None:
        """Count anew what is used; folders are looked for anew too."""
        self._folders = {"": self._root}
        self._used_blocks = self._used_inodes = 0
        for _, inode in walk(self._root, ""):
            self._used_inodes += 1
            if type(inode) is File:
                self._used_blocks += blocks_in(len(inode.data))


def fsid_of(file_system: uuid.UUID) -> str:
    """The id of statfs(2) that ext4 makes of its UUID, as stat(1) prints it."""
    raw = file_system.bytes
    folded = int.from_bytes(raw[:8], "little") ^ int.from_bytes(raw[8:], "little")
    # statfs(2) gives two words, which stat(1) prints first word first.
    return format((folded & 0xFFFFFFFF) << 32 | folded >> 32, "x")


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
