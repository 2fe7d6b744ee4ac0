"""Every fault that can be planted in a simulated cluster is found under its own name; what is none is not accused."""

from __future__ import annotations

import pytest

from chaosd.checkers.verdict import Class, Value
from chaosd.drill.simulated import FILES, ROUNDS
from chaosd.simulation.plants import CONTROLS, PLANTS, SimulatedPlant
from chaosd.simulation.world import Outcome, Scenario, simulate
from tests.seeds import FRESH

SEEDS = (1, FRESH)


def run(plant: SimulatedPlant, seed: int) -> Outcome:
    return simulate(Scenario(seed, rounds=ROUNDS, files=FILES, **plant.scenario), plant.hook())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.what)
def test_a_planted_fault_is_found_under_its_own_name_and_no_other(plant: SimulatedPlant, seed: int) -> None:
    outcome = run(plant, seed)
    assert outcome.classes == [plant.found_as], [dict(v.evidence) for v in outcome.judgement.violations]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.what)
def test_a_healthy_run_beside_them_raises_nothing(plant: SimulatedPlant, seed: int) -> None:
    outcome = run(plant, seed)
    assert (outcome.classes, outcome.judgement.value) == ([], Value.PASS), outcome.judgement.unknowns


def test_every_class_has_a_plant() -> None:
    assert {plant.found_as for plant in PLANTS} == set(Class)


def test_what_the_targets_own_policies_allow_is_told_and_no_fault() -> None:
    by_policy = {plant.what: run(plant, 1).judgement for plant in CONTROLS}
    deleted = by_policy["nothing: whenScaled: Delete"].by_policy
    assert [line.partition(": ")[2] for line in deleted] == ["deleted on scale-down, as whenScaled: Delete asks"] * 3
    parallel = by_policy["nothing: podManagementPolicy: Parallel"].not_applicable
    assert "podManagementPolicy is Parallel: no order is promised" in parallel
