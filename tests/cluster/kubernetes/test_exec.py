"""Exec: frames, the status object, and what breaks between them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.kubernetes.exec import V4, V5, exit_status
from chaosd.errors import DeniedError, ForbiddenError, NotFoundError, RefusedError, SessionLostError
from tests.cluster.kubernetes.api_server import ApiServer, Handler, refuses, status

EXEC = "/api/v1/namespaces/default/pods/web-0/exec"
SUCCESS = json.dumps({"status": "Success"}).encode()


def _failure(message: str, code: int | None = None) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}] if code is not None else []
    return json.dumps({"status": "Failure", "message": message, "details": {"causes": causes}}).encode()


def speaks(act: Callable[[web.WebSocketResponse], Awaitable[object]], protocol: str = V5) -> Handler:
    """A handler that upgrades to a websocket and acts on it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(protocol,))
        await socket.prepare(request)
        await act(socket)
        await socket.close()
        return socket

    return handler


async def _outcome(cluster: KubernetesCluster) -> tuple[bytes, int | None, bytes]:
    out = b""
    async with cluster.exec("default", "web-0", "app", ["sh", "-c", "true"]) as stream:
        while piece := await stream.read():
            out += piece
        return out, stream.exit_status, stream.stderr


async def test_channels_are_told_apart_and_the_status_ends_it(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        for frame in (b"\x01one ", b"\x02oops", b"\x01", b"\x01two", b"\x03" + _failure("ended", 3)):
            await socket.send_bytes(frame)

    server.on("GET", EXEC, speaks(act))
    assert await _outcome(cluster) == (b"one two", 3, b"oops")
    _, _, query, _ = server.requests[0]
    assert (query["container"], query["stdin"], query["stdout"], query["stderr"]) == ("app", "true", "true", "true")


async def test_a_connection_that_ends_without_a_status_is_never_success(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x01all done")

    server.on("GET", EXEC, speaks(act))
    with pytest.raises(SessionLostError, match="without a status"):
        await _outcome(cluster)


async def test_a_connection_that_is_cut_is_a_lost_session(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=(V5,))
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return socket

    server.on("GET", EXEC, handler)
    async with cluster.exec("default", "web-0", "app", ["sh"]) as stream:
        with pytest.raises(SessionLostError):
            await stream.read()
        with pytest.raises(SessionLostError):
            await stream.write(b"x" * 10_000_000)


async def test_input_goes_in_frames_and_its_end_is_told(cluster: KubernetesCluster, server: ApiServer) -> None:
    frames: list[bytes] = []

    async def act(socket: web.WebSocketResponse) -> None:
        async for message in socket:
            assert message.type is aiohttp.WSMsgType.BINARY
            frames.append(message.data)
            if message.data[0] == 255:
                await socket.send_bytes(b"\x03" + SUCCESS)
                return

    server.on("GET", EXEC, speaks(act))
    async with cluster.exec("default", "web-0", "app", ["cat"]) as stream:
        await stream.write(b"a" * 70_000)
        await stream.close_stdin()
        assert await stream.read() == b""
        assert stream.exit_status == 0
    assert {frame[0] for frame in frames[:-1]} == {0}
    assert b"".join(frame[1:] for frame in frames[:-1]) == b"a" * 70_000
    assert max(map(len, frames)) <= (32 << 10) + 1
    assert frames[-1] == bytes([255, 0])


async def test_an_older_server_cannot_be_told_the_end_of_the_input(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x03" + SUCCESS)

    server.on("GET", EXEC, speaks(act, V4))
    async with cluster.exec("default", "web-0", "app", ["sh"]) as stream:
        with pytest.raises(RefusedError, match=V4):
            await stream.close_stdin()
        assert await stream.read() == b""


async def test_what_the_server_refuses_before_it_upgrades(cluster: KubernetesCluster, server: ApiServer) -> None:
    with pytest.raises(NotFoundError):
        await _outcome(cluster)
    server.on("GET", EXEC, refuses(403, 'pods "web-0" is forbidden: User "u" cannot create resource "pods/exec"'))
    with pytest.raises(ForbiddenError):
        await _outcome(cluster)


@pytest.mark.parametrize(
    ("status", "code"), [(SUCCESS, 0), (_failure("command terminated with exit code 137", 137), 137), (_failure("x", 1), 1)]
)
def test_exit_statuses(status: bytes, code: int) -> None:
    assert exit_status(status) == code


def test_statuses_that_are_of_something_else() -> None:
    with pytest.raises(RefusedError, match="executable file not found"):
        exit_status(_failure('exec: "sh": executable file not found in $PATH'))
    with pytest.raises(SessionLostError, match="container not running"):
        exit_status(_failure("container not running"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (422, 'ValidatingAdmissionPolicy "no-shells" denied request: nobody opens a shell here'),
        (403, 'admission webhook "no-shells" denied the request: nobody opens a shell here'),
    ],
)
async def test_admission_that_denies_a_session_is_told_in_its_own_words(
    cluster: KubernetesCluster, server: ApiServer, code: int, message: str
) -> None:
    server.on("GET", EXEC, refuses(code, message))
    with pytest.raises(DeniedError, match="nobody opens a shell here"):
        await _outcome(cluster)


async def test_a_missing_right_to_a_session_is_one_and_no_rule(cluster: KubernetesCluster, server: ApiServer) -> None:
    message = 'pods "web-0" is forbidden: User "nobody" cannot create resource "pods/exec" in API group ""'
    server.on("GET", EXEC, refuses(403, message))
    with pytest.raises(ForbiddenError, match="nobody"):
        await _outcome(cluster)


async def test_a_handshake_that_fails_for_itself_keeps_its_own_reason(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        upgrades = "upgrade" in request.headers.get("Connection", "").lower()
        return status(403, "no") if upgrades else status(400, "Upgrade request required")

    server.on("GET", EXEC, handler)
    with pytest.raises(ForbiddenError, match="403"):
        await _outcome(cluster)
