"""chaosd is killed between any two ops: the target is healed, nothing that was acknowledged is lost, and the verdict is the
one that it would have been, or unknown. And it is ended while nobody answers in time: what is owed is undone soon."""

from __future__ import annotations

import asyncio

import pytest

from chaosd.checkers.verdict import Value
from chaosd.cluster.port import StatefulSet
from chaosd.cluster.unreliable import Rates
from chaosd.generator import Plan, stream
from chaosd.history import LEDGER_LOST, NEMESIS, RESTART, Kind
from chaosd.run import Ending
from chaosd.simulation.killed import survive
from chaosd.simulation.world import Kill, Scenario, World, simulate
from tests.seeds import FRESH

# A pod that is evicted has 30 seconds, unless its spec says otherwise (terminationGracePeriodSeconds).
GRACE_SECONDS = 30.0
# Of the scenario with 6 files in a round.
SHARE_BYTES = 12 * 4096 + (1 << 20)
# What is said of a run whose only round was interrupted before anything was written, or disturbed.
CUT_SHORT = ("no write was acknowledged", "none of its writes was acknowledged", "no disruption is known to have happened")


@pytest.mark.parametrize("seed", [*range(16), *range(FRESH, FRESH + 8)])
def test_nothing_comes_of_a_kill_but_an_unknown(seed: int) -> None:
    survived = survive(seed)
    assert survived.wrong == (), survived


def test_the_last_op_may_be_any_of_a_short_run() -> None:
    """Between the registration of an undo and the act, while it heals, while it waits, before the first round."""
    scenario = Scenario(FRESH, rounds=1, replicas=2, files=2, disruptions=({"kind": "scale", "to": 1},))
    ops = simulate(scenario).ops
    last = {(op.f, op.kind) for op in ops}
    assert {("undo", Kind.INVOKE), ("undo", Kind.OK), ("converge", Kind.INVOKE), ("scale", Kind.INVOKE)} <= last
    for at in range(len(ops)):
        print(f"killed at op {at}")
        outcome = simulate(scenario, kills=[Kill(at)])
        unknown = [u.missing for u in outcome.judgement.unknowns if not u.missing.startswith(CUT_SHORT)]
        assert (outcome.judgement.violations, unknown, outcome.rounds) == ((), [], 1)
        assert sum(op.f == RESTART for op in outcome.ops) == 1


@pytest.mark.parametrize("seed", [*range(8), FRESH])
def test_a_ledger_that_was_rolled_back_to_before_the_lease_was_written_is_not_gone_on_with(seed: int) -> None:
    """The Lease is written when the undo of a round is registered; that much and more is lost."""
    scenario = Scenario(seed, rounds=6, files=6, disruptions=({"kind": "scale"},))
    whole = simulate(scenario).ops
    undone = [op.index for op in whole if op.f == "undo" and op.kind is Kind.OK]
    at = stream(seed, "kill").choice(undone[2:])
    began = next(op.index for op in whole if op.f == "round")
    outcome = simulate(scenario, kills=[Kill(at, ops_lost=at - stream(seed, "lost").randint(began, undone[1]))])
    assert (outcome.judgement.value, outcome.rounds) == (Value.PASS, 6), outcome.judgement.unknowns
    (unfinished,) = [op.value for op in outcome.ops if op.f == "unfinished"]
    assert "it was rolled back" in unfinished["why"]
    assert not any(op.f in (RESTART, LEDGER_LOST) for op in outcome.ops)


@pytest.mark.parametrize("seed", [*range(8), FRESH])
def test_a_ledger_that_lost_only_a_delete_is_not_gone_on_with(seed: int) -> None:
    """No file that it does not know stands on a volume, and those that it still believes in are gone."""
    scenario = Scenario(seed, rounds=6, files=6)
    deleted = [op.index for op in simulate(scenario).ops if op.f == "delete" and op.kind is Kind.OK]
    at = stream(seed, "kill").choice(deleted)
    lost = 1 + at - max(op.index for op in simulate(scenario).ops[:at] if op.f == "delete" and op.kind is Kind.INVOKE)
    outcome = simulate(scenario, kills=[Kill(at, ops_lost=lost)])
    assert (outcome.judgement.value, outcome.rounds) == (Value.PASS, 6), outcome.judgement.violations
    (unfinished,) = [op.value for op in outcome.ops if op.f == "unfinished"]
    assert "it was rolled back" in unfinished["why"]


@pytest.mark.parametrize("fits", [True, False])
def test_nothing_is_written_to_a_volume_that_somebody_filled_while_chaosd_was_dead(fits: bool) -> None:
    """What the run holds already is a part of its share, and need not be free."""
    scenario = Scenario(FRESH, rounds=6, files=6)
    ended = [op.index for op in simulate(scenario).ops if op.f == "round" and op.kind is Kind.OK]
    filled: list[int] = []

    def fill_once(world: World, plan: Plan) -> None:
        """Before the next chaosd writes for the first time."""
        if world.runner.last_round and not filled:
            held = world.known(0).bytes_held
            filled.append(held)
            world.disk(0).fill_up(leave_bytes=SHARE_BYTES - held if fits else SHARE_BYTES // 2)

    outcome = simulate(scenario, fill_once, kills=[Kill(ended[2])])
    restarted = next(op.index for op in outcome.ops if op.f == RESTART)
    later = [op for op in outcome.ops if op.index > restarted and op.process == "default/web-0"]
    refused = [
        op.value["error"] for op in later if op.f == "open" and "bytes free, the share is" in op.value.get("error", "")
    ]
    assert filled[0] > 0
    assert (any(op.f == "write" for op in later), bool(refused)) == (fits, not fits)
    assert (outcome.judgement.value, outcome.rounds) == (Value.PASS if fits else Value.UNKNOWN, 6)


@pytest.mark.parametrize("seed", [*range(8), FRESH])
def test_somebody_who_scales_the_target_while_chaosd_is_dead_wins(seed: int) -> None:
    scenario = Scenario(seed, rounds=4, files=4, disruptions=({"kind": "scale", "to": 1},))
    at = next(op.index for op in simulate(scenario).ops if op.f == "scale" and op.kind is Kind.OK)
    scaled: list[World] = []

    def scale_once(world: World, plan: Plan) -> None:
        """Some seconds later, when the one that was killed cannot restore the count and the next one waits."""
        if not scaled:
            scaled.append(world)
            asyncio.get_running_loop().call_later(5, asyncio.ensure_future, _scale(world))

    async def _scale(world: World) -> None:
        uid = world.cluster.store.get(StatefulSet, "default", "web").uid
        await world.cluster.scale("default", "web", uid=uid, replicas=2, expected=1)

    outcome = simulate(scenario, scale_once, kills=[Kill(at)])
    (healed, *_) = [op.value["done"] for op in outcome.ops if op.f == "undo" and op.kind is Kind.OK]
    assert healed.startswith("left as it is: default/web has 2 replicas")
    assert scaled[0].cluster.store.get(StatefulSet, "default", "web").replicas == 2
    assert not outcome.judgement.violations


@pytest.mark.parametrize("seed", [*range(8), FRESH])
def test_a_signal_undoes_and_ends_well_within_the_grace_of_a_pod_that_is_evicted(seed: int) -> None:
    """With an API server that takes up to four seconds for most answers."""
    ending, sent = Ending(), []

    def end_soon(world: World, plan: Plan) -> None:
        if plan.number == 2:
            asyncio.get_running_loop().call_later(stream(seed, "signal").uniform(0.0, 20.0), end, world)

    def end(world: World) -> None:
        sent.append(world.clock())
        ending.because("ended by SIGTERM")

    scenario = Scenario(
        seed, rounds=1000, files=4, disruptions=({"kind": "scale", "to": 0},), rates=Rates(slow=0.8, slow_seconds=4.0)
    )
    outcome = simulate(scenario, end_soon, ending=ending)
    assert str(outcome.finished.error) == "ended by SIGTERM"
    undo = [op for op in outcome.ops if op.process == NEMESIS and op.f == "undo"]
    print(f"seed {seed}: sent at {sent[0]}, last undo {undo[-1]}")
    assert undo[-1].kind is Kind.OK
    assert outcome.finished.verdict.ended_at - sent[0] < 0.8 * GRACE_SECONDS
