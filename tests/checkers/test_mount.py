"""Mount, by hand-written histories; the whole verdict is compared."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.mount import Mount
from chaosd.checkers.verdict import Binding, Class, Unknown, Value, Verdict, Violation
from chaosd.history import Event
from tests.histories import WEB_0, WEB_1, claim, history, opened

BINDING = Binding("disk-ssd-web-0", "claim-web-0", "pv-web-0", "d-web-0", "n")
EXT4 = {"fs_type": "ext4", "fs_uuid": "u-1", "fsid": "f-1", "mount_root": "/", "pod_volume": "disk/ disk-ssd-web-0"}
OLD = {"run": "OLDER", "replica": "default/web-7", "claim_uid": "claim-old"}
OURS = {"run": "RUN", "replica": WEB_0, "claim_uid": "claim-web-0"}
OTHERS = {"run": "RUN", "replica": WEB_1, "claim_uid": "claim-web-1"}


def judged(*events: Event) -> Verdict:
    checker = Mount()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def again(**more: Any) -> Verdict:
    """First a sound opening, then another by the next pod."""
    return judged(opened(WEB_0, **EXT4), opened(WEB_0, "pod-2", **{**EXT4, "identity": OURS, **more}))


def violated(failure: Class, **evidence: Any) -> Verdict:
    told = {**evidence, "pod_uid": "pod-2"}
    return Verdict("mount", (Violation(failure, WEB_0, 1, 0, BINDING, evidence=told),))


def test_the_same_file_system_passes() -> None:
    assert again() == Verdict("mount")


def test_a_path_that_is_no_mount_though_a_claim_is_behind_it_is_not_mounted() -> None:
    assert again(mounted=False) == violated(Class.NOT_MOUNTED, path="", mountinfo="")
    first = judged(opened(WEB_0, mounted=False))
    assert [v.failure for v in first.violations] == [Class.NOT_MOUNTED]


def test_the_nodes_own_disk_instead_of_the_volume_is_not_mounted() -> None:
    """kubernetes/kubernetes#120455, #120853."""
    told = judged(opened(WEB_0, **EXT4, node_disk=False), opened(WEB_0, "pod-2", **EXT4, node_disk=True))
    why = "the path is on the node's own disk"
    assert told == violated(Class.NOT_MOUNTED, path="", mountinfo="", why=why)


def test_a_path_that_was_on_the_nodes_disk_from_the_start_is_no_fault() -> None:
    local = {**EXT4, "node_disk": True}
    assert judged(opened(WEB_0, **local), opened(WEB_0, "pod-2", **local)) == Verdict("mount")


def test_a_sub_path_or_an_empty_dir_instead_of_the_volume_is_not_mounted() -> None:
    """containerd/containerd#13710."""
    for volume in ("disk/sub disk-ssd-web-0", "scratch/ "):
        evidence = {"was": EXT4["pod_volume"], "is": volume}
        why = "the pod's spec has something else at the path"
        told = again(pod_volume=volume, mount_root="/sub")
        assert told == violated(Class.NOT_MOUNTED, path="", mountinfo="", why=why, pod_volume=evidence)


def test_another_folder_of_the_volume_is_not_mounted() -> None:
    told = again(mount_root="/other")
    evidence = {"was": "/", "is": "/other"}
    assert told == violated(Class.NOT_MOUNTED, path="", mountinfo="", why="another folder is mounted", mount_root=evidence)


def test_a_new_file_system_without_the_identity_is_reformatted() -> None:
    """hetznercloud/csi-driver#1346, NetApp/trident#418."""
    told = again(identity=None, fs_uuid="u-2", fsid="f-2")
    assert told == violated(
        Class.REFORMATTED,
        path="",
        mountinfo="",
        fs_uuid={"was": "u-1", "is": "u-2"},
        fsid={"was": "f-1", "is": "f-2"},
    )


def test_the_id_of_xfs_is_its_devices_and_says_nothing() -> None:
    first = {**EXT4, "fs_type": "xfs", "fs_uuid": ""}
    assert judged(opened(WEB_0, **first), opened(WEB_0, "pod-2", **{**first, "fsid": "f-2"})) == Verdict("mount")


def test_a_new_file_system_with_the_same_identity_is_noted_and_no_fault() -> None:
    told = again(fs_uuid="u-2")
    assert told.value is Value.PASS
    assert "another file system holds the same identity file" in told.notes[0]


def test_another_disk_with_another_file_system_is_foreign_and_not_reformatted() -> None:
    told = again(identity=OTHERS, fs_uuid="u-2")
    assert told == violated(Class.FOREIGN, identity_names=OTHERS)


def test_a_disk_that_served_others_before_this_run_is_no_foreign_disk() -> None:
    used = judged(opened(WEB_0, identity=OLD), opened(WEB_0, "pod-2", identity=OLD))
    own = judged(opened(WEB_0, identity=None), opened(WEB_0, "pod-2", identity=OURS))
    assert used == own == Verdict("mount")


def test_an_identity_that_changes_during_the_run_is_another_disk() -> None:
    for first, then in ((OLD, OURS | {"replica": WEB_1}), (OLD, OLD | {"replica": "x/y-0"}), (None, OLD), (None, OTHERS)):
        told = judged(opened(WEB_0, identity=first), opened(WEB_0, "pod-2", identity=then))
        known = {"identity_named": first} if first else {}
        assert told == violated(Class.FOREIGN, identity_names=then, **known), (first, then)
    assert [v.failure for v in judged(opened(WEB_0, identity=OTHERS)).violations] == [Class.FOREIGN]


def test_an_identity_that_can_no_longer_be_read_is_corrupt() -> None:
    damaged = {"unreadable": "x"}
    told = judged(opened(WEB_0, identity=OURS), opened(WEB_0, "pod-2", identity=damaged))
    assert told == violated(Class.CORRUPT, identity_names=damaged, identity_named=OURS)
    for changed in ({"run": "RUM"}, {"handle": "d-0"}):
        told = judged(opened(WEB_0, identity=OURS), opened(WEB_0, "pod-2", identity=OURS | changed))
        assert told == violated(Class.CORRUPT, identity_names=OURS | changed, identity_named=OURS)


def test_an_identity_file_that_is_empty_or_zeros_is_torn() -> None:
    for nothing in ("", "\0\0", '{"run":"RUN","repl'):
        damaged = {"unreadable": nothing}
        told = judged(opened(WEB_0, identity=OURS), opened(WEB_0, "pod-2", identity=damaged))
        assert told == violated(Class.TORN, identity_names=damaged, identity_named=OURS)


def test_a_table_of_mounts_that_could_not_be_read_is_no_accusation() -> None:
    why = "the table of mounts could not be read, so whether the path is the volume is not known"
    assert judged(opened(WEB_0, mounted=None)) == Verdict("mount", unknowns=(Unknown(WEB_0, why),))


def test_an_identity_that_cannot_be_read_is_no_accusation_and_forgotten_when_it_can() -> None:
    """After a power cut xfs answers EIO to everything until it is mounted anew."""
    first, dead = opened(WEB_0, identity=OURS), opened(WEB_0, identity=None, identity_error="Input/output error")
    why = "the identity file could not be read, so whether it is the same file system is not known: Input/output error"
    assert judged(first, dead) == Verdict("mount", unknowns=(Unknown(WEB_0, why),))
    assert judged(first, dead, opened(WEB_0, "pod-2", identity=OURS)) == Verdict("mount")
    gone = opened(WEB_0, "pod-2", identity=None)
    assert [v.failure for v in judged(first, gone, dead, gone).violations] == [Class.LOST]


def test_a_claim_that_grew_without_its_file_system_is_not_expanded() -> None:
    """kubernetes/kubernetes#84030."""

    def grown(total_bytes: int) -> Verdict:
        return judged(
            claim(0, capacity="1Gi"),
            opened(WEB_0, **EXT4, total_bytes=1 << 30),
            claim(0, capacity="2Gi"),
            opened(WEB_0, "pod-2", **EXT4, total_bytes=total_bytes),
        )

    assert grown(2 << 30) == Verdict("mount")
    evidence = {
        "capacity": {"was": "1Gi", "is": "2Gi"},
        "total_bytes": {"was": 1 << 30, "is": 1 << 30},
        "pod_uid": "pod-2",
    }
    violation = Violation(Class.NOT_EXPANDED, WEB_0, 3, 1, BINDING, evidence=evidence)
    assert grown(1 << 30) == Verdict("mount", (violation,))


def test_a_file_system_that_was_never_made_for_its_claim_need_not_grow_with_it() -> None:
    shared = {**EXT4, "total_bytes": 100 << 30}
    before = (claim(0, capacity="1Gi"), opened(WEB_0, **shared))
    assert judged(*before, claim(0, capacity="2Gi"), opened(WEB_0, "pod-2", **shared)) == Verdict("mount")


def test_another_claim_begins_anew() -> None:
    binding = {"claim": "disk-ssd-web-0", "claim_uid": "another", "volume": "pv-2", "handle": "d-2", "node": "n"}
    told = judged(
        opened(WEB_0, **EXT4, identity=OURS), opened(WEB_0, "pod-2", **{**EXT4, "fs_uuid": "u-2"}, binding=binding)
    )
    assert told == Verdict("mount")


def test_an_identity_that_this_run_wrote_where_an_older_one_was_is_no_other_disk() -> None:
    """A disk that was wiped: its files are lost, which is told of them; whose it is did not change."""
    older, own = opened(WEB_0, **EXT4, identity=OLD), opened(WEB_0, "pod-2", **EXT4, identity=OURS)
    assert judged(older, own) == Verdict("mount")


def test_an_empty_dir_has_another_folder_in_each_pod_and_is_lost_by_its_files_alone() -> None:
    nothing = {"binding": {"node": "n"}, "pod_volume": "scratch/ "}
    folders = [opened(WEB_0, pod, **{**EXT4, **nothing, "mount_root": f"/pods/{pod}"}) for pod in ("pod-1", "pod-2")]
    assert judged(*folders) == Verdict("mount")
