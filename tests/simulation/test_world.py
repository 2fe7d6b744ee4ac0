"""Whole runs in virtual time: the same seed does the same, and storage that keeps its word is never accused, whatever
breaks between chaosd and it."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from chaosd.checkers.verdict import Class, Value
from chaosd.cluster.sandbox import Timings
from chaosd.generator import Plan
from chaosd.history import Kind
from chaosd.simulation.healthy import FAULTS, Healthy, healthy
from chaosd.simulation.ledger import canonical
from chaosd.simulation.world import Kill, Outcome, Scenario, World, simulate
from chaosd.workload.in_flight import BytesInFlight
from tests.seeds import FRESH

# A fixed share of the seeds, and one that nobody has tried.
SEEDS = (*range(8), FRESH)
# Of the fixed seeds with observer faults, whose share of decided rounds must be right.
HEALTHY_SEEDS = range(16)
HEALTHY_ROUNDS = 10
# What a disk that lies about flushes may do to what was acknowledged.
LIES = {Class.LOST, Class.STALE, Class.TORN, Class.UNEXPECTED}


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


LEDGER = """
from chaosd.simulation.healthy import FAULTS
from chaosd.simulation.ledger import canonical
from chaosd.simulation.world import Scenario, simulate
print(canonical(simulate(Scenario(6, rounds=5, crashes=1, rates=FAULTS)).ops), end="")
"""


def test_another_process_that_hashes_otherwise_gives_the_same_ledger_to_the_last_byte() -> None:
    ledgers = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", LEDGER], env=environment, capture_output=True, text=True, check=True)
        ledgers.add(done.stdout)
    assert ledgers == {canonical(simulate(Scenario(6, rounds=5, crashes=1, rates=FAULTS)).ops)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_run_is_decided_and_passes(seed: int) -> None:
    outcome = simulate(Scenario(seed, rounds=10))
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 10), outcome.judgement.unknowns
    assert outcome.finished.verdict.coverage["crashes"] == 0


def _most_writing(outcome: Outcome) -> int:
    """How many replicas had a batch under way at one time, at most."""
    most, writing = 0, set()
    for op in outcome.ops:
        if op.f == "write":
            (writing.add if op.kind is Kind.INVOKE else writing.discard)(op.process)
        most = max(most, len(writing))
    return most


def test_replicas_share_what_a_process_may_have_under_way_and_the_run_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _most_writing(simulate(Scenario(5, rounds=3))) > 1
    monkeypatch.setattr("chaosd.workload.in_flight.WRITES", BytesInFlight(1))  # each batch is larger, and passes alone
    outcome = simulate(Scenario(5, rounds=3))
    assert _most_writing(outcome) == 1
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 3), outcome.judgement.unknowns


def _not_accused(run: Healthy) -> Outcome:
    outcome = run.simulate()
    assert reported(outcome) == []
    assert outcome.finished.error is None
    assert outcome.rounds == HEALTHY_ROUNDS
    return outcome


def test_whatever_befalls_the_observer_nobody_is_accused_and_nearly_every_round_is_decided() -> None:
    """Its requests and watches, its clock, its probes, and its own life."""
    outcomes = [_not_accused(healthy(seed, HEALTHY_ROUNDS)) for seed in HEALTHY_SEEDS]
    decided, rounds = (sum(column) for column in zip(*((o.rounds_decided, o.rounds) for o in outcomes), strict=True))
    print(f"{decided} of {rounds} rounds decided")
    assert decided >= 0.95 * rounds


@pytest.mark.parametrize("kind", range(4))
def test_nobody_is_accused_with_a_seed_that_nobody_has_tried(kind: int) -> None:
    _not_accused(healthy(FRESH - FRESH % 4 + kind, HEALTHY_ROUNDS))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_acknowledged_survives_the_crash_of_its_node(seed: int) -> None:
    outcome = simulate(Scenario(seed, rounds=8, crashes=4))
    assert reported(outcome) == []
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 8)
    assert outcome.finished.verdict.coverage["crashes"] > 0 or seed == FRESH, "it is drawn in every other round"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_that_lies_about_flushes_is_found_out_by_a_crash(seed: int) -> None:
    crash = ({"kind": "pod-delete", "weight": 1},)
    outcome = simulate(Scenario(seed, rounds=8, disruptions=crash, crashes=100, lying=True))
    assert outcome.judgement.value is Value.FAIL
    assert {violation.failure for violation in outcome.judgement.violations} <= LIES


@pytest.mark.parametrize("timings", [Timings(), Timings(orphan=1.0, linger=1.0)], ids=["at once", "outlived"])
def test_a_daemon_killed_between_any_two_ops_leaves_a_run_that_another_goes_on_with(timings: Timings) -> None:
    small = Scenario(FRESH, rounds=2, replicas=2, files=2, rates=FAULTS, timings=timings)
    for killed_at in range(len(simulate(small).ops)):
        print(f"killed at op {killed_at}")
        outcome = simulate(small, kills=[Kill(killed_at)])
        assert reported(outcome) == []
        assert outcome.finished.error is None
        assert (outcome.ops[-1].index > killed_at, outcome.rounds) == (True, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clock_that_steps_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)

    def step(world: World, _: Plan) -> None:
        world.clock.step(rng.choice([-3600.0, -20.0, 20.0, 3600.0]))

    outcome = simulate(Scenario(seed, rounds=6), step)
    assert reported(outcome) == []
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 6), outcome.judgement.unknowns


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_system_that_reads_through_its_cache_passes_and_says_that_nothing_was_cold(seed: int) -> None:
    def cache(world: World, _: Plan) -> None:
        for ordinal in range(world.target.replicas):
            world.disk(ordinal).can_read_directly = world.disk(ordinal).can_drop_pages = False

    verdict = simulate(Scenario(seed, rounds=3), cache).finished.verdict
    assert (verdict.verdict, verdict.unknown) == (Value.PASS, ())
    assert verdict.coverage["records_verified_cached"] > 100
    assert verdict.coverage["records_verified_cold"] == 0
    assert [note.partition(":")[0] for note in verdict.notes] == ["no reading was cold"]


def test_pages_that_are_proven_to_be_dropped_are_read_cold_without_direct_reads() -> None:
    def cache(world: World, _: Plan) -> None:
        for ordinal in range(world.target.replicas):
            world.disk(ordinal).can_read_directly = False

    verdict = simulate(Scenario(1, rounds=3), cache).finished.verdict
    assert (verdict.verdict, verdict.notes) == (Value.PASS, ())
    assert verdict.coverage["records_verified_cached"] == 0 < verdict.coverage["records_verified_cold"]
