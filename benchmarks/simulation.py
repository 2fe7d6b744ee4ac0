"""The simulation: how fast rounds are simulated, whether planted faults are found, and whether healthy ones are let be."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any

from benchmarks.figure import Figure
from chaosd.drill.simulated import FILES, ROUNDS, drill
from chaosd.drill.table import Drilled
from chaosd.simulation.healthy import Healthy, healthy
from chaosd.simulation.killed import survive
from chaosd.simulation.plants import PLANTS
from chaosd.simulation.world import Scenario, simulate

_PLANTED = 1_000
# With observer faults some more, since those that are killed are shorter.
_HEALTHY_RUNS, _UNRELIABLE_RUNS, _HEALTHY_ROUNDS = 1_000, 1_280, 10
_SPEED_RUNS, _SPEED_ROUNDS = 12, 100
# Room for the files of one round, beside registers and log: each round reads all of them back, and lets them go.
_SHARE = {"bytes": 2 << 20, "files": 28}
_ONE_ROUNDS_FILES = {"workload": {"files": 20, "size": 4096, "share": _SHARE, "retireAfter": 1, "keep": 0.0}}
_CRASH_RUNS = 200
_KILLS = 1_000


def measure() -> Iterator[Figure]:
    """Rounds a second on all processors, and what of so many faults and healthy rounds is judged rightly."""
    with ProcessPoolExecutor() as pool:
        yield _speed(pool, "with 20 files read back", _ONE_ROUNDS_FILES, at_least=200)
        yield _speed(pool, "with up to 60 files read back", {}, at_least=None)
        yield _planted(pool)
        unreliable = [healthy(seed, _HEALTHY_ROUNDS) for seed in range(_UNRELIABLE_RUNS)]
        yield from _healthy(pool, "with observer faults", unreliable, at_least=95)
        reliable = [Healthy(Scenario(seed, rounds=_HEALTHY_ROUNDS)) for seed in range(_HEALTHY_RUNS)]
        yield from _healthy(pool, "without observer faults", reliable, at_least=100)
        yield from _crashes(pool)
        yield _killed(pool)


def _speed(pool: ProcessPoolExecutor, held: str, experiment: Mapping[str, Any], at_least: float | None) -> Figure:
    scenarios = [Scenario(seed, rounds=_SPEED_ROUNDS, experiment=experiment) for seed in range(_SPEED_RUNS)]
    began = time.perf_counter()
    runs = list(pool.map(_virtual_seconds, scenarios))
    seconds = time.perf_counter() - began
    rounds = _SPEED_RUNS * _SPEED_ROUNDS / seconds
    detail = (
        f"3 replicas, 20 new files on each, on {os.cpu_count()} processors, {rounds / (os.cpu_count() or 1):,.0f} on each; "
        f"virtual time is {sum(runs) / seconds:,.0f} times as fast as real time"
    )
    return Figure(f"simulation, rounds, {held}", rounds, "rounds/s", detail, at_least=at_least)


def _virtual_seconds(scenario: Scenario) -> float:
    return simulate(scenario).seconds


def _planted(pool: ProcessPoolExecutor) -> Figure:
    results = list(pool.map(_one_planted, range(_PLANTED), chunksize=10))
    right = sum(result.right for result in results)
    classes = {result.wanted for result in results}
    wrong = [f"seed {r.seed} {r.plant}: {r.found}" for r in results if not r.right]
    detail = (
        f"{_PLANTED} seeds, {len(PLANTS)} plants, {len(classes)} classes; wrong: {', '.join(islice(wrong, 5)) or 'none'}"
    )
    return Figure("planted faults found under their own name", right, f"of {_PLANTED}", detail, at_least=_PLANTED)


def _one_planted(seed: int) -> Drilled:
    return drill([PLANTS[seed % len(PLANTS)]], seed, 1)[0]


def _healthy(pool: ProcessPoolExecutor, name: str, runs: Sequence[Healthy], at_least: float) -> Iterator[Figure]:
    results = list(pool.map(_judged, runs, chunksize=10))
    rounds, decided, accused = (sum(column) for column in zip(*results, strict=True))
    killed, stepped = (sum(map(bool, column)) for column in zip(*((r.kills, r.clock_steps) for r in runs), strict=True))
    detail = (
        f"{decided} of {rounds} rounds; {len(runs)} runs, of which {killed} were killed, and {stepped} had clocks that step"
    )
    yield Figure(f"healthy rounds decided, {name}", 100 * decided / rounds, "%", detail, at_least=at_least)
    yield Figure(f"healthy runs accused, {name}", accused, f"of {len(runs)}", detail, at_most=0)


def _crashes(pool: ProcessPoolExecutor) -> Iterator[Figure]:
    for lying in (False, True):
        crash = ({"kind": "pod-delete"},)
        runs = (
            Healthy(Scenario(seed, rounds=ROUNDS, files=FILES, disruptions=crash, crashes=100, lying=lying))
            for seed in range(_CRASH_RUNS)
        )
        accused = sum(column[2] for column in pool.map(_judged, runs, chunksize=10))
        kind, limit = ("lying", {"at_least": _CRASH_RUNS}) if lying else ("honest", {"at_most": 0})
        detail = f"each with up to {ROUNDS} crashes of nodes with {kind} disks in the middle of writing"
        yield Figure(f"runs accused, {kind} crashes", accused, f"of {_CRASH_RUNS}", detail, **limit)


def _killed(pool: ProcessPoolExecutor) -> Figure:
    results = list(pool.map(survive, range(_KILLS), chunksize=10))
    wrong = [f"seed {result.seed}: {result.wrong[0]}" for result in results if result.wrong]
    twice = sum(len(result.kills) > 1 for result in results)
    verdicts = Counter(str(result.verdict) for result in results)
    detail = (
        f"{sum(result.acknowledged for result in results):,} records were acknowledged before; {twice} were killed again "
        f"while they started; {dict(sorted(verdicts.items()))}; wrong: {', '.join(islice(wrong, 5)) or 'none'}"
    )
    return Figure(
        "runs that survived kill -9 of chaosd", len(results) - len(wrong), f"of {_KILLS}", detail, at_least=_KILLS
    )


def _judged(run: Healthy) -> tuple[int, int, int]:
    """Rounds that should have ended, those that were decided, and whether anything was accused."""
    outcome = run.simulate()
    return run.scenario.rounds, outcome.rounds_decided, bool(outcome.judgement.violations)
