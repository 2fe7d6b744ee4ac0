"""The HTTP API as it is documented: valid, whole, and what a daemon really answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from chaosd import openapi, server
from chaosd.daemon import gates
from chaosd.errors import ChaosdError, RightsError, TargetError
from chaosd.report.gate import Known
from chaosd.status import feed as feeds
from chaosd.status import switch
from chaosd.status.feed import Feed
from chaosd.status.routes import routes as status_routes
from tests.report.test_gate import ENDED, KNOWN, VERDICT
from tests.status.statuses import status

FILE = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"
DOCUMENT: Any = json.loads(openapi.document())
TOKEN = "a token of many characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TARGET = json.dumps({"target": "default/web"})


def test_the_committed_document_is_that_of_the_code() -> None:
    assert FILE.read_text() == openapi.document(), "make schema"


def test_it_is_a_valid_document() -> None:
    validate(DOCUMENT)


@dataclass
class Daemon:
    """What is served, and what stands in the way of it."""

    missing: str = ""
    known: Mapping[str, Known | None] | None = field(default_factory=lambda: {"nightly": KNOWN})
    error: ChaosdError | None = None

    async def throw(self, target: str, paused: bool) -> str:
        if self.error:
            raise self.error
        return f"{target} {paused}"

    def routes(self, folder: Path) -> list[web.RouteDef]:
        (folder / "token").write_text(TOKEN)
        return [
            *server.own_routes(lambda: iter(("chaosd_targets 1\n",)), lambda: self.missing),
            *gates.routes(lambda: self.known, lambda: ENDED + 60),
            *status_routes(Feed(lambda at: status())),
            *switch.routes(switch.Token(folder / "token"), self.throw),
        ]


def test_every_route_is_documented_and_no_other(tmp_path: Path) -> None:
    served = {(route.path, route.method.lower()) for route in Daemon().routes(tmp_path)}
    documented = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert documented == served


@dataclass
class Case:
    """A request, and the answer that it is documented to get."""

    path: str  # as documented
    code: int
    asked: str = ""  # where it is another
    method: str = "get"
    daemon: Daemon = field(default_factory=Daemon)
    more: dict[str, Any] = field(default_factory=dict)


def _failed() -> Daemon:
    return Daemon(known={"nightly": replace(KNOWN, verdict=VERDICT | {"verdict": "fail"})})


def _cases() -> Iterator[Case]:
    for path in (
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/gate",
        "/api/status",
        "/",
        "/status/page.css",
        "/status/page.js",
        "/events",
    ):
        yield Case(path, 200)
    yield Case("/readyz", 503, daemon=Daemon(missing="no round has begun"))
    yield Case("/api/gate", 400, "/api/gate?max_age=soon")
    yield Case("/api/gate", 503, daemon=Daemon(known=None))
    one = "/api/gate/{name}"
    yield Case(one, 200, "/api/gate/nightly?max_age=1h")
    yield Case(one, 304, "/api/gate/nightly", more={"headers": {"If-None-Match": "*"}})
    yield Case(one, 400, "/api/gate/nightly?maxage=1h")
    yield Case(one, 404, "/api/gate/weekly")
    yield Case(one, 503, "/api/gate/nightly", daemon=_failed())
    yield Case(one, 503, "/api/gate/nightly", daemon=Daemon(known=None))
    yield Case("/events", 503, more={"full": True})
    for path in ("/api/pause", "/api/resume"):
        yield from _of_switch(path, lambda token: {"headers": {"Authorization": f"Bearer {token}"}, "data": TARGET})
    yield from _of_switch("/pause", lambda token: {"data": {"token": token, "target": "default/web", "action": "pause"}})


def _of_switch(path: str, asked: Callable[[str], dict[str, Any]]) -> Iterator[Case]:
    yield Case(path, 200, method="post", more=asked(TOKEN))
    bad = (
        {"data": {"token": TOKEN, "target": "default/web", "action": "dance"}}
        if path == "/pause"
        else {"headers": BEARER, "data": "[]"}
    )
    yield Case(path, 400, method="post", more=bad)
    yield Case(path, 401, method="post", more=asked("another"))
    yield Case(path, 413, method="post", more={"headers": BEARER, "data": "x" * (server.MAX_BODY_BYTES + 1)})
    for error, code in ((RightsError("x"), 403), (TargetError("x"), 404), (ChaosdError("x"), 503)):
        yield Case(path, code, method="post", daemon=Daemon(error=error), more=asked(TOKEN))


CASES = list(_cases())


@asynccontextmanager
async def _answered(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[aiohttp.ClientResponse]:
    if case.more.pop("full", False):
        monkeypatch.setattr(feeds, "MOST_STREAMS", 0)
    async with (
        server.serving("127.0.0.1:0", case.daemon.routes(folder)) as address,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client,
        client.request(case.method, f"{address}{case.asked or case.path}", **case.more) as answer,
    ):
        yield answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.path} {case.code}")
async def test_each_documented_answer_is_given_as_it_is_documented(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = DOCUMENT["paths"][case.path][case.method]["responses"][str(case.code)]
    async with _answered(case, tmp_path, monkeypatch) as answer:
        assert answer.status == case.code
        assert all(name in answer.headers for name in documented.get("headers", {}))
        if "content" not in documented:
            assert await answer.read() == b""
            return
        [(kind, told)] = documented["content"].items()
        assert answer.content_type == kind
        if kind == "application/json":
            schema = told["schema"] | {"components": DOCUMENT["components"]}
            OAS31Validator(schema).validate(await answer.json())


def test_every_documented_answer_has_a_case() -> None:
    documented = {
        (path, method, code)
        for path, methods in DOCUMENT["paths"].items()
        for method, told in methods.items()
        for code in told["responses"]
    }
    assert {(case.path, case.method, str(case.code)) for case in CASES} == documented
