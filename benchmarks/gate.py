"""The gate: how often it says yes to a storage with a planted fault, and no to one that keeps its word."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from benchmarks.figure import Figure
from chaosd.checkers import Value
from chaosd.cli import INCONCLUSIVE, PASS, VIOLATED, exit_code
from chaosd.drill.simulated import FILES, ROUNDS
from chaosd.simulation.healthy import Healthy, healthy
from chaosd.simulation.plants import CONTROLS, PLANTS
from chaosd.simulation.world import Outcome, Scenario, simulate

_GATES = 500
# Far beyond what any of them takes: what ends it is its coverage.
_TIME = "12h"


@dataclass(frozen=True, slots=True)
class _Held:
    """How one gate ended. `planted` is what was there to be found: a class, `unknown` of what cannot be seen, or
    nothing."""

    seed: int
    what: str
    planted: str
    code: int
    classes: tuple[str, ...]

    @property
    def false_pass(self) -> bool:
        return self.code == PASS and bool(self.planted)

    @property
    def false_fail(self) -> bool:
        return self.code == VIOLATED and self.planted in ("", Value.UNKNOWN)

    @property
    def undecided(self) -> bool:
        return self.code == INCONCLUSIVE and self.planted != Value.UNKNOWN


def measure() -> Iterator[Figure]:
    """Gates that run until they are covered, half of them on a storage with a fault; one core is left to others."""
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 1) - 1)) as pool:
        held = list(pool.map(_hold, range(_GATES), chunksize=5))
    planted, sound = [one for one in held if one.planted], [one for one in held if not one.planted]
    undecided = Counter(bool(one.planted) for one in held if one.undecided)
    codes = dict(sorted(Counter(one.code for one in held).items()))
    detail = (
        f"{len(planted)} with one of {len(PLANTS)} faults, of which {undecided[True]} could not be decided; {len(sound)} "
        f"healthy ones, half with every fault of the observer, of which {undecided[False]} could not; each required "
        f"{ROUNDS} rounds and every kind of disruption; exit codes {codes}"
    )
    for name, wrong in (
        ("said yes to a fault", [one for one in planted if one.false_pass]),
        ("said no to a sound storage", [one for one in held if one.false_fail]),
    ):
        named = ", ".join(f"seed {one.seed} {one.what}: {one.classes}" for one in islice(wrong, 5)) or "none"
        yield Figure(f"gates that {name}", len(wrong), f"of {_GATES}", f"{detail}; wrong: {named}", at_most=0)


def _hold(seed: int) -> _Held:
    """Of four seeds two have a planted fault, one is healthy, and one has every fault of the observer beside."""
    number = seed // 4
    if seed % 2:
        plant = PLANTS[(seed // 2) % len(PLANTS)]
        outcome = simulate(_gate(Scenario(seed, files=FILES, **plant.scenario)), plant.hook())
        return _held(seed, plant.what, str(plant.found_as), outcome)
    if seed % 4:
        run = healthy(number, ROUNDS)
        return _held(seed, "healthy, faults of the observer", "", replace(run, scenario=_gate(run.scenario)).simulate())
    control = CONTROLS[number % len(CONTROLS)]
    run = Healthy(_gate(Scenario(seed, files=FILES, **control.scenario)))
    return _held(seed, control.what, "", run.simulate())


def _held(seed: int, what: str, planted: str, outcome: Outcome) -> _Held:
    return _Held(seed, what, planted, exit_code(outcome.finished), tuple(outcome.classes))


def _gate(scenario: Scenario) -> Scenario:
    """The same, as a gate: it runs until what it requires was done."""
    experiment: Mapping[str, Any] = {
        **scenario.experiment,
        "rounds": None,
        "duration": _TIME,
        "require": {"rounds": ROUNDS, "disruptions": _kinds(scenario.disruptions), "replicas": 1, "records": FILES},
    }
    return replace(scenario, experiment=experiment)


def _kinds(disruptions: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {disruption["kind"]: 1 for disruption in disruptions}
