"""An API server that answers what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster

Answer = web.StreamResponse | dict[str, Any]
Handler = Callable[[web.Request], Awaitable[Answer]]


class ApiServer:
    """Answers each request by the next of its handlers for METHOD and PATH; the last one answers all that follow."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self._handlers: dict[tuple[str, str], list[Handler]] = {}

    def on(self, method: str, path: str, *handlers: Handler) -> None:
        """Set the answers for a path."""
        self._handlers[method, path] = list(handlers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.text() if request.method in ("POST", "PUT", "PATCH", "DELETE") else ""
        self.requests.append((request.method, request.path, dict(request.query), json.loads(body) if body else None))
        handlers = self._handlers.get((request.method, request.path))
        if not handlers:
            return status(404, "not found")
        handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
        answer = await handler(request)
        return web.json_response(answer) if isinstance(answer, dict) else answer


def status(code: int, message: str) -> web.Response:
    """A Status object, as the API server answers errors."""
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)


def says(answer: Answer) -> Handler:
    """A handler that always gives this answer."""

    async def handler(_: web.Request) -> Answer:
        return answer

    return handler


def refuses(code: int, message: str) -> Handler:
    """A handler that answers with an error."""

    async def handler(_: web.Request) -> Answer:
        return status(code, message)

    return handler


def streams(*pieces: bytes) -> Handler:
    """A handler that sends pieces as they are, and then ends the answer."""

    async def handler(request: web.Request) -> Answer:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handler


@asynccontextmanager
async def serving(server: ApiServer, folder: Path) -> AsyncIterator[KubernetesCluster]:
    """The adapter on this server, by a kubeconfig with a token."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = folder / "kubeconfig"
    host, port = runner.addresses[0][:2]
    config.write_text(json.dumps(kubeconfig(f"http://{host}:{port}")))
    cluster = await KubernetesCluster.open(kubeconfig=config, qps=1000, burst=1000)
    try:
        yield cluster
    finally:
        await cluster.close()
        await runner.cleanup()


def kubeconfig(server: str) -> dict[str, Any]:
    """A kubeconfig of one context."""
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


def pod(name: str, uid: str = "u1", version: str = "1", **spec: Any) -> dict[str, Any]:
    """A Pod's JSON."""
    meta = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version}
    return {"metadata": meta, "spec": {"containers": [], **spec}, "status": {"phase": "Running"}}


def page(*items: dict[str, Any], version: str = "10", more: str = "") -> dict[str, Any]:
    """One page of a list."""
    return {"metadata": {"resourceVersion": version, **({"continue": more} if more else {})}, "items": list(items)}


def event(kind: str, document: dict[str, Any]) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"
