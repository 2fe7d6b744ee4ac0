"""The informer: what it tells of a list and a watch, and of everything that breaks them."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import Change, Pod
from chaosd.errors import ForbiddenError
from tests.cluster.kubernetes.api_server import ApiServer, event, page, pod, refuses, says, streams

PODS = "/api/v1/namespaces/default/pods"


async def _told(cluster: KubernetesCluster, count: int) -> list[str]:
    """The first `count` changes as `kind name uid`."""
    told: list[str] = []
    async with asyncio.timeout(120):
        async for change in cluster.watch(Pod, "default"):
            told.append(_text(change))
            if len(told) == count:
                return told
    raise AssertionError("unreachable: a watch never ends")


def _text(change: Change) -> str:
    return f"{change.kind} {change.object.name} {change.object.uid}" if isinstance(change.object, Pod) else str(change.kind)


async def _forever(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.sleep(30)
    return response


async def test_list_then_watch_from_its_version(cluster: KubernetesCluster, server: ApiServer) -> None:
    added = event("ADDED", pod("web-1", version="11"))
    server.on("GET", PODS, says(page(pod("web-0"))), streams(added), _forever)
    assert await _told(cluster, 3) == ["present web-0 u1", "synced", "added web-1 u1"]
    _, _, query, _ = server.requests[1]
    assert (query["watch"], query["resourceVersion"], query["allowWatchBookmarks"]) == ("true", "10", "true")
    assert 240 <= int(query["timeoutSeconds"]) <= 300


async def test_lines_may_be_split_anywhere_and_of_any_length(cluster: KubernetesCluster, server: ApiServer) -> None:
    big = pod("web-1", version="11")
    big["metadata"]["annotations"] = {"filler": "x" * 300_000}
    text = event("ADDED", big) + event("DELETED", pod("web-1", version="12"))
    pieces = [text[i : i + 70_001] for i in range(0, len(text), 70_001)]
    server.on("GET", PODS, says(page()), streams(*pieces), _forever)
    assert await _told(cluster, 3) == ["synced", "added web-1 u1", "deleted web-1 u1"]


async def test_a_watch_that_ends_goes_on_where_it_was(cluster: KubernetesCluster, server: ApiServer) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "50"}})
    after = event("ADDED", pod("web-0", version="51"))
    server.on("GET", PODS, says(page()), streams(bookmark), streams(after), _forever)
    assert await _told(cluster, 2) == ["synced", "added web-0 u1"]
    assert [query.get("resourceVersion") for _, _, query, _ in server.requests[:3]] == [None, "10", "50"]


async def test_what_does_not_matter_is_not_told(cluster: KubernetesCluster, server: ApiServer) -> None:
    same = pod("web-0", version="11")
    same["metadata"]["annotations"] = {"somebody": "else"}
    other = event("MODIFIED", pod("web-0", version="12", nodeName="node-1"))
    server.on("GET", PODS, says(page(pod("web-0"))), streams(event("MODIFIED", same), other), _forever)
    assert await _told(cluster, 3) == ["present web-0 u1", "synced", "modified web-0 u1"]


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_position_that_is_too_old_is_a_gap_and_the_difference_is_told(
    cluster: KubernetesCluster, server: ApiServer, *, in_stream: bool
) -> None:
    expired = {"kind": "Status", "code": 410, "message": "too old resource version", "metadata": {}}
    gone = streams(event("ERROR", expired)) if in_stream else refuses(410, "too old")
    first = says(page(pod("web-0"), pod("web-1"), pod("web-2")))
    second = says(page(pod("web-0"), pod("web-1", uid="u2"), pod("web-3"), version="90"))
    server.on("GET", PODS, first, gone, second, _forever)
    told = await _told(cluster, 9)
    assert told[:4] == ["present web-0 u1", "present web-1 u1", "present web-2 u1", "synced"]
    assert told[4:] == ["gap", "deleted web-2 u1", "modified web-1 u2", "added web-3 u1", "synced"]


async def test_a_server_that_is_away_is_waited_for(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("ADDED", pod("web-0", version="11"))[:20])
        assert request.transport is not None
        request.transport.abort()
        return response

    after = streams(event("ADDED", pod("web-0", version="11")))
    server.on("GET", PODS, refuses(503, "starting"), says(page()), broken, refuses(500, "no"), after, _forever)
    assert await _told(cluster, 2) == ["synced", "added web-0 u1"]


async def test_rights_that_are_lacking_end_it(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", PODS, refuses(403, 'pods is forbidden: User "nobody" cannot list resource "pods"'))
    with pytest.raises(ForbiddenError, match="cannot list"):
        await _told(cluster, 1)
    server.on("GET", PODS, says(page()), refuses(403, "cannot watch"))
    with pytest.raises(ForbiddenError, match="cannot watch"):
        await _told(cluster, 2)


async def test_words_that_are_no_events_are_not_believed(cluster: KubernetesCluster, server: ApiServer) -> None:
    good = event("ADDED", pod("web-0", version="11"))
    server.on(
        "GET", PODS, says(page()), streams(b"<html>\n"), streams(json.dumps([1]).encode() + b"\n"), streams(good), _forever
    )
    assert await _told(cluster, 2) == ["synced", "added web-0 u1"]
