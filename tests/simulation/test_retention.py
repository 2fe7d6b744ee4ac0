"""A run whose old rounds are compacted decides, finds and tells what it would have otherwise, however often chaosd dies."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chaosd.history import COMPACTED, RUN, Kind, Op
from chaosd.simulation.healthy import FAULTS
from chaosd.simulation.killed import DISRUPTIONS
from chaosd.simulation.ledger import canonical
from chaosd.simulation.plants import CONTROLS, PLANTS
from chaosd.simulation.world import Hook, Kill, Outcome, Scenario, simulate
from tests.seeds import FRESH

ROUNDS = 7


def alike(scenario: Scenario, plants: list[Hook], keep_seconds: float, kills: list[Kill]) -> tuple[Outcome, Outcome]:
    """Two runs, of which one is compacted, and that nothing else tells them apart."""
    whole = simulate(scenario, plants[0], kills=kills)
    compacted = simulate(replace(scenario, keep_seconds=keep_seconds), plants[1], kills=kills)
    assert compacted.judgement == whole.judgement
    assert compacted.finished.verdict.as_json() == whole.finished.verdict.as_json()
    happened = {op.index: op for op in whole.ops}
    left = [op for op in compacted.ops if op.f != COMPACTED]
    assert canonical(left) == canonical([happened[op.index] for op in left])
    gone = {i for op in compacted.ops if op.f == COMPACTED for i in range(op.index, op.value["last"] + 1)}
    assert happened.keys() - {op.index for op in left} <= gone
    return whole, compacted


def nothing(*_: object) -> None: ...


def ends_of_rounds(ops: tuple[Op, ...]) -> list[Op]:
    return [op for op in ops if op.process == RUN and op.f == "round" and op.kind is Kind.OK]


@pytest.mark.parametrize("seed", [*range(4), FRESH])
def test_a_healthy_run_keeps_its_last_rounds_alone(seed: int) -> None:
    print(f"seed {seed}")
    scenario = Scenario(seed, rounds=ROUNDS, files=8, disruptions=DISRUPTIONS)
    whole, compacted = alike(scenario, [nothing, nothing], 0.3, [])
    ended = ends_of_rounds(whole.ops)
    assert ends_of_rounds(compacted.ops)[-1] == ended[-1]
    begin = [op.value["rounds"][0] for op in compacted.ops if op.f == COMPACTED]
    assert begin in ([], [1])
    # How much is old enough to go depends on how long the rounds of a seed took.
    assert (begin == [1] and len(compacted.ops) < 0.8 * len(whole.ops)) or seed == FRESH


@pytest.mark.parametrize("seed", [*range(4), FRESH])
def test_so_does_one_whose_chaosd_dies_twice(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    rates = FAULTS if seed % 2 else Scenario(0).rates
    scenario = Scenario(seed, rounds=ROUNDS, files=8, disruptions=DISRUPTIONS, rates=rates)
    length = len(simulate(scenario).ops)
    kills = [Kill(at) for at in sorted(rng.sample(range(length // 3, length), 2))]
    alike(scenario, [nothing, nothing], rng.choice((0.1, 0.5, 5.0)), kills)


@pytest.mark.parametrize("plant", [*PLANTS[1::4], *CONTROLS[2:4]], ids=lambda plant: plant.what)
def test_what_is_found_is_found_all_the_same_and_its_round_stays(plant: object) -> None:
    scenario = Scenario(4, rounds=ROUNDS, files=8, **plant.scenario)  # type: ignore[attr-defined]
    whole, compacted = alike(scenario, [plant.hook(), plant.hook()], 0.3, [])  # type: ignore[attr-defined]
    found = {violation.index for violation in whole.judgement.violations}
    assert found <= {op.index for op in compacted.ops}


@pytest.mark.parametrize("seed", range(3))
def test_a_rollback_of_a_ledger_that_was_compacted_is_noticed_as_of_any(seed: int) -> None:
    scenario = Scenario(seed, rounds=ROUNDS, files=8)
    writes = [op for op in simulate(scenario).ops if op.f == "write" and op.kind is Kind.OK]
    kill = Kill(writes[-1].index, ops_lost=50)  # what the last writes left is on the volumes
    whole, compacted = alike(scenario, [nothing, nothing], 0.3, [kill])
    assert whole.judgement.unknowns or whole.finished.verdict.run.endswith("2"), "it went on as if nothing were lost"
    assert not compacted.judgement.violations
