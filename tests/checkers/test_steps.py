"""Expectations of scripted steps: shown, not shown, violated; each from a history."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chaosd.checkers.steps import EXPECTATIONS, Shown, Steps
from chaosd.checkers.verdict import Class, Value
from chaosd.history import RUN, Event, Kind
from tests.histories import (
    WEB_0,
    claim,
    disrupted,
    history,
    opened,
    pod,
    read,
    round_began,
    statefulset,
    volume,
)

BOUND = {"capacity": "20Gi", "access_modes": ["ReadWriteOnce"]}
WANTED = {"capacity": "20Gi", "accessModes": "ReadWriteOnce"}
SOUND = (
    statefulset(2),
    *(claim(n, **BOUND) for n in (0, 1)),
    *(volume(n) for n in (0, 1)),
    *(pod(n, "present", ready=True) for n in (0, 1)),
    round_began(1),
)


def steps(*events: Event) -> Steps:
    checker = Steps()
    for op in history(*events):
        checker.step(op)
    return checker


def shown(expectation: str, *events: Event, parameters: Mapping[str, str] | None = None) -> list[Shown]:
    return steps(*SOUND, *events).evaluate(expectation, parameters or {})


def results(expectation: str, *events: Event, parameters: Mapping[str, str] | None = None) -> list[str]:
    return [line.result for line in shown(expectation, *events, parameters=parameters)]


def test_each_replica_has_a_claim_of_its_own() -> None:
    (first, second) = shown("own-claims", parameters=WANTED)
    assert (first.replica, first.result, second.result) == (WEB_0, "shown", "shown")
    assert first.expected == "claim disk-ssd-web-0 of its own, Bound 20Gi ReadWriteOnce, on a volume of its own"
    assert "claim disk-ssd-web-0 (claim-web-0) Bound to pv-web-0, 20Gi ReadWriteOnce, handle d-web-0" in first.seen


@pytest.mark.parametrize(
    "event",
    [
        claim(1, phase="Pending"),
        claim(1, volume="pv-web-0", **BOUND),
        claim(1, capacity="10Gi", access_modes=["ReadWriteOnce"]),
        claim(1, capacity="20Gi", access_modes=["ReadWriteMany"]),
        claim(1, "deleted"),
    ],
)
def test_a_claim_that_is_not_as_promised(event: Event) -> None:
    assert "violated" in results("own-claims", event, parameters=WANTED)


def _start(*ordinals: int) -> list[Event]:
    return [e for n in ordinals for e in (pod(n, "added", f"new-{n}"), pod(n, "modified", f"new-{n}", ready=True))]


def _stop(*ordinals: int) -> list[Event]:
    return [e for n in ordinals for e in (pod(n, "modified", deleting=True), pod(n, "deleted"))]


def test_pods_that_start_in_order() -> None:
    assert results("started-in-order", *_stop(1, 0), *_start(0, 1)) == ["shown", "shown"]


def test_pods_that_start_out_of_order_or_too_early() -> None:
    assert results("started-in-order", *_stop(1, 0), *_start(1, 0)) == ["violated", "violated"]
    early = [
        pod(0, "added", "a"),
        pod(1, "added", "b"),
        pod(0, "modified", "a", ready=True),
        pod(1, "modified", "b", ready=True),
    ]
    assert results("started-in-order", *_stop(1, 0), *early) == ["violated", "violated"]


def test_pods_that_stop_in_order() -> None:
    assert results("stopped-in-order", *_stop(1, 0)) == ["shown", "shown"]
    assert results("stopped-in-order", *_stop(0, 1)) == ["violated", "violated"]
    both = [pod(1, "modified", deleting=True), pod(0, "modified", deleting=True), pod(1, "deleted"), pod(0, "deleted")]
    assert results("stopped-in-order", *both) == ["violated", "violated"]


def test_the_parallel_policy_promises_no_order() -> None:
    assert results("stopped-in-order", statefulset(2, pod_management="Parallel"), *_stop(0, 1)) == ["not shown"]


def test_nothing_that_happened_shows_no_order() -> None:
    assert results("started-in-order") == ["not shown"]


def test_claims_that_changed() -> None:
    assert results("claims-unchanged") == ["shown", "shown"]
    assert results("claims-unchanged", claim(1, volume="pv-other")) == ["shown", "violated"]
    assert results("claims-unchanged", claim(1, "deleted"), claim(1, "added", uid="new")) == ["shown", "violated"]


def test_the_count_of_claims() -> None:
    assert results("claim-count", parameters={"count": "2"}) == ["shown"]
    assert results("claim-count", claim(2, phase="Pending"), parameters={"count": "3"}) == ["violated"]


def test_a_pod_that_was_replaced() -> None:
    gone = (disrupted("pod-delete", (WEB_0, "pod-0")), pod(0, "modified", deleting=True), pod(0, "deleted"))
    back = pod(0, "added", "pod-new", ready=True)
    assert results("pod-replaced", *gone, back, opened(WEB_0, "pod-new")) == ["shown"]
    assert results("pod-replaced", *gone, back, opened(WEB_0, "pod-new", hostname="other")) == ["violated"]
    assert results("pod-replaced", *gone, back, opened(WEB_0, "pod-0")) == ["not shown"]  # nobody asked the new pod
    assert results("pod-replaced", *gone, back, opened(WEB_0, "pod-new", hostname="web-0.nginx.default.svc")) == ["shown"]
    assert results("pod-replaced", *gone) == ["violated"]


def test_a_new_disk_and_one_in_use() -> None:
    new = opened(WEB_0, entries=["lost+found"], path="/data")
    used = opened(WEB_0, entries=["lost+found", "index.html"], path="/data")
    assert results("new-disk-empty", new)[0] == "shown"
    assert results("new-disk-empty", new, used)[0] == "shown"  # what counts is how it was first seen
    assert results("new-disk-empty", used)[0] == "not shown"
    assert results("new-disk-empty")[0] == "not shown"


def test_files_that_were_kept() -> None:
    gone = disrupted("pod-delete", (WEB_0, "pod-0"))
    assert results("files-kept", gone, read(WEB_0, 0, 1)) == ["shown"]
    assert results("files-kept", gone) == ["not shown"]


def test_a_path_that_is_no_mount() -> None:
    assert results("path-is-mount", opened(WEB_0, "pod-0", mountinfo="21 20 7:1 / /data"))[0] == "shown"
    assert results("path-is-mount", opened(WEB_0, "pod-0", mounted=False))[0] == "violated"
    assert results("path-is-mount", opened(WEB_0, "pod-0", mounted=None))[0] == "not shown"
    assert results("path-is-mount") == ["not shown", "not shown"]


def test_two_volumes_on_one_disk_are_no_claims_of_their_own() -> None:
    assert "violated" in results("own-claims", volume(1, handle="d-web-0"), parameters=WANTED)


def test_a_pod_that_was_there_before_the_step_does_not_disturb_its_order() -> None:
    flapping = pod(0, "modified", ready=False), pod(0, "modified", ready=True)
    started = pod(2, "added", "new-2"), *flapping, pod(2, "modified", "new-2", ready=True)
    assert results("started-in-order", *started) == ["shown"]


def test_the_verdict_repeats_what_the_history_says() -> None:
    line = {
        "step": "one",
        "expectation": "claim-count",
        "replica": "web",
        "expected": "3",
        "seen": "2",
        "result": "violated",
    }
    verdict = steps(*SOUND, Event(RUN, "expect", Kind.OK, line)).verdict()
    assert verdict.value is Value.FAIL
    assert [v.failure for v in verdict.violations] == [Class.CLAIM_MISSING]
    assert verdict.measured["expectations"] == [line]


def test_every_expectation_names_a_class_or_is_never_violated() -> None:
    assert {e.failure for e in EXPECTATIONS.values()} <= {*Class, None}
