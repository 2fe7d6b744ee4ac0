"""How long recovery took, by kind of disruption and by phase: percentiles, and samples to compare runs by."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from chaosd.checkers import Panel
from chaosd.history import NEMESIS, OBSERVER, Kind, Op
from chaosd.nemesis import DISRUPTIONS

# What is kept of one kind and phase: beyond that a uniform sample.
SAMPLE = 10_000
CONVERGED = "converged"
_PERCENTILES = (50, 90, 95, 99)


class Sample:
    """So many of all seconds, each equally likely to be kept. Source: Vitter, "Random sampling with a reservoir" (1985),
    Algorithm R. The same seconds in the same order give the same sample."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.count = 0
        self.most = 0.0
        self._drawn = random.Random(SAMPLE)  # noqa: S311 - repeatable, not secret

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.most = max(self.most, seconds)
        if len(self.seconds) < SAMPLE:
            self.seconds.append(seconds)
        elif (place := self._drawn.randrange(self.count)) < SAMPLE:
            self.seconds[place] = seconds

    def as_json(self) -> dict[str, Any]:
        """Count, percentiles and maximum, in seconds; `sampled` where percentiles are of a sample."""
        ordered = sorted(self.seconds)
        told = {f"p{percent}": round(percentile(ordered, percent), 3) for percent in _PERCENTILES}
        return {"count": self.count, **told, "max": round(self.most, 3), "sampled": self.count > SAMPLE}


class Recoveries:
    """Folds disruptions and what the recovery checker sees."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[str, Sample]] = {}
        self._kind = ""
        self._began = 0.0

    def step(self, op: Op, panel: Panel) -> None:
        """Take in the next op, after the checkers did."""
        if op.process == NEMESIS:
            if op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
                self._kind, self._began = op.f, op.time
            elif op.f == "converge" and op.kind is not Kind.INVOKE:
                if self._kind and op.kind is Kind.OK:
                    self._add(CONVERGED, op.time - self._began)
                self._kind = ""
        elif op.process == OBSERVER and self._kind:
            for phase, seconds in panel.recovery.reached:
                self._add(phase, seconds)

    def as_json(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By kind of disruption, then by phase."""
        return {
            kind: {phase: sample.as_json() for phase, sample in phases.items()}
            for kind, phases in sorted(self.samples.items())
        }

    def seconds(self) -> Mapping[str, Sequence[float]]:
        """From each disruption until the target had converged, by kind."""
        return {kind: phases[CONVERGED].seconds for kind, phases in self.samples.items() if CONVERGED in phases}

    def _add(self, phase: str, seconds: float) -> None:
        self.samples.setdefault(self._kind, {}).setdefault(phase, Sample()).add(seconds)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in their order, with linear interpolation between the two nearest ranks. Source: Hyndman and Fan, "Sample
    quantiles in statistical packages" (1996), definition 7."""
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
