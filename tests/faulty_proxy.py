"""A bad way to an API server: a proxy that ends TLS and, for a seeded share of the requests, drops them, delays them, cuts
their answers, or answers 500 or 429 itself. Watches are streamed and exec sessions are requests too.

It has an authority of its own, which the kubeconfig that it writes names; who asks is told to the API server as it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration
from yarl import URL

from chaosd.cluster.kubernetes.client import load_configuration
from tests.tls_server import HOST, Authority, server_context

# What happens to a request. Before it is passed on: no answer (`drop`), or one of the proxy's own. After it was done: its
# answer is lost, or ends in the middle; a watch and an exec session end after a while.
FAULTS = ("drop", "lose", "delay", "cut", "500", "429")
_LATE_SECONDS = (0.5, 3.0)
_LONG_SECONDS = (0.0, 20.0)
_RETRY_AFTER_SECONDS = 1
_LONGEST_LINE_BYTES = 1 << 20  # the probe's program is in the URL of its exec
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length"}
_NO_LIMIT = aiohttp.ClientTimeout(total=None, sock_connect=10)


class FaultyProxy:
    """A proxy before the API server that a kubeconfig names. `faults` counts what was done; `requests` how many came."""

    def __init__(self, kubeconfig: Path, folder: Path, seed: int, rate: float) -> None:
        self.kubeconfig = folder / "proxy.kubeconfig"
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._rng = random.Random(seed)
        self._rate = rate
        self._folder = folder
        self._given = kubeconfig

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve on a port of loopback's, and write the kubeconfig that leads there."""
        configuration = await load_configuration(self._given, None)
        self._upstream = configuration.host.rstrip("/")
        connector = aiohttp.TCPConnector(ssl=_upstream_context(configuration), limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=_NO_LIMIT, auto_decompress=False) as self._session:
            application = web.Application(client_max_size=1 << 24)
            application.router.add_route("*", "/{path:.*}", self._handle)
            options = {"handler_cancellation": True, "access_log": None, "max_line_size": _LONGEST_LINE_BYTES}
            runner = web.AppRunner(application, shutdown_timeout=0.1, **options)
            await runner.setup()
            authority = Authority(self._folder, "proxy")
            await web.TCPSite(runner, HOST, 0, ssl_context=server_context(authority.issue())).start()
            here = {"server": f"https://{HOST}:{runner.addresses[0][1]}", "certificate-authority": str(authority.file)}
            self.kubeconfig.write_text(json.dumps(_with_cluster(yaml.safe_load(self._given.read_text()), here)))
            try:
                yield
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fault = self._rng.choice(FAULTS) if self._rng.random() < self._rate else ""
        if fault:
            self.faults[fault] += 1
        if fault == "drop":
            return _broken(request)
        if fault in ("500", "429"):
            return _refusal(int(fault))
        if fault == "delay":
            await asyncio.sleep(self._rng.uniform(*_LATE_SECONDS))
        is_long = "watch" in request.query or request.headers.get("Upgrade", "").lower() == "websocket"
        passed = self._session_of(request) if "Upgrade" in request.headers else self._answer(request, fault)
        if not is_long or fault not in ("cut", "lose"):
            return await passed
        try:
            return await asyncio.wait_for(passed, self._rng.uniform(*_LONG_SECONDS))
        except TimeoutError:
            return _broken(request)

    async def _answer(self, request: web.Request, fault: str) -> web.StreamResponse:
        """What the API server answers, as it comes; where a fault says so, not to its end."""
        asked = self._session.request(
            request.method,
            self._url(request),
            headers=_forwarded(request.headers),
            data=await request.read() or None,
            skip_auto_headers=("Content-Type",),
        )
        async with asked as found:
            if "watch" not in request.query:
                return await self._whole(request, found, fault)
            answer = web.StreamResponse(status=found.status, headers=_forwarded(found.headers))
            await answer.prepare(request)
            async for piece in found.content.iter_any():
                await answer.write(piece)
            return answer

    async def _whole(self, request: web.Request, found: aiohttp.ClientResponse, fault: str) -> web.StreamResponse:
        body = await found.read()
        if fault == "lose":
            return _broken(request)
        if fault != "cut" or len(body) < 2:
            return web.Response(status=found.status, headers=_forwarded(found.headers), body=body)
        answer = web.StreamResponse(status=found.status, headers=_forwarded(found.headers))
        answer.content_length = len(body)
        await answer.prepare(request)
        await answer.write(body[: self._rng.randrange(1, len(body))])
        return _broken(request)

    async def _session_of(self, request: web.Request) -> web.StreamResponse:
        """A websocket, both ways."""
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        headers = {key: value for key, value in _forwarded(request.headers).items() if not key.startswith("Sec-WebSocket")}
        try:
            there = await self._session.ws_connect(
                self._url(request), headers=headers, protocols=offered, max_msg_size=0, autoclose=False
            )
        except aiohttp.WSServerHandshakeError as error:
            return _refusal(error.status)
        async with there:
            here = web.WebSocketResponse(protocols=(there.protocol or "",), max_msg_size=0)
            await here.prepare(request)
            ways = [asyncio.ensure_future(_passed(*way)) for way in ((here, there), (there, here))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            await here.close()
            return here

    def _url(self, request: web.Request) -> URL:
        return URL(f"{self._upstream}{request.raw_path}", encoded=True)


@contextmanager
def faulty_proxy(kubeconfig: Path, folder: Path, *, seed: int, rate: float = 0.2) -> Iterator[FaultyProxy]:
    """One that serves in a thread of its own until the context ends."""
    proxy, loop = FaultyProxy(kubeconfig, folder, seed, rate), asyncio.new_event_loop()
    ready, ended = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with proxy.serving():
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(180), "the proxy did not start"
        yield proxy
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(180)
        loop.close()


async def _passed(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    async for message in source:
        await sink.send_bytes(message.data)


def _broken(request: web.Request) -> web.StreamResponse:
    """Nothing more on this connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refusal(code: int) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "the way is bad", "code": code}
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if code == 429 else {}
    return web.json_response(status, status=code, headers=headers)


def _forwarded(headers: Any) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _HOP_BY_HOP}


def _with_cluster(document: Any, cluster: dict[str, str]) -> Any:
    """A kubeconfig whose contexts lead to this cluster, as whoever they led there."""
    return {**document, "clusters": [{**one, "cluster": cluster} for one in document["clusters"]]}


def _upstream_context(configuration: Configuration) -> ssl.SSLContext:
    """What the API server is known by; and who has a certificate, too."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context
