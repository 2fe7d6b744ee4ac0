"""Healthy runs: the storage keeps its word, and whatever else may go wrong between it and chaosd does."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from chaosd.cluster.sandbox import Timings
from chaosd.cluster.unreliable import Rates
from chaosd.generator import stream
from chaosd.simulation.world import Kill, Outcome, Scenario, World, simulate

FAULTS = Rates(
    request=0.02,
    lost_answer=0.01,
    slow=0.02,
    exec_open=0.02,
    exec_cut=0.01,
    exec_drop=0.02,
    exec_truncate=0.01,
    exec_split=0.1,
    watch_gap=0.005,
    watch_late=0.02,
    watch_twice=0.02,
)
# A run journals at least so many ops in each round, so that one of them is met.
_OPS_OF_A_ROUND = 100
_STEPS_SECONDS = (-3600.0, -20.0, 20.0, 3600.0)
_OUTLIVE_SECONDS = 3.0
# A container outlives its pod where that is deleted by force only.
_BY_FORCE = ({"kind": "pod-delete", "grace": 0, "weight": 3}, {"kind": "scale"})


@dataclass(frozen=True, slots=True)
class Healthy:
    """A healthy run. Its clock may step before each round, and its daemon be killed."""

    scenario: Scenario
    clock_steps: bool = False
    kills: tuple[Kill, ...] = ()

    def simulate(self) -> Outcome:
        """Run it to its end."""
        rng = stream(self.scenario.seed, "clock")
        return simulate(self.scenario, lambda world, _: self._step(world, rng), kills=self.kills)

    def _step(self, world: World, rng: random.Random) -> None:
        if self.clock_steps:
            world.clock.step(rng.choice(_STEPS_SECONDS))


def healthy(seed: int, rounds: int) -> Healthy:
    """With every fault of the observer: of four seeds one has these alone, one a clock that steps, one containers and
    probes that outlive what they belong to, and one a daemon that is killed."""
    rng = stream(seed, "healthy")
    scenario = Scenario(seed, rounds=rounds, rates=FAULTS)
    match seed % 4:
        case 1:
            return Healthy(scenario, clock_steps=True)
        case 2:
            timings = Timings(orphan=rng.uniform(0, _OUTLIVE_SECONDS), linger=rng.uniform(0, _OUTLIVE_SECONDS))
            disruptions = rng.choice([scenario.disruptions, _BY_FORCE])
            return Healthy(replace(scenario, disruptions=disruptions, timings=timings))
        case 3:
            return Healthy(scenario, kills=(Kill(rng.randrange(_OPS_OF_A_ROUND * rounds)),))
        case _:
            return Healthy(scenario)
