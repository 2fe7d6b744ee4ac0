"""A process in a sandbox's container: a local process in a session of its own, ended with the container."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from chaosd.errors import RefusedError, SessionLostError

_CHUNK_BYTES = 64 << 10
_STDERR_BYTES = 4096
_END_SECONDS = 2.0


class LocalProcess:
    """An ExecStream on a local process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._container_gone = False
        self._stderr = b""
        self._tail = asyncio.create_task(self._keep_stderr(), name=f"stderr of {process.pid}")

    @classmethod
    async def start(cls, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> LocalProcess:
        """Raises RefusedError when there is no such program."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise RefusedError(f'exec: "{argv[0]}": executable file not found in $PATH ({error.strerror})') from error
        return cls(process)

    async def write(self, data: bytes) -> None:
        """To its stdin."""
        assert self._process.stdin is not None, "started with pipes"
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise SessionLostError("the process no longer reads its input") from error

    async def close_stdin(self) -> None:
        """End its input."""
        assert self._process.stdin is not None, "started with pipes"
        self._process.stdin.close()

    async def read(self) -> bytes:
        """From its stdout."""
        assert self._process.stdout is not None, "started with pipes"
        piece = await self._process.stdout.read(_CHUNK_BYTES)
        if not piece:
            await self._process.wait()
            await self._tail
            if self._container_gone:
                raise SessionLostError("the container was stopped")
        return piece

    @property
    def exit_status(self) -> int | None:
        """As a shell tells it: 128 + N for signal N."""
        status = self._process.returncode
        return 128 - status if status is not None and status < 0 else status

    @property
    def exited(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    @property
    def stderr(self) -> bytes:
        """The last of its stderr."""
        return self._stderr

    def kill(self) -> None:
        """Its container stops: every process of the session ends."""
        self._container_gone = True
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """The connection ends: the process sees the end of its input, and is killed if that does not end it."""
        with suppress(OSError, RuntimeError):
            await self.close_stdin()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._drain()
        except TimeoutError:
            self.kill()
            await self._drain()

    async def _drain(self) -> None:
        assert self._process.stdout is not None, "started with pipes"
        while await self._process.stdout.read(_CHUNK_BYTES):
            pass
        await self._process.wait()
        await self._tail

    async def _keep_stderr(self) -> None:
        assert self._process.stderr is not None, "started with pipes"
        while piece := await self._process.stderr.read(_CHUNK_BYTES):
            self._stderr = (self._stderr + piece)[-_STDERR_BYTES:]
