"""Every class of failure: the history that shows it, and the whole verdict of the checker that says so.

A class that has no case here fails the last test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chaosd.checkers import CHECKERS
from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, OBSERVER, Event, Kind
from tests.histories import (
    EXT4,
    WEB_0,
    WEB_1,
    claim,
    confirmed,
    disrupted,
    history,
    listed,
    opened,
    pod,
    read,
    round_began,
    statefulset,
    unanswered,
    volume,
    warned,
    watch,
    written,
)

BINDING = Binding("disk-ssd-web-0", "claim-web-0", "pv-web-0", "d-web-0", "n")
FILE = ".chaosd/RUN/00000000"


@dataclass(frozen=True)
class Case:
    """A history, and what a checker says of it. What is measured is compared where it is told."""

    title: str
    checker: str
    events: tuple[Event, ...]
    violations: tuple[Violation, ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.checker, self.violations, self.unknowns, measured=self.measured)


def violation(failure: Class, index: int, since: int, binding: Binding, replica: str = WEB_0, **evidence: Any) -> Violation:
    return Violation(failure, replica, index, since, binding, evidence=evidence)


def double_bound(index: int, binding: Binding, **evidence: Any) -> Violation:
    found = violation(Class.DOUBLE_BOUND, index, index, binding, WEB_1, **evidence)
    return replace(found, shared_with=(WEB_0,))


# Integrity. What is not told of a file stands in the events: it was written at 2 and is read at 3.

ONE_FILE = (opened(WEB_0), *written(WEB_0, 0))


def damaged(failure: Class, finding: str, *, block: int | None = 3, **evidence: Any) -> Case:
    told = {} if block is None else {"block": block, "evidence": evidence}
    seen = {**evidence, "pod_uid": "pod-1", "files": [FILE], "file_count": 1}
    found = Violation(failure, WEB_0, 3, 2, BINDING, FILE, block, seen)
    events = (*ONE_FILE, read(WEB_0, 0, finding=finding, **told))
    return Case(f"{finding} is {failure}", "integrity", events, (found,), measured=NOTHING_OWED)


NOTHING_OWED = {"owed_records": 0, "records_at_risk": 0}
ANOTHER_CLAIM = {"run": "RUN", "claim_uid": "claim-web-1", "sequence": 0, "pod_uid": "pod-9"}
ANOTHER_POD = {"run": "RUN", "claim_uid": "claim-web-0", "sequence": 0, "pod_uid": "pod-9"}


def unexpected(sequence: int, why: str) -> Case:
    file = f".chaosd/RUN/{sequence:08d}"
    seen = {"why": why, "pod_uid": "pod-1", "files": [file], "file_count": 1}
    found = Violation(Class.UNEXPECTED, WEB_0, 4, -1, BINDING, file, None, seen)
    events = (*ONE_FILE, read(WEB_0, 0), listed(WEB_0, 0, sequence))
    return Case(f"unexpected: {why}", "integrity", events, (found,), measured={"owed_records": 1, "records_at_risk": 0})


def landed_late() -> Case:
    file = ".chaosd/RUN/00000001"
    later = (opened(WEB_0, "pod-2"), read(WEB_0, 0), read(WEB_0, 1, finding="missing"), listed(WEB_0, 0, 1))
    why = "it came after another pod had seen that it was not there"
    seen = {"written_by": "pod-1", "why": why, "pod_uid": "pod-2", "files": [file], "file_count": 1}
    found = Violation(Class.DOUBLE_WRITER, WEB_0, 8, 3, BINDING, file, None, seen)
    events = (*ONE_FILE, *unanswered(WEB_0, 1), *later)
    measured = {"owed_records": 1, "records_at_risk": 0}
    return Case("a write of a pod that was replaced lands late", "integrity", events, (found,), measured=measured)


INTEGRITY = (
    damaged(Class.LOST, "lost", condition="hole"),
    damaged(Class.TORN, "torn", found_hex="00"),
    damaged(Class.TORN, "zeroed"),
    damaged(Class.TORN, "truncated"),
    damaged(Class.CORRUPT, "corrupt", changed=[[9, 1]]),
    damaged(Class.CORRUPT, "unknown"),
    damaged(Class.CORRUPT, "misdirected"),
    damaged(Class.STALE, "stale"),
    damaged(Class.FOREIGN, "foreign", names_itself=ANOTHER_CLAIM),
    damaged(Class.DOUBLE_WRITER, "foreign", names_itself=ANOTHER_POD),
    Case(
        "missing is lost",
        "integrity",
        (*ONE_FILE, read(WEB_0, 0, finding="missing")),
        (
            Violation(
                Class.LOST,
                WEB_0,
                3,
                2,
                BINDING,
                FILE,
                None,
                {"acknowledged_at": 2, "bytes": 4096, "pod_uid": "pod-1", "files": [FILE], "file_count": 1},
            ),
        ),
        measured=NOTHING_OWED,
    ),
    unexpected(7, "it was never written"),
    landed_late(),
)

# Binding. The target is seen whole at 0 to 6; web-0's claim is bound first at 1.

WHOLE = (statefulset(2), claim(0), volume(0), claim(1), volume(1), pod(0, "present"), pod(1, "present"))
FIRST = Binding("disk-ssd-web-0", "claim-web-0", "pv-web-0", "d-web-0")


def rebound(
    failure: Class,
    *events: Event,
    since: int = 1,
    first: Binding = FIRST,
    shared_with: tuple[str, ...] = (),
    **evidence: Any,
) -> Case:
    index = len(WHOLE) + len(events) - 1
    found = replace(violation(failure, index, since, first, **evidence), shared_with=shared_with)
    return Case(f"{failure}", "binding", (*WHOLE, *events), (found,), measured={"claims": 2})


MADE_ANEW = claim(0, "added", uid="new", volume="pv-new")
MISMATCHED = pod(0, "modified", claims={"disk-ssd": "disk-ssd-web-1"})
SECOND = Binding("disk-ssd-web-1", "claim-web-1", "pv-web-0", "d-web-0")

BINDINGS = (
    rebound(
        Class.CLAIM_REPLACED,
        volume(0, "added", name="pv-new", handle="d-new"),
        claim(0, "deleted"),
        MADE_ANEW,
        claim_uid={"was": "claim-web-0", "is": "new"},
        volume_now="pv-new",
    ),
    rebound(Class.CLAIM_MISSING, claim(0, "deleted"), claim="disk-ssd-web-0", seen_last="claim-web-0"),
    rebound(Class.CLAIM_LOST, claim(0, phase="Lost"), phase="Lost", volume="pv-web-0"),
    rebound(
        Class.VOLUME_REBOUND,
        volume(0, "added", name="pv-other", handle="d-other"),
        claim(0, volume="pv-other"),
        volume={"was": "pv-web-0", "is": "pv-other"},
    ),
    rebound(Class.HANDLE_CHANGED, volume(0, handle="d-other"), volume_handle={"was": "d-web-0", "is": "d-other"}),
    rebound(
        Class.CLAIM_MISMATCH,
        MISMATCHED,
        since=-1,
        first=Binding("disk-ssd-web-0"),
        shared_with=(WEB_1,),
        claim={"wanted": "disk-ssd-web-0", "mounted": "disk-ssd-web-1"},
        pod_uid="pod-0",
    ),
    Case(
        "two claims on one volume are double_bound",
        "binding",
        (statefulset(2), volume(0), claim(0), claim(1, volume="pv-web-0")),
        (
            double_bound(
                3,
                SECOND,
                volume="pv-web-0",
                claims=["disk-ssd-web-0", "disk-ssd-web-1"],
            ),
        ),
        measured={"claims": 2},
    ),
    Case(
        "a claim on a volume that says it is another's is double_bound",
        "binding",
        (statefulset(2), volume(0, claim_uid="claim-web-0"), claim(0), claim(1, volume="pv-web-0")),
        (
            double_bound(
                3,
                SECOND,
                volume="pv-web-0",
                claim_uid="claim-web-1",
                volume_is_claimed_by="claim-web-0",
            ),
        ),
        measured={"claims": 2},
    ),
    Case(
        "two volumes on one disk are double_bound",
        "binding",
        (statefulset(2), volume(0), claim(0), volume(1, handle="d-web-0"), claim(1)),
        (
            double_bound(
                4,
                Binding("disk-ssd-web-1", "claim-web-1", "pv-web-1", "d-web-0"),
                volume_handle="d-web-0",
                volumes=["pv-web-0", "pv-web-1"],
            ),
        ),
        measured={"claims": 2},
    ),
)

# Mount. A sound session at 0, the next pod's at 1.

DISK = {**EXT4, "fs_uuid": "u-1", "fsid": "f-1"}
WHERE = {"path": "/data", "mountinfo": EXT4["mountinfo"]}
OTHERS = {"run": "RUN", "replica": WEB_1, "claim_uid": "claim-web-1"}


def remounted(failure: Class, seen: Mapping[str, Any], **evidence: Any) -> Case:
    events = (opened(WEB_0, **DISK), opened(WEB_0, "pod-2", **{**DISK, **seen}))
    return Case(f"{failure}", "mount", events, (violation(failure, 1, 0, BINDING, **evidence, pod_uid="pod-2"),))


CAPACITY = {"was": "1Gi", "is": "2Gi"}
TOTAL_BYTES = {"was": 1 << 30, "is": 1 << 30}
NOT_EXPANDED = violation(Class.NOT_EXPANDED, 3, 1, BINDING, capacity=CAPACITY, total_bytes=TOTAL_BYTES, pod_uid="pod-2")

MOUNTS = (
    remounted(Class.NOT_MOUNTED, {"mounted": False, "mountinfo": ""}, path="/data", mountinfo=""),
    remounted(Class.REFORMATTED, {"fs_uuid": "u-2"}, **WHERE, fs_uuid={"was": "u-1", "is": "u-2"}),
    remounted(Class.FOREIGN, {"identity": OTHERS}, identity_names=OTHERS),
    remounted(Class.CORRUPT, {"identity": {"unreadable": "x"}}, identity_names={"unreadable": "x"}),
    Case(
        "not_expanded",
        "mount",
        (claim(0, capacity="1Gi"), opened(WEB_0, **DISK), claim(0, capacity="2Gi"), opened(WEB_0, "pod-2", **DISK)),
        (NOT_EXPANDED,),
    ),
)

# The others.

ON_ONE = pod(0, "present", ready=True, node="one")
ATTACHED_TO_TWO = Event(
    OBSERVER,
    "attachment",
    Kind.OK,
    {
        "namespace": "default",
        "pod": "web-0",
        "volume": "pv-web-0",
        "node": "two",
        "attached": True,
        "name": "a",
        "change": "",
    },
)
ELSEWHERE = violation(
    Class.ATTACHED_ELSEWHERE,
    3,
    2,
    Binding(volume="pv-web-0", node="one"),
    volume="pv-web-0",
    pod_node="one",
    attached_to=["two"],
    pod_uid="pod-0",
)
RENAMED = violation(Class.HOSTNAME_CHANGED, 1, -1, BINDING, hostname={"wanted": "web-0", "is": "node-7"}, pod_uid="pod-2")
EARLY = violation(
    Class.ORDER_VIOLATED,
    3,
    -1,
    Binding(),
    WEB_1,
    problem="web-0 had not been Ready when web-1 was created",
    pod_uid="pod-1",
    node="",
)

# Recovery. web-0's pod is deleted at 0 and gone at 1; the deadline passes at the end.

PENDING = "phase Pending, not Ready ContainerCreating"
FSCK = "'fsck' found errors on device /dev/sdb but could not correct them"
MULTI_ATTACH = "Multi-Attach error for volume pv-web-0: Volume is already exclusively attached to one node"
MEASURED = {
    "converged_seconds": {"count": 0, "mean": 0.0, "max": 0.0},
    "phases_seconds": {
        "deleted": {"count": 1, "mean": 1.0, "max": 1.0},
        "scheduled": {"count": 1, "mean": 2.0, "max": 2.0},
    },
}


def late(title: str, *events: Event, failure: Class | None = None, because: str = "", **told: str) -> Case:
    gone = (disrupted("pod-delete", (WEB_0, "old")), pod(0, "deleted", "old"), pod(0, "added", "new", node="one"))
    deadline = Event(NEMESIS, "converge", Kind.FAIL, {"seconds": 300.0, "late": [{"replica": WEB_0, "state": PENDING}]})
    index = len(gone) + len(events)
    evidence = {"deadline_seconds": 300.0, "state": PENDING, "events": told}
    found = failure and violation(failure, index, 0, Binding(claim="disk-ssd-web-0", node="one"), **evidence)
    return Case(
        title,
        "recovery",
        (*gone, *events, deadline),
        (found,) if found else (),
        () if found else (Unknown(WEB_0, f"not ready within 300 s: {because}"),),
        measured=MEASURED,
    )


NO_SANDBOX = "networkPlugin cni failed to set up pod"
RECOVERIES = (
    late("a pod that waits is not_recovered", failure=Class.NOT_RECOVERED),
    late(
        "what the events say of the volume stands in the evidence",
        warned(0, "new", "FailedAttachVolume", MULTI_ATTACH),
        failure=Class.NOT_RECOVERED,
        FailedAttachVolume=MULTI_ATTACH,
    ),
    late("fsck finds errors", warned(0, "new", "FailedMount", FSCK), failure=Class.CORRUPT, FailedMount=FSCK),
    late(
        "events of an earlier pod say nothing of this one",
        warned(0, "old", "FailedMount", FSCK),
        failure=Class.NOT_RECOVERED,
    ),
    late(
        "an image that cannot be pulled",
        pod(0, "modified", "new", node="one", containers=[{"waiting": "ImagePullBackOff"}]),
        because="container waits: ImagePullBackOff",
    ),
    late(
        "a quota that leaves no pod",
        pod(0, "deleted", "new"),
        because="the controller made no pod: its events say why, such as a quota or an admission webhook",
    ),
    late(
        "a network that is not there",
        warned(0, "new", "FailedCreatePodSandBox", NO_SANDBOX),
        because=f"FailedCreatePodSandBox: {NO_SANDBOX}",
    ),
)

CASES = (
    *INTEGRITY,
    *BINDINGS,
    *MOUNTS,
    Case(
        "attached_elsewhere",
        "attachment",
        (round_began(1), ON_ONE, ATTACHED_TO_TWO, confirmed(0, "pod-0", "one", "two")),
        (ELSEWHERE,),
    ),
    Case("hostname_changed", "identity", (opened(WEB_0), opened(WEB_0, "pod-2", hostname="node-7")), (RENAMED,)),
    Case(
        "order_violated",
        "ordering",
        (statefulset(2), watch("synced"), pod(0, "added"), pod(1, "added")),
        (EARLY,),
        measured={"transitions_judged": 2},
    ),
    *RECOVERIES,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.checker}: {case.title}")
def test_the_whole_verdict(case: Case) -> None:
    checker = CHECKERS[case.checker]()
    for op in history(*case.events):
        checker.step(op)
    assert checker.verdict() == case.verdict


def test_every_class_has_a_case() -> None:
    assert {found.failure for case in CASES for found in case.violations} == set(Class)
