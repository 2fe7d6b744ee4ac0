"""The picture of a run: a fold of hand-written histories."""

from __future__ import annotations

from typing import Any

from chaosd.checkers import Panel
from chaosd.history import NEMESIS, RUN, Event, Kind, Op
from chaosd.terminal.picture import Held, Phase, Picture, Pod, told
from tests.histories import (
    FILES,
    OWED,
    WEB_0,
    WEB_1,
    begun,
    converged,
    disrupted,
    history,
    listed,
    not_converged,
    pod,
    pod_replaced,
    read,
    round_ended,
    sound,
    verified,
    written,
)


def _fold(ops: list[Op], picture: Picture | None = None) -> Picture:
    """The panel goes ahead, as it does in a run."""
    made = picture or Picture(Panel())
    for op in ops:
        made.panel.step(op)
        made.record(op)
    return made


def _after(*events: Event) -> Picture:
    return _fold(history(*events))


def _round(number: int, disruption: dict[str, Any] | None = None, *, verify: bool = True) -> Event:
    value = {"round": number, "name": "pod-delete", "verify": verify, "files": 3, "replicas": [WEB_0, WEB_1]}
    return Event(RUN, "round", Kind.INVOKE, {**value, "disruption": disruption})


def test_a_round_goes_through_its_phases() -> None:
    picture, seen = Picture(Panel()), []
    deletion = (disrupted("pod-delete", (WEB_1, "pod-1")), *converged())
    for op in history(_round(1, {"kind": "pod-delete"}), *deletion, sound(1, "new-1"), *verified(WEB_1), round_ended()):
        _fold([op], picture)
        seen += [picture.phase] if picture.phase not in seen[-1:] else []
    assert seen == [Phase.WRITE, Phase.DISRUPT, Phase.RECOVER, Phase.READ, None]
    assert picture.phases == [*Phase]


def test_a_step_that_only_reads_back_has_no_other_phases() -> None:
    assert _after(_round(1)).phases == [Phase.WRITE, Phase.READ, Phase.JUDGE]


def test_a_recovery_from_what_a_dead_chaosd_did_is_a_phase_all_the_same() -> None:
    picture = _after(_round(2), *converged()[:1])
    assert picture.phases == [Phase.WRITE, Phase.RECOVER, Phase.READ, Phase.JUDGE]
    assert picture.phase is Phase.RECOVER


def test_a_phase_is_as_old_as_the_op_that_began_it() -> None:
    ops = history(_round(1), *written(WEB_0, 0), *verified(WEB_0))
    assert _fold(ops).since == next(op.time for op in ops if op.f == "list")


def test_each_replica_tells_what_it_wrote_in_this_round_and_what_was_read_back_since_it_was_at_risk() -> None:
    picture = _after(*begun(), *pod_replaced(), sound(1, "new-1", again=True), listed(WEB_1, *FILES), read(WEB_1, *FILES))
    assert picture.owed(WEB_1) == len(OWED)
    assert {name: (one.written, one.verified) for name, one in picture.replicas.items()} == {WEB_0: (7, 0), WEB_1: (7, 3)}
    again = _fold(history(_round(2, {"kind": "pod-delete"})), picture)
    assert {name: (one.written, one.verified) for name, one in again.replicas.items()} == {WEB_0: (0, 0), WEB_1: (0, 0)}


def test_pods_are_shown_as_they_were_seen_last() -> None:
    changes = (
        pod(1, "modified", ready=True),
        pod(1, "modified", ready=True, deleting=True),
        pod(1, "deleted"),
        pod(1, "added", "new-1"),
    )
    assert [_after(*begun(), change).replicas[WEB_1].pod for change in changes] == [
        Pod.READY,
        Pod.STOPPING,
        Pod.GONE,
        Pod.STARTING,
    ]


def test_recoveries_are_told_by_kind() -> None:
    scale = Event(NEMESIS, "scale", Kind.INVOKE, {"from": 2, "to": 0, "takes": [WEB_0, WEB_1], "disrupts": True})
    picture = _after(
        _round(1),
        disrupted("pod-delete", (WEB_1, "pod-1")),
        *converged(seconds=5.0),
        _round(2),
        scale,
        *converged(seconds=12.0),
        _round(3),
        disrupted("pod-delete", (WEB_1, "pod-1")),
        *converged(seconds=7.0),
    )
    assert picture.recoveries == {"pod-delete": [5.0, 7.0], "scale": [12.0]}


def test_what_was_not_done_recovers_from_nothing() -> None:
    refused = Event(NEMESIS, "pod-delete", Kind.FAIL, {"error": "a replica is not Ready", "blocked": "not_converged"})
    picture = _after(_round(1), Event(NEMESIS, "pod-delete", Kind.INVOKE, {}), refused, *converged())
    assert (picture.outcome, picture.recoveries) == ("a replica is not Ready", {})


def test_a_guard_that_holds_back_is_shown_until_a_round_begins() -> None:
    hold = Event(NEMESIS, "hold", Kind.FAIL, {"error": "guards.minInterval is 60 s", "blocked": "interval", "until": 99.0})
    held = _after(*begun(), round_ended(), hold)
    assert held.held == Held("the last disruption is too recent", 99.0)
    assert _fold(history(_round(2)), held).held is None


def test_a_broken_promise_is_shown_in_the_middle_of_a_round_once_it_is_looked_for() -> None:
    damaged = read(WEB_1, 1, finding="corrupt", block=1)
    picture = _after(*begun(), *pod_replaced(), sound(1, "new-1", again=True), listed(WEB_1, *FILES), damaged)
    assert picture.violations == ()
    picture.look_again()
    assert [told(violation) for violation in picture.violations] == ["corrupt web-1: 00000001, block 1"]


def test_a_healthy_run_shows_no_violation() -> None:
    picture = _after(
        *begun(), *pod_replaced(), sound(1, "new-1", again=True), *verified(WEB_0), *verified(WEB_1), round_ended()
    )
    picture.look_again()
    assert picture.violations == ()
    assert [(one.verified, picture.owed(name)) for name, one in picture.replicas.items()] == [(6, 6), (6, 6)]


def test_a_target_that_does_not_come_back_is_a_violation() -> None:
    picture = _after(
        *begun(), disrupted("pod-delete", (WEB_1, "pod-1")), *not_converged(WEB_1, "has no pod"), round_ended()
    )
    picture.look_again()
    assert [str(violation.failure) for violation in picture.violations] == ["not_recovered"]
    assert picture.recoveries == {}
