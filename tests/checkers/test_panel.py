"""All checkers together: root causes, and what a crash of one means."""

from __future__ import annotations

import pytest

from chaosd.checkers import Panel
from chaosd.checkers.verdict import Binding, Class, Value, Violation, root_causes
from chaosd.history import Event, Kind, Op
from tests.histories import (
    WEB_0,
    WEB_1,
    claim,
    disrupted,
    history,
    listed,
    opened,
    pod,
    read,
    statefulset,
    volume,
    watch,
    write,
    written,
)

SOUND = (
    statefulset(1),
    claim(0),
    volume(0),
    pod(0, "present", ready=True),
    watch("synced"),
    opened(WEB_0),
    *written(WEB_0, 0),
)


def panel(*events: Event) -> Panel:
    made = Panel()
    for op in history(*events):
        made.step(op)
    return made


def test_a_sound_history_passes() -> None:
    assert panel(*SOUND, read(WEB_0, 0)).judge().value is Value.PASS


def test_a_write_that_went_astray_is_corrupt_where_it_stands_and_explains_the_file_that_lacks_it() -> None:
    """A zeroed file on its own is torn, and of a block from elsewhere nobody knows whom it was taken from."""
    for meant_for, found in (("00000001", {Class.CORRUPT}), ("00000007", {Class.TORN})):
        judgement = panel(
            *SOUND,
            *written(WEB_0, 1),
            disrupted(),
            read(WEB_0, 0, finding="misdirected", evidence={"state": "misdirected", "names_itself": {"file": meant_for}}),
            read(WEB_0, 1, finding="zeroed", evidence={"state": "zeroed"}),
        ).judge()
        assert {v.failure for v in judgement.violations} == found
        assert len(judgement.violations[0].evidence["consequences"]) == 1


def test_writes_that_went_astray_one_after_the_other_explain_the_last_file_which_lacks_its_own() -> None:
    """The first file holds what was meant for the second, which holds what was meant for the third."""

    def astray(sequence: int, meant_for: str) -> Event:
        evidence = {"state": "misdirected", "names_itself": {"file": meant_for}}
        return read(WEB_0, sequence, finding="misdirected", evidence=evidence)

    judgement = panel(
        *SOUND,
        *written(WEB_0, 1),
        *written(WEB_0, 2),
        disrupted(),
        astray(0, "00000001"),
        astray(1, "00000002"),
        read(WEB_0, 2, finding="zeroed", evidence={"state": "zeroed"}),
    ).judge()
    (violation,) = judgement.violations
    assert violation.failure is Class.CORRUPT
    assert violation.evidence["file_count"] == 2
    assert [c["class"] for c in violation.evidence["consequences"]] == ["torn"]


def test_a_claim_made_anew_explains_the_files_that_are_lost_with_it() -> None:
    judgement = panel(
        *SOUND,
        disrupted(),
        claim(0, "deleted"),
        claim(0, "added", uid="new", volume="pv-new"),
        read(WEB_0, 0, finding="missing"),
    ).judge()
    (violation,) = judgement.violations
    assert violation.failure is Class.CLAIM_REPLACED
    assert [c["class"] for c in violation.evidence["consequences"]] == ["lost"]


def test_another_claims_disk_explains_the_files_on_it_that_this_replica_never_wrote() -> None:
    swapped = opened(WEB_0, "pod-2", identity={"replica": "default/web-1", "claim_uid": "claim-web-1"})
    judgement = panel(
        *SOUND, disrupted(), swapped, listed(WEB_0, 0, 1, 2), read(WEB_0, 0, finding="foreign", block=0)
    ).judge()
    (violation,) = judgement.violations
    assert violation.failure is Class.FOREIGN
    assert [c["class"] for c in violation.evidence["consequences"]] == ["foreign", "unexpected"]


def test_files_on_a_claim_that_went_by_policy_are_no_longer_owed() -> None:
    judgement = panel(
        *SOUND,
        statefulset(0, retention_when_scaled="Delete"),
        claim(0, "deleted"),
        statefulset(1, retention_when_scaled="Delete"),
        claim(0, "added", uid="new", volume="pv-new"),
        volume(0, name="pv-new", handle="d-new"),
        opened(
            WEB_0, "pod-2", binding={"claim": "disk-ssd-web-0", "claim_uid": "new", "volume": "pv-new", "handle": "d-new"}
        ),
        *written(WEB_0, 1),
        listed(WEB_0, 1),
        read(WEB_0, 1),
    ).judge()
    assert judgement.value is Value.PASS
    assert judgement.by_policy == ("disk-ssd-web-0: deleted on scale-down, as whenScaled: Delete asks",)


def test_a_file_lost_before_the_claim_was_even_written_to_is_its_own_fault() -> None:
    cause = Violation(Class.CLAIM_REPLACED, WEB_0, index=5, since=1)
    later = Violation(Class.LOST, WEB_0, index=20, since=10, file="f")
    assert [v.failure for v in root_causes([cause, later])] == [Class.CLAIM_REPLACED, Class.LOST]


def test_a_fault_of_one_replica_explains_nothing_of_another() -> None:
    cause = Violation(Class.CLAIM_REPLACED, WEB_0, index=5, since=1)
    other = Violation(Class.LOST, "default/web-1", index=9, since=2)
    assert len(root_causes([cause, other])) == 2


def test_another_disk_explains_what_is_missing_on_it() -> None:
    foreign = Violation(Class.FOREIGN, WEB_0, index=9, since=2)
    lost = Violation(Class.LOST, WEB_0, index=10, since=3)
    (violation,) = root_causes([lost, foreign])
    assert violation.failure is Class.FOREIGN


def test_order_is_nobodys_consequence() -> None:
    order = Violation(Class.ORDER_VIOLATED, WEB_0, index=9, since=-1, binding=Binding())
    cause = Violation(Class.CLAIM_REPLACED, WEB_0, index=9, since=1)
    assert len(root_causes([cause, order])) == 2


def test_a_checker_that_crashes_says_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: object, op: Op) -> None:
        raise ZeroDivisionError("on purpose")

    made = panel(*SOUND, read(WEB_0, 0))
    monkeypatch.setattr(type(made.checkers["identity"]), "step", crash)
    made.step(Op(99, 0.0, WEB_0, "open", Kind.INVOKE))
    judgement = made.judge()
    assert judgement.value is Value.UNKNOWN
    assert "on purpose" in judgement.unknowns[0].missing


@pytest.mark.parametrize("answer", [Kind.OK, Kind.INFO])
def test_a_write_under_way_when_its_claim_goes_by_policy_is_never_owed(answer: Kind) -> None:
    policy = {"retention_when_scaled": "Delete"}
    over = {"file": "r01", "how": "overwrite"}
    under_way = (write(WEB_0, 1, Kind.INVOKE), write(WEB_0, 2, Kind.INVOKE, **over))
    let_go = (statefulset(0, **policy), pod(0, "deleted"), claim(0, "deleted"), statefulset(1, **policy))
    new = {"claim": "disk-ssd-web-0", "claim_uid": "new", "volume": "pv-new", "handle": "d-new"}
    judgement = panel(
        *SOUND,
        *written(WEB_0, 3, file="r01", how="replace"),
        *under_way,
        *let_go,
        write(WEB_0, 1, answer),
        write(WEB_0, 2, answer, **over),
        claim(0, "added", uid="new", volume="pv-new"),
        volume(0, name="pv-new", handle="d-new"),
        opened(WEB_0, "pod-2", binding=new),
        *(read(WEB_0, sequence, finding="missing") for sequence in (0, 1, 2, 3)),
        *written(WEB_0, 4),
        listed(WEB_0, 4),
        read(WEB_0, 4),
    ).judge()
    assert (judgement.value, judgement.violations) == (Value.PASS, ())


def test_a_disk_that_a_second_claim_comes_to_explains_what_both_replicas_see_from_then_on() -> None:
    """kubernetes/kubernetes#111006: each overwrites the other's files, those that it writes later, too."""
    comes = (statefulset(2), volume(1, "added", handle="d-web-0"), claim(1, "added"), pod(1, "added", ready=True))
    of_web_0 = {"run": "RUN", "replica": WEB_0, "claim_uid": "claim-web-0"}
    foreign = {"finding": "foreign", "block": 0}
    seen = (
        opened(WEB_1, identity=of_web_0),
        *written(WEB_1, 0),
        *written(WEB_0, 1),
        read(WEB_0, 0, evidence={"names_itself": {"run": "RUN", "claim_uid": "claim-web-1"}}, **foreign),
        read(WEB_1, 0, evidence={"names_itself": of_web_0}, **foreign),
        read(WEB_0, 1, finding="missing"),
    )
    (found,) = panel(*SOUND, *comes, *seen).judge().violations
    assert (found.failure, found.replica, found.shared_with) == (Class.DOUBLE_BOUND, WEB_1, (WEB_0,))
    assert sorted(c["class"] for c in found.evidence["consequences"]) == ["foreign", "foreign", "foreign", "lost"]
