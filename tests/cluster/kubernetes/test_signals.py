"""A signal to a container: sent once it is sure whom it would reach, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.errors import ClusterError, ConflictError, NotFoundError, RefusedError, UnreachableError
from tests.cluster.kubernetes.api_server import ApiServer, pod, says
from tests.cluster.kubernetes.test_exec import EXEC, SUCCESS, _failure, speaks

POD = "/api/v1/namespaces/default/pods/web-0"


def _pod(uid: str = "u1", container: str = "c://1", **state: Any) -> dict[str, Any]:
    document = pod("web-0", uid, containers=[{"name": "app"}])
    status = {"name": "app", "containerID": container, "state": state or {"running": {}}}
    document["status"]["containerStatuses"] = [status]
    return document


class Program:
    """The other end of an exec: tells what it was told to, and keeps what it is sent."""

    def __init__(self, server: ApiServer, first: bytes, *after: bytes) -> None:
        self.received: list[bytes] = []
        self._first = first
        self._after = after
        server.on("GET", POD, says(_pod()))
        server.on("GET", EXEC, speaks(self._act))

    async def _act(self, socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(self._first)
        if not self._first.startswith(b"\x01"):
            return
        async for message in socket:
            self.received.append(message.data)
            for frame in self._after:
                await socket.send_bytes(frame)
            return


async def _signal(cluster: KubernetesCluster, signal: str = "TERM", uid: str = "u1", container: str = "app") -> None:
    await cluster.signal_container("default", "web-0", container, signal, uid=uid, container_id="c://1")


async def test_it_is_sent_when_the_program_has_found_the_process(cluster: KubernetesCluster, server: ApiServer) -> None:
    program = Program(server, b"\x01first 1\n", b"\x03" + SUCCESS)
    await _signal(cluster)
    assert program.received == [b"\x00go\n"]
    assert [path for _, path, *_ in server.requests] == [POD, EXEC, POD]


async def test_a_session_that_ends_once_it_was_told_ended_with_the_container(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    program = Program(server, b"\x01first 7\n")
    await _signal(cluster, "KILL")
    Program(server, b"\x01first 7\n", b"\x03" + _failure("killed", 137))
    await _signal(cluster, "KILL")
    assert program.received == [b"\x00go\n"]


async def test_a_session_that_ends_before_sent_nothing(cluster: KubernetesCluster, server: ApiServer) -> None:
    Program(server, b"\x02nothing yet")
    with pytest.raises(UnreachableError, match="no signal was sent"):
        await _signal(cluster)


async def test_the_program_says_why_it_refuses(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def act(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"\x02process 1 does not handle SIGTERM\n")
        await socket.send_bytes(b"\x03" + _failure("ended", 3))

    Program(server, b"")
    server.on("GET", EXEC, speaks(act))
    with pytest.raises(RefusedError, match=r"^process 1 does not handle SIGTERM$"):
        await _signal(cluster)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (_failure('exec: "sh": executable file not found in $PATH'), "takes a shell in the container"),
        (_failure("ended", 127), "the container's shell ended with 127"),
    ],
)
async def test_a_container_without_a_good_shell_is_refused(
    cluster: KubernetesCluster, server: ApiServer, status: bytes, words: str
) -> None:
    Program(server, b"\x03" + status)
    with pytest.raises(RefusedError, match=words):
        await _signal(cluster)


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (_pod("u2"), ConflictError, "has the UID u2, not u1"),
        (_pod(container="c://2"), ConflictError, "app of default/web-0 is c://2, not c://1"),
        (_pod(terminated={"exitCode": 1}), RefusedError, "app of default/web-0 does not run: exit code 1"),
        (pod("web-0"), NotFoundError, "default/web-0 has no container app"),
    ],
)
async def test_what_is_not_the_container_that_was_meant_is_left_alone(
    cluster: KubernetesCluster, server: ApiServer, found: dict[str, Any], error: type[ClusterError], words: str
) -> None:
    program = Program(server, b"\x01first 1\n", b"\x03" + SUCCESS)
    server.on("GET", POD, says(found))
    with pytest.raises(error, match=words):
        await _signal(cluster)
    assert [path for _, path, *_ in server.requests] == [POD]
    assert program.received == []


@pytest.mark.parametrize("after", [_pod("u2"), _pod(container="c://2")])
async def test_nothing_is_sent_into_what_took_its_place_meanwhile(
    cluster: KubernetesCluster, server: ApiServer, after: dict[str, Any]
) -> None:
    program = Program(server, b"\x01first 1\n", b"\x03" + SUCCESS)
    server.on("GET", POD, says(_pod()), says(after))
    with pytest.raises(ConflictError):
        await _signal(cluster)
    assert b"\x00go\n" not in program.received
