"""Whole runs under guards, in virtual time: what is refused is told and counted, nothing is disturbed, and the run goes on
when it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from chaosd import interpreter
from chaosd.checkers.verdict import Value
from chaosd.cluster.port import PAUSED_ANNOTATION, Lease, Namespace, StatefulSet
from chaosd.cluster.unreliable import Rates
from chaosd.errors import AbortedError, ForbiddenError, RefusedError, UnreachableError
from chaosd.generator import Plan
from chaosd.history import NEMESIS, RUN, Kind, Op
from chaosd.simulation.world import NAME, NAMESPACE, Outcome, Scenario, World, simulate
from chaosd.virtual_time import EPOCH_SECONDS
from tests.seeds import FRESH

SEED = 5
# By what a watch that lags told of an earlier disruption the order in a later one would be judged; these seeds did so.
LAGGING = (26, 40, 51)
DELETES = ({"kind": "pod-delete"},)
SCALES = ({"kind": "scale"},)


def guarded(
    guards: dict[str, Any],
    before: Callable[[World, Plan], None] = lambda *_: None,
    *,
    disruptions: tuple[dict[str, Any], ...] = DELETES,
    **experiment: Any,
) -> Outcome:
    scenario = Scenario(SEED, rounds=3, disruptions=disruptions, experiment={"guards": guards, **experiment})
    return simulate(scenario, before)


def blocked(outcome: Outcome) -> list[str]:
    return [op.value["blocked"] for op in outcome.ops if op.process == NEMESIS and "blocked" in op.value]


def disrupted(outcome: Outcome) -> list[Op]:
    return [op for op in outcome.ops if op.process == NEMESIS and op.kind is Kind.INVOKE and op.value.get("disrupts")]


def rounds(outcome: Outcome) -> int:
    return sum(op.process == RUN and op.f == "round" and op.kind is Kind.OK for op in outcome.ops)


def window(begin: timedelta, end: timedelta) -> dict[str, Any]:
    """A window from and to so long after the simulation begins, in whole minutes."""
    now = datetime.fromtimestamp(EPOCH_SECONDS, UTC)
    return {"from": f"{now + begin:%H:%M}", "to": f"{now + end:%H:%M}"}


def test_without_guards_nothing_is_refused() -> None:
    outcome = guarded({})
    assert (blocked(outcome), len(disrupted(outcome)), rounds(outcome)) == ([], 3, 3)


def test_a_round_waits_until_the_last_disruption_is_long_enough_ago() -> None:
    outcome = guarded({"minInterval": "3m"})
    times = [op.time for op in disrupted(outcome)]
    assert [after - before >= 180 for before, after in pairwise(times)] == [True, True]
    assert blocked(outcome) == ["interval", "interval"]  # once for each wait, however often it is looked at
    assert outcome.judgement.value is Value.PASS


def test_a_run_that_somebody_waits_for_ends_when_a_window_is_closed() -> None:
    outcome = guarded({"blackout": [window(timedelta(hours=-1), timedelta(hours=1))]})
    assert isinstance(outcome.finished.error, AbortedError)
    assert "guards.blackout has a window, until" in str(outcome.finished.error)
    assert not disrupted(outcome)


def test_a_run_of_some_duration_waits_for_the_window_and_writes_nothing_meanwhile() -> None:
    guards = {"active": [window(timedelta(minutes=4), timedelta(minutes=9))], "minInterval": "20s"}
    outcome = guarded(guards, rounds=None, duration="5m")
    hold = next(op for op in outcome.ops if op.f == "hold")
    assert (hold.kind, hold.value["blocked"]) == (Kind.FAIL, "inactive")
    assert all(op.time >= hold.value["until"] for op in outcome.ops if op.f in ("write", "round"))
    assert disrupted(outcome)
    assert 300 <= outcome.seconds < 400
    assert outcome.judgement.value is Value.PASS


def test_a_run_of_some_duration_ends_though_the_window_never_opened() -> None:
    outcome = guarded({"blackout": [{}]}, rounds=None, duration="3m")
    assert (rounds(outcome), outcome.finished.error) == (0, None)
    assert 180 <= outcome.seconds < 200
    assert outcome.judgement.value is Value.UNKNOWN


def test_a_disruption_that_would_take_too_many_is_refused_and_the_round_goes_on() -> None:
    outcome = guarded({"maxUnavailable": 1}, disruptions=({"kind": "pod-delete", "count": "all"},))
    assert (blocked(outcome), disrupted(outcome), rounds(outcome)) == (["unavailable"] * 3, [], 3)
    (unknown,) = outcome.judgement.unknowns
    assert "guards.maxUnavailable 1 allows 1" in unknown.missing


def test_what_an_autoscaler_owns_is_not_scaled() -> None:
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": NAME}, "maxReplicas": 5},
    }
    outcome = guarded({}, lambda world, plan: _apply(world, hpa), disruptions=SCALES)
    assert blocked(outcome) == ["autoscaler"] * 3
    assert not disrupted(outcome)


def test_who_may_not_see_autoscalers_does_not_scale() -> None:
    def hide(world: World, _: Plan) -> None:
        listed = world.cluster.list

        async def hidden(kind: type[Any], namespace: str, selector: Any = None) -> Any:
            if kind.__name__ == "Autoscaler":
                raise ForbiddenError("may not list horizontalpodautoscalers")
            return await listed(kind, namespace, selector)

        world.cluster.list = hidden  # type: ignore[method-assign]

    outcome = guarded({}, hide, disruptions=SCALES)
    assert blocked(outcome) == ["unseen"] * 3


def test_a_namespace_that_is_being_deleted_is_let_go() -> None:
    def terminate(world: World, plan: Plan) -> None:
        found = world.cluster.store.get(Namespace, "", NAMESPACE)
        world.cluster.store.put(_with(found, terminating=plan.number > 1))

    outcome = guarded({}, terminate)
    assert len(disrupted(outcome)) == 1
    assert blocked(outcome) == ["terminating"] * 2


@pytest.mark.parametrize("kind", [StatefulSet, Namespace])
def test_the_kill_switch_ends_the_run(kind: type[StatefulSet] | type[Namespace]) -> None:
    def throw(world: World, plan: Plan) -> None:
        if plan.number == 2:
            where = ("", NAMESPACE) if kind is Namespace else (NAMESPACE, NAME)
            found = world.cluster.store.get(kind, *where)  # type: ignore[type-var]
            world.cluster.store.put(_with(found, annotations={PAUSED_ANNOTATION: "true"}))

    outcome = guarded({}, throw)
    assert isinstance(outcome.finished.error, AbortedError)
    named = f"namespace/{NAMESPACE}" if kind is Namespace else f"statefulset/{NAME}"
    assert f"chaosd resume {named}" in str(outcome.finished.error)
    assert len(disrupted(outcome)) == 1


def lagging(seed: int) -> Outcome:
    late = Rates(watch_late=0.2, late_seconds=6.0)
    disruptions = ({"kind": "scale-flap"}, {"kind": "rollout-restart"}, {"kind": "scale"})
    return simulate(Scenario(seed, rounds=8, files=3, disruptions=disruptions, rates=late))


@pytest.mark.parametrize("seed", [*LAGGING, FRESH])
def test_a_watch_of_the_statefulset_that_lags_accuses_nobody(seed: int) -> None:
    assert lagging(seed).classes == []


def test_though_a_watch_of_the_statefulset_lags_most_disruptions_are_done() -> None:
    """With these seeds; there are others with which nearly all are refused, since the target does not look ready."""
    assert sum(len(disrupted(lagging(seed))) for seed in LAGGING) >= 6 * len(LAGGING)


def test_a_target_whose_label_is_taken_away_is_not_touched_any_more() -> None:
    def unlabel(world: World, plan: Plan) -> None:
        if plan.number == 2:
            found = world.cluster.store.get(StatefulSet, NAMESPACE, NAME)
            world.cluster.store.put(_with(found, labels={}))

    outcome = guarded({}, unlabel)
    assert isinstance(outcome.finished.error, AbortedError)
    assert "is not labelled chaosd.io/target=true any more" in str(outcome.finished.error)
    assert len(disrupted(outcome)) == 1


def test_a_script_ends_where_a_guard_refuses_what_its_next_steps_are_about() -> None:
    steps = [
        {"name": "write", "write": 3},
        {"name": "fewer", "disrupt": {"kind": "scale", "to": 2}},
        {"name": "none", "disrupt": {"kind": "scale", "to": 0}},
        {"name": "up", "disrupt": {"kind": "scale", "to": 3}, "verify": True},
    ]
    outcome = guarded({"maxUnavailable": 1}, rounds=None, disruptions=(), steps=steps)
    assert blocked(outcome) == ["unavailable"]
    assert [op.value["to"] for op in disrupted(outcome)] == [2]
    assert rounds(outcome) == 3
    assert outcome.classes == []
    assert outcome.seconds < 60, "what will not come is not awaited"
    assert not any("somebody else" in unknown.missing for unknown in outcome.judgement.unknowns)


def test_where_the_undo_cannot_be_noted_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "HEAL_SECONDS", 0.5)  # of real time, which retries count

    def cut_off(world: World, plan: Plan) -> None:
        async def refused(_: Lease) -> Lease:
            raise UnreachableError("no answer")

        if plan.number == 2:
            world.cluster.put_lease = refused  # type: ignore[method-assign]

    outcome = guarded({}, cut_off, disruptions=SCALES)
    assert isinstance(outcome.finished.error, AbortedError)
    assert len(disrupted(outcome)) == 1


def test_a_kill_switch_is_obeyed_though_the_undo_is_refused() -> None:
    """It is the kill switch that ended the run; what could not be undone is told with it."""

    def throw(world: World, plan: Plan) -> None:
        async def refused(*_: Any, **__: Any) -> None:
            await asyncio.sleep(2)  # long enough for the kill switch to be seen
            raise RefusedError("a webhook said no")

        async def later() -> None:
            while world.cluster.store.get(StatefulSet, NAMESPACE, NAME).replicas == 3:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.01)
            world.cluster.scale = refused  # type: ignore[method-assign]
            found = world.cluster.store.get(StatefulSet, NAMESPACE, NAME)
            world.cluster.store.put(_with(found, annotations={PAUSED_ANNOTATION: "true"}))

        if plan.number == 2:
            task = asyncio.get_running_loop().create_task(later())
            task.add_done_callback(lambda done: done.result())

    outcome = guarded({}, throw, disruptions=({"kind": "scale", "to": 0},))
    assert isinstance(outcome.finished.error, AbortedError)
    assert "the kill switch is thrown" in str(outcome.finished.error)
    assert "a webhook said no" in str(outcome.finished.error)


@pytest.mark.parametrize(("stop_after", "ended_after"), [(1, 2), ("never", 3), (50, 3)])
def test_after_so_many_violations_nothing_is_disrupted_any_more(stop_after: int | str, ended_after: int) -> None:
    def lose(world: World, plan: Plan) -> None:
        if plan.number == 2:
            world.disk(0).lose(world.path(next(iter(world.known(0).owed.values())).file))

    outcome = guarded({"stopAfter": stop_after}, lose)
    assert outcome.classes == ["lost"]
    assert rounds(outcome) == ended_after
    ended = [op.value["ended"] for op in outcome.ops if "ended" in op.value]
    assert ended == ([f"guards.stopAfter is {stop_after}"] if ended_after == 2 else [])


def _apply(world: World, document: dict[str, Any]) -> None:
    applying = asyncio.get_running_loop().create_task(world.cluster.apply([document]))
    applying.add_done_callback(lambda done: done.result())


def _with(found: Any, **changes: Any) -> Any:
    return replace(found, **changes)
