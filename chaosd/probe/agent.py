"""chaosd's probe in Python, for containers without a shell and for reads that are provably cold. Protocol: protocol.py.

Standard library only, and nothing of chaosd: this file is sent to the container as it stands (`python3 -c READ_IT
chaosd-probe MOUNT FOLDER RUN LIFETIME_SECONDS`, and then by its stdin), so that it always is of the daemon's own version.
The logic needs only the few operations of `Files`, so that the same code runs in process on the sandbox's memory disks.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, Protocol

CHUNK_BYTES = 65536
_LOOKS, _PAUSE_SECONDS = 7, 0.01  # at what O_DIRECT does, 0.6 s in all
_PAGE_BYTES = 4096
# A name on the volume may hold what would end a line of the reply; none of it is printable.
_ONE_LINE = {ord(character): "?" for character in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
# linux/fs.h: _IOR(0x15, 0, struct fsuuid2), which is a length and 16 bytes; from Linux 6.9 on.
_FS_IOC_GETFSUUID = 0x80111500


class IrregularError(OSError):
    """What stands there is no regular file; the text says what it is."""


class Files(Protocol):
    """What the agent asks of a file system. Paths are absolute; every method raises OSError."""

    def facts(self, mount: str) -> Iterator[str]:
        """Lines of the reply to `hello` on the pod and the file system at `mount`."""

    def make_folder(self, path: str) -> bool:
        """Make it unless it is there, and say whether it was made."""

    def write(self, path: str, data: bytes, *, append: bool = False, create: bool = True) -> None:
        """Write at the start or, with `append`, at the end, without cutting off what lies behind; durable on return."""

    def move(self, names: Sequence[str], folder: str, to: str) -> None:
        """Move files into another folder, one after the other, in place of those that may have their names there."""

    def remove(self, names: Sequence[str], folder: str) -> None:
        """Remove files of a folder, one after the other; that one is absent is no error."""

    def sync(self, folder: str) -> None:
        """Make a folder's names durable."""

    def names(self, folder: str) -> list[str]:
        """What is in a folder."""

    def described(self, path: str) -> str:
        """Empty for a regular file, else what stands there; raises FileNotFoundError where nothing does."""

    def read(self, path: str, most: int) -> tuple[bytes, bool]:
        """At most so many bytes from the start of a regular file, and whether they surely did not come from this node's
        page cache. Raises IrregularError where something else stands there."""


class LocalFiles:
    """The file system of the container."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._is_direct: bool | None = None

    def facts(self, mount: str) -> Iterator[str]:
        """From /proc, statfs(2) and, where the kernel has one, the file system's UUID; what cannot be had is left out."""
        for word, name in (("hostname", "sys/kernel/hostname"), ("boot", "sys/kernel/random/boot_id")):
            yield from (f"{word} {line}" for line in self._lines(name)[:1])
        yield from (f"mountinfo {line}" for line in self._lines("self/mountinfo"))
        simulated = self._lines("fsid")
        yield from (f"fsid {line}" for line in simulated[:1])
        if not os.path.isdir(mount):
            yield f"absent {mount}"
            return
        yield f"resolved {os.path.realpath(mount)}"
        with suppress(OSError):
            space = os.statvfs(mount)
            yield f"space {space.f_bavail} {space.f_frsize} {space.f_files} {space.f_ffree} {space.f_blocks}"
            if not simulated:
                # statfs(2) gives it as two words, which stat(1) prints first word first.
                yield f"fsid {(space.f_fsid & 0xFFFFFFFF) << 32 | space.f_fsid >> 32:x}"
        if not simulated and (uuid := _file_system_uuid(mount)):
            yield f"uuid {uuid}"
        with suppress(OSError):
            yield from (f"entry {name}" for name in self.names(mount))

    def make_folder(self, path: str) -> bool:
        """mkdir(2)."""
        try:
            os.mkdir(path)
        except FileExistsError:
            return False
        return True

    def write(self, path: str, data: bytes, *, append: bool = False, create: bool = True) -> None:
        """write(2) and fsync(2) on one descriptor: after a failed fsync nothing earns its trust by trying again."""
        flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_APPEND if append else 0) | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def move(self, names: Sequence[str], folder: str, to: str) -> None:
        """rename(2)."""
        for name in names:
            os.replace(f"{folder}/{name}", f"{to}/{name}")

    def remove(self, names: Sequence[str], folder: str) -> None:
        """unlink(2)."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")

    def sync(self, folder: str) -> None:
        """fsync(2) on the folder."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def names(self, folder: str) -> list[str]:
        """readdir(3)."""
        return sorted(os.listdir(folder))

    def described(self, path: str) -> str:
        """lstat(2)."""
        found = os.lstat(path)
        return "" if stat.S_ISREG(found.st_mode) else f"{stat.filemode(found.st_mode)} {path}"

    def read(self, path: str, most: int) -> tuple[bytes, bool]:
        """With O_DIRECT where the file system really reads past the page cache then; else after dropping the file's pages,
        if they are proven to be gone."""
        if what := self.described(path):  # a pipe would be waited for
            raise IrregularError(what)
        if self._is_direct is None:
            self._is_direct = _reads_direct(path)
        if self._is_direct:
            return _read(path, most, os.O_DIRECT), True
        dropped = _drop_pages(path, most)
        return _read(path, most, 0), dropped

    def _lines(self, name: str) -> list[str]:
        try:
            with open(f"{self._proc}/{name}", encoding="utf-8", errors="replace") as file:
                return file.read().splitlines()
        except OSError:
            return []


class Agent:
    """Answers requests about one run's folder on one volume."""

    def __init__(self, files: Files, mount: str, folder: str, run: str) -> None:
        self._files = files
        self._mount = mount
        self._base = f"{mount}/{folder}"
        self._run = f"{self._base}/{run}"
        self._stage = f"{self._run}/stage"
        self._verbs = {
            "hello": self._hello,
            "begin": self._begin,
            "store": self._store,
            "sums": self._sums,
            "fetch": self._fetch,
            "list": self._list,
            "drop": self._drop,
        }

    def serve(self, requests: BinaryIO, replies: BinaryIO) -> None:
        """Answer until the input ends, within a request or between two."""
        while (line := requests.readline()).endswith(b"\n"):
            nonce, verb, *arguments = line.decode().split()
            answer = self._verbs.get(verb)
            try:
                lines = [f"failed no such verb: {verb}"] if answer is None else list(answer(arguments, requests))
            except OSError as error:
                lines = [f"failed {_why(error)}"]
            lines.append(f"{nonce} end {len(lines)}")
            if not "".join(lines).isprintable():
                lines = [line.translate(_ONE_LINE) for line in lines]
            replies.write("\n".join([*lines, ""]).encode(errors="surrogateescape"))
            replies.flush()

    def _hello(self, _: list[str], __: BinaryIO) -> Iterator[str]:
        yield f"mount {self._mount}"
        yield from self._files.facts(self._mount)
        try:
            identity, _cold = self._files.read(f"{self._base}/identity", CHUNK_BYTES)
            first, *_rest = identity.decode(errors="replace").split("\n", 1)
            yield f"identity {first}"
        except FileNotFoundError:
            pass
        except IrregularError as error:
            yield f"identity {error}"
        except OSError as error:  # what cannot be read is not therefore gone
            yield f"unreadable {_why(error)}"
        with suppress(OSError):
            for name in self._files.names(self._base):
                if name != "identity":
                    is_folder = self._files.described(f"{self._base}/{name}").startswith("d")
                    yield f"{'folder' if is_folder else 'stray'} {name}"

    def _begin(self, _: list[str], requests: BinaryIO) -> Iterator[str]:
        """Each folder that was made is made durable in its parent."""
        length = int(requests.readline() or 0)
        data = requests.read(length)
        if not length or len(data) < length:
            return
        parts = self._stage[len(self._mount) + 1 :].split("/")
        for depth in range(len(parts)):
            parent = "/".join([self._mount, *parts[:depth]])
            if self._files.make_folder(f"{parent}/{parts[depth]}"):
                self._files.sync(parent)
        self._files.remove(self._files.names(self._stage), self._stage)
        if "identity" not in self._files.names(self._base):
            self._files.write(f"{self._stage}/identity", data)
            self._files.move(["identity"], self._stage, self._base)
            self._files.sync(self._base)
        yield from ()

    def _store(self, arguments: list[str], requests: BinaryIO) -> Iterator[str]:
        put, overwrite, append = map(int, arguments)
        yield from self._put(put, requests)
        for name, data in _items(overwrite, requests):
            yield self._written(name, data, append=False)
        for name, data in _items(append, requests):
            yield self._written(name, data, append=True)

    def _put(self, count: int, requests: BinaryIO) -> Iterator[str]:
        """All files of a request are renamed together and share one fsync of the folder."""
        stored = []
        for name, data in _items(count, requests):
            try:
                self._files.write(f"{self._stage}/{name}", data)
                stored.append(name)
            except OSError as error:
                yield f"failed {name} {_why(error)}"
        if not stored:
            return
        try:
            self._files.move(stored, self._stage, self._run)
            self._files.sync(self._run)
            self._files.sync(self._stage)
        except OSError as error:
            yield from (f"unknown {name} {_why(error)}" for name in stored)
        else:
            yield f"stored {' '.join(stored)}"

    def _written(self, name: str, data: bytes, *, append: bool) -> str:
        """In place: when it fails, part of it may be there. The first append makes the file, which the folder must keep."""
        path = f"{self._run}/{name}"
        try:
            is_new = append and not _exists(self._files, path)
            self._files.write(path, data, append=append, create=is_new)
            if is_new:
                self._files.sync(self._run)
        except OSError as error:
            return f"unknown {name} {_why(error)}"
        return f"stored {name}"

    def _sums(self, arguments: list[str], _: BinaryIO) -> Iterator[str]:
        most = int(arguments[0]) * CHUNK_BYTES
        for name in arguments[1:]:
            try:
                data, cold = self._files.read(f"{self._run}/{name}", most)
                yield f"{name} {'cold' if cold else 'cached'} {hashlib.sha256(data).hexdigest()}"
            except FileNotFoundError as error:
                yield f"{name} absent {_why(error)}"
            except IrregularError as error:
                yield f"{name} irregular {error}"
            except OSError as error:
                yield f"{name} failed {_why(error)}"

    def _fetch(self, arguments: list[str], _: BinaryIO) -> Iterator[str]:
        data, cold = self._files.read(f"{self._run}/{arguments[1]}", int(arguments[0]) * CHUNK_BYTES)
        yield f"cache {'cold' if cold else 'cached'}"
        yield from (data[at : at + _PAGE_BYTES].hex() for at in range(0, len(data), _PAGE_BYTES))

    def _list(self, _: list[str], __: BinaryIO) -> Iterator[str]:
        try:
            names = self._files.names(self._run)
        except FileNotFoundError:
            return
        yield "names"
        yield from names

    def _drop(self, arguments: list[str], _: BinaryIO) -> Iterator[str]:
        self._files.remove(arguments, self._run)
        self._files.sync(self._run)
        yield from ()


def _items(count: int, requests: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The next so many names and bytes that follow a request, those of them that came whole."""
    for _ in range(count):
        line = requests.readline()
        if not line.endswith(b"\n"):
            return
        name, announced = line.decode().split()
        length = int(announced)
        data = requests.read(length)
        if len(data) < length:
            return
        yield name, data


def _exists(files: Files, path: str) -> bool:
    try:
        files.described(path)
    except FileNotFoundError:
        return False
    return True


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _read(path: str, most: int, flags: int) -> bytes:
    """The file as far as `most`, through a buffer that is aligned as O_DIRECT needs it."""
    descriptor = _opened(path, flags)
    try:
        size = min(os.fstat(descriptor).st_size, most)
        data = bytearray()
        with mmap.mmap(-1, CHUNK_BYTES) as buffer:
            while len(data) < size and (count := os.preadv(descriptor, [buffer], len(data))):
                data += buffer[:count]
    finally:
        os.close(descriptor)
    return bytes(data[:most])


def _reads_direct(path: str) -> bool | None:
    """Whether O_DIRECT is what it says, None where this file cannot tell. Some file systems take the flag and read through
    their cache all the same (ext4 with data=journal, tmpfs from Linux 6.6 on): then the page that was read is in it, every
    time. A page that was busy, and stayed for another reason, is gone when it is looked at again."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_SECONDS * 2 ** (look - 1))
        told = _read_past_cache(path)
        if told is not False:
            return told
    return False


def _read_past_cache(path: str) -> bool | None:
    """Whether a page that was read with O_DIRECT is not in the cache, None where the file has none."""
    try:
        descriptor = _opened(path, os.O_DIRECT)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    try:
        with mmap.mmap(-1, CHUNK_BYTES) as buffer:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not os.preadv(descriptor, [buffer], 0):
                return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    finally:
        os.close(descriptor)
    descriptor = _opened(path)
    try:
        return _is_cached(descriptor, 0) is not True
    finally:
        os.close(descriptor)


def _drop_pages(path: str, most: int) -> bool:
    """Ask the kernel to forget the file's pages, and find out whether it did: dirty and mapped ones stay."""
    descriptor = _opened(path)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        # Else looking for one page would bring in those behind it.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        size = min(os.fstat(descriptor).st_size, most)
        return all(_is_cached(descriptor, at) is False for at in range(0, size, _PAGE_BYTES))
    finally:
        os.close(descriptor)


def _is_cached(descriptor: int, at: int) -> bool | None:
    """Whether a page is in the cache: a reading that may not wait answers EAGAIN where it is not (preadv2(2), RWF_NOWAIT).
    None where the file system cannot tell."""
    try:
        os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _opened(path: str, flags: int = 0) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags)


def _file_system_uuid(mount: str) -> str:
    """Empty where the kernel or the file system does not tell it."""
    answer = bytearray(17)
    try:
        descriptor = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETFSUUID, answer)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    (length,) = struct.unpack_from("B", answer)
    return answer[1 : 1 + length].hex()


def main(mount: str, folder: str, run: str, lifetime_seconds: str) -> None:
    """A process started by exec can outlive its connection (opencontainers/runc#3359): it ends with its input, or when
    its time is up, whatever it waits for then."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(lifetime_seconds))
    files = LocalFiles(os.environ.get("CHAOSD_PROC", "/proc"))
    Agent(files, mount, folder, run).serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[2:])
