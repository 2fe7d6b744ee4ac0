"""Recovery, by hand-written histories."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.recovery import Recovery
from chaosd.checkers.verdict import Class, Unknown, Value, Verdict
from chaosd.history import NEMESIS, Event, Kind
from tests.histories import WEB_0, disrupted, history, pod, seen, statefulset, warned


def judged(*events: Event) -> Verdict:
    checker = Recovery()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def late(state: str) -> Event:
    value: dict[str, Any] = {"seconds": 300.0, "late": [{"replica": WEB_0, "state": state}]}
    return Event(NEMESIS, "converge", Kind.FAIL, value)


DELETED = (disrupted("pod-delete", (WEB_0, "old")), pod(0, "deleted", "old"))


def test_each_phase_is_timed_from_the_disruption() -> None:
    verdict = judged(
        *DELETED,
        pod(0, "added", "new"),
        pod(0, "modified", "new", node="n"),
        seen("attachment", "added", pod="web-0", node="n", attached=True),
        pod(0, "modified", "new", node="n", ready=True),
        Event(NEMESIS, "converge", Kind.OK, {"seconds": 4.5}),
    )
    assert verdict.value is Value.PASS
    phases = {phase: told["max"] for phase, told in verdict.measured["phases_seconds"].items()}
    assert phases == {"deleted": 1.0, "scheduled": 3.0, "attached": 4.0, "ready": 5.0}
    assert verdict.measured["converged_seconds"] == {"count": 1, "mean": 4.5, "max": 4.5}


def test_an_attachment_that_stayed_was_there_as_soon_as_the_pod_was_scheduled() -> None:
    verdict = judged(*DELETED, pod(0, "added", "new", node="n"), pod(0, "modified", "new", node="n", ready=True))
    assert verdict.measured["phases_seconds"]["attached"]["max"] == 2.0


def test_a_target_that_is_late_is_not_recovered() -> None:
    verdict = judged(*DELETED, pod(0, "added", "new", node="n"), late("phase Pending, not Ready ContainerCreating"))
    (violation,) = verdict.violations
    assert (violation.failure, violation.replica) == (Class.NOT_RECOVERED, WEB_0)
    assert violation.evidence["state"] == "phase Pending, not Ready ContainerCreating"


def test_what_storage_does_not_give_is_no_fault_of_storage() -> None:
    for told, reason in (
        ({"unschedulable": "0/2 nodes are available: insufficient cpu"}, "not schedulable"),
        ({"containers": [{"waiting": "ImagePullBackOff"}]}, "container waits: ImagePullBackOff"),
    ):
        assert reason in _only_unknown(judged(*DELETED, pod(0, "added", "new", **told), late("not Ready")))


def _only_unknown(verdict: Verdict) -> str:
    assert verdict.violations == ()
    (unknown,) = verdict.unknowns
    assert isinstance(unknown, Unknown)
    return unknown.missing


def test_a_pod_that_the_controller_does_not_make_is_no_fault_of_storage() -> None:
    assert "the controller made no pod" in _only_unknown(judged(*DELETED, late("no pod")))


def test_a_node_that_is_not_ready_is_no_fault_of_storage() -> None:
    dead = seen("node", "modified", name="n")
    leaving = pod(0, "modified", "old", node="n", deleting=True)
    verdict = judged(disrupted("pod-delete", (WEB_0, "old")), leaving, dead, late("the pod is being deleted"))
    assert "node n is not Ready" in _only_unknown(verdict)
    back = seen("node", "modified", name="n", ready=True)
    assert judged(disrupted("pod-delete", (WEB_0, "old")), leaving, dead, back, late("late")).value is Value.FAIL


def test_a_target_that_somebody_else_scaled_is_not_accused() -> None:
    awaited = Event(NEMESIS, "converge", Kind.INVOKE, {"replicas": 2})
    added = pod(0, "added", "new", node="n")
    told = _only_unknown(judged(*DELETED, awaited, statefulset(3), added, late("is still there")))
    assert told == "not converged at 2 replicas: somebody else scaled it to 3"
    told = _only_unknown(judged(*DELETED, awaited, statefulset(2, "deleted"), added, late("no pod")))
    assert "somebody else deleted it" in told
    assert judged(*DELETED, awaited, statefulset(2), added, late("not Ready")).value is Value.FAIL


def test_a_run_without_any_disruption_tested_nothing() -> None:
    blocked = Event(NEMESIS, "pod-delete", Kind.FAIL, {"blocked": "not_ready", "error": "web-0 is not Ready"})
    assert "no disruption is known to have happened" in _only_unknown(judged(blocked, blocked))
    assert judged(blocked, Event(NEMESIS, "pod-delete", Kind.OK, {"evidence": {}})).value is Value.PASS


def test_a_node_that_takes_no_pods_beside_one_that_cannot_have_the_volume_is_not_storages_fault_alone() -> None:
    why = "1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) were unschedulable."
    told = {
        "unschedulable": f"0/2 nodes are available: {why} preemption: 0/2 nodes are available: 2 Preemption is not helpful."
    }
    assert judged(*DELETED, pod(0, "added", "new", **told), late("not Ready")).value is Value.UNKNOWN


def test_a_pod_that_waits_for_its_claim_or_its_volume_is_storages_fault() -> None:
    for reason in (
        "pod has unbound immediate PersistentVolumeClaims",
        'persistentvolumeclaim "disk-ssd-web-0" is being deleted',
        "0/2 nodes are available: 2 node(s) had volume node affinity conflict.",  # as earlier versions said
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
    ):
        told = {"unschedulable": reason}
        assert judged(*DELETED, pod(0, "added", "new", **told), late("not Ready")).value is Value.FAIL, reason


def test_only_who_looked_at_the_file_system_says_that_it_is_damaged() -> None:
    """mount(8) has one message for whatever the kernel refuses, such as a mount option that it does not know."""
    for message, failure in (
        ("mount: /data: wrong fs type, bad option, bad superblock on /dev/sdb, missing codepage", "not_recovered"),
        ("mount: /data: mount(2) system call failed: Structure needs cleaning.", "corrupt"),
        ("fsck.ext4: Bad magic number in super-block while trying to open /dev/sdb", "corrupt"),
        ("'fsck' found errors on device /dev/sdb but could not correct them", "corrupt"),
    ):
        waits = (pod(0, "added", "new", node="n"), warned(0, "new", "FailedMount", message))
        (found,) = judged(*DELETED, *waits, late("not Ready")).violations
        assert found.failure == failure, message


def test_what_a_kubelet_says_after_it_saw_the_damage_does_not_hide_it() -> None:
    damage, later = "fsck.ext4: Bad magic number in super-block", "unmounted volumes=[disk]: timed out waiting"
    told = [warned(0, "new", "FailedMount", message) for message in (damage, later)]
    (found,) = judged(*DELETED, pod(0, "added", "new", node="n"), *told, late("not Ready")).violations
    assert (found.failure, found.evidence["events"]) == ("corrupt", {"FailedMount": damage})
