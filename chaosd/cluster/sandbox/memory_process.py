"""A probe's process in memory: the agent, in this process, on memory disks.

It answers one request after another, each after the time that Timings give it. A request takes effect at the end of that
time, or in part, up to an operation that the random generator draws, where its container stops before.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from typing import cast

from chaosd.cluster.sandbox.memory_files import MemoryFiles
from chaosd.cluster.sandbox.store import Timings
from chaosd.errors import RefusedError, SessionLostError
from chaosd.probe.agent import Agent, Files
from chaosd.probe.protocol import Program, opening

PROBE = "chaosd-probe"
_STDERR_BYTES = 4096


class MemoryProcess:
    """An ExecStream on the agent. `start` makes one."""

    def __init__(
        self, files: MemoryFiles, arguments: Sequence[str], lifetime_seconds: float, timings: Timings, rng: random.Random
    ) -> None:
        self._files = files
        self._arguments = arguments
        self._agent = Agent(files, *arguments)
        self._timings = timings
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._input = b""
        self._unread = 0  # bytes of the program that are yet to come
        self._input_ended = False
        self._answering: tuple[asyncio.TimerHandle, bytes] | None = None
        self._output: deque[bytes] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._status: int | None = None
        self._container_gone = False
        self._hangs = False
        self._stderr = b""
        # As the program's own: it ends when its time is up, whatever it waits for then.
        self._alarm = self._loop.call_later(lifetime_seconds, self._die, signal.SIGALRM)

    @classmethod
    def start(cls, files: MemoryFiles, argv: Sequence[str], timings: Timings, rng: random.Random) -> MemoryProcess:
        """Raises RefusedError for what is no probe."""
        if PROBE not in argv[:-4]:
            raise RefusedError(f'exec: "{argv[0]}": a sandbox in memory has no program but the probe')
        at = argv.index(PROBE) + 1
        started = cls(files, argv[at : at + 3], float(argv[at + 3]), timings, rng)
        started._unread = len(opening(Program.SHELL if argv[0] == "sh" else Program.AGENT))
        return started

    async def write(self, data: bytes) -> None:
        """To its stdin."""
        if self.exited or self._input_ended:
            raise SessionLostError("the process no longer reads its input")
        program = min(self._unread, len(data))
        self._unread -= program
        self._input += data[program:]
        self._take()

    async def close_stdin(self) -> None:
        """End its input."""
        self._input_ended = True
        self._take()

    async def read(self) -> bytes:
        """From its stdout."""
        while not self._output and not self.exited:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        if self._output:
            return self._output.popleft()
        if self._container_gone:
            raise SessionLostError("the container was stopped")
        return b""

    @property
    def exit_status(self) -> int | None:
        """As a shell tells it: 128 + N for signal N."""
        return self._status

    @property
    def stderr(self) -> bytes:
        """The last of its stderr."""
        return self._stderr

    @property
    def exited(self) -> bool:
        """Whether it is gone."""
        return self._status is not None

    def kill(self) -> None:
        """Its container stops."""
        self._container_gone = True
        self._die(signal.SIGKILL)

    def hang(self) -> None:
        """Its node hangs: what it was about to do waits for `wake`."""
        self._hangs = True
        if self._answering:
            self._answering[0].cancel()

    def wake(self) -> None:
        """It goes on with what it was about to do."""
        self._hangs = False
        if self._answering and not self.exited:
            self._answering = self._loop.call_later(self._timings.answer, self._answer), self._answering[1]
        self._take()

    async def end(self) -> None:
        """The connection ends: what was received is still answered, and so long waited for, unless it lingers or hangs."""
        if self.exited:
            return
        linger = self._timings.linger
        if linger and self._answering and not self._hangs:
            timer, request = self._answering
            timer.cancel()
            self._answering = self._loop.call_later(linger, self._answer), request
        self._input_ended = True
        self._take()
        while not self.exited and not linger and not self._hangs:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _take(self) -> None:
        """Begin with the next request, if one has come whole; at the end of the input also with what came of one."""
        if self._answering or self.exited or self._hangs:
            return
        end = length_of_request(self._input)
        if end is None and self._input_ended:
            end = len(self._input)
        if end:
            request, self._input = self._input[:end], self._input[end:]
            self._answering = self._loop.call_later(self._timings.answer, self._answer), request
        elif self._input_ended:
            self._end(0)

    def _answer(self) -> None:
        assert self._answering, "one request at a time"
        _, request = self._answering
        self._answering = None
        told = BytesIO()
        try:
            self._agent.serve(BytesIO(request), told)
        except Exception as error:  # the program would end with a traceback
            self._stderr = f"{type(error).__name__}: {error}".encode()[-_STDERR_BYTES:]
            self._end(1)
            return
        if told.tell():
            self._output.append(told.getvalue())
            self._wake()
        self._take()

    def _die(self, number: signal.Signals) -> None:
        """What it was about to do is done in part."""
        if self.exited:
            return
        if self._answering:
            timer, request = self._answering
            timer.cancel()
            self._answering = None
            mortal = cast(Files, _Mortal(self._files, self._rng.randrange(_operations(request))))
            with suppress(_DiedError):
                Agent(mortal, *self._arguments).serve(BytesIO(request), BytesIO())
        self._end(128 + number)

    def _end(self, status: int) -> None:
        self._status = status
        self._alarm.cancel()
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class _DiedError(BaseException):
    """The process is no more."""


class _Mortal:
    """Files of a process that dies before one of its operations."""

    def __init__(self, files: MemoryFiles, dies_after: int) -> None:
        self._files = files
        self._left = dies_after

    def __getattr__(self, name: str) -> Callable[..., object]:
        self._live()
        operation: Callable[..., object] = getattr(self._files, name)
        return operation

    def move(self, names: Sequence[str], folder: str, to: str) -> None:
        """An operation for each."""
        for name in names:
            self._live()
            self._files.move([name], folder, to)

    def remove(self, names: Sequence[str], folder: str) -> None:
        """An operation for each."""
        for name in names:
            self._live()
            self._files.remove([name], folder)

    def _live(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _DiedError


def _operations(request: bytes) -> int:
    """About as many as it takes to answer: a file is written and renamed, and there are folders."""
    words = request[: request.find(b"\n")].split()
    return 2 * sum(map(int, words[2:5])) + 4 if len(words) > 2 and words[1] == b"store" else len(words) + 10


def length_of_request(data: bytes) -> int | None:
    """How long the request is that `data` begins with; None until it has come whole. Protocol: chaosd/probe/protocol.py."""
    at = data.find(b"\n") + 1
    if not at:
        return None
    words = data[:at].split()
    verb = words[1] if len(words) > 1 else b""
    if verb == b"begin":
        return _after_bytes(data, at, 0)
    if verb == b"store":
        for _ in range(sum(map(int, words[2:5]))):
            end = _after_bytes(data, at, 1)
            if end is None:
                return None
            at = end
    return at


def _after_bytes(data: bytes, at: int, word: int) -> int | None:
    """Where the bytes end which the line at `at` announces in its word `word`."""
    end = data.find(b"\n", at) + 1
    if not end:
        return None
    end += int(data[at:end].split()[word])
    return end if end <= len(data) else None
