"""Recovery, by hand-written histories."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.recovery import Recovery
from chaosd.checkers.verdict import Class, Unknown, Value, Verdict
from chaosd.history import NEMESIS, Event, Kind
from tests.histories import WEB_0, disrupted, history, pod, seen


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
    verdict = judged(*DELETED, late("no pod"))
    (violation,) = verdict.violations
    assert (violation.failure, violation.replica) == (Class.NOT_RECOVERED, WEB_0)
    assert violation.evidence["state"] == "no pod"


def test_what_storage_does_not_give_is_no_fault_of_storage() -> None:
    for told, reason in (
        ({"unschedulable": "0/2 nodes are available: insufficient cpu"}, "not schedulable"),
        ({"containers": [{"waiting": "ImagePullBackOff"}]}, "container waits: ImagePullBackOff"),
    ):
        verdict = judged(*DELETED, pod(0, "added", "new", **told), late("not Ready"))
        assert verdict.violations == ()
        (unknown,) = verdict.unknowns
        assert isinstance(unknown, Unknown)
        assert reason in unknown.missing


def test_a_pod_that_waits_for_its_claim_is_storages_fault() -> None:
    told = {"unschedulable": "pod has unbound immediate PersistentVolumeClaims"}
    assert judged(*DELETED, pod(0, "added", "new", **told), late("not Ready")).value is Value.FAIL
