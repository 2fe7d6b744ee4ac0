"""A process in a container, over a websocket.

Source: Kubernetes' remote command protocol, v4 and v5.channel.k8s.io (k8s.io/apimachinery, pkg/util/remotecommand): every
frame begins with its channel; the exit status comes as a Status object on channel 3, and where none came the outcome is
unknown, never success.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from chaosd.cluster.kubernetes.client import Client
from chaosd.errors import RefusedError, SessionLostError

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_FRAME_BYTES = 32 << 10
_STDERR_BYTES = 4096
# An API server that died without a word is noticed after one and a half of these.
HEARTBEAT_SECONDS = 10.0


class ExecSession:
    """An ExecStream on a websocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._status: int | None = None
        self._stderr = b""

    async def write(self, data: bytes) -> None:
        """To its stdin, in frames, no faster than the connection takes them."""
        view = memoryview(data)
        try:
            for start in range(0, len(data), _FRAME_BYTES):
                await self._socket.send_bytes(bytes([_STDIN]) + view[start : start + _FRAME_BYTES])
        except (aiohttp.ClientError, OSError) as error:
            raise SessionLostError(f"the exec connection broke: {error}") from error

    async def close_stdin(self) -> None:
        """v5 tells the end of the input; v4 cannot."""
        if self._socket.protocol != V5:
            raise RefusedError(f"this server speaks {self._socket.protocol}, which cannot close stdin")
        try:
            await self._socket.send_bytes(bytes([_CLOSE, _STDIN]))
        except (aiohttp.ClientError, OSError) as error:
            raise SessionLostError(f"the exec connection broke: {error}") from error

    async def read(self) -> bytes:
        """The next piece of stdout; stderr and the status are kept meanwhile."""
        while self._status is None:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise SessionLostError(f"the exec connection ended without a status ({message.type.name.lower()})")
            channel, data = message.data[0], message.data[1:]
            if channel == _STDOUT and data:
                return bytes(data)
            if channel == _STDERR:
                self._stderr = (self._stderr + data)[-_STDERR_BYTES:]
            elif channel == _STATUS:
                self._status = exit_status(data)
        return b""

    @property
    def exit_status(self) -> int | None:
        """Its exit status, once it is known."""
        return self._status

    @property
    def stderr(self) -> bytes:
        """The last of its stderr."""
        return self._stderr


@asynccontextmanager
async def open_exec(
    client: Client, namespace: str, pod: str, container: str, argv: Sequence[str]
) -> AsyncIterator[ExecSession]:
    """See the port."""
    query = [("command", word) for word in argv]
    query += [("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    if container:
        query.append(("container", container))
    path = ("api", "v1", "namespaces", namespace, "pods", pod, "exec")
    async with client.websocket(path, query=query, protocols=(V5, V4), heartbeat_seconds=HEARTBEAT_SECONDS) as socket:
        yield ExecSession(socket)


def exit_status(text: bytes) -> int:
    """The exit status in a Status object. Raises RefusedError when the process could not be started, SessionLostError
    when the status is of something else."""
    status = json.loads(text)
    if status.get("status") == "Success":
        return 0
    message = status.get("message", "no message")
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    if "executable file not found" in message or "no such file or directory" in message:
        raise RefusedError(message)
    raise SessionLostError(f"exec ended: {message}")
