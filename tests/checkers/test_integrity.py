"""Integrity, by hand-written histories; the whole verdict is compared."""

from __future__ import annotations

from chaosd.checkers.integrity import Integrity, compress, expand
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


def test_a_path_that_is_no_mount_though_a_claim_is_behind_it_is_not_mounted() -> None:
    assert classes(judged(opened(WEB_0, mounted=False))) == ["not_mounted"]


def test_an_identity_file_of_another_replica_is_foreign() -> None:
    identity = {"replica": WEB_1, "claim_uid": "claim-web-1"}
    verdict = judged(opened(WEB_0), *written(WEB_0, 0), opened(WEB_0, "pod-2", identity=identity))
    assert classes(verdict) == ["foreign"]
    assert verdict.violations[0].evidence["identity_names"] == identity


def test_ranges_hold_what_was_put_in() -> None:
    assert compress([3, 1, 2, 7]) == [[1, 3], [7, 7]]
    assert list(expand([[1, 3], [7, 7]])) == [1, 2, 3, 7]


OLD = {"run": "OLDER", "replica": "default/web-7", "claim_uid": "claim-old"}
OURS = {"run": "RUN", "replica": WEB_0, "claim_uid": "claim-web-0"}
OTHERS = {"run": "RUN", "replica": WEB_1, "claim_uid": "claim-web-1"}


def test_a_disk_that_served_others_before_this_run_is_no_foreign_disk() -> None:
    used = (opened(WEB_0, identity=OLD), *written(WEB_0, 0), opened(WEB_0, "pod-2", identity=OLD), read(WEB_0, 0))
    assert judged(*used).value is Value.PASS
    own = (opened(WEB_0, identity=None), *written(WEB_0, 0), opened(WEB_0, "pod-2", identity=OURS), read(WEB_0, 0))
    assert judged(*own).value is Value.PASS


def test_an_identity_that_changes_during_the_run_is_another_disk() -> None:
    for first, then in ((OLD, OURS | {"replica": WEB_1}), (OLD, OLD | {"replica": "x/y-0"}), (None, OLD), (None, OTHERS)):
        verdict = judged(opened(WEB_0, identity=first), *written(WEB_0, 0), opened(WEB_0, "pod-2", identity=then))
        assert classes(verdict) == ["foreign"], (first, then)
    assert classes(judged(opened(WEB_0, identity=OTHERS))) == ["foreign"]


def test_an_identity_that_can_no_longer_be_read_is_corrupt() -> None:
    damaged = opened(WEB_0, "pod-2", identity={"unreadable": "x"})
    assert classes(judged(opened(WEB_0, identity=OURS), *written(WEB_0, 0), damaged)) == ["corrupt"]


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


def test_a_table_of_mounts_that_could_not_be_read_is_no_accusation() -> None:
    (told,) = _unknown(judged(opened(WEB_0, mounted=None), *written(WEB_0, 0), read(WEB_0, 0)))
    assert "whether the path is the volume is not known" in told
