"""A daemon's gate, asked from afar: what is answered, what is waited for, and what is given up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from chaosd import remote_gate
from chaosd.daemon import gates
from chaosd.errors import AbortedError, DeadlineError, UsageError
from chaosd.remote_gate import Remote
from chaosd.report.gate import GateStatus
from chaosd.run import Ending
from chaosd.server import serving
from tests.chaosd_process import chaosd
from tests.daemon.test_gates import Daemon
from tests.ports import free_port
from tests.report.test_gate import ENDED, KNOWN, VERDICT
from tests.tls_server import HOST, UNTRUSTED, Authority, Untrusted, serving_tls


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_gate, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(remote_gate, "_LEADER_SECONDS", 120.0)


@asynccontextmanager
async def _served(daemon: Daemon, certificate: trustme.LeafCert | None = None) -> AsyncIterator[str]:
    async with _serving(certificate, gates.routes(lambda: daemon.known, lambda: daemon.now)) as address:
        yield address


def _serving(certificate: trustme.LeafCert | None, routes: Iterable[web.RouteDef]) -> AbstractAsyncContextManager[str]:
    """Over TLS where there is a certificate, as an ingress before a daemon does."""
    return serving_tls(certificate, routes) if certificate else serving("127.0.0.1:0", routes)


async def _ask(remote: Remote, wait_seconds: float | None = None, heard: list[str] | None = None) -> GateStatus:
    tell = (heard if heard is not None else []).append
    return await asyncio.wait_for(remote_gate.ask(remote, Ending(), tell, wait_seconds), 300)


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("unknown", 3)])
async def test_the_code_is_that_of_the_last_run(verdict: str, code: int) -> None:
    daemon = Daemon({"nightly": replace(KNOWN, verdict=VERDICT | {"verdict": verdict}), "soak": None})
    async with _served(daemon) as url:
        for name in ("nightly", ""):  # which is the only one
            assert (await _ask(Remote(url, name))).exit_code == code
        assert (await _ask(Remote(f"{url}/", "nightly", max_age="59m"))).exit_code == 3  # it is an hour old


async def test_with_an_age_a_young_verdict_is_not_waited_for_and_an_old_one_is() -> None:
    daemon = Daemon()
    async with _served(daemon) as url:
        assert (await _ask(Remote(url, max_age="2h"), 120)).last.run == "R"  # type: ignore[union-attr]
        heard: list[str] = []
        waiting = asyncio.create_task(_ask(Remote(url, max_age="59m"), 120, heard))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        daemon.known = {
            "nightly": replace(KNOWN, verdict=VERDICT | {"run": "S", "verdict": "fail", "ended_at": daemon.now})
        }
        found = await waiting
        assert (found.exit_code, found.last.run) == (1, "S")  # type: ignore[union-attr]
        assert "no more than 59 min is allowed" in heard[0]


async def test_without_an_age_a_run_is_waited_for_that_began_after_it_was_asked() -> None:
    daemon = Daemon()
    async with _served(daemon) as url:
        heard: list[str] = []
        waiting = asyncio.create_task(_ask(Remote(url), 120, heard))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        begun_before = VERDICT | {"run": "S", "started_at": daemon.now - 1, "ended_at": daemon.now + 5}
        daemon.known = {"nightly": replace(KNOWN, verdict=begun_before)}
        daemon.now += 10
        await asyncio.sleep(0.3)
        assert not waiting.done()
        daemon.known = {
            "nightly": replace(KNOWN, verdict=VERDICT | {"run": "T", "started_at": daemon.now, "ended_at": daemon.now})
        }
        assert (await waiting).last.run == "T"  # type: ignore[union-attr]


async def test_no_verdict_in_time_is_a_deadline_that_says_what_is_missing() -> None:
    async with _served(Daemon()) as url:
        with pytest.raises(DeadlineError, match=r"no verdict that counts came for 0\.2 s: run R ended 1 h ago"):
            await _ask(Remote(url, max_age="1m"), 0.2)


async def test_one_that_leads_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Daemon(None)
    async with _served(daemon) as url:
        heard: list[str] = []
        asking = asyncio.create_task(_ask(Remote(url), None, heard))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        daemon.known = {"nightly": KNOWN}
        assert (await asking).passed
        daemon.known = None
        monkeypatch.setattr(remote_gate, "_LEADER_SECONDS", 1.0)
        with pytest.raises(DeadlineError, match="no daemon that leads answered"):
            await _ask(Remote(url))


async def test_one_that_goes_away_while_it_is_waited_for_may_come_back() -> None:
    daemon, heard, listen = Daemon(), list[str](), f"127.0.0.1:{free_port()}"
    routes = gates.routes(lambda: daemon.known, lambda: daemon.now)
    async with serving(listen, routes) as url:
        waiting = asyncio.create_task(_ask(Remote(url, max_age="1m"), 120, heard))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    while not any("does not answer" in line for line in heard):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    daemon.now = ENDED
    async with serving(listen, routes):
        assert (await waiting).passed


async def test_what_stands_before_it_and_answers_500_for_a_while_is_waited_for(tmp_path: Path) -> None:
    authority, daemon, heard, broken = Authority(tmp_path), Daemon(), list[str](), asyncio.Event()
    routes = gates.routes(lambda: daemon.known, lambda: daemon.now)

    def breaking(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            return web.Response(status=500) if broken.is_set() else await handler(request)

        return handle

    async with serving_tls(authority.issue(), [web.get(route.path, breaking(route.handler)) for route in routes]) as url:
        waiting = asyncio.create_task(_ask(Remote(url, max_age="1m", ca_file=authority.file), 120, heard))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        broken.set()
        while not any("answers 500 Internal Server Error" in line for line in heard):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        daemon.now = ENDED
        broken.clear()
        assert (await waiting).passed


async def test_a_signal_ends_the_waiting() -> None:
    async with _served(Daemon()) as url:
        ending, heard = Ending(), list[str]()
        waiting = asyncio.create_task(remote_gate.ask(Remote(url, max_age="1m"), ending, heard.append, 60))
        while not heard:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        ending.because("ended by SIGTERM")
        with pytest.raises(AbortedError, match="ended by SIGTERM"):
            await asyncio.wait_for(waiting, 120)


@asynccontextmanager
async def _answering(
    answer: web.Response, certificate: trustme.LeafCert | None = None, after_seconds: float = 0
) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that is none of chaosd, and what it was asked."""
    asked: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request)
        await asyncio.sleep(after_seconds)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async with _serving(certificate, [web.get("/{any:.*}", handle)]) as url:
        yield url, asked


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (web.Response(text="hello"), "answers 200: it is no daemon of chaosd"),
        (web.Response(text="[]"), "it is no daemon of chaosd"),
        (web.Response(status=404), "answers 404: it is no daemon of chaosd"),
        (web.Response(status=401), "give a token that it takes with --token-file"),
        (
            web.Response(status=302, headers={"Location": "http://elsewhere.example/"}),
            "redirects to http://elsewhere.example/",
        ),
        (web.Response(status=500, text="oops"), "answers 500 Internal Server Error: name a daemon that is there"),
        (web.Response(status=502, text="bad gateway"), "answers 502 Bad Gateway: name a daemon that is there"),
        (web.json_response({"schema_version": 2}), "tells of a gate what this chaosd does not know"),
    ],
)
async def test_what_waiting_does_not_mend_is_a_usage_error(answer: web.Response, why: str) -> None:
    async with _answering(answer) as (url, _):
        for wait_seconds in (None, 10.0):
            with pytest.raises(UsageError, match=why):
                await _ask(Remote(url, "nightly"), wait_seconds)


@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_token_goes_to_the_daemon_and_not_where_that_redirects_to(tmp_path: Path, over_tls: bool) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue() if over_tls else None
    async with _answering(web.Response(status=401)) as (elsewhere, leaked):
        redirect = web.Response(status=307, headers={"Location": elsewhere})
        async with _answering(redirect, certificate) as (url, asked):
            with pytest.raises(UsageError, match=f"redirects to {elsewhere}: name that, if it is the daemon"):
                await _ask(Remote(url, "nightly", token="hunter2", ca_file=authority.file))
        assert [one.headers["Authorization"] for one in asked] == ["Bearer hunter2"]
        assert leaked == []


async def test_a_gate_that_is_not_there_or_not_named_among_several_is_a_usage_error(tmp_path: Path) -> None:
    async with _served(Daemon({name: replace(KNOWN, name=name) for name in ("one", "two")})) as url:
        with pytest.raises(UsageError, match="there is no gate three: there are one, two"):
            await _ask(Remote(url, "three"))
        with pytest.raises(UsageError, match=r"has 2 gates \(one, two\): choose one with --name"):
            await _ask(Remote(url))
        with pytest.raises(UsageError, match="max_age: 'soon' is no duration"):
            await _ask(Remote(url, "one", max_age="soon"))
        with pytest.raises(UsageError, match="No such file"):
            await _ask(Remote(url, "one", ca_file=tmp_path / "none"))


@pytest.mark.parametrize("url", ["chaosd:9187", "ftp://chaosd", "http://", "http://chaosd:99999", "http://chaosd?x=1", ""])
async def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="such as http://chaosd:9187"):
        await _ask(Remote(url, "nightly"))


async def test_nobody_at_the_address_is_a_usage_error_at_once() -> None:
    async with _served(Daemon()) as url:
        pass
    with pytest.raises(UsageError, match="does not answer"):
        await _ask(Remote(url, "nightly"), 60)


@pytest.mark.parametrize("untrusted", UNTRUSTED.values(), ids=UNTRUSTED)
async def test_a_server_that_cannot_be_trusted_is_sent_nothing(tmp_path: Path, untrusted: Untrusted) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    named = authority if untrusted.names_its_authority else other
    certificate = authority.issue(untrusted.name, age=untrusted.age)
    async with _answering(web.Response(status=401), certificate) as (address, asked):
        url = address.replace(HOST, untrusted.host)
        for wait_seconds in (None, 10.0):
            with pytest.raises(UsageError, match=f"^{url}/api/gate/nightly: {untrusted.why}"):
                await _ask(Remote(url, "nightly", token="hunter2", ca_file=named.file), wait_seconds)
    assert asked == []


@pytest.mark.parametrize("shakes_hands", [True, False])
async def test_one_that_hangs_over_tls_is_a_usage_error_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shakes_hands: bool
) -> None:
    monkeypatch.setattr(remote_gate, "_ANSWER_SECONDS", 2.0)
    authority = Authority(tmp_path)
    async with _answering(web.Response(), authority.issue(), after_seconds=60) as (url, asked):
        with socket.create_server(("127.0.0.1", 0)) as silent:  # which accepts connections, and says nothing
            address = url if shakes_hands else f"https://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(UsageError, match="does not answer within 2 s: name a daemon that is there with --remote"):
                await _ask(Remote(address, "nightly", ca_file=authority.file))
    assert len(asked) == shakes_hands


async def test_a_later_daemon_may_tell_more() -> None:
    async with _served(Daemon()) as url:
        told = (await _ask(Remote(url))).model_dump() | {"news": 1}
    async with _answering(web.json_response(told)) as (url, _):
        assert (await _ask(Remote(url, "nightly"))).passed


async def test_the_command_ends_with_the_code_and_says_why(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    async with _served(Daemon()) as url:
        for max_age, code, said in (
            ("2h", 0, "gate nightly: pass (run R"),
            ("1m", 3, "gate nightly: unknown: run R ended 1 h ago"),
        ):
            words = ("gate", "--remote", url, "--max-age", max_age, "--token-file", token)
            process = await asyncio.to_thread(chaosd, *words, timeout_seconds=100)
            assert (process.code, said in process.told) == (code, True), process.told


async def test_the_command_trusts_the_authority_that_is_named_or_that_of_the_system(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    environment = {"SSL_CERT_FILE": str(authority.file)}
    async with _served(Daemon(), authority.issue()) as url:
        for option, env, code, said in (
            (("--ca-file", authority.file), {}, 0, "gate nightly: pass (run R"),
            ((), environment, 0, "gate nightly: pass (run R"),
            ((), {}, 2, "its certificate is of no authority that is trusted"),
            (("--ca-file", other.file), environment, 2, "name that with --ca-file"),  # what is named is trusted alone
        ):
            words = ("gate", "--remote", url, "--max-age", "2h", *option)
            process = await asyncio.to_thread(chaosd, *words, env=env, timeout_seconds=100)
            assert (process.code, said in process.told) == (code, True), process.told
