"""Whole runs in virtual time: the same seed does the same, and storage that keeps its word is never accused, whatever
breaks between chaosd and it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import stamina

from chaosd.checkers.verdict import Class, Value
from chaosd.cluster.unreliable import Rates
from chaosd.generator import Plan
from chaosd.simulation.ledger import canonical
from chaosd.simulation.world import Outcome, Scenario, World, simulate

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
)
# A fixed share of the seeds, and one that nobody has tried.
SEEDS = (*range(8), random.SystemRandom().randrange(1 << 32))
# What a disk that lies about flushes may do to what was acknowledged.
LIES = {Class.LOST, Class.STALE, Class.TORN, Class.UNEXPECTED}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Retries are told to nobody."""
    stamina.instrumentation.set_on_retry_hooks(())
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def reported(outcome: Outcome) -> list[str]:
    """Each violation in short."""
    return [f"{v.failure} {v.replica} {v.file} {dict(v.evidence)}" for v in outcome.judgement.violations]


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(5, rounds=5),
        Scenario(6, rounds=5, rates=FAULTS),
        Scenario(7, rounds=5, crashes=3),
        Scenario(8, rounds=5, crashes=3, lying=True, rates=FAULTS),
    ],
    ids=["healthy", "unreliable", "crashes", "lying and unreliable"],
)
def test_the_same_seed_gives_the_same_ledger_to_the_last_byte(scenario: Scenario) -> None:
    first, second = canonical(simulate(scenario).ops), canonical(simulate(scenario).ops)
    assert first == second
    assert first != canonical(simulate(Scenario(99, rounds=5)).ops)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_is_decided_and_passes(seed: int) -> None:
    print(f"seed {seed}")
    outcome = simulate(Scenario(seed, rounds=10))
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 10), outcome.judgement.unknowns
    assert outcome.finished.verdict.coverage["crashes"] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unreliable_observer_accuses_nobody_and_decides_nearly_every_round(seed: int) -> None:
    print(f"seed {seed}")
    outcome = simulate(Scenario(seed, rounds=10, rates=FAULTS))
    assert reported(outcome) == []
    assert outcome.finished.error is None
    assert outcome.rounds == 10


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_survives_the_crash_of_its_node(seed: int) -> None:
    print(f"seed {seed}")
    outcome = simulate(Scenario(seed, rounds=8, crashes=4))
    assert reported(outcome) == []
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 8)
    assert outcome.finished.verdict.coverage["crashes"] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_that_lies_about_flushes_is_found_out_by_a_crash(seed: int) -> None:
    print(f"seed {seed}")
    crash = ({"kind": "pod-delete", "weight": 1},)
    outcome = simulate(Scenario(seed, rounds=8, disruptions=crash, crashes=100, lying=True))
    assert outcome.judgement.value is Value.FAIL
    assert {violation.failure for violation in outcome.judgement.violations} <= LIES


@pytest.mark.parametrize("seed", SEEDS)
def test_a_daemon_killed_between_any_two_ops_leaves_what_another_can_verify(seed: int) -> None:
    killed_at = random.Random(seed).randrange(5, 450)
    print(f"seed {seed}, killed at op {killed_at}")
    outcome = simulate(Scenario(seed, rounds=5, files=10, rates=FAULTS), killed_at=killed_at)
    assert reported(outcome) == []
    assert outcome.finished.error is None
    assert outcome.ops[-1].index > killed_at


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clock_that_steps_changes_nothing(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)

    def step(world: World, _: Plan) -> None:
        world.clock.step(rng.choice([-3600.0, -20.0, 20.0, 3600.0]))

    outcome = simulate(Scenario(seed, rounds=6), step)
    assert reported(outcome) == []
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 6), outcome.judgement.unknowns
