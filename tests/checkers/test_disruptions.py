"""What the nemesis does is nobody's fault: hand-written histories of disruptions on a target that keeps its word."""

from __future__ import annotations

from chaosd.checkers import Value
from chaosd.checkers.integrity import Integrity
from chaosd.history import NEMESIS, Event, Kind
from tests.histories import (
    WEB_0,
    WEB_1,
    attachment,
    begun,
    claim,
    converged,
    disrupted,
    disruption_done,
    ended,
    history,
    judged,
    listed,
    opened,
    pod,
    read,
    sound,
    statefulset,
    unanswered,
    volume,
    watch,
    written,
)


def _gone(ordinal: int, uid: str = "") -> tuple[Event, ...]:
    uid = uid or f"pod-{ordinal}"
    return pod(ordinal, "modified", uid, ready=True, deleting=True), pod(ordinal, "deleted", uid)


def _back(ordinal: int, uid: str, node: str) -> tuple[Event, ...]:
    return pod(ordinal, "added", uid), pod(ordinal, "modified", uid, node=node, ready=True)


def _passes(*events: Event, new: tuple[str, str] = ("new-0", "new-1"), rules: dict[str, str] | None = None) -> None:
    """These events, after a round began, and both replicas read back from these pods."""
    again = (sound(0, new[0], again=True), sound(1, new[1], again=True))
    judgement = judged(*begun(**(rules or {})), *events, *converged(), *again, *ended(1, WEB_0, WEB_1))
    assert (judgement.value, judgement.violations, judgement.unknowns) == (Value.PASS, (), ())


BOTH = ((WEB_0, "pod-0"), (WEB_1, "pod-1"))


def test_a_rolling_update_goes_from_the_highest_ordinal_down() -> None:
    restarted = (*_gone(1), *_back(1, "new-1", "two"), *_gone(0), *_back(0, "new-0", "one"))
    _passes(disrupted("rollout-restart", *BOTH), *restarted, disruption_done("rollout-restart"))


def test_evicted_pods_leave_in_any_order() -> None:
    evicted = (*_gone(0), *_back(0, "new-0", "one"), *_gone(1), *_back(1, "new-1", "two"))
    _passes(disrupted("pod-evict", *BOTH), *evicted, disruption_done("pod-evict"))


def test_a_drained_pod_takes_its_volume_to_another_node() -> None:
    moved = (*_gone(0), attachment(0, "one", "deleted"), attachment(0, "two", "added"), *_back(0, "new-0", "two"))
    _passes(disrupted("node-drain", BOTH[0]), *moved, disruption_done("node-drain"), new=("new-0", "pod-1"))


def test_a_statefulset_that_is_made_again_adopts_its_pods() -> None:
    again = (statefulset(2, "deleted", uid="old"), statefulset(2, "added", uid="new"))
    _passes(disrupted("recreate"), *again, disruption_done("recreate"), new=("pod-0", "pod-1"))


def test_with_foreground_deletion_pods_go_together_and_come_back_in_order() -> None:
    going = (statefulset(2, uid="old", deleting=True), *_gone(0), *_gone(1), statefulset(2, "deleted", uid="old"))
    coming = (statefulset(2, "added", uid="new"), *_back(0, "new-0", "one"), *_back(1, "new-1", "two"))
    _passes(disrupted("recreate", *BOTH), *going, *coming, disruption_done("recreate"))


def test_a_flapping_count_takes_pods_away_that_come_back() -> None:
    down = (statefulset(0), *_gone(1), pod(0, "modified", ready=True, deleting=True))
    up = (statefulset(2), pod(0, "deleted"), *_back(0, "new-0", "one"), *_back(1, "new-1", "two"))
    _passes(disrupted("scale-flap", **{"from": 2, "to": 0}), *down, *up, disruption_done("scale-flap"))


def test_a_container_that_runs_again_is_in_the_same_pod() -> None:
    ended_once = (pod(1, "modified", node="two"), pod(1, "modified", node="two", ready=True))
    _passes(disrupted("container-kill"), *ended_once, disruption_done("container-kill"), new=("pod-0", "pod-1"))


def test_what_scaling_takes_by_policy_is_excused_among_others_and_unseen() -> None:
    """The watch of the StatefulSet had a gap, so that the lower count was never seen."""
    policy = {"retention_when_scaled": "Delete"}
    parts = [{"kind": "scale", "from": 2, "to": 1, "deletes": []}, {"kind": "pod-delete", "ordinals": [0], "deletes": []}]
    scaled = (
        statefulset(2, **policy),
        disrupted("together", disruptions=parts),
        watch("gap", "statefulset"),
        watch("synced", "statefulset"),
        *_gone(1),
        claim(1, "deleted"),
        claim(1, "added", uid="new", volume="pv-new"),
        volume(1, "added", name="pv-new", handle="d-new", claim_uid="new"),
        *_back(1, "new-1", "two"),
        disruption_done("together"),
    )
    judgement = judged(*begun(**policy), *scaled, *converged(), *ended(1, WEB_0))
    assert judgement.violations == ()
    assert judgement.by_policy == ("disk-ssd-web-1: deleted on scale-down, as whenScaled: Delete asks",)


def test_a_pod_that_is_deleted_by_force_among_others_may_write_on() -> None:
    parts = [
        {"kind": "container-kill", "deletes": []},
        {"kind": "pod-delete", "grace": 0, "deletes": [{"replica": WEB_0, "uid": "pod-1", "node": "n"}]},
    ]
    forced = Event(NEMESIS, "together", Kind.INVOKE, {"disruptions": parts, "disrupts": True})
    before = (opened(WEB_0), *written(WEB_0, 0), *unanswered(WEB_0, 1), forced)
    after = (opened(WEB_0, "pod-2"), read(WEB_0, 0), read(WEB_0, 1, finding="missing"), listed(WEB_0, 0, 1))
    checker = Integrity()
    for op in history(*before, *after):
        checker.step(op)
    assert checker.verdict().violations == ()
    assert checker.verdict().by_policy == (".chaosd/RUN/00000001: written by pod pod-1 after it was deleted by force",)
