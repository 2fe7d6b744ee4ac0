"""What a run does now, as its history tells."""

from __future__ import annotations

from collections.abc import Iterable

from chaosd.checkers import Panel, Value
from chaosd.cluster.target import Target
from chaosd.history import NEMESIS, RESTART, RUN, Event, Kind
from chaosd.status.run_status import MOST_VIOLATIONS, Phase, PodState, RunStatus
from tests.histories import (
    WEB_0,
    WEB_1,
    converged,
    disrupted,
    history,
    opened,
    pod,
    read,
    round_began,
    round_ended,
    written,
)

TARGET = Target("default", "web", "uid", "app", "/data", "disk-ssd", 2, 0)


def _after(
    *events: Event, panel: Panel | None = None, last_round: int = 0, times: dict[int, float] | None = None
) -> RunStatus:
    panel = panel or Panel()
    status = RunStatus(TARGET, panel, (times or {}).get, last_round, 0.0)
    for op in history(*events):
        panel.step(op)
        status.record(op)
    return status


def _phases(*steps: Iterable[Event]) -> list[tuple[Phase, float]]:
    """The phase after each step, and since when."""
    found, events = [], []
    for step in steps:
        events += step
        status = _after(*events)
        found.append((status.phase, status.phase_since))
    return found


def test_the_phases_of_a_round_are_those_of_its_report() -> None:
    awaited, answered = converged()
    assert _phases([], [round_began(3)], [disrupted()], [awaited], [answered], [round_ended(3)]) == [
        (Phase.BEGINS, 0),
        (Phase.WRITES, 0),
        (Phase.DISRUPTS, 1),
        (Phase.RECOVERS, 2),
        (Phase.READS, 3),
        (Phase.BETWEEN, 4),
    ]


def test_the_round_and_its_disruption_are_told_in_words() -> None:
    status = _after(round_began(3, name="pod-delete"), disrupted("pod-delete", takes=[WEB_1]))
    assert (status.round, status.round_name) == (3, "pod-delete")
    assert (status.disruption, status.disrupted_at) == (f"pod-delete {WEB_1}", 1)


def test_a_round_that_a_guard_holds_back_says_why() -> None:
    held = Event(NEMESIS, "hold", Kind.FAIL, {"blocked": "blackout", "error": "until 08:00", "until": 9.0})
    status = _after(held)
    assert (status.phase, status.disruption) == (Phase.HELD, "until 08:00")


def test_a_replica_stands_on_what_its_last_session_told() -> None:
    status = _after(opened(WEB_0), opened(WEB_0, binding={"claim": "c", "volume": "v", "handle": "h", "node": "m"}))
    stands = status.replicas[WEB_0].binding
    assert (stands.claim, stands.volume, stands.handle, stands.node) == ("c", "v", "h", "m")
    assert status.replicas[WEB_1].binding.claim == ""


def test_the_states_of_a_pod_and_since_when() -> None:
    events = [
        (pod(0, "added"), PodState.PENDING),
        (pod(0, "modified", node="n"), PodState.STARTING),
        (pod(0, "modified", node="n", ready=True), PodState.READY),
        (pod(0, "modified", node="n", ready=True), PodState.READY),
        (pod(0, "modified", node="n", ready=True, deleting=True), PodState.TERMINATING),
        (pod(0, "deleted", node="n"), PodState.GONE),
    ]
    seen = [_after(*(event for event, _ in events[: count + 1])).replicas[WEB_0] for count in range(len(events))]
    assert [now.pod for now in seen] == [state for _, state in events]
    assert [now.since for now in seen] == [0, 1, 2, 2, 4, 5]


def test_a_replica_that_was_only_scaled_to_for_a_while_is_forgotten() -> None:
    assert "default/web-7" in _after(pod(7, "added")).replicas
    assert set(_after(pod(7, "added"), pod(7, "deleted")).replicas) == {WEB_0, WEB_1}


def _lost(*sequences: int) -> list[Event]:
    begun = [round_began(1), opened(WEB_0), *(op for sequence in sequences for op in written(WEB_0, sequence))]
    return [*begun, *(read(WEB_0, sequence, finding="corrupt") for sequence in sequences)]


def test_a_violation_is_told_at_the_end_of_its_round_with_when_it_was_seen() -> None:
    before = _after(*_lost(0))
    assert (before.verdict, before.violations) == (None, ())
    after = _after(*_lost(0), round_ended(), times={4: 4.5})
    (found,) = after.violations
    assert (found.violation.failure, found.violation.replica, found.since) == ("corrupt", WEB_0, 4.5)
    assert (after.verdict, after.judged_at, after.violations_count) == (Value.FAIL, 5, 1)


def test_what_was_seen_once_is_not_asked_of_the_ledger_again() -> None:
    asked: list[int] = []

    def time_of(index: int) -> float:
        asked.append(index)
        return 4.5

    panel = Panel()
    status = RunStatus(TARGET, panel, time_of, 0, 0.0)
    for op in history(*_lost(0), round_ended(), round_began(2), round_ended(2)):
        panel.step(op)
        status.record(op)
    assert asked == [4]
    assert [found.since for found in status.violations] == [4.5]


def test_where_the_ledger_cannot_tell_it_is_since_it_was_judged() -> None:
    assert [found.since for found in _after(*_lost(0), round_ended()).violations] == [5]


def test_of_many_violations_some_are_told_and_all_are_counted() -> None:
    count = MOST_VIOLATIONS + 3
    status = _after(*(op for sequence in range(count) for op in (*_lost(sequence), round_ended(sequence + 1))))
    assert (len(status.violations), status.violations_count) == (MOST_VIOLATIONS, count)


def test_a_run_that_goes_on_knows_what_it_found_and_what_it_stands_on() -> None:
    panel = Panel()
    for op in history(*_lost(0), round_ended()):
        panel.step(op)
    status = RunStatus(TARGET, panel, {4: 4.5}.get, 1, 60.0)
    assert (status.round, status.verdict, status.judged_at) == (1, Value.FAIL, 60.0)
    assert [found.since for found in status.violations] == [4.5]
    assert status.replicas[WEB_0].binding.claim == "disk-ssd-web-0"
    status.record(history(Event(RUN, RESTART, Kind.OK, {"round": 2}))[0])
    assert status.round == 2


def test_a_run_that_has_ended_keeps_its_verdict() -> None:
    status = _after(*_lost(0))
    status.end(Value.UNKNOWN, 9.0)
    assert (status.phase, status.verdict, status.judged_at) == (Phase.ENDED, Value.UNKNOWN, 9.0)
    assert status.violations_count == 1


def test_what_it_keeps_does_not_grow_with_the_history() -> None:
    rounds = [
        event
        for number in range(1, 200)
        for event in (
            round_began(number),
            opened(WEB_0, f"pod-{number}"),
            *written(WEB_0, number),
            disrupted(),
            *converged(),
        )
    ]
    status = _after(*rounds)
    assert set(status.replicas) == {WEB_0, WEB_1}
    assert status.round == 199
