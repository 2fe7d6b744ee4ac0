"""The daemon's HTTP server: whose fault it is when it cannot serve, and who cannot keep it from serving others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from chaosd import server
from chaosd.errors import UsageError
from chaosd.server import own_routes, serving

SLOW = 200


async def test_an_address_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"cannot listen on {listen}: .*: give --listen HOST:PORT"):
            async with serving(listen, ()):
                pass


async def test_what_breaks_while_it_serves_is_not_blamed_on_its_address() -> None:
    with pytest.raises(FileNotFoundError):
        async with serving("127.0.0.1:0", ()):
            raise FileNotFoundError("experiments")


@asynccontextmanager
async def _clients(address: str, count: int, sent: bytes) -> AsyncIterator[list[socket.socket]]:
    """So many that are connected, have sent this, and do nothing more."""
    loop, (host, port) = asyncio.get_running_loop(), address.removeprefix("http://").split(":")
    with ExitStack() as held:
        clients = [held.enter_context(socket.socket()) for _ in range(count)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(client, sent)
        yield clients


async def _told(client: socket.socket) -> bytes:
    """What a client is told before its connection is closed. Raises ConnectionError where that is not done in order."""
    loop, told = asyncio.get_running_loop(), b""
    while part := await loop.sock_recv(client, 1 << 20):
        told += part
    return told


async def _let_go(address: str) -> None:
    """Wait until the server has no connection any more (Linux, proc_net(5): the local address, and the state)."""
    ours, has = f":{int(address.rpartition(':')[2]):04X}", ("01", "08")  # established, and closed by the other side

    def has_one() -> bool:
        rows = map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        return any(row[1].endswith(ours) and row[3] in has for row in rows)

    async with asyncio.timeout(120):
        while has_one():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)


async def _healthy(address: str) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{address}/healthz") as answer:
        return answer.status == 200


LARGE = "x" * (8 << 20)  # more than sockets hold
BODY = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "limit"),
    [(b"", "HEADER_SECONDS"), (b"GET /healthz HTT", "HEADER_SECONDS"), (BODY, "BODY_SECONDS")],
    ids=["nothing", "half a line", "no body"],
)
async def test_two_hundred_clients_that_say_too_little_are_served_none_and_keep_nobody_from_it(
    sent: bytes, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, limit, 1.0)
    async with (
        serving("127.0.0.1:0", own_routes(lambda: iter(()), str)) as address,
        _clients(address, SLOW, sent) as clients,
    ):
        assert await asyncio.wait_for(_healthy(address), 60)
        async with asyncio.timeout(120):  # until the server has closed every one
            told = await asyncio.gather(*map(_told, clients))
        assert {text.split(b"\r\n")[0] for text in told} == {b"HTTP/1.1 408 Request Timeout" if sent == BODY else b""}


async def test_clients_that_read_nothing_of_a_large_answer_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STUCK_SECONDS", 1.0)
    async with (
        serving("127.0.0.1:0", own_routes(lambda: iter((LARGE,)), str)) as address,
        _clients(address, 20, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") as clients,
    ):
        assert await asyncio.wait_for(_healthy(address), 60)
        await _let_go(address)
        told = await asyncio.wait_for(asyncio.gather(*map(_told, clients)), 120)
        assert max(map(len, told)) < len(LARGE)  # what the sockets held when the server gave them up


async def test_one_connection_too_many_is_closed_and_those_that_are_there_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with serving("127.0.0.1:0", own_routes(lambda: iter(()), str)) as address:
        async with _clients(address, 2, b""):
            with pytest.raises(aiohttp.ClientConnectionError):
                await _healthy(address)
        await _let_go(address)
        async with _clients(address, 1, b""):
            assert await _healthy(address)


async def test_clients_that_are_slow_do_not_hold_up_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 300.0)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as held:
        async with serving("127.0.0.1:0", own_routes(lambda: iter(()), str)) as address:
            await held.enter_async_context(_clients(address, SLOW, BODY))
            await asyncio.sleep(0.2)
            began = loop.time()
        assert loop.time() - began < 100
