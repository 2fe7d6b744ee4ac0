"""Pausing and resuming targets over HTTP, for whoever has the token: the kill switch, thrown from afar.

The token comes with each request, in its Authorization header or, of the page's form, in its body. There are no cookies, so
no other site can have a browser send what it does not know; what a browser says comes from another site is refused before
that.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

from chaosd.errors import ChaosdError, RightsError, TargetError, UsageError
from chaosd.status.page import answer
from chaosd.status.routes import HEADERS, html

Throw = Callable[[str, bool], Awaitable[str]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LEAST_LENGTH = 16
_ACTIONS: Mapping[str, bool] = {"pause": True, "resume": False}
_SAME_SITE = ("same-origin", "none")


class _RefusedError(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Token:
    """What a file says now: it may be changed while the daemon runs."""

    def __init__(self, file: Path) -> None:
        """Raises UsageError where it cannot be used."""
        self._file = file
        self._read()

    def is_known(self, given: str) -> bool:
        """Whether it is the token. Raises UsageError."""
        return hmac.compare_digest(given.encode(errors="backslashreplace"), self._read().encode())

    def _read(self) -> str:
        try:
            token = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the token to pause with cannot be read: {error}: name a file of text that is there"
            ) from error
        if len(token) < _LEAST_LENGTH:
            raise UsageError(
                f"{self._file}: a token of {len(token)} characters can be guessed: give {_LEAST_LENGTH} or more"
            )
        return token


def routes(token: Token, throw: Throw) -> list[web.RouteDef]:
    """`throw` pauses a target (NAMESPACE/STATEFULSET) or resumes it, and says what is so now; it raises TargetError for one
    that it does not know, RightsError, ChaosdError."""
    api = [web.post(f"/api/{action}", _by_api(token, throw, paused)) for action, paused in _ACTIONS.items()]
    return [*api, web.post("/pause", _by_form(token, throw))]


def _by_api(token: Token, throw: Throw, paused: bool) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            kind, _, given = request.headers.get("Authorization", "").partition(" ")
            _let_in(request, token, given.strip() if kind.lower() == "bearer" else "")
            return _json(200, {"told": await _thrown(throw, _target(await request.read()), paused)})
        except _RefusedError as refused:
            return _json(refused.status, {"error": str(refused)})

    return handle


def _by_form(token: Token, throw: Throw) -> _Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            fields = parse_qs((await request.read()).decode(errors="replace"))
            token_given, target, action = (fields.get(name, [""])[0] for name in ("token", "target", "action"))
            _let_in(request, token, token_given)
            return html(answer("Done", await _thrown(throw, target, _paused(action))))
        except _RefusedError as refused:
            return html(answer("Refused", str(refused)), refused.status)

    return handle


def _paused(action: str) -> bool:
    if action not in _ACTIONS:
        raise _RefusedError(400, f"action is one of {', '.join(_ACTIONS)}")
    return _ACTIONS[action]


def _let_in(request: web.Request, token: Token, given: str) -> None:
    if request.headers.get("Sec-Fetch-Site", "none") not in _SAME_SITE:
        raise _RefusedError(403, "another site asked for it")
    try:
        is_known = token.is_known(given)
    except UsageError as error:
        raise _RefusedError(503, str(error)) from error
    if not is_known:
        raise _RefusedError(401, "that is not the token" if given else "the token is missing")


def _target(body: bytes) -> str:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, f"the body is no JSON: {error}") from error
    if not isinstance(told, dict) or told.keys() != {"target"} or not isinstance(told["target"], str):
        raise _RefusedError(400, 'the body names a target and nothing else: {"target": "NAMESPACE/STATEFULSET"}')
    return told["target"]


async def _thrown(throw: Throw, target: str, paused: bool) -> str:
    try:
        return await throw(target, paused)
    except TargetError as error:
        raise _RefusedError(404, str(error)) from error
    except RightsError as error:
        raise _RefusedError(403, str(error)) from error
    except ChaosdError as error:
        raise _RefusedError(503, str(error)) from error


def _json(status: int, told: Mapping[str, str]) -> web.Response:
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response(told, status=status, headers={**HEADERS, **more})
