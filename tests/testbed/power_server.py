"""Gives the disks of a folder of images to the kernel, as files of a FUSE mount on which loop devices can be put.

    python -m testbed.power_server IMAGES_FOLDER MOUNT_POINT CONTROL_SOCKET

A loop device turns the flushes of its file system into FUSE_FSYNC; FUSE_FLUSH is only a close. One thread answers kernel
and control socket, so a power cut falls between two requests. If the process dies, that is a power cut of all its disks:
what waited went with it, and the kernel answers an error to every handle.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import NoReturn

from testbed.power_disk import Rack, Status
from testbed.shell import succeeds

_LARGEST_IO = 1 << 20
_PAGE = 4096
_ROOT = 1  # the node that is the mount point; the images follow

# Of linux/fuse.h: the headers of requests and answers, and the parts of their bodies that matter here.
_REQUEST = Struct("<IIQQIIIHH")  # length, operation, unique, node, uid, gid, pid, ...
_ANSWER = Struct("<IiQ")  # length, error, unique
_ENTRY = Struct("<QQQQII")  # node, generation, validity of the entry and of its attributes
_VALIDITY = Struct("<QII")
_ATTRIBUTES = Struct("<QQQQQQIIIIIIIIII")
_OPENED = Struct("<QII")  # handle, flags
_INPUT_OUTPUT = Struct("<QQIIQII")  # handle, offset, size, ...
_HANDLE = Struct("<Q")
_WRITTEN = Struct("<II")
_INIT = Struct("<IIIIHHIIHHI7I")

_ASYNC_READ, _BIG_WRITES, _ASYNC_DIO, _MAX_PAGES = 1 << 0, 1 << 5, 1 << 15, 1 << 22
_DIRECT_IO = 1  # no page cache above the disk: it would outlive a power cut
_PR_SET_IO_FLUSHER = 57


class _Operation(IntEnum):
    LOOKUP, FORGET, GETATTR = 1, 2, 3
    OPEN, READ, WRITE, RELEASE, FSYNC = 14, 15, 16, 18, 20
    INIT, INTERRUPT, BATCH_FORGET = 26, 36, 42


_UNANSWERED = {_Operation.FORGET, _Operation.INTERRUPT, _Operation.BATCH_FORGET}


class PowerServer:
    def __init__(self, rack: Rack, mount_point: Path, control_socket: Path) -> None:
        self._rack = rack
        self._nodes: list[str] = []
        self._operations: dict[int, Callable[[int, memoryview], bytes]] = {
            _Operation.INIT: self._init,
            _Operation.LOOKUP: self._lookup,
            _Operation.GETATTR: self._getattr,
            _Operation.OPEN: self._open,
            _Operation.READ: self._read,
            _Operation.WRITE: self._write,
            _Operation.FSYNC: self._fsync,
            _Operation.RELEASE: self._release,
        }
        self._commands: dict[str, Callable[..., Status]] = {
            "status": rack.status,
            "mode": rack.set_mode,
            "cut": rack.cut_power,
            "cut_after": rack.cut_power_after,
        }
        self._fuse = _mount(mount_point)
        self._control = _listen(control_socket)

    def serve(self) -> NoReturn:
        buffer = memoryview(bytearray(_LARGEST_IO + _PAGE))
        fuse, control = self._fuse, self._control.fileno()
        while True:
            ready, _, _ = select.select([fuse, control], [], [])
            if control in ready:
                self._obey()
            if fuse in ready:
                self._answer(buffer)

    # The control socket: one line of JSON asks, one answers.

    def _obey(self) -> None:
        connection, _ = self._control.accept()
        with connection, connection.makefile("rw") as lines:
            connection.settimeout(20)
            try:
                request = json.loads(lines.readline())
                answer: dict[str, object] = asdict(self._commands[request.pop("command")](**request))
            except (OSError, ValueError, KeyError, TypeError) as error:
                answer = {"error": repr(error)}
            with suppress(OSError):
                lines.write(json.dumps(answer) + "\n")
                lines.flush()

    # FUSE.

    def _answer(self, buffer: memoryview) -> None:
        try:
            length = os.readv(self._fuse, [buffer])
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EAGAIN):
                return  # the request was taken back
            raise
        _, operation, unique, node, *_ = _REQUEST.unpack_from(buffer)
        if operation in _UNANSWERED:
            return
        status, body = 0, b""
        try:
            body = self._operations.get(operation, _do_without)(node, buffer[_REQUEST.size : length])
        except OSError as error:
            status = -(error.errno or errno.EIO)
        with suppress(FileNotFoundError):  # who asked is gone
            os.writev(self._fuse, [_ANSWER.pack(_ANSWER.size + len(body), status, unique), body])

    def _init(self, _: int, body: memoryview) -> bytes:
        _, minor, read_ahead, offered = Struct("<IIII").unpack_from(body)
        flags = offered & (_ASYNC_READ | _BIG_WRITES | _ASYNC_DIO | _MAX_PAGES)
        largest = _LARGEST_IO, 1, _LARGEST_IO // _PAGE  # the one in between: times have nanoseconds
        return _INIT.pack(7, min(minor, 31), read_ahead, flags, 64, 48, *largest, *[0] * 9)

    def _lookup(self, _: int, body: memoryview) -> bytes:
        name = bytes(body).rstrip(b"\0").decode()
        self._rack.image(name).stat()  # else the kernel is told that there is none
        if name not in self._nodes:
            self._nodes.append(name)
        node = self._nodes.index(name) + _ROOT + 1
        return _ENTRY.pack(node, 0, 0, 0, 0, 0) + self._attributes(node)

    def _getattr(self, node: int, _: memoryview) -> bytes:
        return _VALIDITY.pack(0, 0, 0) + self._attributes(node)

    def _open(self, node: int, _: memoryview) -> bytes:
        return _OPENED.pack(self._rack.open(self._name(node)), _DIRECT_IO, 0)

    def _read(self, _: int, body: memoryview) -> bytes:
        handle, offset, size, *_rest = _INPUT_OUTPUT.unpack_from(body)
        return self._rack[handle].read(offset, size)

    def _write(self, _: int, body: memoryview) -> bytes:
        handle, offset, size, *_rest = _INPUT_OUTPUT.unpack_from(body)
        self._rack[handle].write(offset, bytes(body[_INPUT_OUTPUT.size : _INPUT_OUTPUT.size + size]))
        return _WRITTEN.pack(size, 0)

    def _fsync(self, _: int, body: memoryview) -> bytes:
        self._rack[_HANDLE.unpack_from(body)[0]].flush()
        return b""

    def _release(self, _: int, body: memoryview) -> bytes:
        self._rack.release(_HANDLE.unpack_from(body)[0])
        return b""

    def _name(self, node: int) -> str:
        return self._nodes[node - _ROOT - 1]

    def _attributes(self, node: int) -> bytes:
        if node == _ROOT:
            return _pack_attributes(node, stat.S_IFDIR | 0o700, 0)
        return _pack_attributes(node, stat.S_IFREG | 0o600, self._rack.image(self._name(node)).stat().st_size)


def _do_without(_node: int, _body: memoryview) -> bytes:
    """The kernel then asks for it no more."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _pack_attributes(node: int, mode: int, size: int) -> bytes:
    """Files are told apart by the number of their node: with one for all, `mount -o loop` takes any disk for any other."""
    return _ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, _PAGE, 0)


def _mount(at: Path) -> int:
    """Returns the descriptor on which the kernel asks."""
    succeeds("umount", "--lazy", at)  # what a server that died has left
    at.mkdir(parents=True, exist_ok=True)
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0".encode()
    if libc.mount(b"power-disks", bytes(at), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), f"cannot mount {at}")
    # Else this process, writing to the platters, could be made to wait for the very writes that it is asked to do.
    libc.prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0)
    return fuse


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


if __name__ == "__main__":
    _images, _mount_point, _socket = map(Path, sys.argv[1:])
    PowerServer(Rack(_images), _mount_point, _socket).serve()
