"""What is served of the status: the page, what it loads, its events, and the same as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from chaosd.status.feed import Feed, FullError
from chaosd.status.page import script, style

_AGAIN_SECONDS = 10
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Nothing is loaded from elsewhere, nothing is run but the one script, and nobody shows the page within another.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def routes(feed: Feed) -> list[web.RouteDef]:
    """They only tell; nothing can be changed by them."""
    return [
        web.get("/", _page(feed)),
        web.get("/status/page.css", _text(style(), "text/css")),
        web.get("/status/page.js", _text(script(), "text/javascript")),
        web.get("/api/status", _document(feed)),
        web.get("/events", _events(feed), allow_head=False),
    ]


def html(text: str, status: int = 200) -> web.Response:
    """An answer for people."""
    return web.Response(text=text, content_type="text/html", status=status, headers=HEADERS)


def _page(feed: Feed) -> _Handler:
    async def page(_: web.Request) -> web.Response:
        return html(feed.page())

    return page


def _document(feed: Feed) -> _Handler:
    async def document(_: web.Request) -> web.Response:
        return web.Response(text=feed.look().as_json(), content_type="application/json", headers=HEADERS)

    return document


def _text(text: str, content_type: str) -> _Handler:
    async def told(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers={**HEADERS, "Cache-Control": "no-cache"})

    return told


def _events(feed: Feed) -> _Handler:
    async def events(request: web.Request) -> web.StreamResponse:
        known = request.headers.get("Last-Event-ID") or request.query.get("since", "")
        try:
            with feed.place():
                return await _streamed(request, feed, known)
        except FullError:
            more = {"Retry-After": str(_AGAIN_SECONDS)}
            return web.Response(text="too many watch already\n", status=503, headers={**HEADERS, **more})

    return events


async def _streamed(request: web.Request, feed: Feed, known: str) -> web.StreamResponse:
    feed.look()  # one that fails is answered so, before a stream begins
    answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
    await answer.prepare(request)
    try:
        async for event in feed.events(known):
            await answer.write(event)
    except ConnectionError:
        pass  # it has left, or took nothing for so long that the server closed it
    return answer
