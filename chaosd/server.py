"""The daemon's HTTP server: routes that are given to it, and its own, `/metrics`, `/healthz`, `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

from aiohttp import web

from chaosd.errors import UsageError
from chaosd.exposition import CONTENT_TYPE

Ready = Callable[[], str]
Texts = Callable[[], Iterator[str]]


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
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await _listening(runner, host.strip("[]") or "127.0.0.1", int(port), listen)
        bound = runner.addresses[0]
        yield f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


async def _listening(runner: web.AppRunner, host: str, port: int, listen: str) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UsageError(f"cannot listen on {listen}: {error}: give --listen HOST:PORT") from error


def _exposed(metrics: Texts) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def exposed(_: web.Request) -> web.Response:
        parts = []
        for text in metrics():
            parts.append(text)
            await asyncio.sleep(0)  # those of hundreds of targets take tens of milliseconds
        return web.Response(body="".join(parts).encode(), headers={"Content-Type": CONTENT_TYPE})

    return exposed


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _readiness(not_ready: Ready) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def ready(_: web.Request) -> web.Response:
        missing = not_ready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    return ready
