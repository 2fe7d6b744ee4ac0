"""What a scrape of a daemon with 100 targets of 3 replicas takes, each as after some rounds of a soak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from benchmarks.figure import Figure
from chaosd import server
from chaosd.checkers import Panel
from chaosd.cluster.target import Target
from chaosd.experiment import load
from chaosd.metrics import Metrics, TargetMetrics
from chaosd.simulation.world import Scenario, simulate

_TARGETS, _REPLICAS, _SCRAPES = 100, 3, 9
_TARGET = Target("default", "web-00", "uid", "nginx", "/data", "disk-ssd", _REPLICAS, 0)
_SOAK = load(Path(__file__).resolve().parents[1] / "experiments" / "soak.yaml")


def measure() -> Iterator[Figure]:
    """Time and size of a scrape, and for how long nothing else happens."""
    metrics, owed = _after_rounds()
    seconds, first, size, series, stalled = asyncio.run(_scraped(metrics))
    detail = f"the median of {_SCRAPES}; the first one took {first * 1000:.0f} ms; {owed:,} records are owed"
    yield Figure("a scrape of 100 targets of 3 replicas", seconds * 1000, "ms", detail, at_most=100)
    yield Figure("its size", size / 1e6, "MB", f"{series:,} series", at_most=2)
    yield Figure(
        "its longest part, in which nothing else happens", stalled * 1000, "ms", "first scrape left out", at_most=50
    )


def _after_rounds() -> tuple[Metrics, int]:
    """Every series that a soak has, from one simulated soak that is told of each target."""
    metrics, panel = Metrics(CollectorRegistry()), Panel()
    targets = [replace(_TARGET, statefulset=f"web-{number:02}") for number in range(_TARGETS)]
    told = [TargetMetrics(metrics, target, _SOAK, panel) for target in targets]
    for op in simulate(Scenario(seed=1, rounds=6, files=250)).ops:
        panel.step(op)
        for one in told:
            one.record(op)
    for target in targets:
        metrics.ended(target.key, _SOAK.name, "pass", 1.7e9)
        metrics.due(target.key, _SOAK.name, 1.7e9)
        metrics.held_until.labels(target.namespace, target.statefulset).set(1.7e9)
    expected = sum(d.series for d in metrics.declared if d.each == "experiment") * _TARGETS
    assert expected, "verdicts are told of experiments"
    return metrics, _TARGETS * sum(len(replica.owed) for replica in panel.integrity.replicas.values())


async def _scraped(metrics: Metrics) -> tuple[float, float, int, int, float]:
    """Median and first seconds, bytes, series, and the longest stall of the loop in seconds."""
    stalls: list[float] = []
    took: list[float] = []
    text = ""
    routes = server.own_routes(metrics.texts, lambda: "")
    async with server.serving("127.0.0.1:0", routes) as address, aiohttp.ClientSession() as client:
        for number in range(_SCRAPES + 1):
            watching = asyncio.create_task(_watch(stalls if number else []))
            for target in metrics._running.values():
                target._latest += 1  # something happened to each since
            began = time.perf_counter()
            async with client.get(f"{address}/metrics") as answer:
                text = await answer.text()
            took.append(time.perf_counter() - began)
            watching.cancel()
    first, *later = took
    series = sum(1 for line in text.splitlines() if not line.startswith("#"))
    return sorted(later)[len(later) // 2], first, len(text.encode()), series, max(stalls)


async def _watch(stalls: list[float]) -> None:
    before = time.perf_counter()
    while True:
        await asyncio.sleep(0)
        now = time.perf_counter()
        stalls.append(now - before)
        before = now
