"""The daemon's HTTP server: routes that are given to it, below limits that keep slow and greedy clients from stopping the
daemon; and its own routes, `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from aiohttp import web

from chaosd.errors import UsageError
from chaosd.exposition import CONTENT_TYPE

Ready = Callable[[], str]
Texts = Callable[[], Iterator[str]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/api/"
MAX_CONNECTIONS = 256
MAX_BODY_BYTES = 64 << 10
# For a request's line and headers to be there, from the opening of the connection or the end of the request before it; for
# its body, from then on; and for a client to take anything of what waits for it.
HEADER_SECONDS, BODY_SECONDS, STUCK_SECONDS = 20.0, 10.0, 20.0
_SHUTDOWN_SECONDS = 2.0  # for answers that are under way


def own_routes(metrics: Texts, not_ready: Ready) -> list[web.RouteDef]:
    """What every daemon serves. `metrics` are told in parts; `not_ready` says what is missing, or nothing."""
    return [
        web.get("/metrics", _exposed(metrics)),
        web.get("/healthz", _healthy),
        web.get("/readyz", _readiness(not_ready)),
    ]


@asynccontextmanager
async def serving(listen: str, routes: Iterable[web.AbstractRouteDef]) -> AsyncIterator[str]:
    """Serve the routes at HOST:PORT while the context is open; yields the address.

    Raises UsageError when the address cannot be had.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"cannot listen on {listen}: it names no port: give --listen HOST:PORT")
    application = web.Application(middlewares=[_json_errors, _bounded], client_max_size=MAX_BODY_BYTES)
    application.add_routes(routes)
    runner = web.AppRunner(
        application, access_log=None, keepalive_timeout=HEADER_SECONDS, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    assert runner.server, "it is set up"
    connections = _Connections(runner.server)
    try:
        listening = await _listening(connections, host.strip("[]") or "127.0.0.1", int(port), listen)
        dropping = asyncio.create_task(connections.drop_stuck(), name="stuck connections")
        try:
            bound = listening.sockets[0].getsockname()
            yield f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"
        finally:
            dropping.cancel()
            listening.close()
    finally:
        await runner.cleanup()


async def _listening(connections: _Connections, host: str, port: int, listen: str) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(connections.made, host, port)
    except OSError as error:
        raise UsageError(f"cannot listen on {listen}: {error}: give --listen HOST:PORT") from error


class _Connections:
    """Those of a server: so many at most, since each takes a file from the ledger; one more is closed at once."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def made(self) -> asyncio.BaseProtocol:
        """What a new connection is handled by."""
        return self._server() if len(self._server.connections) < MAX_CONNECTIONS else _Refused()

    async def drop_stuck(self) -> None:
        """Close, for ever, those whose clients take nothing of what waits for them."""
        before: dict[web.RequestHandler, int] = {}
        while True:
            await asyncio.sleep(STUCK_SECONDS)
            waiting = dict(self._unread())
            for connection, size in waiting.items():
                if before.get(connection) == size and connection.transport:
                    connection.transport.abort()
            before = waiting

    def _unread(self) -> Iterator[tuple[web.RequestHandler, int]]:
        for connection in self._server.connections:
            if connection.transport and (size := connection.transport.get_write_buffer_size()):
                yield connection, size


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "of a stream"
        transport.abort()


@web.middleware
async def _json_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """What the API refuses, it refuses in JSON."""
    try:
        return await handler(request)
    except web.HTTPError as error:
        if not request.path.startswith(API):
            raise
        return refused(error.status, error.reason, allow=error.headers.get("Allow"))


def refused(status: int, why: str, *, allow: str | None = None) -> web.Response:
    """An answer of the API that says nothing but why there is no other."""
    headers = {"Cache-Control": "no-store"} | ({"Allow": allow} if allow else {})
    return web.json_response({"error": why}, status=status, headers=headers)


@web.middleware
async def _bounded(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """A body is there before it is asked for, if it is not too large and does not take too long."""
    if request.can_read_body:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                await request.read()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error
        except ConnectionError as error:
            raise web.HTTPBadRequest from error  # which nobody hears: the client is gone
    return await handler(request)


def _exposed(metrics: Texts) -> _Handler:
    async def exposed(_: web.Request) -> web.Response:
        parts = []
        for text in metrics():
            parts.append(text)
            await asyncio.sleep(0)  # those of hundreds of targets take tens of milliseconds
        return web.Response(body="".join(parts).encode(), headers={"Content-Type": CONTENT_TYPE})

    return exposed


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readiness(not_ready: Ready) -> _Handler:
    async def ready(_: web.Request) -> web.Response:
        missing = not_ready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    return ready
