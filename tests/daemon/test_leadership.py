"""Leading: one of several daemons, handed on when it ends, and never by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaosd.cluster.port import Lease
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.daemon.leadership import Leadership
from chaosd.errors import AbortedError, ForbiddenError, UnreachableError


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SandboxCluster]:
    opened = await SandboxCluster.open(tmp_path)
    yield opened
    await opened.close()


def _daemon(cluster: SandboxCluster, holder: str, seconds: int = 10, skew_seconds: float = 0.0) -> Leadership:
    return Leadership(cluster, "chaosd", "chaosd", holder, seconds, lambda: 1_000.0 + skew_seconds)


async def test_the_second_waits_while_the_first_renews_and_leads_once_that_has_ended(cluster: SandboxCluster) -> None:
    first, second = _daemon(cluster, "one"), _daemon(cluster, "two", skew_seconds=3600)
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.wait({waiting}, timeout=12)  # longer than its Lease
    assert not waiting.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await first.release()
    await asyncio.wait_for(waiting, 60)
    assert (await cluster.get_lease("chaosd", "chaosd")).holder == "two"
    await second.release()
    assert cluster._store.leases == {}


async def test_one_that_died_is_followed_once_its_lease_has_ended(cluster: SandboxCluster) -> None:
    await _daemon(cluster, "one", seconds=4).acquire()
    now = asyncio.get_running_loop().time
    began = now()
    await _daemon(cluster, "two", seconds=4).acquire()
    assert 4 <= now() - began < 60


async def test_one_that_was_followed_is_told_so_at_its_next_renewal(cluster: SandboxCluster) -> None:
    lead = _daemon(cluster, "one")
    await lead.acquire()
    cluster._store.leases["chaosd/chaosd"] = Lease("chaosd", "chaosd", "two", 10, 1_000.0, version="99")
    with pytest.raises(AbortedError, match="was taken from us"):
        await lead.keep()


async def test_an_api_server_that_is_away_is_waited_for_and_a_right_that_is_missing_is_not(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception] = [UnreachableError("no answer"), ForbiddenError("leases")]

    async def away(namespace: str, name: str) -> Lease:
        raise answers.pop(0)

    monkeypatch.setattr(cluster, "get_lease", away)
    monkeypatch.setattr("chaosd.daemon.leadership._AGAIN_SECONDS", 0.01)
    with pytest.raises(ForbiddenError):
        await _daemon(cluster, "one").acquire()
