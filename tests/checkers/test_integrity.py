"""Integrity, by hand-written histories; the whole verdict is compared."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.integrity import Integrity
from chaosd.checkers.records import compress, expand
from chaosd.checkers.verdict import Binding, Class, Unknown, Value, Verdict
from chaosd.history import Event, Kind
from tests.histories import (
    WEB_0,
    WEB_1,
    deleted,
    disrupted,
    history,
    listed,
    opened,
    read,
    round_began,
    write,
    written,
)

BINDING = Binding("disk-ssd-web-0", "claim-web-0", "pv-web-0", "d-web-0", "n")


def judged(*events: Event) -> Verdict:
    checker = Integrity()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def classes(verdict: Verdict) -> list[str]:
    return [str(v.failure) for v in verdict.violations]


def test_what_was_written_and_read_back_passes() -> None:
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), disrupted(), read(WEB_0, 0))
    assert verdict == Verdict("integrity", measured={"owed_records": 1, "records_at_risk": 0})
    assert verdict.value is Value.PASS


def test_nothing_acknowledged_is_unknown_and_no_pass() -> None:
    verdict = judged(opened(WEB_0), write(WEB_0, 0, Kind.INVOKE), write(WEB_0, 0, Kind.FAIL))
    assert verdict.unknowns == (Unknown("target", "no write was acknowledged, so nothing was tested"),)


def test_an_acknowledged_file_that_is_missing_is_lost() -> None:
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), disrupted(), read(WEB_0, 0, finding="missing"))
    (violation,) = verdict.violations
    assert (violation.failure, violation.replica, violation.binding) == (Class.LOST, WEB_0, BINDING)
    assert (violation.file, violation.since, violation.index) == (".chaosd/RUN/00000000", 2, 4)
    assert verdict.unknowns == ()


def test_a_damaged_file_has_the_class_of_its_bytes() -> None:
    for finding in ("torn", "corrupt", "stale", "foreign"):
        verdict = judged(
            opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0, finding=finding, block=3, evidence={"found_hex": "00"})
        )
        (violation,) = verdict.violations
        assert (str(violation.failure), violation.block) == (finding, 3)
        assert violation.evidence["found_hex"] == "00"


def test_several_files_of_one_episode_are_one_violation_that_counts_them() -> None:
    verdict = judged(
        opened(WEB_0),
        *written(WEB_0, 0),
        *written(WEB_0, 1),
        read(WEB_0, 0, finding="missing"),
        read(WEB_0, 1, finding="missing"),
    )
    (violation,) = verdict.violations
    assert violation.evidence["file_count"] == 2
    assert violation.evidence["files"] == [".chaosd/RUN/00000000", ".chaosd/RUN/00000001"]


def test_a_fault_that_stays_is_reported_once() -> None:
    broken = read(WEB_0, 0, finding="corrupt")
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), broken, opened(WEB_0, "pod-2"), broken, listed(WEB_0, 0))
    assert classes(verdict) == ["corrupt"]


def test_a_write_that_never_answered_may_be_there_or_not() -> None:
    unanswered = (write(WEB_0, 1, Kind.INVOKE), write(WEB_0, 1, Kind.INFO))
    for finding in ("intact", "missing"):
        verdict = judged(opened(WEB_0), *written(WEB_0, 0), *unanswered, read(WEB_0, 0), read(WEB_0, 1, finding=finding))
        assert verdict.value is Value.PASS


def test_a_write_that_never_answered_must_still_be_whole() -> None:
    verdict = judged(
        opened(WEB_0), write(WEB_0, 0, Kind.INVOKE), write(WEB_0, 0, Kind.INFO), read(WEB_0, 0, finding="torn")
    )
    assert classes(verdict) == ["torn"]


def test_a_file_that_was_never_attempted_is_unexpected() -> None:
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0), listed(WEB_0, 0, 7))
    (violation,) = verdict.violations
    assert (violation.failure, violation.file) == (Class.UNEXPECTED, ".chaosd/RUN/00000007")
    assert violation.evidence["why"] == "it was never written"


def test_a_file_that_comes_back_after_its_acknowledged_delete_is_unexpected() -> None:
    gone = deleted(WEB_0, 0, Kind.INVOKE, Kind.OK)
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0), *gone, listed(WEB_0, 0))
    assert [v.evidence["why"] for v in verdict.violations] == ["its delete was acknowledged"]


def test_a_delete_that_never_answered_may_have_happened_or_not() -> None:
    half_gone = deleted(WEB_0, 0, Kind.INVOKE, Kind.INFO)
    for present in ((), (0,)):
        verdict = judged(opened(WEB_0), *written(WEB_0, 0), *half_gone, listed(WEB_0, *present))
        assert verdict.value is Value.PASS


def test_a_file_not_read_after_the_last_disruption_is_unknown_with_the_reason() -> None:
    failed = Event(WEB_0, "read", Kind.FAIL, {"sequences": [[0, 0]], "error": "Input/output error"})
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0), disrupted(), failed)
    assert verdict.value is Value.UNKNOWN
    assert verdict.unknowns[0].missing.endswith("Input/output error")


def test_a_round_that_verifies_owes_a_reading_of_everything() -> None:
    events = (opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0))
    assert judged(*events).value is Value.PASS
    assert judged(*events, round_began(2)).value is Value.UNKNOWN
    assert judged(*events, round_began(2, verify=False)).value is Value.PASS


def test_a_replica_that_is_scaled_away_is_named_as_the_reason() -> None:
    replica = "default/web-9"
    verdict = judged(opened(replica), *written(replica, 0), round_began(2))
    assert "scaled away" in verdict.unknowns[0].missing


def test_ranges_hold_what_was_put_in() -> None:
    assert compress([3, 1, 2, 7]) == [[1, 3], [7, 7]]
    assert list(expand([[1, 3], [7, 7]])) == [1, 2, 3, 7]


def _unknown(verdict: Verdict) -> list[str]:
    assert verdict.violations == ()
    return [u.missing for u in verdict.unknowns]


def test_a_volume_that_refuses_every_write_after_the_disruption_is_no_pass() -> None:
    refused = Event(WEB_0, "write", Kind.FAIL, {"sequence": 1, "error": "Read-only file system"})
    before = (opened(WEB_0), *written(WEB_0, 0), disrupted())
    told = _unknown(judged(*before, write(WEB_0, 1, Kind.INVOKE), refused, read(WEB_0, 0)))
    assert told == ["its volume refused the last writes: Read-only file system"]
    again = (write(WEB_0, 1, Kind.INVOKE), refused, *written(WEB_0, 2), read(WEB_0, 0, 2))
    assert judged(*before, *again).value is Value.PASS


def test_a_replica_that_acknowledged_nothing_is_no_pass() -> None:
    began = round_began(1, files=5)
    one = (opened(WEB_0), *written(WEB_0, 0), listed(WEB_0, 0), read(WEB_0, 0))
    other = (opened(WEB_1), write(WEB_1, 0, Kind.INVOKE), write(WEB_1, 0, Kind.INFO), listed(WEB_1))
    assert _unknown(judged(began, *one, *other)) == ["none of its writes was acknowledged: it was never reached"]


def test_a_folder_that_was_never_listed_is_no_pass() -> None:
    began = round_began(1, WEB_0)
    told = _unknown(judged(opened(WEB_0), *written(WEB_0, 0), began, read(WEB_0, 0)))
    assert told == ["its folder was not listed, so files that should not be there could not be seen"]


def test_readings_that_contradict_each_other_are_no_pass() -> None:
    value = {"sequences": [[0, 0]], "error": "two readings differ", "contradicted": True}
    told = _unknown(judged(opened(WEB_0), *written(WEB_0, 0), Event(WEB_0, "read", Kind.FAIL, value), read(WEB_0, 0)))
    assert told == ["1 readings of files gave two different answers in a row"]


def document_write(kind: Kind, sequence: int, file: str, how: str) -> Event:
    return Event(WEB_0, "write", kind, {**write(WEB_0, sequence, kind).value, "file": file, "how": how})


def document_written(sequence: int, file: str, how: str) -> tuple[Event, Event]:
    return document_write(Kind.INVOKE, sequence, file, how), document_write(Kind.OK, sequence, file, how)


def document_read(*sequences: int, finding: str = "intact", **more: Any) -> Event:
    return read(WEB_0, *sequences, finding=finding, **more)


def test_a_register_owes_only_its_last_value() -> None:
    values = (*document_written(0, "r00", "replace"), *document_written(1, "r00", "replace"))
    verdict = judged(opened(WEB_0), *values, disrupted(), document_read(1))
    assert verdict == Verdict("integrity", measured={"owed_records": 1, "records_at_risk": 0})


def test_an_older_acknowledged_value_of_a_register_is_stale() -> None:
    values = (*document_written(0, "r00", "replace"), *document_written(1, "r00", "replace"))
    verdict = judged(opened(WEB_0), *values, disrupted(), document_read(1, finding="stale", block=0))
    assert classes(verdict) == ["stale"]
    assert (verdict.violations[0].since, verdict.violations[0].block) == (4, 0)


def test_an_unanswered_value_in_place_may_stand_there_whole_in_part_or_not_at_all() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "r01", "overwrite"), document_write(Kind.INFO, 1, "r01", "overwrite"))
    for finding in ("intact", "unsettled"):
        seen = document_read(0, 1, finding=finding)
        verdict = judged(opened(WEB_0), *document_written(0, "r01", "replace"), *unanswered, seen)
        assert verdict == Verdict("integrity", measured={"owed_records": 0, "records_at_risk": 0})


def test_a_register_that_was_once_acknowledged_must_be_there_whatever_was_asked_since() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "r01", "overwrite"), document_write(Kind.INFO, 1, "r01", "overwrite"))
    gone = document_read(0, 1, finding="missing")
    assert classes(judged(opened(WEB_0), *document_written(0, "r01", "replace"), *unanswered, gone)) == ["lost"]


def test_a_register_that_was_never_acknowledged_may_be_absent() -> None:
    unanswered = (document_write(Kind.INVOKE, 0, "r00", "replace"), document_write(Kind.INFO, 0, "r00", "replace"))
    verdict = judged(opened(WEB_0), *written(WEB_0, 5), *unanswered, document_read(0, finding="missing"), read(WEB_0, 5))
    assert verdict.value is Value.PASS


def test_entries_that_are_gone_from_a_log_are_lost_with_their_condition() -> None:
    entries = (*document_written(0, "l000000", "append"), *document_written(1, "l000000", "append"))
    for condition in ("lost suffix", "hole", "rewound end"):
        seen = document_read(0, 1, finding="lost", block=1, evidence={"condition": condition})
        verdict = judged(opened(WEB_0), *entries, seen)
        assert classes(verdict) == ["lost"]
        assert verdict.violations[0].evidence["condition"] == condition


def test_a_log_that_comes_back_after_its_acknowledged_delete_is_unexpected() -> None:
    entries = document_written(0, "l000000", "append")
    gone = deleted(WEB_0, 0, Kind.INVOKE, Kind.OK)
    came_back = Event(WEB_0, "list", Kind.OK, {"present": [], "documents": ["l000000"], "folder": ".chaosd/RUN"})
    verdict = judged(opened(WEB_0), *entries, document_read(0), *gone, came_back)
    assert [(v.failure, v.evidence["why"]) for v in verdict.violations] == [
        (Class.UNEXPECTED, "its delete was acknowledged")
    ]


def test_what_chaosd_did_not_write_is_named_and_no_fault() -> None:
    strange = Event(WEB_0, "list", Kind.OK, {"present": [[0, 0]], "folder": ".chaosd/RUN", "strangers": ["notes.txt"]})
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), read(WEB_0, 0), strange)
    assert verdict.value is Value.PASS
    assert verdict.notes == (
        "default/web-0: in chaosd's folder stands what chaosd did not write, and is left alone: notes.txt",
    )


UNANSWERED = (write(WEB_0, 1, Kind.INVOKE), write(WEB_0, 1, Kind.INFO))


def test_a_write_that_lands_after_its_pod_was_replaced_has_a_second_writer() -> None:
    """Two pods on one claim (kubernetes/kubernetes#61832)."""
    before = (opened(WEB_0), *written(WEB_0, 0), *UNANSWERED)
    after = (opened(WEB_0, "pod-2"), read(WEB_0, 0), read(WEB_0, 1, finding="missing"), listed(WEB_0, 0, 1))
    verdict = judged(*before, *after)
    assert [(v.failure, v.file, v.evidence["written_by"]) for v in verdict.violations] == [
        (Class.DOUBLE_WRITER, ".chaosd/RUN/00000001", "pod-1")
    ]


def test_a_pod_deleted_by_force_may_write_on() -> None:
    forced = disrupted("pod-delete", (WEB_0, "pod-1"), grace="0")
    before = (opened(WEB_0), *written(WEB_0, 0), *UNANSWERED, forced)
    after = (opened(WEB_0, "pod-2"), read(WEB_0, 0), read(WEB_0, 1, finding="missing"), listed(WEB_0, 0, 1))
    verdict = judged(*before, *after)
    assert verdict.value is Value.PASS
    assert verdict.by_policy == (".chaosd/RUN/00000001: written by pod pod-1 after it was deleted by force",)


def test_a_pod_deleted_by_force_may_append_to_a_log_that_was_deleted_since_and_so_make_it_anew() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "l000000", "append"), document_write(Kind.INFO, 1, "l000000", "append"))
    before = (opened(WEB_0), *document_written(0, "l000000", "append"), *unanswered)
    gone = (opened(WEB_0, "pod-2"), document_read(0, 1), *deleted(WEB_0, 0, Kind.INVOKE, Kind.OK))
    came_back = listed(WEB_0, documents=["l000000"])
    forced = disrupted("pod-delete", (WEB_0, "pod-1"), grace="0")
    verdict = judged(*before, forced, *gone, came_back, came_back)
    assert (verdict.value, verdict.by_policy) == (
        Value.PASS,
        (".chaosd/RUN/l000000: written by pod pod-1 after it was deleted by force",),
    )
    assert classes(judged(*before, *gone, came_back)) == ["unexpected"]


def test_a_write_that_lands_while_its_pod_lives_is_no_second_writer() -> None:
    seen = (read(WEB_0, 0), read(WEB_0, 1, finding="missing"), listed(WEB_0, 0, 1))
    assert judged(opened(WEB_0), *written(WEB_0, 0), *UNANSWERED, *seen).value is Value.PASS


def test_the_overtaken_value_of_a_replaced_pod_has_a_second_writer() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "r00", "replace"), document_write(Kind.INFO, 1, "r00", "replace"))
    named = {"run": "RUN", "claim_uid": "claim-web-0", "sequence": 1, "pod_uid": "pod-1"}
    verdict = judged(
        opened(WEB_0),
        *document_written(0, "r00", "replace"),
        *unanswered,
        opened(WEB_0, "pod-2"),
        *document_written(2, "r00", "replace"),
        document_read(2, finding="stale", evidence={"names_itself": named}),
    )
    assert classes(verdict) == ["double_writer"]


def test_the_same_record_from_another_pod_has_a_second_writer() -> None:
    named = {"run": "RUN", "claim_uid": "claim-web-0", "sequence": 0, "pod_uid": "pod-9"}
    seen = read(WEB_0, 0, finding="foreign", evidence={"names_itself": named})
    assert classes(judged(opened(WEB_0), *written(WEB_0, 0), seen)) == ["double_writer"]


def test_a_register_that_was_never_there_is_begun_again_and_has_no_second_writer() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "r00", "replace"), document_write(Kind.INFO, 1, "r00", "replace"))
    seen_absent = (opened(WEB_0, "pod-2"), read(WEB_0, 0), document_read(1, finding="missing"))
    begun_again = (*document_written(2, "r00", "replace"), listed(WEB_0, 0, documents=["r00"]), document_read(2))
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), *unanswered, *seen_absent, *begun_again)
    assert verdict == Verdict("integrity", measured={"owed_records": 2, "records_at_risk": 0})


def test_a_register_that_the_present_pod_may_yet_write_is_no_second_writers() -> None:
    def unanswered(sequence: int) -> tuple[Event, ...]:
        kinds = (Kind.INVOKE, Kind.INFO)
        return tuple(document_write(kind, sequence, "r00", "replace") for kind in kinds)

    both = (*unanswered(1), opened(WEB_0, "pod-2"), *unanswered(2), document_read(1, 2, finding="missing"))
    landed = (read(WEB_0, 0), listed(WEB_0, 0, documents=["r00"]))
    assert judged(opened(WEB_0), *written(WEB_0, 0), *both, *landed).value is Value.PASS


def overtaken(sequence: int, **evidence: Any) -> Verdict:
    """A register of which a pod that was deleted by force left value 1 unanswered, before the next pod wrote 2."""
    unanswered = (document_write(Kind.INVOKE, 1, "r00", "replace"), document_write(Kind.INFO, 1, "r00", "replace"))
    forced = disrupted("pod-delete", (WEB_0, "pod-1"), grace="0")
    named = {"run": "RUN", "claim_uid": "claim-web-0", "sequence": sequence, "pod_uid": "pod-1"}
    return judged(
        opened(WEB_0),
        *document_written(0, "r00", "replace"),
        *unanswered,
        forced,
        opened(WEB_0, "pod-2"),
        *document_written(2, "r00", "replace"),
        document_read(2, finding="stale", evidence={"names_itself": named}),
    )


def test_a_pod_deleted_by_force_may_write_over_a_later_value_and_then_nothing_can_be_said() -> None:
    why = ".chaosd/RUN/00000002 was lost to an earlier write of pod pod-1, which was deleted by force and may write on"
    assert _unknown(overtaken(1)) == [why]
    assert classes(overtaken(0)) == ["stale"]  # what was acknowledged is nobody's late write


def test_an_acknowledged_value_that_an_unanswered_one_was_written_over_is_stale_when_it_comes_back() -> None:
    unanswered = (document_write(Kind.INVOKE, 1, "r01", "overwrite"), document_write(Kind.INFO, 1, "r01", "overwrite"))
    named = {"run": "RUN", "claim_uid": "claim-web-0", "sequence": 0, "pod_uid": "pod-1"}
    verdict = judged(
        opened(WEB_0),
        *document_written(0, "r01", "replace"),
        *unanswered,
        opened(WEB_0, "pod-2"),
        *document_written(2, "r01", "overwrite"),
        document_read(2, finding="stale", evidence={"names_itself": named}),
    )
    assert classes(verdict) == ["stale"]


def test_a_log_goes_as_a_whole_whichever_of_its_entries_the_delete_names() -> None:
    entries = (*document_written(0, "l000000", "append"), *document_written(1, "l000000", "append"))
    held = Verdict("integrity", measured={"owed_records": 1, "records_at_risk": 0})
    for kinds in ((Kind.INVOKE, Kind.INFO), (Kind.INVOKE, Kind.OK)):
        gone = (*deleted(WEB_0, 0, *kinds), document_read(1, finding="missing"))
        assert judged(opened(WEB_0), *entries, *written(WEB_0, 2), *gone, read(WEB_0, 2)) == held


def test_a_full_volume_that_lets_old_files_be_written_over_is_no_pass() -> None:
    full = Event(WEB_0, "write", Kind.FAIL, {"sequence": 1, "error": "No space left on device"})
    over = Event(WEB_0, "write", Kind.OK, {"sequence": 2, "length": 4096, "how": "overwrite"})
    events = (opened(WEB_0), *document_written(0, "r01", "replace"), write(WEB_0, 1, Kind.INVOKE), full)
    verdict = judged(*events, document_write(Kind.INVOKE, 2, "r01", "overwrite"), over, document_read(2))
    assert _unknown(verdict) == ["its volume refused the last writes: No space left on device"]
