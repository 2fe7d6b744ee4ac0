"""How the client behaves towards an API server: its pace, its pauses, its name."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from chaosd import __version__
from chaosd.cluster.inflight import patiently
from chaosd.cluster.kubernetes import KubernetesCluster, pace
from chaosd.cluster.kubernetes.pace import Pace, retry_after
from chaosd.cluster.port import Pod, StatefulSet
from chaosd.errors import ThrottledError, UnreachableError
from tests.cluster.kubernetes.api_server import ApiServer, Handler, pod, refuses, says, status
from tests.tls_server import Authority, serving_tls

WEB_0 = "/api/v1/namespaces/default/pods/web-0"


class _Clock:
    """Seconds that pass only when somebody sleeps, as a pace sees them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5_000.0
        monkeypatch.setattr(pace.asyncio, "sleep", self._sleep)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds


async def test_a_burst_is_let_through_and_the_rest_comes_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = _Clock(monkeypatch), []
    at_its_pace = Pace(10.0, 5, random.Random(1))
    for _ in range(8):
        await at_its_pace.turn()
        asked.append(round(clock.now - 5_000, 6))
    assert asked == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]
    clock.now += 60  # no more than a burst is saved up
    for _ in range(6):
        await at_its_pace.turn()
    assert clock.now == pytest.approx(5_060.4)


def test_pauses_grow_with_failures_in_a_row_and_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_LEAST_SECONDS", 0.2)
    at_its_pace = Pace(1.0, 1, random.Random(1))
    pauses = [at_its_pace.failed(None) for _ in range(2000)]
    for number, longest in enumerate((0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)):
        assert longest / 2 <= pauses[number] <= longest
    assert len(set(pauses)) == 2000
    assert max(pauses) <= 5.0
    at_its_pace.succeeded()
    assert 30.1 <= at_its_pace.failed(30.0) <= 30.2, "what the server told, and a little"


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("7", 7.0), ("soon", None), ("-1", None), ("", None)])
def test_retry_after_as_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    inside = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert inside is not None
    assert 28 <= inside <= 30
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


def _throttles(code: int, seconds: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        response = status(code, "try again")
        response.headers["Retry-After"] = seconds
        return response

    return handler


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_what_changes_nothing_is_asked_again(cluster: KubernetesCluster, server: ApiServer, code: int) -> None:
    fails = refuses(code, "in need")
    server.on("GET", WEB_0, fails, fails, says(pod("web-0")))
    assert (await cluster.get(Pod, "default", "web-0")).name == "web-0"
    assert len(server.requests) == 3
    server.on("GET", WEB_0, fails)
    with pytest.raises((ThrottledError, UnreachableError)):
        await cluster.get(Pod, "default", "web-0")
    assert len(server.requests) == 3 + 5, "not for ever"
    review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    server.on("POST", review, fails, says({"status": {"allowed": True}}))
    assert await cluster.allowed("get", "pods", "default")


async def test_what_changes_something_is_asked_once_and_says_when_to_ask_again(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    server.on("DELETE", WEB_0, _throttles(429, "3"), _throttles(503, "4"), refuses(500, "in need"))
    told = []
    for _ in range(3):
        with pytest.raises((ThrottledError, UnreachableError)) as caught:
            await cluster.delete_pod("default", "web-0", uid="u1")
        told.append(caught.value.retry_after)
    assert len(server.requests) == 3
    assert 3 < told[0] < 3.1
    assert 4 < told[1] < 4.1
    assert 0 < told[2] < 0.1


async def test_an_exec_that_is_throttled_says_when_to_ask_again(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", f"{WEB_0}/exec", _throttles(429, "3"))
    with pytest.raises(ThrottledError) as caught:
        async with cluster.exec("default", "web-0", "app", ("true",)):
            pass
    assert caught.value.retry_after is not None
    assert 3 < caught.value.retry_after < 3.1


async def test_an_act_waits_for_as_long_as_the_server_said(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("DELETE", WEB_0, _throttles(429, "1"), says({}))
    now = asyncio.get_running_loop().time
    began = now()
    await _delete_patiently(cluster)
    assert 1 < now() - began < 30
    server.on("DELETE", WEB_0, _throttles(429, "3600"))
    with pytest.raises(ThrottledError):  # longer than anybody here has patience
        await _delete_patiently(cluster)
    assert now() - began < 60


async def _delete_patiently(cluster: KubernetesCluster) -> None:
    async for attempt in patiently(5):
        with attempt:
            await cluster.delete_pod("default", "web-0", uid="u1")


async def test_it_says_who_it_is(cluster: KubernetesCluster, server: ApiServer) -> None:
    names: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        names.append(request.headers["User-Agent"])
        return status(404, "not found")

    for method, path in (("GET", WEB_0), ("DELETE", WEB_0), ("GET", f"{WEB_0}/exec")):
        server.on(method, path, answer)
    for asking in (cluster.get(Pod, "default", "web-0"), cluster.delete_pod("default", "web-0", uid="u")):
        with pytest.raises(Exception, match="not found"):
            await asking
    with pytest.raises(Exception, match="404"):
        async with cluster.exec("default", "web-0", "app", ("true",)):
            pass
    assert names == [f"chaosd/{__version__}"] * 3


async def test_a_dry_run_says_so_where_the_api_server_looks_for_it(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("DELETE", WEB_0, says({}))
    server.on("POST", "/api/v1/namespaces/default/configmaps", says({}))
    document = {"kind": "ConfigMap", "metadata": {"name": "mine", "namespace": "default"}}
    for dry_run in (True, False):
        await cluster.delete_pod("default", "web-0", uid="u1", dry_run=dry_run)
        await cluster.create(document, dry_run=dry_run)
    said = [(method, query.get("dryRun"), body.get("dryRun")) for method, _, query, body in server.requests]
    assert said == [("DELETE", None, ["All"]), ("POST", "All", None), ("DELETE", None, None), ("POST", None, None)]


EVENTS = "/api/v1/namespaces/default/events"


async def test_an_event_is_told_again_or_for_the_first_time(cluster: KubernetesCluster, server: ApiServer) -> None:
    name = "web.0123abcd.run-1.pod-delete"
    server.on("PATCH", f"{EVENTS}/{name}", refuses(404, "not found"), says({}))
    server.on("POST", EVENTS, says({}))
    target = StatefulSet("default", "web", "0123abcd-0000", 3)
    for count in (1, 2):
        told = {"reason": "ChaosdDisruption", "message": f"number {count}", "warning": False, "count": count}
        await cluster.post_event(target, "run-1.pod-delete", **told)
    first, again = server.requests[1][3], server.requests[2][3]
    assert [method for method, *_ in server.requests] == ["PATCH", "POST", "PATCH"]
    assert (first["metadata"]["name"], first["involvedObject"]["uid"], first["count"]) == (name, target.uid, 1)
    assert (first["type"], first["reason"], first["source"]) == ("Normal", "ChaosdDisruption", {"component": "chaosd"})
    assert again == {"count": 2, "message": "number 2", "lastTimestamp": again["lastTimestamp"]}


async def test_few_questions_are_asked_at_once_and_what_changes_something_waits_for_none(
    server: ApiServer, cluster: KubernetesCluster
) -> None:
    under_way, most, answered = 0, 0, asyncio.Event()

    async def slowly(_: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await answered.wait()
        under_way -= 1
        return web.json_response(pod("web-0"))

    server.on("GET", WEB_0, slowly)
    server.on("DELETE", WEB_0, says({"kind": "Status", "status": "Success"}))
    asking = [asyncio.create_task(cluster.get(Pod, "default", "web-0")) for _ in range(60)]
    async with asyncio.timeout(5):
        while under_way < 16:  # noqa: ASYNC110 - the server is another task of this loop
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert most == 16
        await cluster.delete_pod("default", "web-0", uid="u1")
    answered.set()
    assert {found.name for found in await asyncio.gather(*asking)} == {"web-0"}
    assert most == 16


async def test_a_tls_connection_holds_little_of_what_comes_and_goes(cluster: KubernetesCluster, tmp_path: Path) -> None:
    """In a process that has a client; asyncio's own limits are 256 and 512 KiB."""
    assert cluster
    authority = Authority(tmp_path)
    async with serving_tls(authority.issue(), []) as address:
        url = urlsplit(address)
        trust = ssl.create_default_context(cafile=authority.file)
        _, writer = await asyncio.open_connection(url.hostname, url.port, ssl=trust)
        transport = writer.transport
        assert transport.get_write_buffer_limits()[1] == 64 << 10
        assert len(transport._ssl_protocol._ssl_buffer) == 64 << 10  # type: ignore[attr-defined]
        writer.close()
        await writer.wait_closed()
