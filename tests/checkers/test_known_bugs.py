"""Bugs of storage and of Kubernetes that users reported: each, as it would appear in the history of a target that was well
until then, is one violation of one class, and nothing else. Source: the issues named.

The target and its replicas are those of `tests.histories`: web-1 is replaced, and on its way back the bug strikes.
"""

from __future__ import annotations

from typing import Any

import pytest

from chaosd import payload
from chaosd.checkers import Judgement, Value, Violation
from chaosd.coverage import Coverage
from chaosd.history import Event, Kind
from tests.histories import (
    ENTRIES,
    FILES,
    HEALTHY,
    LOG,
    NAMES,
    OWED,
    REGISTER,
    VALUE,
    WEB_0,
    WEB_1,
    all_gone,
    attachment,
    begun,
    claim,
    classes,
    confirmed,
    converged,
    disrupted,
    disruption_done,
    ended,
    history,
    identity,
    judged,
    listed,
    node,
    not_converged,
    not_read,
    objects,
    pod,
    pod_replaced,
    read,
    round_began,
    round_ended,
    sound,
    statefulset,
    stood_on,
    unanswered,
    verified,
    volume,
    warned,
    written,
)

REPLACED = (*begun(), *pod_replaced(1, "new-1"))


def only(judgement: Judgement) -> Violation:
    """The one violation, by which the run fails."""
    assert judgement.value is Value.FAIL
    (violation,) = judgement.violations
    return violation


def consequences(violation: Violation) -> set[str]:
    """Classes of what else was seen and follows from it."""
    return {found["class"] for found in violation.evidence.get("consequences", ())}


def foreign(*sequences: int, owner: int, **more: Any) -> Event:
    """A file whose checksum holds, and whose payload names another replica's claim."""
    named = {"run": "RUN", "claim_uid": f"claim-web-{owner}", "sequence": sequences[0], "pod_uid": f"pod-{owner}"}
    return read(WEB_1, *sequences, finding="foreign", block=0, evidence={"names_itself": named}, **more)


def of_another(owner: int) -> tuple[Event, ...]:
    """All that web-1 finds is another replica's."""
    files = [foreign(sequence, owner=owner) for sequence in FILES]
    return listed(WEB_1, *FILES, documents=NAMES), *files, foreign(*ENTRIES, owner=owner), foreign(VALUE, owner=owner)


def test_a_healthy_target_passes() -> None:
    judgement = judged(*HEALTHY)
    assert (judgement.value, judgement.by_policy, judgement.not_applicable) == (Value.PASS, (), ())


def test_a_pod_that_gets_another_pods_volume() -> None:
    """kubernetes/kubernetes#102856."""
    other = {"fs_uuid": "uuid-web-0", "fsid": "fsid-web-0", "identity": identity(0)}
    found = only(judged(*REPLACED, sound(1, "new-1", **other), *of_another(0), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("foreign", WEB_1, {"foreign"})
    assert found.evidence["identity_names"]["claim_uid"] == "claim-web-0"


def test_two_claims_on_one_lun() -> None:
    """kubernetes/kubernetes#111006: the handles differ, the disk is one, and who wrote last has overwritten the other."""
    found = only(judged(*REPLACED, sound(1, "new-1", again=True), *of_another(0), *ended(1, WEB_0)))
    assert (found.failure, found.replica, found.evidence["file_count"]) == ("foreign", WEB_1, len(FILES) + len(NAMES))
    assert found.evidence["names_itself"]["claim_uid"] == "claim-web-0"


def test_the_root_disk_instead_of_the_volume() -> None:
    """kubernetes/kubernetes#120455, #120853."""
    root = {"node_disk": True, "device": "8:1", "fs_uuid": "uuid-root", "fsid": "fsid-root", "identity": None}
    found = only(judged(*REPLACED, sound(1, "new-1", **root), *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("not_mounted", WEB_1, {"lost"})


def test_writes_through_a_sub_path_that_go_to_the_containers_own_disk() -> None:
    """containerd/containerd#13710."""
    overlay = {"mounted": False, "mountinfo": "", "mount_root": "/", "fs_type": "overlay", "fs_uuid": "", "identity": None}
    found = only(judged(*REPLACED, sound(1, "new-1", **overlay), *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("not_mounted", WEB_1, {"lost"})


def test_a_local_volume_that_is_mounted_empty() -> None:
    """kubernetes/kubernetes#81737: all files are gone, the volume is the same."""
    found = only(judged(*REPLACED, sound(1, "new-1"), *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, found.evidence["file_count"]) == ("lost", WEB_1, len(FILES) + len(NAMES))


def test_mkfs_on_a_volume_in_use() -> None:
    """hetznercloud/csi-driver#1346, NetApp/trident#418."""
    made_anew = sound(1, "new-1", fs_uuid="uuid-new", fsid="fsid-new")
    found = only(judged(*REPLACED, made_anew, *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("reformatted", WEB_1, {"lost"})
    assert found.binding.handle == "d-web-1"


def test_a_forced_detach_while_the_volume_is_mounted() -> None:
    """kubernetes/kubernetes#106710: the attachment goes before the unmount, and the file system takes harm."""
    detached = (attachment(1, "two", "deleted"), sound(1, "new-1", again=True))
    harmed = (listed(WEB_1, *FILES, documents=NAMES), read(WEB_1, 0, finding="corrupt", block=0), read(WEB_1, *OWED[1:]))
    found = only(judged(*REPLACED, *detached, *harmed, confirmed(1, "new-1", "two"), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("attached_elsewhere", WEB_1, {"corrupt"})
    assert (found.evidence["pod_node"], found.evidence["attached_to"]) == ("two", [])


def test_two_pods_on_one_claim() -> None:
    """kubernetes/kubernetes#61832: a node is cut off, and its pod goes on writing beside the one that took its place."""
    cut_off = (*begun(), *unanswered(WEB_1, 7), *pod_replaced(1, "new-1"), sound(1, "new-1", again=True))
    looked = (listed(WEB_1, *FILES, documents=NAMES), read(WEB_1, *OWED), read(WEB_1, 7, finding="missing"))
    again = (round_began(2), *pod_replaced(0, "new-0"), listed(WEB_1, *FILES, 7, documents=NAMES), read(WEB_1, *OWED))
    found = only(judged(*cut_off, *looked, *ended(1, WEB_0), *again, sound(0, "new-0", again=True), *ended(2, WEB_0)))
    assert (found.failure, found.replica, found.evidence["written_by"]) == ("double_writer", WEB_1, "pod-1")


def test_two_pods_that_write_the_same_record() -> None:
    """kubernetes/kubernetes#61832: the record names the same claim and another pod."""
    named = {"run": "RUN", "claim_uid": "claim-web-1", "sequence": 0, "pod_uid": "pod-9"}
    mixed = read(WEB_1, 0, finding="foreign", block=0, evidence={"names_itself": named})
    looked = (sound(1, "new-1", again=True), listed(WEB_1, *FILES, documents=NAMES), mixed, read(WEB_1, *OWED[1:]))
    assert only(judged(*REPLACED, *looked, *ended(1, WEB_0))).failure == "double_writer"


def _on_its_way(node_name: str = "one") -> tuple[Event, ...]:
    """web-1 is deleted, and comes back on another node."""
    return (
        *begun(),
        disrupted("pod-delete", (WEB_1, "pod-1")),
        pod(1, "modified", ready=True, deleting=True, node="two"),
        pod(1, "deleted"),
        disruption_done(gone=["pod-1"]),
        pod(1, "added", "new-1"),
        pod(1, "modified", "new-1", node=node_name),
    )


def test_a_stale_attachment_that_keeps_the_volume_on_the_old_node() -> None:
    """longhorn/longhorn#5345: Multi-Attach."""
    refused = warned(1, "new-1", "FailedAttachVolume", "Multi-Attach error for volume pv-web-1")
    late = not_converged(WEB_1, "phase Pending, not Ready ContainerCreating")
    looked = confirmed(1, "new-1", "one", "two", ready=False)
    found = only(judged(*_on_its_way(), refused, *late, looked, *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("attached_elsewhere", WEB_1, {"not_recovered"})
    assert (found.evidence["pod_node"], found.evidence["attached_to"]) == ("one", ["two"])


def test_a_volume_that_is_attached_to_the_wrong_node() -> None:
    """hetznercloud/csi-driver#685."""
    wrong = (attachment(1, "two", "deleted"), attachment(1, "three", "added"))
    late = not_converged(WEB_1, "phase Pending, not Ready ContainerCreating")
    looked = confirmed(1, "new-1", "one", "three", ready=False)
    found = only(judged(*_on_its_way(), *wrong, *late, looked, *ended(1, WEB_0)))
    assert (found.failure, found.evidence["attached_to"]) == ("attached_elsewhere", ["three"])


def test_a_volume_that_never_comes() -> None:
    """longhorn/longhorn#5345: the limit is passed, and no attachment says why."""
    gone = attachment(1, "two", "deleted")
    late = not_converged(WEB_1, "phase Pending, not Ready ContainerCreating")
    found = only(judged(*_on_its_way(), gone, *late, *ended(1, WEB_0)))
    assert (found.failure, found.replica) == ("not_recovered", WEB_1)


def _made_anew() -> tuple[Event, ...]:
    """web-1's claim is gone, and another of its name is bound to another volume."""
    return (
        claim(1, "deleted"),
        claim(1, "added", uid="claim-new", phase="Pending", volume=""),
        volume(1, "added", name="pv-new", handle="d-new", claim_uid="claim-new"),
        claim(1, uid="claim-new", volume="pv-new"),
        attachment(1, "two", "deleted"),
        attachment(1, "two", "added", volume="pv-new", name="csi-new"),
    )


NEW = stood_on(1, "claim-new", "pv-new", "d-new")


def test_a_recreated_claim_that_is_bound_to_a_new_volume() -> None:
    """openebs/openebs#2478."""
    on_new = sound(1, "new-1", binding=NEW, fs_uuid="uuid-new", fsid="fsid-new")
    found = only(judged(*REPLACED, *_made_anew(), on_new, *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("claim_replaced", WEB_1, {"lost"})
    assert (found.binding.claim_uid, found.evidence["claim_uid"]["is"]) == ("claim-web-1", "claim-new")


def test_a_missing_claim_that_the_controller_silently_makes_anew() -> None:
    """kubernetes/kubernetes#113270, #74374: the pod is Ready, on an empty disk."""
    on_new = sound(1, "new-1", binding=NEW, fs_uuid="uuid-new", fsid="fsid-new")
    judgement = judged(*begun(), *_made_anew(), *pod_replaced(1, "new-1"), on_new, *all_gone(WEB_1), *ended(1, WEB_0))
    assert only(judgement).failure == "claim_replaced"


def test_a_claim_made_anew_whose_files_were_copied_back() -> None:
    """The same bytes on another disk: nothing is lost, and the claim is another all the same."""
    copied = (sound(1, "new-1", binding=NEW, fs_uuid="uuid-new", identity=identity(1)), *verified(WEB_1))
    assert only(judged(*REPLACED, *_made_anew(), *copied, *ended(1, WEB_0))).failure == "claim_replaced"


def test_ordinals_and_volumes_that_are_shuffled() -> None:
    """kubernetes/kubernetes#128459: each claim has its name, and the other's disk."""
    shuffled = [volume(0, handle="d-web-1"), volume(1, handle="d-web-0")]
    others = {"fs_uuid": "uuid-web-0", "fsid": "fsid-web-0", "identity": identity(0)}
    judgement = judged(*REPLACED, *shuffled, sound(1, "new-1", **others), *of_another(0), *ended(1))
    assert classes(judgement) == ["handle_changed", "handle_changed"]
    assert [v.replica for v in judgement.violations] == [WEB_0, WEB_1]


def test_a_claim_that_is_gone() -> None:
    """kubernetes/kubernetes#74374: nobody makes it anew."""
    waits = {"unschedulable": 'persistentvolumeclaim "disk-ssd-web-1" not found'}
    gone = (claim(1, "deleted"), pod(1, "modified", "new-1", **waits), *not_converged(WEB_1, "claim is absent"))
    found = only(judged(*_on_its_way(), *gone, *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("claim_missing", WEB_1, {"not_recovered"})


def test_a_claim_deleted_on_scale_down_as_its_policy_asks() -> None:
    """`persistentVolumeClaimRetentionPolicy.whenScaled: Delete`: another UID after the scale-up is no fault."""
    policy = {"retention_when_scaled": "Delete"}
    scaled = (
        disrupted("scale", to=1),
        statefulset(1, **policy),
        pod(1, "modified", ready=True, deleting=True, node="two"),
        pod(1, "deleted"),
        disruption_done("scale", to=1),
        statefulset(2, **policy),
        *_made_anew(),
        pod(1, "added", "new-1"),
        pod(1, "modified", "new-1", ready=True, node="two"),
        *converged(),
        sound(1, "new-1", binding=NEW, fs_uuid="uuid-new", fsid="fsid-new"),
        *written(WEB_1, 7),
        *written(WEB_1, 8, **REGISTER),
        listed(WEB_1, 7, documents=["r00"]),
        read(WEB_1, 7, 8),
    )
    judgement = judged(*begun(**policy), *scaled, *ended(1, WEB_0))
    assert (judgement.value, judgement.violations) == (Value.PASS, ())
    assert judgement.by_policy == ("disk-ssd-web-1: deleted on scale-down, as whenScaled: Delete asks",)


def test_a_claim_that_is_lost() -> None:
    """kubernetes/kubernetes#112562."""
    assert only(judged(*REPLACED, claim(1, phase="Lost"), *ended(1, WEB_0))).failure == "claim_lost"


def test_two_claims_that_are_bound_to_one_volume() -> None:
    """kubernetes/kubernetes#23886: web-2's claim comes to the volume that web-1's has."""
    third = (statefulset(3), claim(2, "added", volume="pv-web-1"), pod(2, "added"), round_ended())
    found = only(judged(*HEALTHY, *third))
    assert (found.failure, found.replica) == ("double_bound", "default/web-2")


def test_two_volumes_that_are_one_disk() -> None:
    """kubernetes/kubernetes#111006, where the driver tells the same handle twice."""
    claim_2, *_ = objects(2, "added")
    third = (statefulset(3), volume(2, "added", handle="d-web-1"), claim_2, pod(2, "added"), round_ended())
    found = only(judged(*HEALTHY, *third))
    assert (found.failure, found.replica, found.evidence["volume_handle"]) == ("double_bound", "default/web-2", "d-web-1")


def test_a_provisioner_that_deletes_the_folder_after_a_reboot() -> None:
    """rancher/local-path-provisioner#54: files gone, UIDs the same."""
    rebooted = (disrupted("external", (WEB_1, "pod-1")), node("two", ready=False), node("two"), disruption_done("external"))
    found = only(judged(*begun(), *rebooted, *converged(), sound(1, "pod-1"), *all_gone(WEB_1), *ended(1, WEB_0)))
    assert (found.failure, found.replica, found.binding.claim_uid) == ("lost", WEB_1, "claim-web-1")


def test_a_rebuild_called_healthy_with_a_corrupt_file_system() -> None:
    """longhorn/longhorn#13139: on the new node fsck finds it."""
    fsck = "'fsck' found errors on device /dev/longhorn/pv-web-1 but could not correct them"
    moved = (attachment(1, "two", "deleted"), attachment(1, "one", "added"), warned(1, "new-1", "FailedMount", fsck))
    late = not_converged(WEB_1, "phase Pending, not Ready ContainerCreating")
    found = only(judged(*_on_its_way(), *moved, *late, *ended(1, WEB_0)))
    assert (found.failure, found.replica, found.evidence["events"]) == ("corrupt", WEB_1, {"FailedMount": fsck})


def test_a_file_system_that_went_back_in_time() -> None:
    """A zeroed xfs log rewound a database by weeks: all checksums pass, and what came last is gone."""
    named = {"run": "RUN", "claim_uid": "claim-web-1", "sequence": 3, "pod_uid": "pod-1"}
    rewound = (
        listed(WEB_1, 0, 1, documents=NAMES),
        read(WEB_1, 0, 1),
        read(WEB_1, 2, finding="missing"),
        read(WEB_1, *ENTRIES, finding="lost", block=1, evidence={"condition": "lost suffix"}, file=f".chaosd/RUN/{LOG}"),
        read(WEB_1, VALUE, finding="stale", block=0, evidence={"names_itself": named}),
    )
    found = only(judged(*REPLACED, sound(1, "new-1", again=True), *rewound, *ended(1, WEB_0)))
    assert (found.failure, found.replica, consequences(found)) == ("stale", WEB_1, {"lost"})


def test_a_snapshot_of_the_time_of_an_unanswered_write() -> None:
    """The same, where the value that came back is a dead pod's that nobody acknowledged: no second writer, an old state."""
    before = (*begun(), *unanswered(WEB_1, 7, **REGISTER), *pod_replaced(1, "new-1"), sound(1, "new-1", again=True))
    after = (*written(WEB_1, 8), *written(WEB_1, 9, **REGISTER), *pod_replaced(1, "newer-1", old="new-1"))
    named = {"run": "RUN", "claim_uid": "claim-web-1", "sequence": 7, "pod_uid": "pod-1"}
    rewound = (
        listed(WEB_1, *FILES, documents=NAMES),
        read(WEB_1, *FILES, *ENTRIES),
        read(WEB_1, 9, finding="stale", block=0, evidence={"names_itself": named}, file=".chaosd/RUN/r00"),
        read(WEB_1, 8, finding="missing"),
    )
    found = only(judged(*before, *after, sound(1, "newer-1", again=True), *rewound, *ended(1, WEB_0)))
    assert (found.failure, consequences(found)) == ("stale", {"lost"})


def test_an_expansion_that_never_reached_the_file_system() -> None:
    """kubernetes/kubernetes#84030."""
    grown = (claim(1, capacity="2Gi"), sound(1, "new-1", again=True), *verified(WEB_1))
    found = only(judged(*REPLACED, *grown, *ended(1, WEB_0)))
    assert (found.failure, found.replica) == ("not_expanded", WEB_1)


# False alarms that other tools raised.


@pytest.mark.parametrize("finding", ["missing", "intact"])
def test_a_write_that_was_never_acknowledged_may_be_gone(finding: str) -> None:
    """longhorn/longhorn#1411: what was not fsynced was lost, and that is no fault."""
    looked = (sound(1, "new-1", again=True), *verified(WEB_1), read(WEB_1, 7, finding=finding))
    judgement = judged(*begun(), *unanswered(WEB_1, 7), *pod_replaced(1, "new-1"), *looked, *ended(1, WEB_0))
    assert (judgement.value, judgement.violations) == (Value.PASS, ())


def test_an_error_while_reading_is_no_checksum() -> None:
    """longhorn/longhorn#9248: the checksum of nothing, after an I/O error, was taken for the expected one."""
    with pytest.raises(ValueError, match="empty"):
        payload.digest(b"")
    looked = (sound(1, "new-1", again=True), listed(WEB_1, *FILES, documents=NAMES), not_read(WEB_1, 0))
    judgement = judged(*REPLACED, *looked, read(WEB_1, *OWED[1:]), *ended(1, WEB_0))
    assert (judgement.value, judgement.violations) == (Value.UNKNOWN, ())
    assert "Input/output error" in judgement.unknowns[0].missing
    assert judged(*REPLACED, *looked, read(WEB_1, *OWED), *ended(1, WEB_0)).value is Value.PASS


def test_a_reading_from_a_pod_that_was_replaced_says_nothing() -> None:
    """longhorn/longhorn#13841: it breaks off with its pod, and counts for nothing until the next pod has read."""
    broken_off = not_read(WEB_1, *OWED, kind=Kind.INFO, error="the probe ended with status 137")
    during = (*begun(), sound(1), broken_off, *pod_replaced(1, "new-1"), sound(1, "new-1", again=True))
    assert judged(*during, *ended(1, WEB_0, WEB_1)).value is Value.PASS
    for old in (read(WEB_1, *OWED, pod_uid="pod-1"), read(WEB_1, 0, finding="missing", pod_uid="pod-1")):
        late = (*begun(), *pod_replaced(1, "new-1"), sound(1, "new-1", again=True), old)
        judgement = judged(*late, listed(WEB_1, *FILES, documents=NAMES), *ended(1, WEB_0))
        assert (judgement.value, judgement.violations) == (Value.UNKNOWN, ())
        assert "read in pod pod-1, which was replaced meanwhile" in judgement.unknowns[0].missing
    before = (*begun(), *verified(WEB_1), *pod_replaced(1, "new-1"), sound(1, "new-1", again=True))
    judgement = judged(*before, listed(WEB_1, *FILES, documents=NAMES), *ended(1, WEB_0))
    assert (judgement.value, judgement.violations) == (Value.UNKNOWN, ())


def test_pods_that_were_all_deleted_by_force_come_back_in_parallel() -> None:
    """kubernetes/kubernetes#82529: each was created while the one before still counted as Ready."""
    back = [pod(n, "modified", f"new-{n}", ready=True, node="one" if n == 0 else "two") for n in (0, 1)]
    forced = (
        disrupted("pod-delete", (WEB_0, "pod-0"), (WEB_1, "pod-1"), grace="0"),
        pod(1, "deleted"),
        pod(0, "deleted"),
        disruption_done(gone=["pod-0", "pod-1"]),
        pod(1, "added", "new-1"),
        pod(0, "added", "new-0"),
        *back,
        *converged(),
        *(sound(n, f"new-{n}", again=True) for n in (0, 1)),
    )
    judgement = judged(*begun(), *forced, *ended(1, WEB_0, WEB_1))
    assert (judgement.value, judgement.violations) == (Value.PASS, ())


def test_a_reading_after_a_process_was_killed_is_told_as_cached() -> None:
    """`kill -9` leaves the page cache alive: a reading out of it passes, and is not counted as cold."""
    killed = (disrupted("external", (WEB_1, "pod-1")), disruption_done("external"), *converged(), sound(1))
    warm = (listed(WEB_1, *FILES, documents=NAMES), read(WEB_1, *OWED, cache="cached"))
    events = (*begun(), *killed, *warm, *ended(1, WEB_0))
    assert judged(*events).value is Value.PASS
    coverage = Coverage()
    for op in history(*events):
        coverage.step(op)
    assert coverage.reads == {"cached": len(OWED), "cold": len(OWED)}
