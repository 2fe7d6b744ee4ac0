"""The status page of a daemon with 100 targets of 3 replicas, each in the middle of a soak: how soon it is painted, how
soon an op is told and painted once it is in the ledger, and what ten open pages take of the daemon."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp

from benchmarks.figure import Figure
from chaosd import server
from chaosd.checkers import Panel
from chaosd.cluster.target import Target
from chaosd.daemon.status import Teller
from chaosd.daemon.supervisor import Followed, State
from chaosd.experiment import load
from chaosd.history import Kind, Op
from chaosd.ledger import Run
from chaosd.nemesis import DISRUPTIONS
from chaosd.report.recoveries import percentile
from chaosd.simulation.world import Scenario, simulate
from chaosd.status.feed import Feed
from chaosd.status.routes import routes
from chaosd.status.run_status import RunStatus
from tests.browser import Tab, browser

_TARGETS, _REPLICAS, _PAGES = 100, 3, 10
_ROUND_SECONDS = 30.0  # such as where pods take their time
_SECONDS = 30.0
_SOAK = load(Path(__file__).resolve().parents[1] / "experiments" / "soak.yaml")
# Each disruption's words tell when it was journaled, in ms since the epoch.
_STAMP = re.compile(rb"at-(\d{13})")
_TOOK = """window.took = []; const stamps = text => [...text.matchAll(/at-(\\d{13})/g)].map(found => found[1]);
const known = new Set(stamps(document.body.innerHTML));
source.addEventListener("status", event => {
  const now = [...new Set(stamps(event.data))].filter(stamp => !known.has(stamp));
  now.forEach(stamp => known.add(stamp));
  requestAnimationFrame(() => requestAnimationFrame(() => now.forEach(stamp => took.push(Date.now() - stamp))));
})"""
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@dataclass
class _Measured:
    first_paint: float = 0.0  # ms
    told: list[float] = field(default_factory=list)  # ms, from when an op was journaled until a stream had it
    took: list[float] = field(default_factory=list)  # ms, until it was painted
    alone: float = 0.0  # cores
    watched: float = 0.0
    page_bytes: int = 0
    changes: float = 0.0  # events of a stream in a second


def measure() -> Iterator[Figure]:
    """First paint, an update, and cores."""
    found = asyncio.run(_measured())
    size = f"{found.page_bytes / 1024:.0f} KiB of HTML"
    yield Figure(f"first paint of {_TARGETS} targets of {_REPLICAS} replicas", found.first_paint, "ms", size, at_most=1000)
    for until, took in (("its event on the wire", found.told), ("its paint", found.took)):
        many = (
            f"the median of {len(took)}; 95 % within {percentile(sorted(took), 95):.0f} ms, the slowest {max(took):.0f} ms"
        )
        yield Figure(f"an update, from an op in the ledger to {until}", statistics.median(took), "ms", many, at_most=200)
    detail = (
        f"{found.watched * 100:.1f} % of a core with {_PAGES} open pages, {found.alone * 100:.1f} % with none, a round "
    )
    detail += f"of each target in {_ROUND_SECONDS:.0f} s; {found.changes:.1f} updates a second to each page"
    yield Figure(f"what {_PAGES} open pages take", (found.watched - found.alone) * 100, "% of a core", detail, at_most=5)


async def _measured() -> _Measured:
    found = _Measured()
    here, there = multiprocessing.Pipe()
    daemon = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    daemon.start()
    there.close()  # so that its end is seen if it dies
    try:
        address = await asyncio.to_thread(here.recv)
        found.alone = await _cores(here)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            async with browser(Path(folder)) as tab, _streams(address, _PAGES - 1) as streams:
                await _watch(tab, address, found)
                before = sum(stream.count for stream in streams)
                found.watched = await _cores(here)
                found.changes = (sum(stream.count for stream in streams) - before) / len(streams) / _SECONDS
                found.told = [took for stream in streams for took in stream.told]
                found.took = await tab.run("took")
                found.page_bytes = await tab.run("fetch('./').then(a => a.text()).then(t => t.length)")
    finally:
        with suppress(BrokenPipeError):
            here.send("end")
        await asyncio.to_thread(daemon.join)
    return found


async def _watch(tab: Tab, address: str, found: _Measured) -> None:
    """The median of some first paints, and then an open page."""
    paints = []
    for _ in range(5):
        await tab.open(address)
        paints.append(await tab.until(_PAINTED))
    found.first_paint = statistics.median(paints)
    await tab.until("document.getElementById('connection').textContent === 'Live'")
    await tab.run(_TOOK)


class _Stream:
    """A page that only takes what it is sent: how many events, and how long, in ms, ops took to be among them."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[float] = []
        self._known: set[bytes] = set()

    def take(self, line: bytes) -> None:
        """The next line."""
        self.count += line.startswith(b"event: status")
        new = set(_STAMP.findall(line)) - self._known
        if self.count > 1:  # the first tells what was so before
            self.told += (time.time() * 1000 - int(stamp) for stamp in new)
        self._known |= new


@asynccontextmanager
async def _streams(address: str, count: int) -> AsyncIterator[list[_Stream]]:
    """So many pages."""
    streams = [_Stream() for _ in range(count)]

    async def take(stream: _Stream) -> None:
        async with client.get(f"{address}/events") as answer:
            async for line in answer.content:
                stream.take(line)

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 22) as client:
        taking = [asyncio.create_task(take(stream)) for stream in streams]
        yield streams
        for one in taking:
            one.cancel()
        await asyncio.gather(*taking, return_exceptions=True)


async def _cores(daemon: Connection) -> float:
    async def used() -> Any:
        daemon.send("cpu")
        return await asyncio.to_thread(daemon.recv)

    before, began = await used(), time.perf_counter()
    await asyncio.sleep(_SECONDS)
    return float((await used() - before) / (time.perf_counter() - began))


def _serve(pipe: Connection) -> None:
    """The daemon, in a process of its own."""
    asyncio.run(_daemon(pipe, simulate(Scenario(seed=1, rounds=6, files=20, replicas=_REPLICAS)).ops))


async def _daemon(pipe: Connection, ops: Sequence[Op]) -> None:
    panel, teller = Panel(), Teller()
    for op in ops:
        panel.step(op)
    supervisors = [_supervisor(number, panel) for number in range(_TARGETS)]
    feed = Feed(lambda at: teller.status(supervisors, {}, "", at))
    async with server.serving("127.0.0.1:0", routes(feed)) as address, feed.open():
        playing = [asyncio.create_task(_play(one.followed.status, feed, ops, n)) for n, one in enumerate(supervisors)]
        pipe.send(address)
        while await asyncio.to_thread(pipe.recv) == "cpu":
            pipe.send(time.process_time())
        for one in playing:
            one.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


def _supervisor(number: int, panel: Panel) -> Any:
    """What the status looks at of one."""
    name = f"web-{number:02}"
    target = Target("default", "web", name, "nginx", "/data", "disk-ssd", _REPLICAS, 0)
    run = Run(number, f"RUN{number}", name, "{}", 7, f"default/{name}", "kubernetes v1.37.2", "c", time.time())
    followed = Followed(run, RunStatus(target, panel, lambda _: None, 1, time.time()))
    experiment = _SOAK.model_copy(update={"name": name})
    return SimpleNamespace(
        experiment=experiment,
        target=run.target,
        state=State.RUNNING,
        why="",
        followed=followed,
        recalled=None,
        due_at=None,
        under_way=run,
    )


async def _play(told: RunStatus, feed: Feed, ops: Sequence[Op], number: int) -> None:
    """Tell the ops of a simulated soak, again and again, at the pace of a real one, as the journal tells those that are
    durable; those of data in the time that is theirs."""
    await asyncio.sleep(_ROUND_SECONDS * number / _TARGETS)
    rounds = sum(op.f == "round" and op.kind == "ok" for op in ops)
    seen = [op for op in ops if op.f not in ("write", "read", "delete", "list")]
    pause = _ROUND_SECONDS * rounds / len(seen)
    while True:
        for op in seen:
            before = told.changes
            told.record(_stamped(op, time.time()))
            if told.changes != before:
                feed.changed()
            await asyncio.sleep(pause)


def _stamped(op: Op, now: float) -> Op:
    is_disruption = op.f in DISRUPTIONS and op.kind is Kind.INVOKE
    return op._replace(time=now, value={**op.value, "takes": [f"at-{now * 1000:.0f}"]} if is_disruption else op.value)
