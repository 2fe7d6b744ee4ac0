"""What a drill shows: a table of what was planted, and under which names it was found."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TypeVar

from chaosd.checkers.verdict import Class, Value
from chaosd.errors import UsageError
from chaosd.simulation.fault import Fault

Planted = TypeVar("Planted", bound=Fault)


@dataclass(frozen=True, slots=True)
class Drilled:
    """One plant in one run: under which names it was found (all that was reported, sorted), after how many rounds and how
    much time it was first, and how long the run took here. A control has no class, and must report nothing. `report` is
    where more is told of it, empty where nothing is kept."""

    plant: str
    wanted: str
    found: tuple[str, ...]
    verdict: str
    seed: int
    rounds: int | None
    seconds: float | None
    took_seconds: float
    report: str = ""

    @property
    def right(self) -> bool:
        """Found under its right name and no other; of what cannot be seen, undecided; of a control, decided and nothing
        found."""
        if self.wanted == Value.UNKNOWN:
            return self.undecided
        if self.wanted:
            return self.found == (self.wanted,)
        return not self.found and self.verdict == Value.PASS

    @property
    def undecided(self) -> bool:
        """Nothing found, and not everything seen."""
        return not self.found and self.verdict == Value.UNKNOWN


def chosen(plants: Sequence[Planted], classes: Sequence[str], where: str) -> list[Planted]:
    """The plants of these classes, and the controls; all, where no class is named. Raises UsageError for a class that is
    not planted `where` that is."""
    known = dict.fromkeys(str(plant.found_as) for plant in plants if plant.found_as)
    if unknown := [name for name in classes if name not in known]:
        raise UsageError(f"--class {unknown[0]}: no such class can be planted {where}: there are {', '.join(known)}")
    return [plant for plant in plants if not (classes and plant.found_as) or str(plant.found_as) in classes]


def not_planted(plants: Sequence[Fault]) -> list[Class]:
    """The classes that none of the plants has."""
    return [failure for failure in Class if failure not in {plant.found_as for plant in plants}]


def as_json(results: Sequence[Drilled]) -> str:
    """A list with an object for each plant, and whether it was judged rightly."""
    return json.dumps([{**asdict(result), "right": result.right} for result in results], indent=2)


def table(results: Sequence[Drilled], where: str, not_planted: Sequence[Class] = (), width: int | None = None) -> str:
    """A line for each plant and for each class that was `not_planted`, a summary, and `where` it was drilled. In a `width`
    that is too small the least columns are left out, and the plants' words are wrapped."""
    by_plant: dict[str, list[Drilled]] = {}
    for result in results:
        by_plant.setdefault(result.plant, []).append(result)
    planted = [_row(of_one) for of_one in by_plant.values() if of_one[0].wanted]
    healthy = [_row(of_one) for of_one in by_plant.values() if not of_one[0].wanted]
    absent = [(str(failure), "not planted here", *("-" for _ in _HEADINGS[2:])) for failure in not_planted]
    rows = [_HEADINGS, *planted, *absent, *healthy]
    return "\n".join([*_laid_out(rows, width), "", *_summary(results, where, not_planted)])


_HEADINGS = ("CLASS", "PLANTED", "FOUND AS", "RIGHT", "ROUNDS", "AFTER s", "TOOK s")
_PLANTED, _LEAST = 1, ("TOOK s", "ROUNDS")
_NARROWEST_PLANTED = 20


def _row(results: Sequence[Drilled]) -> tuple[str, ...]:
    """Of one plant, however often it was planted; times are the longest."""
    found = sorted({" + ".join(result.found) or result.verdict for result in results})
    rounds = [result.rounds for result in results if result.rounds is not None]
    seconds = [result.seconds for result in results if result.seconds is not None]
    return (
        results[0].wanted or "-",
        results[0].plant,
        ", ".join(found),
        f"{sum(result.right for result in results)}/{len(results)}",
        str(max(rounds)) if rounds else "-",
        f"{max(seconds):.1f}" if seconds else "-",
        f"{max(result.took_seconds for result in results):.2f}",
    )


def _laid_out(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    columns = list(zip(*rows, strict=True))
    for name in _LEAST:
        if width is not None and _width(columns) > width:
            columns = [column for column in columns if column[0] != name]
    widths = [max(map(len, column)) for column in columns]
    if width is not None:
        surplus = max(0, _width(columns) - width)
        widths[_PLANTED] = min(widths[_PLANTED], max(_NARROWEST_PLANTED, widths[_PLANTED] - surplus))
    for row in zip(*columns, strict=True):
        wrapped = textwrap.wrap(row[_PLANTED], widths[_PLANTED])
        cells = [[cell] if number != _PLANTED else wrapped for number, cell in enumerate(row)]
        for line in zip_longest(*cells, fillvalue=""):
            yield "  ".join(cell.ljust(wide) for cell, wide in zip(line, widths, strict=True)).rstrip()


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def _summary(results: Sequence[Drilled], where: str, not_planted: Sequence[Class]) -> Iterator[str]:
    planted = [result for result in results if result.wanted]
    healthy = [result for result in results if not result.wanted]
    yield f"{sum(result.right for result in planted)} of {len(planted)} planted faults were found under their own name"
    yield f"{sum(result.right for result in healthy)} of {len(healthy)} healthy runs raised nothing"
    if not_planted:
        yield f"{len(not_planted)} classes can be planted in a simulated cluster only: chaosd drill --cluster sandbox"
    for result in results:
        if not result.right:
            found = " + ".join(result.found) or "nothing"
            more = f": {result.report}" if result.report else ""
            yield f"WRONG: seed {result.seed}: {result.plant}: found {found}, verdict {result.verdict}{more}"
    seeds = sorted({result.seed for result in results})
    yield f"{where}; " + (f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}")
