"""What a file system in memory is made of: files and folders, each as processes see it and as it is on the platter, and
the changes in between."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK_BYTES = 4096


class File:
    """A regular file: `data` is what processes see, `platter` what is durable, `pending` the writes in between;
    `cached_in` the disk's mounting, by its number, in which its pages came into the page cache."""

    __slots__ = ("cached_in", "data", "pending", "platter")

    def __init__(self, platter: bytes = b"") -> None:
        self.cached_in = -1
        self.data = platter
        self.platter = platter
        self.pending: list[tuple[int, bytes]] = []


class Folder:
    """A folder: `names` is what processes see, `platter` what is durable, `pending` the changes in between."""

    __slots__ = ("names", "pending", "platter")

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.platter: dict[str, Inode] = {}
        self.pending: list[NameChange] = []


Inode = File | Folder


class NameChange:
    """A name that is to stand for `inode` (None: for nothing). The two halves of a rename share their `twin`; the half that
    takes the old name away waits for the folder that has the new one."""

    __slots__ = ("after", "inode", "name", "twin")

    def __init__(self, name: str, inode: Inode | None, twin: object = None, after: Folder | None = None) -> None:
        self.name = name
        self.inode = inode
        self.twin = twin
        self.after = after


class FlushedFile:
    """A flush that a lying disk may not have done."""

    __slots__ = ("_before", "_file", "_pending")

    def __init__(self, file: File, before: bytes, pending: list[tuple[int, bytes]]) -> None:
        self._file = file
        self._before = before
        self._pending = pending

    def undo(self) -> File:
        """Make it pending again."""
        self._file.platter = self._before
        self._file.pending = self._pending + self._file.pending
        return self._file


class FlushedFolder:
    """The same of a folder's names."""

    __slots__ = ("_before", "_folder", "_pending")

    def __init__(self, folder: Folder, before: dict[str, Inode | None], pending: list[NameChange]) -> None:
        self._folder = folder
        self._before = before
        self._pending = pending

    def undo(self) -> Folder:
        """Make them pending again."""
        for name, inode in self._before.items():
            put_name(self._folder.platter, name, inode)
        self._folder.pending = self._pending + self._folder.pending
        return self._folder


def blocks_in(length: int) -> int:
    """How many blocks so many bytes take."""
    return -(-length // BLOCK_BYTES)


def block_of(data: bytes, block: int) -> bytes:
    """One block, as far as there is one."""
    return data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]


def put(data: bytes, offset: int, more: bytes) -> bytes:
    """`data` with `more` written over it at `offset`."""
    if not offset and len(more) >= len(data):
        return more
    if offset > len(data):
        data = data.ljust(offset, b"\0")
    return data[:offset] + more + data[offset + len(more) :]


def written(data: bytes, writes: list[tuple[int, bytes]]) -> bytes:
    """`data` after all writes, each an offset and bytes."""
    for offset, more in writes:
        data = put(data, offset, more)
    return data


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one bit the other way round, counted from its start on and round again."""
    at = bit // 8 % len(data) if data else 0
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :] if data else data


def put_name(names: dict[str, Inode], name: str, inode: Inode | None) -> None:
    """Let a name stand for `inode`, or for nothing."""
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def walk(folder: Folder, path: str) -> Iterator[tuple[str, Inode]]:
    """Everything below a folder, with its path, as processes see it."""
    for name, inode in folder.names.items():
        yield f"{path}{name}", inode
        if type(inode) is Folder:
            yield from walk(inode, f"{path}{name}/")


def of_platter(root: Folder, seen: dict[int, Inode] | None = None) -> Folder:
    """A tree of its own, of what is durable in another one. A file with two names stays one file."""
    seen = {} if seen is None else seen
    copy = Folder()
    for name, inode in root.platter.items():
        found = seen.get(id(inode))
        if found is None:
            found = File(inode.platter) if type(inode) is File else of_platter(inode, seen)  # type: ignore[arg-type]
            seen[id(inode)] = found
        copy.names[name] = copy.platter[name] = found
    return copy
