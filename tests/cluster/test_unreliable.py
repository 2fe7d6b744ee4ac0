"""A bad connection to the cluster: what it breaks, and what it never breaks, which is what the port promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest

from chaosd.cluster.port import Change, ChangeKind, Claim, Lease, Node, Object, Pod, StatefulSet
from chaosd.cluster.target import resolve
from chaosd.cluster.unreliable import Rates, UnreliableCluster
from chaosd.errors import (
    ClusterError,
    NotFoundError,
    ProbeError,
    SessionLostError,
    TargetError,
    ThrottledError,
    UnreachableError,
)
from chaosd.probe.session import Place, Session, open_session
from tests.cluster.sandbox.simulated import FILES, Simulated, simulated

SEEDS = range(12)


def _unreliable(
    test: Callable[[Simulated, UnreliableCluster], Awaitable[None]], rates: Rates, *, seed: int = 1, **timings: float
) -> None:
    async def check(sim: Simulated) -> None:
        await test(sim, UnreliableCluster(sim.cluster, Random(seed), rates))

    simulated(check, seed=seed, **timings)


def _on(name: str, rate: float = 1.0) -> Rates:
    return replace(Rates(), **{name: rate})


@asynccontextmanager
async def _session(sim: Simulated, cluster: UnreliableCluster) -> AsyncIterator[Session]:
    found = sim.store.get(StatefulSet, "default", "web")
    place = Place(resolve(found, path="", container="", require_claim=True), ".chaosd", "RUN", "e1")
    async with open_session(cluster, place, "web-0", 30.0) as session:
        yield session


REQUESTS: dict[str, Callable[[UnreliableCluster, StatefulSet], Awaitable[object]]] = {
    "version": lambda cluster, _: cluster.version(),
    "cluster_id": lambda cluster, _: cluster.cluster_id(),
    "get": lambda cluster, _: cluster.get(Pod, "default", "web-0"),
    "list": lambda cluster, _: cluster.list(Pod, "default"),
    "scale": lambda cluster, _: cluster.scale("default", "web", uid="u", replicas=1, expected=1),
    "signal_container": lambda cluster, _: cluster.signal_container(
        "default", "web-0", "app", "TERM", uid="u", container_id="c"
    ),
    "cordon": lambda cluster, _: cluster.cordon("sandbox-1", uid="u", by="run"),
    "uncordon": lambda cluster, _: cluster.uncordon("sandbox-1", uid="u", by="run"),
    "annotate": lambda cluster, _: cluster.annotate(StatefulSet, "default", "web", {"a": "b"}),
    "restart_rollout": lambda cluster, web: cluster.restart_rollout("default", "web", uid=web.uid, at="now"),
    "expand_claim": lambda cluster, _: cluster.expand_claim("default", "disk-web-0", uid="u", storage="2Gi"),
    "manifest": lambda cluster, _: cluster.manifest("default", "web"),
    "delete_statefulset": lambda cluster, web: cluster.delete_statefulset("default", "web", uid=web.uid, orphan=True),
    "create": lambda cluster, _: cluster.create({"kind": "ConfigMap", "metadata": {"name": "x"}}),
    "get_config": lambda cluster, _: cluster.get_config("default", "x"),
    "delete_config": lambda cluster, _: cluster.delete_config("default", "x", expected={}),
    "get_lease": lambda cluster, _: cluster.get_lease("default", "lease"),
    "put_lease": lambda cluster, _: cluster.put_lease(Lease("default", "lease")),
    "delete_lease": lambda cluster, _: cluster.delete_lease(Lease("default", "lease")),
    "allowed": lambda cluster, _: cluster.allowed("get", "pods", ""),
    "post_event": lambda cluster, web: cluster.post_event(web, "t", reason="R", message="m", warning=False, count=1),
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_requests_fail_as_an_api_server_in_need_answers(request_name: str) -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        errors = []
        for _ in range(40):
            with pytest.raises(ClusterError) as caught:
                await REQUESTS[request_name](cluster, sim.store.get(StatefulSet, "default", "web"))
            errors.append(caught.value)
        assert {type(error) for error in errors} == {ThrottledError, UnreachableError}
        assert {str(error).rpartition(" ")[2] for error in errors} == {"(429)", "(500)", "(503)", "(504)"}
        assert cluster.faults == {"request failed": 40}

    _unreliable(check, _on("request"))


def test_an_answer_that_is_lost_leaves_the_request_done() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        pod = sim.pod()
        with pytest.raises(UnreachableError, match="no answer in time"):
            await cluster.delete_pod("default", "web-0", uid=pod.uid)
        assert sim.pod().deleting
        await sim.replaced(pod)
        with pytest.raises(UnreachableError):
            await cluster.put_lease(Lease("default", "lease", "me"))
        assert (await sim.cluster.get_lease("default", "lease")).holder == "me"
        with pytest.raises(NotFoundError):
            await cluster.get_lease("default", "absent")
        assert cluster.faults == {"answer lost": 2}

    _unreliable(check, _on("lost_answer"))


def test_a_slow_request_is_done_later() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(10):
            assert await cluster.version()
        assert 1 < loop.time() < 10

    _unreliable(check, _on("slow"))


def test_exec_cannot_be_opened() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        with pytest.raises((UnreachableError, ThrottledError)):
            async with _session(sim, cluster):
                pass
        assert cluster.faults == {"exec cannot be opened": 1}

    _unreliable(check, _on("exec_open"))


async def _put_under(sim: Simulated, cluster: UnreliableCluster, rates: Rates) -> ProbeError | None:
    """Store files while these faults happen; the error, if one came."""
    await sim.apply()
    quiet = cluster.rates
    async with _session(sim, cluster) as session:
        await session.begin(b"{}")
        cluster.rates = rates
        try:
            stored = await session.store(FILES)
        except ProbeError as error:
            return error
        finally:
            cluster.rates = quiet
        assert stored.durable == FILES.keys()
    return None


@pytest.mark.parametrize("fault", ["exec_drop", "exec_truncate"])
def test_a_reply_that_breaks_off_leaves_what_was_asked_done(fault: str) -> None:
    broke = []

    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        error = await _put_under(sim, cluster, _on(fault))
        broke.append(error is not None)
        assert error is None or isinstance(error, SessionLostError)
        await asyncio.sleep(10)
        assert {path.rpartition("/")[2] for path in sim.disk().files()} == {*FILES, "identity"}

    for seed in SEEDS:
        _unreliable(check, Rates(), seed=seed)
    assert any(broke)


def test_a_request_that_was_cut_off_is_done_in_part() -> None:
    left = set()

    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        assert isinstance(await _put_under(sim, cluster, _on("exec_cut")), SessionLostError)
        stored = [path for path in sim.disk().files() if "/RUN/0" in path]
        assert all(len(sim.disk().file(path).data) == 8192 for path in stored), "whole or not at all"
        left.add(len(stored))

    for seed in SEEDS:
        _unreliable(check, Rates(), seed=seed)
    assert len(left) > 3
    assert max(left) < len(FILES)


def test_what_was_dropped_may_land_late() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        async with _session(sim, cluster) as session:
            await session.begin(b"{}")
            cluster.rates = _on("exec_drop")
            putting = asyncio.create_task(session.store(FILES))
            await asyncio.sleep(0)
            putting.cancel()
        assert not [path for path in sim.disk().files() if "/RUN/0" in path]
        await asyncio.sleep(30)
        assert len([path for path in sim.disk().files() if "/RUN/0" in path]) == len(FILES)

    _unreliable(check, Rates(), linger=20)


def test_a_broken_connection_stays_broken() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        argv = ["sh", "-c", "", "chaosd-probe", "/data", ".chaosd", "RUN", "60"]
        async with cluster.exec("default", "web-0", "app", argv) as stream:
            with pytest.raises(SessionLostError):
                await stream.write(b"x list\n")
            for act in (stream.read, stream.close_stdin, lambda: stream.write(b"x")):
                with pytest.raises(SessionLostError):
                    await act()

    _unreliable(check, _on("exec_cut"))


def test_replies_in_pieces_are_whole() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        assert await _put_under(sim, cluster, _on("exec_split")) is None
        async with _session(sim, cluster) as session:
            cluster.rates = _on("exec_split", 0.9)
            assert {name: (await session.fetch(name, 8192))[0] for name in FILES} == FILES

    _unreliable(check, Rates())


class Consumer:
    """Holds a watch to the port's promises, and has the view that it gives."""

    def __init__(self) -> None:
        self.known: dict[str, Object] = {}
        self.kinds: list[ChangeKind] = []
        self._listing = True

    async def follow(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self._take(change)

    def _take(self, change: Change) -> None:
        self.kinds.append(change.kind)
        if change.kind is ChangeKind.GAP:
            assert not self._listing, "gaps do not nest"
            self._listing = True
        elif change.kind is ChangeKind.SYNCED:
            assert self._listing
            self._listing = False
        else:
            assert change.object is not None
            key = f"{getattr(change.object, 'namespace', '')}/{change.object.name}"
            if change.kind is ChangeKind.PRESENT:
                assert ChangeKind.SYNCED not in self.kinds
            if change.kind in (ChangeKind.PRESENT, ChangeKind.ADDED):
                assert key not in self.known
            else:
                assert key in self.known
            if change.kind is ChangeKind.DELETED:
                assert self.known.pop(key).uid == change.object.uid
            else:
                assert self.known.get(key) != change.object, "something changed"
                self.known[key] = change.object


async def much_happens(sim: Simulated) -> None:
    await sim.apply(3, when_scaled="Delete")
    for turn in range(5):
        await sim.delete(turn % 3, force=turn % 2 == 0)
        await sim.scale(1)
        await sim.scale(3)
        sim.cluster.crash_node("sandbox-1")
        await sim.ready(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_watch_with_gaps_tells_in_the_end_what_is_so(seed: int) -> None:
    print(f"seed {seed}")

    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        kinds: Sequence[Any] = (Pod, Claim, Node, StatefulSet)
        consumers = {kind: Consumer() for kind in kinds}
        following = [asyncio.create_task(c.follow(cluster.watch(kind, ""))) for kind, c in consumers.items()]
        await much_happens(sim)
        await asyncio.sleep(60)
        assert not any(task.done() for task in following)
        for kind, consumer in consumers.items():
            told = list(consumer.known.values())
            assert sorted(told, key=lambda one: one.name) == sim.store.all(kind)
        assert consumers[Pod].kinds.count(ChangeKind.GAP) > 2
        assert cluster.faults["watch gap"] == sum(c.kinds.count(ChangeKind.GAP) for c in consumers.values())
        for task in following:
            task.cancel()

    _unreliable(check, Rates(watch_gap=0.2, watch_late=0.2, gap_seconds=0.2, late_seconds=0.1), seed=seed)


async def _follow(changes: AsyncIterator[Change], told: list[Change]) -> None:
    async for change in changes:
        told.append(change)  # noqa: PERF401 - one by one, as they come


def test_a_pod_that_was_replaced_in_a_gap_is_told_as_modified_since_a_list_knows_no_more() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        await sim.apply()
        told: list[Change] = []
        following = asyncio.create_task(_follow(cluster.watch(Pod, "default"), told))
        await asyncio.sleep(1)
        cluster.rates = replace(_on("watch_gap"), gap_seconds=100.0)
        await sim.delete(force=True)
        await asyncio.sleep(100)
        following.cancel()
        assert told[2:] == [
            Change(ChangeKind.GAP),
            Change(ChangeKind.MODIFIED, sim.pod()),
            Change(ChangeKind.SYNCED),
        ]

    _unreliable(check, Rates())


def test_events_come_twice_only_where_that_is_asked_for() -> None:
    async def check(sim: Simulated, cluster: UnreliableCluster) -> None:
        told: list[Change] = []
        following = asyncio.create_task(_follow(cluster.watch(Pod, "default"), told))
        await sim.apply()
        await asyncio.sleep(1)
        modified = [change for change in told if change.kind is ChangeKind.MODIFIED]
        assert modified[::2] == modified[1::2]
        assert len(modified) > 2
        following.cancel()

    _unreliable(check, _on("watch_twice"))


def test_nothing_switched_on_is_nothing_drawn() -> None:
    class NeverAsked(Random):
        def random(self) -> float:
            raise AssertionError("a fault that is off was drawn")

    async def check(sim: Simulated) -> None:
        cluster = UnreliableCluster(sim.cluster, NeverAsked(), Rates())
        await sim.apply()
        following = asyncio.create_task(Consumer().follow(cluster.watch(Pod, "default")))
        async with _session(sim, cluster) as session:
            await session.begin(b"{}")
            await session.store(FILES)
        await sim.delete()
        following.cancel()
        assert not cluster.faults
        assert cluster.kind == "sandbox"

    simulated(check)


async def _everything(sim: Simulated, cluster: UnreliableCluster) -> Sequence[str]:
    told: list[str] = []
    changes: list[Change] = []
    kinds: Sequence[Any] = (Pod, Claim, Node)
    following = [asyncio.create_task(_follow(cluster.watch(kind, ""), changes)) for kind in kinds]
    quiet, cluster.rates = cluster.rates, Rates()
    await sim.apply(3)
    cluster.rates = quiet
    for turn in range(30):
        try:
            async with _session(sim, cluster) as session:
                await session.begin(b"{}")
                told.append(repr(await session.store(FILES)))
                told.append(repr(await session.names()))
        except (ClusterError, ProbeError, TargetError) as error:
            told.append(repr(error))
        if turn % 10 == 9:
            await sim.delete(0)
    for task in following:
        task.cancel()
    return [*told, *map(repr, changes), repr(cluster.faults)]


def test_the_same_seed_breaks_the_same_things() -> None:
    runs = []

    async def keep(sim: Simulated, cluster: UnreliableCluster) -> None:
        runs.append(await _everything(sim, cluster))

    rates = Rates(**{field.name: 0.1 for field in fields(Rates) if not field.name.endswith("_seconds")})
    for seed in (3, 3, 4):
        _unreliable(keep, rates, seed=seed)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert len({run.split("'")[0] for run in runs[0]}) > 3
