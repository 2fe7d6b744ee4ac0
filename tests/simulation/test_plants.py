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
    outcome, unseen = run(plant, seed), plant.found_as is Value.UNKNOWN
    assert outcome.classes == [plant.found_as] * (not unseen), [dict(v.evidence) for v in outcome.judgement.violations]
    assert outcome.judgement.value is (Value.UNKNOWN if unseen else Value.FAIL)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("plant", CONTROLS, ids=lambda plant: plant.what)
def test_a_healthy_run_beside_them_raises_nothing(plant: SimulatedPlant, seed: int) -> None:
    outcome = run(plant, seed)
    assert (outcome.classes, outcome.judgement.value) == ([], Value.PASS), outcome.judgement.unknowns


def test_every_class_has_a_plant() -> None:
    assert {plant.found_as for plant in PLANTS} == {*Class, Value.UNKNOWN}


def planted(what: str, seed: int = FRESH) -> Outcome:
    return run(next(plant for plant in PLANTS if plant.what == what), seed)


def test_an_end_of_a_log_that_went_back_is_called_so() -> None:
    (found,) = planted("the end of a log goes back, and what comes after is appended there").judgement.violations
    assert found.evidence["condition"] == "rewound end"


def test_a_write_that_went_astray_names_where_it_belongs() -> None:
    (found,) = planted("a write lands in another file").judgement.violations
    assert found.evidence["state"] == "misdirected"
    assert found.evidence["names_itself"]["file"] != found.file.rpartition("/")[2]


def test_what_a_lying_disk_lost_are_consequences_of_its_going_back_in_time() -> None:
    (found,) = planted("a disk that lied about flushes loses its power").judgement.violations
    assert "lost" in {consequence["class"] for consequence in found.evidence["consequences"]}


def test_a_reading_that_another_one_contradicts_is_unknown_and_says_so() -> None:
    unknowns = planted("a bit is wrong in one reading").judgement.unknowns
    assert [unknown.missing for unknown in unknowns] == ["1 readings of files gave two different answers in a row"]


def test_what_the_targets_own_policies_allow_is_told_and_no_fault() -> None:
    by_policy = {plant.what: run(plant, 1).judgement for plant in CONTROLS}
    deleted = by_policy["nothing: whenScaled: Delete"].by_policy
    assert [line.partition(": ")[2] for line in deleted] == ["deleted on scale-down, as whenScaled: Delete asks"] * 3
    parallel = by_policy["nothing: podManagementPolicy: Parallel"].not_applicable
    assert "podManagementPolicy is Parallel: no order is promised" in parallel
