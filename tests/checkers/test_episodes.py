"""Several faults, one after the other: each is told once, and none hides another that it did not cause."""

from __future__ import annotations

from chaosd.checkers import Value
from chaosd.history import Event, Kind
from tests.histories import (
    ENTRIES,
    ENTRY,
    FILES,
    LOG,
    NAMES,
    OWED,
    REGISTER,
    VALUE,
    WEB_0,
    WEB_1,
    all_gone,
    begun,
    claim,
    classes,
    converged,
    deleted,
    disrupted,
    disruption_done,
    ended,
    judged,
    listed,
    not_read,
    observed,
    panel,
    pod,
    pod_replaced,
    read,
    round_began,
    round_ended,
    sound,
    stood_on,
    unanswered,
    verified,
    volume,
    workload,
    written,
)

REPLACED = (*begun(), *pod_replaced(), sound(1, "new-1", again=True))
ALL_WELL = ended(1, WEB_0, WEB_1)
A_FILE_LOST = (
    *verified(WEB_0),
    listed(WEB_1, 0, 1, documents=NAMES),
    read(WEB_1, 2, finding="missing", file=".chaosd/RUN/00000002"),
    read(WEB_1, 0, 1, *ENTRIES, VALUE),
    round_ended(1),
)


def made_anew(number: int, old: str, old_pod: str, *owed: int) -> tuple[Event, ...]:
    """In a round, web-1's claim is made anew, with another volume and disk; of what was owed nothing is there."""
    new, new_pod = f"claim-{number}", f"new-{number}"
    on = stood_on(1, new, f"pv-{number}", f"d-{number}")
    gone = [read(WEB_1, sequence, finding="missing") for sequence in owed] if owed else all_gone(WEB_1)
    written_since = (*written(WEB_1, number * 10), *written(WEB_1, number * 10 + 1))
    return (
        round_began(number),
        claim(1, "deleted", uid=old),
        claim(1, "added", uid=new, volume="", phase="Pending"),
        volume(1, "added", name=f"pv-{number}", handle=f"d-{number}", claim_uid=new),
        claim(1, "modified", uid=new, volume=f"pv-{number}"),
        *pod_replaced(1, new_pod, old=old_pod),
        sound(1, new_pod, binding=on, fs_uuid=f"u-{number}", fsid=f"f-{number}"),
        *gone,
        *written_since,
        listed(WEB_1, number * 10, number * 10 + 1),
        read(WEB_1, number * 10, number * 10 + 1),
        *verified(WEB_0),
        round_ended(number),
    )


def mounts_the_other_claim(name: str) -> tuple[Event, ...]:
    wrong = {"claims": {"disk-ssd": "disk-ssd-web-0"}}
    return (
        round_began(2),
        disrupted("pod-delete", (WEB_1, "new-1")),
        pod(1, "deleted", "new-1"),
        disruption_done(),
        pod(1, "added", name, **wrong),
        pod(1, "modified", name, ready=True, node="two", **wrong),
        *converged(),
        round_ended(2),
    )


def test_a_claim_that_is_replaced_later_does_not_explain_a_file_that_was_lost_before() -> None:
    assert classes(judged(*REPLACED, *A_FILE_LOST, *mounts_the_other_claim("new-2"))) == ["lost", "claim_mismatch"]
    other = (*verified(WEB_1), listed(WEB_0, 0, 1, documents=NAMES), read(WEB_0, 2, finding="missing"))
    lost = (*other, read(WEB_0, 0, 1, *ENTRIES, VALUE), round_ended(1))
    assert classes(judged(*REPLACED, *lost, *mounts_the_other_claim("new-2"))) == ["lost", "claim_mismatch"]


def test_each_claim_that_is_made_anew_is_told_and_what_becomes_of_the_new_one_too() -> None:
    once = (*REPLACED, *ALL_WELL, *made_anew(2, "claim-web-1", "new-1"))
    assert classes(judged(*once)) == ["claim_replaced"]
    assert classes(judged(*once, *made_anew(3, "claim-2", "new-2", 20, 21))) == ["claim_replaced", "claim_replaced"]
    lost = claim(1, "modified", uid="claim-2", volume="pv-2", phase="Lost")
    assert classes(judged(*once, round_began(3), lost, round_ended(3))) == ["claim_replaced", "claim_lost"]
    gone = claim(1, "deleted", uid="claim-2", volume="pv-2")
    assert classes(judged(*once, round_began(3), gone, round_ended(3))) == ["claim_replaced", "claim_missing"]
    other_disk = volume(1, "modified", name="pv-2", handle="d-x", claim_uid="claim-2")
    assert classes(judged(*once, round_began(3), other_disk, round_ended(3))) == ["claim_replaced", "handle_changed"]


def test_a_volume_that_was_rebound_may_change_its_disk_later() -> None:
    other = volume(1, "added", name="pv-b", handle="d-b", claim_uid="claim-web-1")
    rebound = (round_began(2), other, claim(1, "modified", volume="pv-b"), round_ended(2))
    changed = volume(1, "modified", name="pv-b", handle="d-x", claim_uid="claim-web-1")
    later = (round_began(3), changed, round_ended(3))
    assert classes(judged(*REPLACED, *ALL_WELL, *rebound, *later)) == ["volume_rebound", "handle_changed"]


def test_an_identity_file_that_is_lost_does_not_explain_a_file_that_is_damaged_in_a_later_round() -> None:
    intact = (listed(WEB_1, *FILES, documents=NAMES), read(WEB_1, *OWED))
    identity_lost = (*verified(WEB_0), *intact, sound(1, "new-1"), round_ended(1))
    torn = read(WEB_1, 2, finding="torn", file=".chaosd/RUN/00000002", block=0, evidence={"state": "torn"})
    rest = read(WEB_1, 0, 1, *ENTRIES, VALUE)
    later = (round_began(2), *verified(WEB_0), listed(WEB_1, *FILES, documents=NAMES), torn, rest, round_ended(2))
    assert classes(judged(*REPLACED, *identity_lost, *later)) == ["lost", "torn"]
    at_once = (*verified(WEB_0), sound(1, "new-1"), listed(WEB_1, *FILES, documents=NAMES), torn, rest, round_ended(1))
    assert classes(judged(*REPLACED, *at_once)) == ["lost"]


def test_a_file_that_was_read_intact_since_is_no_consequence_of_what_was_found_before() -> None:
    foreign = read(WEB_1, 2, finding="foreign", file=".chaosd/RUN/00000002", block=0, evidence={"state": "foreign"})
    rest = (0, 1, *ENTRIES, VALUE)
    first = (*verified(WEB_0), listed(WEB_1, *FILES, documents=NAMES), foreign, read(WEB_1, *rest), round_ended(1))
    flipped = read(WEB_1, 1, finding="corrupt", file=".chaosd/RUN/00000001", block=0, evidence={"state": "corrupt"})
    second = (round_began(2), *verified(WEB_0), listed(WEB_1, 0, 1, 2, documents=NAMES), flipped, round_ended(2))
    assert classes(judged(*REPLACED, *first, *second)) == ["foreign", "corrupt"]
    calm = (listed(WEB_1, 0, 1, 2, documents=NAMES), read(WEB_1, *rest))
    second = (round_began(2), *verified(WEB_0), *calm, round_ended(2))
    stranger = (listed(WEB_1, 0, 1, 2, 900, documents=NAMES), read(WEB_1, *rest))
    third = (round_began(3), *verified(WEB_0), *stranger, round_ended(3))
    assert classes(judged(*REPLACED, *first, *second, *third)) == ["foreign", "unexpected"]


def test_rounds_that_part_what_was_found_are_known_however_many_come_after_them() -> None:
    lost = read(WEB_1, 1, finding="missing", file=".chaosd/RUN/00000001")
    again = (round_began(2), *verified(WEB_0), listed(WEB_1, 0, documents=NAMES), lost, round_ended(2))
    found = (*REPLACED, *A_FILE_LOST, *again)
    after = panel(*found, *(event for number in range(3, 5000) for event in (round_began(number), round_ended(number))))
    assert classes(after.judge()) == classes(judged(*found)) == ["lost", "lost"]
    assert len(after._ends) < 1500


def _first_value_lands_late(grace: str) -> tuple[Event, ...]:
    """The first value of a register is never answered and seen not to be there; the next pod begins it again."""
    named = {"run": "RUN", "replica": WEB_1, "claim_uid": "claim-web-1", "pod_uid": "pod-1", "sequence": 1, "block": 0}
    evidence = {"state": "stale", "names_itself": named}
    return (
        *observed(),
        sound(0),
        sound(1),
        round_began(1, files=3),
        *workload(WEB_0),
        *written(WEB_1, 0),
        *unanswered(WEB_1, 1, **REGISTER),
        *pod_replaced(grace=grace),
        sound(1, "new-1", again=True),
        read(WEB_1, 1, finding="missing", file=".chaosd/RUN/r00"),
        listed(WEB_1, 0),
        *written(WEB_1, 2, **REGISTER),
        read(WEB_1, 0, 2),
        *verified(WEB_0),
        round_ended(1),
        round_began(2),
        listed(WEB_1, 0, documents=["r00"]),
        read(WEB_1, 2, finding="stale", file=".chaosd/RUN/r00", block=0, evidence=evidence),
        read(WEB_1, 0),
        *verified(WEB_0),
        round_ended(2),
    )


def test_a_first_value_that_lands_over_a_later_one_is_its_pods_doing() -> None:
    assert classes(judged(*_first_value_lands_late("default"))) == ["double_writer"]
    forced = judged(*_first_value_lands_late("0"))
    assert (forced.value, forced.violations) == (Value.UNKNOWN, ())


def test_a_register_that_may_be_overwritten_in_part_is_owed_a_reading() -> None:
    register = (*written(WEB_1, 1, file="r01", how="replace"), *unanswered(WEB_1, 2, file="r01", how="overwrite"))
    before = (*observed(), sound(0), sound(1), round_began(1, files=3), *workload(WEB_0), *written(WEB_1, 0), *register)
    after = (*pod_replaced(), sound(1, "new-1", again=True), listed(WEB_1, 0, documents=["r01"]), read(WEB_1, 0))
    unread = judged(*before, *after, not_read(WEB_1, 1, 2), *ended(1, WEB_0))
    assert (unread.value, unread.violations) == (Value.UNKNOWN, ())
    assert judged(*before, *after, read(WEB_1, 1, 2, finding="unsettled"), *ended(1, WEB_0)).value is Value.PASS


def test_an_old_disk_that_is_handed_to_a_new_claim_is_foreign_even_where_the_old_claim_went_by_policy() -> None:
    rules = {"retention_when_scaled": "Delete"}
    before = (*begun(**rules), *ALL_WELL, round_began(2), disrupted("scale", to=1), pod(1, "deleted"))
    policy = (
        claim(1, "deleted"),
        claim(1, "added", uid="new", volume="pv-new"),
        volume(1, name="pv-new", handle="d-web-1"),
    )
    back = (pod(1, "added", "new-1"), pod(1, "modified", "new-1", node="two", ready=True), *converged())
    used = sound(1, "new-1", again=True, binding=stood_on(1, "new", "pv-new", "d-web-1"))
    found = judged(*before, *policy, *back, used, listed(WEB_1, *FILES, documents=NAMES), *ended(2, WEB_0))
    assert classes(found) == ["foreign"]
    (unexpected,) = found.violations[0].evidence["consequences"]
    assert unexpected["why"] == "it was written to a claim that the StatefulSet's policy let go"


def test_of_a_claim_that_went_before_the_last_no_names_are_kept_and_the_reason_says_so() -> None:
    def another_claim(old: str, new: str, number: int) -> tuple[Event, ...]:
        scaled = (disrupted("scale", to=1), pod(1, "deleted", f"pod-{number}"))
        gone = claim(1, "deleted", uid=old, volume=f"pv-{old}")
        bound = claim(1, "added", uid=new, volume=f"pv-{new}")
        here = volume(1, name=f"pv-{new}", handle=f"d-{new}", claim_uid=new)
        back = (pod(1, "added", f"pod-{number + 1}"), pod(1, "modified", f"pod-{number + 1}", node="two", ready=True))
        used = sound(1, f"pod-{number + 1}", binding=stood_on(1, new, f"pv-{new}", f"d-{new}"), fs_uuid=new, fsid=new)
        return (*scaled, gone, bound, here, *back, *converged(), used)

    first = (*begun(retention_when_scaled="Delete"), *ALL_WELL, round_began(2), *another_claim("claim-web-1", "b", 1))
    second = (*written(WEB_1, 50), *ended(2, WEB_0), round_began(3), *another_claim("b", "c", 2), listed(WEB_1, 0))
    (unexpected,) = judged(*first, *second, *ended(3, WEB_0)).violations
    assert unexpected.evidence["why"] == "its delete was acknowledged, or it went with an earlier claim"


def test_an_append_of_a_replaced_pod_makes_a_log_anew_only_where_the_pod_was_forced() -> None:
    log = (*written(WEB_1, 1, **ENTRY), *unanswered(WEB_1, 2, **ENTRY))
    before = (*observed(), sound(0), sound(1), round_began(1, files=3), *workload(WEB_0), *written(WEB_1, 0), *log)
    retired = (listed(WEB_1, 0, documents=[LOG]), read(WEB_1, 0, 1, 2), *deleted(WEB_1, 1, Kind.INVOKE, Kind.OK))
    later = (*verified(WEB_0), round_ended(1), round_began(2), listed(WEB_1, 0, documents=[LOG]), read(WEB_1, 0))
    for grace, found in (("0", []), ("default", ["unexpected"])):
        gone = (*pod_replaced(grace=grace), sound(1, "new-1", again=True))
        assert classes(judged(*before, *gone, *retired, *later, *verified(WEB_0), round_ended(2))) == found, grace


def test_a_log_that_went_back_in_time_is_a_consequence_though_more_was_appended_to_it_since() -> None:
    """As on a disk that lied: the register that is read before it is overwritten shows it first."""
    stale = read(WEB_1, VALUE, finding="stale", file=".chaosd/RUN/r00", block=0, evidence={"state": "stale"})
    appended = written(WEB_1, 40, **ENTRY)
    rewound = {"condition": "rewound end", "entry": 1}
    log = read(WEB_1, *ENTRIES, 40, finding="lost", file=f".chaosd/RUN/{LOG}", block=1, evidence=rewound)
    rest = (listed(WEB_1, *FILES, documents=NAMES), log, read(WEB_1, *FILES))
    found = judged(*REPLACED, stale, *appended, *rest, *ended(1, WEB_0))
    assert classes(found) == ["stale"]
    assert [consequence["class"] for consequence in found.violations[0].evidence["consequences"]] == ["lost"]
