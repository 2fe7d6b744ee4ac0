"""The API of gates, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from chaosd.daemon import gates
from chaosd.report.gate import Known
from chaosd.server import MAX_BODY_BYTES, serving
from tests.report.test_gate import ENDED, KNOWN, VERDICT


@dataclass
class Daemon:
    """What a daemon knows, and its clock."""

    known: Mapping[str, Known | None] | None = field(default_factory=lambda: {"nightly": KNOWN, "soak": None})
    now: float = ENDED + 3600


@dataclass
class Answer:
    """Of the API."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def body(self) -> Any:
        """From its JSON."""
        assert self.headers["Content-Type"].startswith("application/json")
        return json.loads(self.text)


class Client:
    """Who asks a daemon."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session, self._address = session, address

    async def __call__(self, path: str, method: str = "GET", **more: Any) -> Answer:
        async with self._session.request(method, f"{self._address}/api/gate{path}", **more) as answer:
            return Answer(answer.status, answer.headers, await answer.text())


@asynccontextmanager
async def asking(daemon: Daemon) -> AsyncIterator[Client]:
    routes = gates.routes(lambda: daemon.known, lambda: daemon.now)
    async with serving("127.0.0.1:0", routes) as address, aiohttp.ClientSession() as session:
        yield Client(session, address)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def ask(daemon: Daemon) -> AsyncIterator[Client]:
    async with asking(daemon) as client:
        yield client


async def test_a_gate_that_passes_is_200_and_any_other_503(daemon: Daemon, ask: Client) -> None:
    answer = await ask("/nightly")
    assert (answer.status, answer.body["passed"], answer.body["exit_code"]) == (200, True, 0)
    assert answer.body["last"]["age_seconds"] == 3600
    for verdict, code in (("fail", 1), ("unknown", 3)):
        daemon.known = {"nightly": replace(KNOWN, verdict=VERDICT | {"verdict": verdict})}
        answer = await ask("/nightly")
        assert (answer.status, answer.body["passed"], answer.body["exit_code"]) == (503, False, code)


@pytest.mark.parametrize(("max_age", "code"), [("1h", 200), ("59m", 503), ("3600s", 200), ("0s", 503)])
async def test_a_pass_that_is_older_than_asked_does_not_pass(ask: Client, max_age: str, code: int) -> None:
    assert (await ask(f"/nightly?max_age={max_age}")).status == code


@pytest.mark.parametrize(
    "query",
    ["max_age=", "max_age=soon", "max_age=-1h", "max_age=nan", "max_age=3600", "maxage=1h", "max_age=1h&max_age=2h"],
)
async def test_an_age_that_is_none_is_a_bad_request_and_never_overlooked(ask: Client, query: str) -> None:
    for path in (f"/nightly?{query}", f"?{query}"):
        answer = await ask(path)
        assert answer.status == 400
        assert "max_age" in answer.body["error"]


async def test_all_gates_are_listed_and_other_experiments_are_not(ask: Client) -> None:
    answer = await ask("?max_age=1m")
    assert answer.status == 200
    assert [(one["gate"], one["passed"]) for one in answer.body["gates"]] == [("nightly", False)]


async def test_what_is_no_gate_is_not_found_and_the_error_names_those_that_are(ask: Client) -> None:
    assert "there is no gate weekly: there are nightly" in (await ask("/weekly")).body["error"]
    assert "soak is an experiment and no gate" in (await ask("/soak")).body["error"]
    for path in ("/weekly", "/soak", "/", "/nightly/", "/nightly/more", "/%0d%0anightly"):
        answer = await ask(path)
        assert answer.status == 404
        assert answer.body["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_another_method_is_refused_with_those_that_are_allowed(ask: Client, method: str) -> None:
    for path in ("", "/nightly"):
        answer = await ask(path, method)
        assert (answer.status, set(answer.headers["Allow"].split(","))) == (405, {"GET", "HEAD"})
        assert answer.body["error"]


async def test_a_head_is_answered_as_a_get_without_its_body(ask: Client) -> None:
    answer = await ask("/nightly", "HEAD")
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_oversized_body_is_refused(ask: Client, chunked: bool) -> None:
    body = b"x" * (MAX_BODY_BYTES + 1)

    async def parts() -> AsyncIterator[bytes]:
        yield body

    answer = await ask("/nightly", data=parts() if chunked else body)
    assert answer.status == 413
    assert answer.body["error"]


async def test_who_has_the_answer_is_told_so_only_as_long_as_it_passes(daemon: Daemon, ask: Client) -> None:
    first = await ask("/nightly?max_age=2h")
    tag = {"If-None-Match": first.headers["ETag"]}
    daemon.now += 600
    again = await ask("/nightly?max_age=2h", headers=tag)
    assert (again.status, again.text, again.headers["ETag"]) == (304, "", first.headers["ETag"])
    daemon.now += 3600
    too_old = await ask("/nightly?max_age=2h", headers=tag)
    assert (too_old.status, too_old.body["passed"]) == (503, False)
    assert "ETag" not in too_old.headers
    assert (await ask("/nightly?max_age=2h", headers={"If-None-Match": "*"})).status == 503


async def test_another_verdict_is_told_to_who_has_the_last(daemon: Daemon, ask: Client) -> None:
    tag = {"If-None-Match": (await ask("/nightly")).headers["ETag"]}
    daemon.known = {"nightly": replace(KNOWN, verdict=VERDICT | {"run": "S"})}
    assert (await ask("/nightly", headers=tag)).body["last"]["run"] == "S"


async def test_caches_must_ask_each_time(ask: Client) -> None:
    for path in ("/nightly", "/nightly?max_age=1m", ""):
        assert (await ask(path)).headers["Cache-Control"] == "no-cache"


async def test_a_daemon_that_knows_nothing_yet_neither_passes_nor_denies_a_gate(daemon: Daemon, ask: Client) -> None:
    daemon.known = None
    for path in ("", "/nightly", "/weekly"):
        answer = await ask(path)
        assert answer.status == 503
        assert "does not lead" in answer.body["error"]
        assert answer.headers["Retry-After"] == "5"
