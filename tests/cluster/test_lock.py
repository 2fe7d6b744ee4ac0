"""The lock on a target: one holder, a dead holder's Lease ends, and its undo is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaosd.cluster import held_lease as locking
from chaosd.cluster.lock import LEDGER_ANNOTATION, TargetLock, names_undo
from chaosd.cluster.port import Lease
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.errors import AbortedError, TargetError, ThrottledError, UnreachableError

UNDO = {"kind": "scale", "replicas": 2}


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(locking.asyncio, "sleep", self._sleep)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", self)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SandboxCluster]:
    opened = await SandboxCluster.open(tmp_path)
    yield opened
    await opened.close()


def _lock(cluster: SandboxCluster, holder: str, clock: Clock) -> TargetLock:
    return TargetLock(cluster, "default", "web", holder, 40, clock)


async def test_who_finds_nobody_takes_it_and_leaves_nothing(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = _lock(cluster, "one", Clock(monkeypatch))
    assert await lock.acquire() is None
    assert (await cluster.get_lease("default", "chaosd-web")).holder == "one"
    await lock.release()
    assert cluster._store.leases == {}


async def test_whether_a_lease_names_an_undo_is_asked_without_taking_it(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not await names_undo(cluster, "default/web")
    lock = _lock(cluster, "one", Clock(monkeypatch))
    await lock.acquire()
    assert not await names_undo(cluster, "default/web")
    await lock.register_undo(UNDO)
    assert await names_undo(cluster, "default/web")
    assert (await cluster.get_lease("default", "chaosd-web")).holder == "one"


async def test_a_holder_that_renews_is_alive(cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first = _lock(cluster, "one", clock)
    await first.acquire()

    async def renewing(seconds: float) -> None:
        clock.now += seconds
        await first.register_undo(None)  # any write of the holder's

    monkeypatch.setattr(locking.asyncio, "sleep", renewing)
    with pytest.raises(TargetError, match="default/web is being tested by one"):
        await _lock(cluster, "two", clock).acquire()


async def test_a_dead_holders_lease_ends_and_its_undo_is_found(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    dead = _lock(cluster, "one", clock)
    await dead.acquire()
    await dead.register_undo(UNDO)
    began = clock.now
    successor = _lock(cluster, "two", clock)
    assert await successor.acquire() == UNDO
    assert clock.now - began >= 40
    await successor.release()
    left = await cluster.get_lease("default", "chaosd-web")
    assert left.holder == ""  # kept, since it still names what must be undone
    third = _lock(cluster, "three", clock)
    assert await third.acquire() == UNDO
    await third.register_undo(None)
    await third.release()
    assert cluster._store.leases == {}


async def test_a_lease_that_another_took_ends_the_run(cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = _lock(cluster, "one", Clock(monkeypatch))
    await lock.acquire()
    cluster._store.leases["default/chaosd-web"] = Lease("default", "chaosd-web", "two", 40, 1_000.0, version="99")
    with pytest.raises(AbortedError, match="was taken from us"):
        await lock.keep()


async def test_a_lease_that_cannot_be_renewed_ends_the_run_before_it_ends(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    lock = _lock(cluster, "one", clock)
    await lock.acquire()
    taken = clock.now

    async def away(_: Lease) -> Lease:
        raise UnreachableError("no answer")

    monkeypatch.setattr(cluster, "put_lease", away)
    with pytest.raises(AbortedError, match="could not be renewed"):
        await lock.keep()
    assert 30 <= clock.now - taken <= 40


async def test_a_short_outage_is_survived(cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(monkeypatch), iter([False, False, True, False, True])
    lock = _lock(cluster, "one", clock)
    await lock.acquire()
    put = cluster.put_lease

    async def sometimes(lease: Lease) -> Lease:
        there = next(answers, None)
        if there is None:
            raise asyncio.CancelledError
        if not there:
            raise UnreachableError("no answer")
        return await put(lease)

    monkeypatch.setattr(cluster, "put_lease", sometimes)
    with pytest.raises(asyncio.CancelledError):
        await lock.keep()


async def test_how_far_the_ledger_is_goes_with_each_write_and_stays_until_the_run_is_finished(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, index = Clock(monkeypatch), [7]
    lock = _lock(cluster, "one", clock)
    await lock.acquire()
    assert lock.noted == {}
    lock.follow(lambda: {"run": "R", "index": index[0]})
    await lock.register_undo(UNDO)
    index[0] = 9
    await lock.register_undo(None)
    await lock.release()  # the run is not finished
    assert LEDGER_ANNOTATION in cluster._store.leases["default/chaosd-web"].annotations
    successor = _lock(cluster, "two", clock)
    await successor.acquire()
    assert successor.noted == {"run": "R", "index": 9}
    successor.finished("another")
    assert successor.noted == {"run": "R", "index": 9}
    successor.finished("R")
    await successor.release()
    assert cluster._store.leases == {}


async def test_who_asks_for_a_note_while_one_is_written_shares_the_next(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, index, put, written, started = (
        _lock(cluster, "one", Clock(monkeypatch)),
        [0],
        cluster.put_lease,
        [],
        asyncio.Event(),
    )
    await lock.acquire()
    await lock.note()
    assert lock.noted == {}
    lock.follow(lambda: {"run": "R", "index": index[0]})

    async def slowly(lease: Lease) -> Lease:
        await started.wait()
        written.append(lease.annotations[LEDGER_ANNOTATION])
        return await put(lease)

    async def asked(at: int) -> None:
        index[0] = at
        await lock.note()
        assert lock.noted["index"] >= at

    monkeypatch.setattr(cluster, "put_lease", slowly)
    tasks = [asyncio.ensure_future(asked(at)) for at in range(1, 6)]
    asyncio.get_running_loop().call_soon(started.set)
    await asyncio.gather(*tasks)
    await lock.note()
    assert [json.loads(noted)["index"] for noted in written] == [1, 5]


async def test_a_bad_way_neither_keeps_it_from_being_taken_nor_leaves_it_behind(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, put, delete = Clock(monkeypatch), cluster.put_lease, cluster.delete_lease
    answers = iter(["lost", "refused", "", "", "lost", "", "lost"])

    async def badly(write: Callable[[Lease], Awaitable[Any]], lease: Lease) -> Any:
        answer = next(answers, "")
        if answer == "refused":
            raise ThrottledError("too many requests")
        done = await write(lease)
        if answer == "lost":
            raise UnreachableError("no answer in time")
        return done

    monkeypatch.setattr(cluster, "put_lease", partial(badly, put))
    monkeypatch.setattr(cluster, "delete_lease", partial(badly, delete))
    lock = _lock(cluster, "one", clock)
    await lock.acquire()
    assert cluster._store.leases["default/chaosd-web"].holder == "one"
    with pytest.raises(UnreachableError):
        await lock.register_undo(None)  # written, and its version never told
    await lock.release()
    assert cluster._store.leases == {}
    assert next(answers, "") == "", "every one was met"


async def test_a_holder_whose_clock_is_wrong_is_as_alive_as_any(
    cluster: SandboxCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    late = TargetLock(cluster, "default", "web", "one", 40, lambda: clock.now - 3600)
    await late.acquire()
    began = clock.now
    await _lock(cluster, "two", clock).acquire()
    assert 40 <= clock.now - began < 60
