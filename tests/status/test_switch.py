"""Pausing over HTTP: who may, and what is refused before anything is done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chaosd import server
from chaosd.errors import ChaosdError, NotReadyError, RightsError, TargetError, UnreachableError, UsageError
from chaosd.status import switch
from chaosd.status.feed import Feed
from chaosd.status.routes import routes as status_routes
from tests.status.statuses import status

TOKEN = "a token of many characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BODY = json.dumps({"target": "default/web"})


class _Cluster:
    """What was done; or why nothing is."""

    def __init__(self, error: ChaosdError | None = None) -> None:
        self.thrown: list[tuple[str, bool]] = []
        self.error = error

    async def throw(self, target: str, paused: bool) -> str:
        if self.error:
            raise self.error
        self.thrown.append((target, paused))
        return f"{target} <is> {'paused' if paused else 'not paused'}"


@asynccontextmanager
async def _served(cluster: _Cluster, folder: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    (folder / "token").write_text(f"{TOKEN}\n")
    routes = [
        *status_routes(Feed(lambda at: status())),
        *switch.routes(switch.Token(folder / "token"), cluster.throw),
    ]
    timeout = aiohttp.ClientTimeout(total=30)
    async with server.serving("127.0.0.1:0", routes) as address, aiohttp.ClientSession(timeout=timeout) as client:
        yield address, client


async def _post(folder: Path, path: str, cluster: _Cluster | None = None, **request: Any) -> tuple[int, str, Any]:
    async with (
        _served(cluster or _Cluster(), folder) as (address, client),
        client.post(f"{address}{path}", **request) as answer,
    ):
        return answer.status, await answer.text(), answer.headers


async def test_with_the_token_a_target_is_paused_and_resumed(tmp_path: Path) -> None:
    cluster = _Cluster()
    code, text, headers = await _post(tmp_path, "/api/pause", cluster, headers=BEARER, data=BODY)
    assert (code, json.loads(text)) == (200, {"told": "default/web <is> paused"})
    assert headers["Cache-Control"] == "no-store"
    assert (await _post(tmp_path, "/api/resume", cluster, headers=BEARER, data=BODY))[0] == 200
    assert cluster.thrown == [("default/web", True), ("default/web", False)]


async def test_the_form_does_the_same_and_its_answer_is_escaped(tmp_path: Path) -> None:
    cluster = _Cluster()
    form = {"target": "default/web", "token": TOKEN, "action": "pause"}
    code, text, headers = await _post(tmp_path, "/pause", cluster, data=form)
    assert code == 200
    assert "default/web &lt;is&gt; paused" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert (await _post(tmp_path, "/pause", cluster, data={**form, "action": "resume"}))[0] == 200
    assert cluster.thrown == [("default/web", True), ("default/web", False)]


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN]
)
async def test_without_the_token_nothing_is_done(tmp_path: Path, given: str) -> None:
    cluster = _Cluster()
    for path in ("/api/pause", "/api/resume"):
        code, _, headers = await _post(tmp_path, path, cluster, headers={"Authorization": given}, data=BODY)
        assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
    form = {"target": "default/web", "token": given, "action": "pause"}
    if given != TOKEN:
        assert (await _post(tmp_path, "/pause", cluster, data=form))[0] == 401
    assert cluster.thrown == []


async def test_what_another_site_has_a_browser_send_is_refused(tmp_path: Path) -> None:
    cluster = _Cluster()
    form = {"target": "default/web", "token": TOKEN, "action": "pause"}
    for site in ("cross-site", "same-site", "x"):
        headers = {"Sec-Fetch-Site": site}
        assert (await _post(tmp_path, "/pause", cluster, headers=headers, data=form))[0] == 403
        assert (await _post(tmp_path, "/api/pause", cluster, headers={**headers, **BEARER}, data=BODY))[0] == 403
    assert cluster.thrown == []
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert (await _post(tmp_path, "/pause", cluster, headers=headers, data=form))[0] == 200


@pytest.mark.parametrize("path", ["/api/pause", "/api/resume", "/pause"])
async def test_only_post_does_anything(tmp_path: Path, path: str) -> None:
    async with _served(_Cluster(), tmp_path) as (address, client):
        for method in ("GET", "PUT", "DELETE"):
            async with client.request(method, f"{address}{path}", headers=BEARER) as answer:
                assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "{}", '"default/web"', '{"target": 1}', '{"target": "a/b", "paused": true}', "[" * 4000, "\xff"],
)
async def test_a_body_that_names_no_target_is_refused(tmp_path: Path, body: str) -> None:
    cluster = _Cluster()
    assert (await _post(tmp_path, "/api/pause", cluster, headers=BEARER, data=body.encode("latin-1")))[0] == 400
    assert cluster.thrown == []


async def test_the_form_knows_two_actions(tmp_path: Path) -> None:
    for action in ("", "delete", "Pause"):
        form = {"target": "default/web", "token": TOKEN, "action": action}
        assert (await _post(tmp_path, "/pause", data=form))[0] == 400


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("size", [server.MAX_BODY_BYTES + 1024, 900 << 10])
async def test_a_large_body_is_refused_whether_its_length_is_told_or_not(tmp_path: Path, size: int) -> None:
    cluster = _Cluster()
    for body in (b" " * size, _chunks(size + 1024)):
        try:
            code, *_ = await _post(tmp_path, "/api/pause", cluster, headers=BEARER, data=body)
        except aiohttp.ClientError:
            code = 413  # it was cut off while it was still sent
        assert code == 413
    assert cluster.thrown == []


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
    async with _served(_Cluster(), tmp_path) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /api/pause HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 30\r\n\r\n{{"
        writer.write(head.encode())
        async with asyncio.timeout(20):
            assert b" 408 " in await reader.readline()
        writer.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TargetError("no <such> target"), 404),
        (RightsError("grant it"), 403),
        (UnreachableError("the API server is away"), 503),
        (NotReadyError("it does not lead"), 503),
    ],
)
async def test_what_keeps_it_from_being_done_is_told(tmp_path: Path, error: ChaosdError, code: int) -> None:
    cluster = _Cluster(error)
    assert (await _post(tmp_path, "/api/pause", cluster, headers=BEARER, data=BODY))[:2] == (
        code,
        json.dumps({"error": str(error)}),
    )
    form = {"target": "default/web", "token": TOKEN, "action": "pause"}
    code_of_form, text, _ = await _post(tmp_path, "/pause", cluster, data=form)
    assert code_of_form == code
    assert "<such>" not in text


async def test_a_token_that_was_changed_holds_at_once_and_one_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    cluster = _Cluster()
    async with _served(cluster, tmp_path) as (address, client):

        async def code(token: str) -> int:
            bearer = {"Authorization": f"Bearer {token}"}
            async with client.post(f"{address}/api/pause", headers=bearer, data=BODY) as answer:
                return answer.status

        other = "another token, as long"
        (tmp_path / "token").write_text(other)
        assert [await code(TOKEN), await code(other)] == [401, 200]
        (tmp_path / "token").write_text("")
        assert [await code(""), await code(other)] == [503, 503]
        (tmp_path / "token").unlink()
        assert await code(other) == 503
    assert len(cluster.thrown) == 1


@pytest.mark.parametrize("text", [None, b"", b"short", b"\xff" * 20])
def test_a_token_that_is_none_is_refused_at_the_start(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "token").write_bytes(text)
    with pytest.raises(UsageError):
        switch.Token(tmp_path / "token")


def test_what_a_header_holds_that_is_no_text_is_not_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    assert not switch.Token(tmp_path / "token").is_known("\udcff")
