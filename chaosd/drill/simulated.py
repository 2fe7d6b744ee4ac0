"""The drill in simulated clusters: every class of failure, each plant in a run of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from chaosd.drill import table
from chaosd.drill.table import Drilled
from chaosd.history import RUN, Kind, Op
from chaosd.simulation import plants
from chaosd.simulation.plants import PLANTED_AT, SimulatedPlant
from chaosd.simulation.world import Outcome, Scenario, simulate

ROUNDS = 7
FILES = 8
WHERE = "on a simulated cluster; AFTER: of its own time"


def chosen(classes: Sequence[str]) -> list[SimulatedPlant]:
    """The plants of these classes, and the healthy runs; all, where no class is named. Raises UsageError."""
    return table.chosen([*plants.PLANTS, *plants.CONTROLS], classes, "in a simulated cluster")


def drill(
    planted: Sequence[SimulatedPlant], seed: int, count: int, done: Callable[[Drilled], None] = lambda _: None
) -> list[Drilled]:
    """Plant each `count` times, in runs with seeds of their own from `seed` on."""
    results = []
    for plant in planted:
        for number in range(seed, seed + count):
            results.append(_drilled(plant, number))
            done(results[-1])
    return results


def _drilled(plant: SimulatedPlant, seed: int) -> Drilled:
    began = time.perf_counter()
    outcome = simulate(Scenario(seed, rounds=ROUNDS, files=FILES, **plant.scenario), plant.hook())
    took = time.perf_counter() - began
    rounds, seconds = _detection(outcome)
    return Drilled(
        plant=plant.what,
        wanted=str(plant.found_as or ""),
        found=tuple(outcome.classes),
        verdict=str(outcome.judgement.value),
        seed=seed,
        rounds=rounds,
        seconds=seconds,
        took_seconds=took,
    )


def _detection(outcome: Outcome) -> tuple[int | None, float | None]:
    """Rounds and simulated seconds from the planting to the first op that showed the fault."""
    if not outcome.judgement.violations:
        return None, None
    shown = outcome.ops[min(violation.index for violation in outcome.judgement.violations)]
    began = {op.value["round"]: op for op in _rounds(outcome)}
    planted = began[PLANTED_AT]
    rounds = max(number for number, op in began.items() if op.index <= max(shown.index, planted.index))
    return rounds - PLANTED_AT + 1, max(0.0, round(shown.time - planted.time, 3))


def _rounds(outcome: Outcome) -> Iterator[Op]:
    return (op for op in outcome.ops if op.process == RUN and op.f == "round" and op.kind is Kind.INVOKE)
