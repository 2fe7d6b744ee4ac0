"""What a run must have done before its pass counts: a pass of a run that did little says little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chaosd.history import DRILL, RUN, Event, Kind
from chaosd.nemesis import DISRUPTIONS
from chaosd.quantities import Bytes, Percent, of_whole


class Drilled(Protocol):
    """What came of a planted fault: the class that was `wanted`, and whether the answer was `right`."""

    @property
    def wanted(self) -> str:
        """The class; something else of what must be unknown, and empty of controls."""

    @property
    def right(self) -> bool:
        """Whether it was found under its own name and no other."""


def drilled(results: Sequence[Drilled]) -> Event:
    """What a drill just before a run found, for its history."""
    missed = sorted({result.wanted or "healthy" for result in results if not result.right})
    return Event(RUN, DRILL, Kind.OK, {"planted": len(results), "missed": missed})


_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of them: what is `wanted` and what was `found`, as numbers, and the same in `words`."""

    name: str
    wanted: float
    found: float
    words: str

    @property
    def met(self) -> bool:
        """Whether that is enough."""
        return self.found >= self.wanted

    @property
    def share(self) -> float:
        """How much of it there is, from 0 to 1."""
        return min(1.0, self.found / self.wanted) if self.wanted else 1.0


@dataclass(frozen=True, slots=True)
class Left:
    """How many seconds it takes, at the pace so far, until everything is met; `at_least` where there is nothing yet of
    something, so that nobody knows when."""

    seconds: float
    at_least: bool


class Pace:
    """How fast requirements are met, from a first look at them on. Times are in seconds on any one clock."""

    def __init__(self, required: Iterable[Requirement], now: float) -> None:
        self._first = {one.name: one.share for one in required}
        self._began = now

    def left(self, required: Iterable[Requirement], now: float) -> Left | None:
        """Until the last of them is met; None where all are, or nothing tells."""
        seconds, unmet = now - self._began, [one for one in required if one.share < 1]
        gained = [(one.share - self._first.get(one.name, 0.0), 1 - one.share) for one in unmet]
        awaited = [seconds * missing / gain for gain, missing in gained if gain > 0]
        return Left(max(awaited), at_least=len(awaited) < len(unmet)) if awaited else None


class Requirements(BaseModel):
    """The coverage that an experiment asks for; where it is less, the verdict is `unknown` and says what is missing."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    rounds: Annotated[_Count | None, Field(description="Rounds, or steps of a script.")] = None
    disruptions: Annotated[
        dict[str, _Count], Field(description="By kind, how many that really happened, such as {pod-delete: 3}.")
    ] = {}
    replicas: Annotated[
        _Count | Percent | None, Field(description="Replicas that a disruption hit, as a number or a share such as 100%.")
    ] = None
    records: Annotated[_Count | None, Field(description="Records that were read back intact.")] = None
    size: Annotated[Bytes | None, Field(alias="bytes", ge=1, description="Bytes of these, such as 1Gi.")] = None
    cold: Annotated[Percent | None, Field(description="Share of these readings that went past the page cache.")] = None
    node_moves: Annotated[
        _Count | None, Field(alias="nodeMoves", description="How often a replica came back on another node.")
    ] = None
    scaled_to_zero: Annotated[
        _Count | None, Field(alias="scaledToZero", description="How often all replicas were gone at once by scaling.")
    ] = None
    crashes: Annotated[_Count | None, Field(description="Crashes of nodes or disks: only these test fsync.")] = None
    drill: Annotated[bool, Field(description="That this chaosd was seen to find planted faults just before.")] = False

    @field_validator("disruptions")
    @classmethod
    def _known(cls, disruptions: dict[str, int]) -> dict[str, int]:
        for kind in disruptions:
            if kind not in DISRUPTIONS:
                raise ValueError(f"no disruption is called {kind!r}: there are {', '.join(DISRUPTIONS)}")
        return disruptions

    def judged(self, coverage: Mapping[str, Any], replicas: int) -> Iterator[Requirement]:
        """Each that is asked for, of coverage as it stands in `verdict.json`, on a target of so many replicas."""
        cold, cached = coverage["records_verified_cold"], coverage["records_verified_cached"]
        counts = (
            ("rounds", self.rounds, coverage["rounds"]),
            *((f"disruptions {kind}", n, coverage["disruptions"].get(kind, 0)) for kind, n in self.disruptions.items()),
            ("replicas hit", self.replicas, len(coverage["replicas_hit"])),
            ("records verified", self.records, cold + cached),
            ("bytes verified", self.size, coverage["bytes_verified"]),
            ("moves to another node", self.node_moves, coverage["node_moves"]),
            ("scalings to zero", self.scaled_to_zero, coverage["scaled_to_zero"]),
            ("crashes", self.crashes, coverage["crashes"]),
        )
        for name, wanted, found in counts:
            if wanted is not None:
                least = wanted if isinstance(wanted, int) else max(1, of_whole(wanted, replicas))
                yield Requirement(name, least, found, f"{name}: {found:,} of {least:,}")
        if self.cold is not None:
            share = 100 * cold / max(1, cold + cached)
            yield Requirement(
                "cold readings", of_whole(self.cold, 100), share, f"cold readings: {share:.0f}% of {self.cold}"
            )
        if self.drill:
            passed = coverage["drill_passed"]
            yield Requirement("drill", 1, int(passed), f"drill: {'passed' if passed else 'not passed, or not done'}")
