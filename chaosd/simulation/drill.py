"""The drill: every fault is planted, and must be found under its own name; healthy runs beside them must raise nothing.

Whoever watched that has a reason to trust a pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from chaosd.checkers.verdict import Value
from chaosd.errors import UsageError
from chaosd.history import RUN, Kind, Op
from chaosd.simulation.plants import CONTROLS, PLANTED_AT, PLANTS, Plant
from chaosd.simulation.world import Outcome, Scenario, simulate

ROUNDS = 7
FILES = 8


@dataclass(frozen=True, slots=True)
class Drilled:
    """One plant in one run: under which names it was found (all that was reported, sorted), after how many rounds and how
    much time it was first, and how long that took here. A control has no class, and must report nothing."""

    plant: str
    wanted: str
    found: tuple[str, ...]
    verdict: str
    seed: int
    rounds: int | None
    simulated_seconds: float | None
    real_seconds: float

    @property
    def right(self) -> bool:
        """Found under its right name and no other; or of a control, decided and nothing found."""
        if self.wanted:
            return self.found == (self.wanted,)
        return not self.found and self.verdict == Value.PASS


def chosen(classes: Sequence[str]) -> list[Plant]:
    """The plants of these classes, and the controls; all, where none is named. Raises UsageError for a class that cannot be
    planted."""
    known = dict.fromkeys(str(plant.found_as) for plant in PLANTS)
    if unknown := [name for name in classes if name not in known]:
        raise UsageError(f"--class {unknown[0]}: no such class can be planted: there are {', '.join(known)}")
    return [plant for plant in PLANTS if not classes or str(plant.found_as) in classes] + list(CONTROLS)


def drill(
    plants: Sequence[Plant], seed: int, count: int, done: Callable[[Drilled], None] = lambda _: None
) -> list[Drilled]:
    """Plant each `count` times, in runs with seeds of their own from `seed` on."""
    results = []
    for plant in plants:
        for number in range(seed, seed + count):
            results.append(_drilled(plant, number))
            done(results[-1])
    return results


def table(results: Sequence[Drilled]) -> str:
    """A line for each plant, a summary, and what is said of the whole."""
    by_plant: dict[str, list[Drilled]] = {}
    for result in results:
        by_plant.setdefault(result.plant, []).append(result)
    rows = [_HEADINGS, *(_row(of_one) for of_one in by_plant.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_summary(results)])


_HEADINGS = ("CLASS", "PLANTED", "FOUND AS", "RIGHT", "ROUNDS", "SIMULATED s", "TOOK s")


def _row(results: Sequence[Drilled]) -> tuple[str, ...]:
    """Of one plant, however often it was planted; times are the longest."""
    found = sorted({" + ".join(result.found) or result.verdict for result in results})
    rounds = [result.rounds for result in results if result.rounds is not None]
    seconds = [result.simulated_seconds for result in results if result.simulated_seconds is not None]
    return (
        results[0].wanted or "-",
        results[0].plant,
        ", ".join(found),
        f"{sum(result.right for result in results)}/{len(results)}",
        str(max(rounds)) if rounds else "-",
        f"{max(seconds):.1f}" if seconds else "-",
        f"{max(result.real_seconds for result in results):.2f}",
    )


def _summary(results: Sequence[Drilled]) -> Iterator[str]:
    planted = [result for result in results if result.wanted]
    healthy = [result for result in results if not result.wanted]
    yield f"{sum(result.right for result in planted)} of {len(planted)} planted faults were found under their own name"
    yield f"{sum(result.right for result in healthy)} of {len(healthy)} healthy runs raised nothing"
    for result in results:
        if not result.right:
            found = " + ".join(result.found) or "nothing"
            yield f"WRONG: seed {result.seed}: {result.plant}: found {found}, verdict {result.verdict}"
    seeds = sorted({result.seed for result in results})
    yield (
        f"on a simulated cluster; seeds {seeds[0]} to {seeds[-1]}"
        if len(seeds) > 1
        else (f"on a simulated cluster; seed {seeds[0]}")
    )


def _drilled(plant: Plant, seed: int) -> Drilled:
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
        simulated_seconds=seconds,
        real_seconds=took,
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
