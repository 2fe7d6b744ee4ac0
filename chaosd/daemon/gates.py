"""The API of scheduled gates: `GET /api/gate` and `GET /api/gate/NAME`. It only tells; nothing can be changed by it.

An answer is 200 where the gate passes and 503 where it does not, so that a pipeline needs no more than the status. Its ETag
is of what lasts, without the age, and whether it passes is a part of that: a pass that became too old since is told in
full, and only a 200 is ever answered by 304 (RFC 9110, 13.2.1).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import ETag, web

from chaosd.quantities import parse_seconds
from chaosd.report.gate import Gates, GateStatus, Known, status
from chaosd.server import API, refused

Found = Callable[[], Mapping[str, Known | None] | None]
_Handler = Callable[[web.Request], Awaitable[web.Response]]
_MAX_AGE = "max_age"
_AGAIN_SECONDS = 5


def routes(found: Found, clock: Callable[[], float] = time.time) -> Sequence[web.RouteDef]:
    """`found` gives what is known of each experiment as a gate, None of those that are none; None while nothing is."""

    async def all_of_them(request: web.Request) -> web.Response:
        max_age, known = _max_age(request), found()
        if known is None:
            return _not_known()
        now = clock()
        listed = [status(gate, now, max_age) for _, gate in sorted(known.items()) if gate]
        return _answer(Gates(gates=tuple(listed)).as_json())

    async def one(request: web.Request) -> web.Response:
        max_age, known, name = _max_age(request), found(), request.match_info["name"]
        if known is None:
            return _not_known()
        if gate := known.get(name):
            return _stands(request, status(gate, clock(), max_age))
        if name in known:
            return refused(404, f"{name} is an experiment and no gate: give it a schedule, and say what it requires")
        return refused(404, f"there is no gate {name}: there are {', '.join(sorted(filter(known.get, known))) or 'none'}")

    return [web.get(f"{API}gate", all_of_them), web.get(f"{API}gate/{{name}}", one)]


def _max_age(request: web.Request) -> float | None:
    """Seconds. Raises HTTPBadRequest, also for a parameter that there is not: an age that is not heeded would pass what is
    too old."""
    given = request.query
    if unknown := set(given) - {_MAX_AGE}:
        raise web.HTTPBadRequest(reason=f"there is no parameter {min(unknown)!r}: there is {_MAX_AGE}, such as 24h")
    if len(asked := given.getall(_MAX_AGE, [])) > 1:
        raise web.HTTPBadRequest(reason=f"{_MAX_AGE} is given {len(asked)} times: give it once")
    try:
        return parse_seconds(asked[0]) if asked else None
    except ValueError as error:
        raise web.HTTPBadRequest(reason=f"{_MAX_AGE}: {error}") from error


def _not_known() -> web.Response:
    """Of a daemon that leads since a moment ago, or follows another."""
    answer = refused(503, "this daemon does not lead, or has not read its experiments yet: ask again")
    answer.headers["Retry-After"] = str(_AGAIN_SECONDS)
    return answer


def _stands(request: web.Request, gate: GateStatus) -> web.Response:
    if not gate.passed:
        return _answer(gate.as_json(), 503)
    tag = ETag(hashlib.sha256(gate.lasting().encode()).hexdigest()[:32], is_weak=True)
    known = {one.value for one in request.if_none_match or ()} & {tag.value, "*"}
    answer = _answer("", 304) if known else _answer(gate.as_json())
    answer.etag = tag
    return answer


def _answer(text: str, code: int = 200) -> web.Response:
    """Caches may keep it, and ask each time whether it still holds."""
    answer = web.Response(status=code, headers={"Cache-Control": "no-cache"})
    if text:
        answer.content_type, answer.text = "application/json", text
    return answer
