"""Ordering, by hand-written histories."""

from __future__ import annotations

from chaosd.checkers.ordering import Ordering
from chaosd.checkers.verdict import Class, Value, Verdict
from chaosd.history import RUN, Event, Kind
from tests.histories import WEB_0, WEB_1, disrupted, history, pod, statefulset, watch


def judged(*events: Event) -> Verdict:
    checker = Ordering()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def started(ordinal: int, uid: str = "") -> tuple[Event, Event]:
    return pod(ordinal, "added", uid), pod(ordinal, "modified", uid, ready=True)


def stopped(ordinal: int) -> tuple[Event, Event]:
    return pod(ordinal, "modified", ready=True, deleting=True), pod(ordinal, "deleted")


EMPTY = (statefulset(0), watch("synced"))
BOTH = (*EMPTY, statefulset(2), *started(0), *started(1))


def problems(verdict: Verdict) -> list[str]:
    return [v.evidence["problem"] for v in verdict.violations]


def test_a_start_in_order_passes() -> None:
    assert judged(*BOTH) == Verdict("ordering", measured={"transitions_judged": 2})


def test_a_start_before_the_one_before_is_ready_is_a_violation() -> None:
    verdict = judged(*EMPTY, statefulset(2), pod(0, "added"), pod(1, "added"))
    (violation,) = verdict.violations
    assert (violation.failure, violation.replica) == (Class.ORDER_VIOLATED, WEB_1)
    assert problems(verdict) == ["web-0 had not been Ready when web-1 was created"]


def test_a_start_without_the_one_before_is_a_violation() -> None:
    assert problems(judged(*EMPTY, statefulset(2), *started(1))) == ["web-0 did not exist when web-1 was created"]


def test_a_stop_in_order_passes() -> None:
    assert judged(*BOTH, statefulset(0), *stopped(1), *stopped(0)).value is Value.PASS


def test_a_stop_before_the_higher_one_is_gone_is_a_violation() -> None:
    verdict = judged(*BOTH, statefulset(0), pod(1, "modified", deleting=True), pod(0, "modified", deleting=True))
    assert problems(verdict) == ["web-1 was not gone when web-0 was told to stop"]
    assert verdict.violations[0].replica == WEB_0


def test_a_statefulset_that_is_deleted_promises_no_order_and_may_be_seen_so_late() -> None:
    both = (pod(1, "modified", deleting=True), pod(0, "modified", deleting=True))
    ended = Event(RUN, "round", Kind.OK, {"round": 1})
    for going in (statefulset(0, deleting=True), statefulset(0, "deleted")):
        assert problems(judged(*BOTH, statefulset(0), going, *both)) == []
        assert problems(judged(*BOTH, statefulset(0), *both, going)) == []
        assert len(problems(judged(*BOTH, statefulset(0), *both, ended, going))) == 1, "told when the round ended"


def test_ordinals_may_begin_elsewhere() -> None:
    rules = statefulset(2, first_ordinal=5)
    assert judged(rules, watch("synced"), *started(5), *started(6)).value is Value.PASS


def test_what_the_parallel_policy_allows_is_by_policy() -> None:
    rules, promised = statefulset(2, pod_management="Parallel"), ("podManagementPolicy is Parallel: no order is promised",)
    verdict = judged(rules, watch("synced"), pod(1, "added"), pod(0, "added"))
    told = ("1 pods came or went out of order, as podManagementPolicy: Parallel allows",)
    assert verdict == Verdict("ordering", by_policy=told, not_applicable=promised, measured={"transitions_judged": 2})
    in_order = judged(rules, watch("synced"), *started(0), *started(1))
    assert in_order == Verdict("ordering", not_applicable=promised, measured={"transitions_judged": 2})


def test_pods_that_chaosd_deletes_all_at_once_may_come_back_together() -> None:
    """kubernetes/kubernetes#82529."""
    gone = (disrupted("pod-delete", (WEB_0, "pod-0"), (WEB_1, "pod-1")), pod(0, "deleted"), pod(1, "deleted"))
    assert judged(*BOTH, *gone, pod(1, "added", "b"), pod(0, "added", "a")).value is Value.PASS


def test_a_pod_deleted_by_somebody_else_is_not_the_controllers_doing() -> None:
    assert judged(*BOTH, *stopped(0), pod(1, "deleted"), pod(1, "added", "b")).value is Value.PASS


def test_the_successor_of_a_deleted_pod_needs_the_present_pod_to_have_been_ready() -> None:
    verdict = judged(*BOTH, statefulset(3), *stopped(0), pod(0, "added", "new"), pod(2, "added"))
    assert problems(verdict) == ["web-0 had not been Ready when web-2 was created"]


def test_min_ready_seconds_must_have_passed() -> None:
    rules = statefulset(2, min_ready_seconds=10)
    early = pod(1, "added", created_at=3.0)
    late = pod(1, "added", created_at=9.0)  # both times are cut to seconds: nine may have been ten
    first = (rules, watch("synced"), *started(0))
    assert problems(judged(*first, early)) == [
        "web-0 had been Ready for less than minReadySeconds (10 s) when web-1 was created"
    ]
    assert judged(*first, late).value is Value.PASS


def test_after_a_gap_timestamps_that_tell_the_order_are_enough() -> None:
    hidden = (watch("gap"), pod(1, "added", created_at=5.0, ready=True), watch("synced"))
    assert judged(*EMPTY, statefulset(2), *started(0), *hidden).value is Value.PASS


def test_after_a_gap_an_order_that_timestamps_cannot_tell_is_unknown() -> None:
    hidden = (watch("gap"), pod(0, "added", created_at=1.0), pod(1, "added", created_at=1.0), watch("synced"))
    verdict = judged(*EMPTY, statefulset(2), *hidden)
    assert verdict.value is Value.UNKNOWN
    assert verdict.violations == ()


def test_pods_that_left_within_a_gap_left_in_an_unknown_order() -> None:
    verdict = judged(*BOTH, statefulset(0), watch("gap"), pod(0, "deleted"), pod(1, "deleted"), watch("synced"))
    assert verdict.value is Value.UNKNOWN


def test_what_was_there_before_the_watch_is_not_judged() -> None:
    assert judged(statefulset(2), pod(1, "present"), pod(0, "present"), watch("synced")).value is Value.PASS


def test_what_is_there_when_a_watch_begins_again_came_while_nobody_looked() -> None:
    verify = (watch("began"), pod(0, "present"), pod(1, "present", "b", ready=True), pod(2, "present", "c", ready=True))
    assert judged(*BOTH, statefulset(3), *verify, watch("synced")).value is Value.PASS
    leaving = (watch("began"), pod(0, "present", ready=True), pod(1, "present", ready=True, deleting=True))
    assert judged(*BOTH, statefulset(1), *leaving, watch("synced")).value is Value.PASS
    eleven = (watch("began"), pod(0, "present", ready=True), pod(10, "present", ready=True), pod(2, "present", ready=True))
    assert judged(*BOTH, statefulset(11), *eleven, watch("synced")).value is Value.PASS


def test_what_happens_after_a_watch_began_again_is_judged() -> None:
    again = (watch("began"), pod(0, "present", ready=True), watch("synced"), statefulset(3))
    assert judged(*BOTH, *again, pod(1, "added"), pod(2, "added")).value is Value.FAIL
