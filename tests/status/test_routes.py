"""The status over HTTP: what is answered, with which headers, and what many or slow clients cost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from chaosd import server, virtual_time
from chaosd.status import feed as feeds
from chaosd.status import routes as status_routes
from chaosd.status.document import Status
from chaosd.status.feed import Feed
from chaosd.status.page import part_of
from tests.status.statuses import experiment, running, status


class _Daemon:
    """What does something that the feed looks at."""

    def __init__(self) -> None:
        self.now = status()
        self.looks = 0
        self.feed = Feed(self.look)

    def look(self, at: float) -> Status:
        self.looks += 1
        return self.now.model_copy(update={"at": at})

    def becomes(self, now: Status) -> None:
        self.now = now
        self.feed.changed()

    def begins(self, number: int) -> None:
        self.becomes(status(experiment(run=running(number))))


@asynccontextmanager
async def _served(daemon: _Daemon) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    async with (
        server.serving("127.0.0.1:0", status_routes.routes(daemon.feed)) as address,
        daemon.feed.open(),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
    ):
        yield address, client


async def _event(stream: aiohttp.ClientResponse) -> tuple[str, str, Any]:
    """The next one: its kind, its id, its data."""
    lines = [line.partition(": ")[::2] for line in (await stream.content.readuntil(b"\n\n")).decode().splitlines()]
    told = dict(lines)
    return told["event"], told.get("id", ""), json.loads(told["data"])


@pytest.mark.parametrize("path", ["/", "/api/status", "/status/page.css", "/status/page.js", "/events"])
async def test_every_answer_forbids_what_it_does_not_need(path: str) -> None:
    async with _served(_Daemon()) as (address, client), client.get(f"{address}{path}") as answer:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "connect-src": "'self'",
            "img-src": "data:",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] in ("no-store", "no-cache")


async def test_the_page_names_nothing_that_is_not_served() -> None:
    async with _served(_Daemon()) as (address, client):
        async with client.get(f"{address}/") as answer:
            assert answer.content_type == "text/html"
            page = await answer.text()
        for path, content in (("status/page.css", "text/css"), ("status/page.js", "text/javascript")):
            assert f'"{path}"' in page
            async with client.get(f"{address}/{path}") as answer:
                assert (answer.status, answer.content_type) == (200, content)
        assert "<style" not in page
        assert page.count("<script") == 1


async def test_the_document_is_the_status() -> None:
    daemon = _Daemon()
    async with _served(daemon) as (address, client), client.get(f"{address}/api/status") as answer:
        assert answer.content_type == "application/json"
        told = await answer.json()
    assert told["schema_version"] == 1
    assert Status.model_validate(told).experiments == daemon.now.experiments


@pytest.mark.parametrize("path", ["/", "/api/status", "/events"])
async def test_nothing_can_be_sent_to_it(path: str) -> None:
    async with _served(_Daemon()) as (address, client):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            async with client.request(method, f"{address}{path}", data=b"x") as answer:
                assert answer.status == 405, method


async def test_a_browser_is_told_at_once_what_changed_since_it_loaded_the_page_and_then_each_change() -> None:
    daemon = _Daemon()
    part = part_of("experiment", "soak")
    async with _served(daemon) as (address, client):
        async with client.get(f"{address}/") as answer:
            version = (await answer.text()).split('data-version="')[1].split('"')[0]
        async with client.get(f"{address}/events", params={"since": version}) as stream:
            assert stream.content_type == "text/event-stream"
            kind, _, data = await _event(stream)
            assert (kind, data["parts"]) == ("status", {})
            daemon.begins(4)
            _, id_, data = await _event(stream)
            assert list(data["parts"]) == [part]
            assert "round 4" in data["parts"][part]
        daemon.begins(5)
        async with client.get(f"{address}/events", headers={"Last-Event-ID": id_}) as stream:
            _, _, data = await _event(stream)
            seen = data["parts"].get(part) or (await _event(stream))[2]["parts"][part]
            assert "round 5" in seen


@pytest.mark.parametrize("known", ["", "x", "x-1", "-", "{epoch}-999", "{epoch}-²", "{epoch}--1", "{epoch}-" + "9" * 5000])
async def test_who_knows_no_version_of_this_process_is_told_everything(known: str) -> None:
    async with _served(_Daemon()) as (address, client):
        async with client.get(f"{address}/events") as stream:
            _, id_, everything = await _event(stream)
        known = known.replace("{epoch}", id_.split("-")[0])
        async with client.get(f"{address}/events", params={"since": known}) as stream:
            assert set((await _event(stream))[2]["parts"]) == set(everything["parts"])
    assert len(everything["parts"]) == 5


async def test_all_who_watch_share_one_look_and_changes_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LEAST_SECONDS", 0.3)
    daemon = _Daemon()
    async with _served(daemon) as (address, client):
        streams = [await client.get(f"{address}/events") for _ in range(10)]
        for stream in streams:
            await _event(stream)
        looks, began = daemon.looks, asyncio.get_running_loop().time()
        for number in range(4, 30):
            daemon.begins(number)
        told = [[await _event(stream)] for stream in streams]
        assert daemon.looks - looks <= 2 + (asyncio.get_running_loop().time() - began) / 0.3
        assert len({str(events) for events in told}) == 1
        for stream in streams:
            stream.close()


async def test_an_experiment_that_comes_or_goes_is_another_layout() -> None:
    daemon = _Daemon()
    async with _served(daemon) as (address, client), client.get(f"{address}/events") as stream:
        _, _, first = await _event(stream)
        daemon.becomes(status(experiment(), experiment("other")))
        _, _, second = await _event(stream)
        daemon.becomes(status())
        _, _, third = await _event(stream)
    assert first["layout"] == third["layout"] != second["layout"]


async def test_there_is_a_place_for_so_many_and_each_that_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_STREAMS", 3)
    async with _served(_Daemon()) as (address, client):
        streams = [await client.get(f"{address}/events") for _ in range(3)]
        assert [stream.status for stream in streams] == [200] * 3
        async with client.get(f"{address}/events") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "10"
        streams[0].close()
        async with asyncio.timeout(120):
            while True:
                async with client.get(f"{address}/events") as answer:
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.1)
        for stream in streams:
            stream.close()


async def test_a_client_that_takes_nothing_is_dropped_and_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(server, "STUCK_SECONDS", 1.0)
    daemon = _Daemon()
    feed = daemon.feed
    async with server.serving("127.0.0.1:0", status_routes.routes(feed)) as address, feed.open():
        host, port = address.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        number = 0
        async with asyncio.timeout(120):
            while not number or feed._streams:
                number += feed._streams
                long = "x" * 50_000
                daemon.becomes(status(experiment(run=running(number, disruption=long))))
                await asyncio.sleep(0.01)
        writer.close()
        assert len(feed._events) <= 1


async def test_streams_say_that_they_live_and_end_with_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "ALIVE_SECONDS", 0.2)
    async with aiohttp.ClientSession() as client:
        feed = _Daemon().feed
        async with server.serving("127.0.0.1:0", status_routes.routes(feed)) as address:
            async with feed.open():
                stream = await client.get(f"{address}/events")
                assert (await _event(stream))[0] == "status"
                assert (await _event(stream))[0] == "alive"
            async with asyncio.timeout(60):
                assert await stream.content.read() == b""


async def test_what_nobody_watches_is_not_looked_at_however_much_changes() -> None:
    daemon = _Daemon()
    async with _served(daemon) as (address, client):
        for number in range(4, 9):
            daemon.begins(number)
        assert (daemon.looks, daemon.feed._alarm) == (0, None)
        async with client.get(f"{address}/events") as stream:
            assert "round 8" in (await _event(stream))[2]["parts"][part_of("experiment", "soak")]
        assert daemon.looks == 1


async def test_a_change_that_nobody_watched_is_told_to_who_comes_before_the_last_look_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "LEAST_SECONDS", 1.0)
    daemon = _Daemon()
    async with _served(daemon) as (address, client):
        async with client.get(f"{address}/") as answer:
            version = (await answer.text()).split('data-version="')[1].split('"')[0]
        daemon.begins(4)
        async with client.get(f"{address}/events", params={"since": version}) as stream:
            assert (await _event(stream))[2]["parts"] == {}
            assert "round 4" in (await _event(stream))[2]["parts"][part_of("experiment", "soak")]
        assert daemon.looks == 2


async def test_a_look_that_fails_is_logged_and_ends_the_streams_and_the_next_is_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that no page shows for live what is old."""
    daemon = _Daemon()
    async with _served(daemon) as (address, client):
        async with client.get(f"{address}/events") as stream:
            _, id_, _ = await _event(stream)
            daemon.becomes(None)  # type: ignore[arg-type]
            with pytest.raises(aiohttp.ClientPayloadError):
                await stream.content.read()
        assert "'NoneType' object has no attribute 'model_copy'" in caplog.text
        for path in ("/", "/api/status", "/events"):
            async with client.get(f"{address}{path}") as answer:
                assert answer.status == 500
        daemon.begins(4)
        async with client.get(f"{address}/events", headers={"Last-Event-ID": id_}) as stream:
            assert list((await _event(stream))[2]["parts"]) == [part_of("experiment", "soak")]


def test_changes_are_told_at_once_and_then_no_oftener_than_every_tenth_of_a_second() -> None:
    """In virtual time: when an event came, and what it told."""

    async def told() -> tuple[list[tuple[float, int]], int]:
        loop, daemon = asyncio.get_running_loop(), _Daemon()

        async def watch() -> list[tuple[float, int]]:
            with daemon.feed.place():
                events = daemon.feed.events("")
                return [(loop.time(), int(n[1])) async for told in events if (n := re.search(rb"round (\d+)", told))]

        async with daemon.feed.open():
            watching = asyncio.create_task(watch())
            await asyncio.sleep(5)
            began, looks = loop.time(), daemon.looks
            for number, pause in ((4, 0.03), (5, 0.03), (6, 0.5), (7, 0.02), (8, 5)):
                daemon.begins(number)
                await asyncio.sleep(pause)
        return [(round(at - began, 3), number) for at, number in (await watching)[1:]], daemon.looks - looks

    assert virtual_time.run(told()) == ([(0.0, 4), (0.1, 6), (0.56, 7), (0.66, 8)], 4)
