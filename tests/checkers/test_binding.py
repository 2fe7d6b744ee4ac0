"""Binding, by hand-written histories: what is no fault, and what policies excuse. What is one is in test_whole_verdicts."""

from __future__ import annotations

from chaosd.checkers.binding import BindingChecker
from chaosd.checkers.verdict import Unknown, Value, Verdict
from chaosd.history import NEMESIS, OBSERVER, RUN, Event, Kind
from tests.histories import claim, history, pod, statefulset, volume, watch

HEALTHY = (statefulset(2), claim(0), volume(0), claim(1), volume(1), pod(0, "present"), pod(1, "present"))


def judged(*events: Event) -> Verdict:
    checker = BindingChecker()
    for op in history(*HEALTHY, *events):
        checker.step(op)
    return checker.verdict()


def classes(verdict: Verdict) -> list[str]:
    return [str(v.failure) for v in verdict.violations]


def test_what_stays_bound_passes() -> None:
    assert judged() == Verdict("binding", measured={"claims": 2})


def test_a_claim_deleted_on_scale_down_by_policy_is_no_fault() -> None:
    verdict = judged(
        statefulset(1, retention_when_scaled="Delete"),
        claim(1, "deleted"),
        statefulset(2, retention_when_scaled="Delete"),
        claim(1, "added", uid="new", volume="pv-new"),
        volume(1, name="pv-new", handle="d-new"),
    )
    assert verdict.value is Value.PASS
    assert verdict.by_policy == ("disk-ssd-web-1: deleted on scale-down, as whenScaled: Delete asks",)


def test_a_claim_deleted_with_its_statefulset_by_policy_is_no_fault() -> None:
    rules = {"retention_when_deleted": "Delete"}
    going = (statefulset(2, **rules), statefulset(2, deleting=True, **rules), claim(1, "deleted"))
    anew = (statefulset(2, "added", uid="new", **rules), claim(1, "added", uid="new", volume="pv-new"))
    verdict = judged(*going, *anew, volume(1, name="pv-new", handle="d-new"))
    assert (verdict.violations, verdict.unknowns) == ((), ())
    assert verdict.by_policy == ("disk-ssd-web-1: deleted with its StatefulSet, as whenDeleted: Delete asks",)


def test_a_claim_that_went_unwatched_with_its_statefulset_may_be_by_policy() -> None:
    for uid, policy, missing in (
        ("new", "Delete", "claim disk-ssd-web-1 went while nobody watched: whenDeleted: Delete, or a fault"),
        ("old", "Delete", ""),
        ("new", "Retain", ""),
    ):
        rules = {"retention_when_deleted": policy}
        before, later = statefulset(2, uid="old", **rules), statefulset(2, "present", uid=uid, **rules)
        verdict = judged(before, watch("began", "claim"), later, claim(0, "present"), watch("synced", "claim"))
        assert [unknown.missing for unknown in verdict.unknowns] == ([missing] if missing else []), (uid, policy)
        assert classes(verdict) == ([] if missing else ["claim_missing"]), (uid, policy)


def test_a_claim_deleted_by_policy_of_a_replica_that_is_still_wanted_is_a_fault() -> None:
    assert classes(judged(statefulset(2, retention_when_scaled="Delete"), claim(1, "deleted"))) == ["claim_missing"]


def test_a_scale_down_that_keeps_its_claims_passes() -> None:
    assert judged(statefulset(1), pod(1, "deleted"), statefulset(2), pod(1, "added", "new")).value is Value.PASS


def test_volumes_that_may_not_be_seen_are_unknown() -> None:
    checker = BindingChecker()
    hidden = Event(OBSERVER, "unobservable", Kind.OK, {"kind": "volume", "error": "forbidden"})
    for op in history(statefulset(2), claim(0), claim(1), hidden):
        checker.step(op)
    assert checker.verdict().unknowns == (Unknown("volume", "forbidden"),)


def test_a_volume_without_csi_has_no_handle_and_that_is_not_unknown() -> None:
    checker = BindingChecker()
    for op in history(statefulset(1), claim(0), volume(0, driver="", handle="")):
        checker.step(op)
    verdict = checker.verdict()
    assert verdict.value is Value.PASS
    assert verdict.not_applicable == ("pv-web-0: no CSI driver, so no volume handle",)


def test_a_statefulset_without_claims_is_not_applicable() -> None:
    checker = BindingChecker()
    for op in history(statefulset(1, template_claims=[])):
        checker.step(op)
    assert checker.verdict().not_applicable == ("the StatefulSet has no volumeClaimTemplates",)


def test_a_statefulset_never_seen_is_unknown() -> None:
    assert BindingChecker().verdict().value is Value.UNKNOWN


DELETE = {"retention_when_scaled": "Delete"}


def _from_nothing(*events: Event) -> Verdict:
    checker = BindingChecker()
    for op in history(*events):
        checker.step(op)
    return checker.verdict()


def test_a_policy_that_let_a_claim_stay_excuses_nothing_later() -> None:
    stayed = (statefulset(1, **DELETE), statefulset(2, **DELETE), pod(1, "added", "new", ready=True))
    assert classes(judged(*stayed, claim(1, "deleted"), claim(1, "added", uid="new"))) == ["claim_replaced"]


def test_a_scale_that_did_not_last_is_known_from_the_nemesis() -> None:
    scaled = Event(NEMESIS, "scale", Kind.INVOKE, {"to": 1})
    verdict = judged(statefulset(2, **DELETE), scaled, claim(1, "deleted"), claim(1, "added", uid="new"), volume(1))
    assert (verdict.violations, len(verdict.by_policy)) == ((), 1)


def test_claims_of_replicas_that_were_never_wanted_are_nobodys_promise() -> None:
    left = (statefulset(1), claim(0), volume(0), claim(5), volume(5))
    assert _from_nothing(*left).value is Value.PASS
    assert _from_nothing(*left, claim(5, "deleted")).value is Value.PASS
    assert _from_nothing(*left, claim(5, phase="Pending", volume="")).value is Value.PASS
    assert classes(_from_nothing(*left, statefulset(6), claim(5, "deleted"))) == ["claim_missing"]


def test_a_claim_that_is_on_its_way_out_when_the_run_begins_is_by_policy() -> None:
    leaving = (statefulset(2, **DELETE), claim(0), volume(0), claim(1), volume(1), statefulset(1, **DELETE))
    assert _from_nothing(*leaving, claim(1, "deleted")).value is Value.PASS
    raised = statefulset(1, first_ordinal=1, **DELETE)
    assert _from_nothing(statefulset(2, **DELETE), claim(0), volume(0), raised, claim(0, "deleted")).value is Value.PASS


def test_a_claim_that_went_while_nobody_watched() -> None:
    again = (watch("began", "claim"), claim(0, "present"), watch("synced", "claim"))
    assert classes(judged(*again)) == ["claim_missing"]
    assert judged(*again, statefulset(2, **DELETE)).value is Value.FAIL
    gone = "claim disk-ssd-web-1 went while nobody watched: whenScaled: Delete, or a fault"
    verdict = judged(statefulset(2, **DELETE), *again)
    assert (verdict.violations, verdict.by_policy, verdict.unknowns) == ((), (), (Unknown("default/web-1", gone),))
    pending = claim(2, phase="Pending", volume="")
    assert judged(statefulset(3, **DELETE), pending, statefulset(2, **DELETE), *again).violations == ()
    replaced = claim(1, "present", uid="new", volume="pv-new")
    again = (watch("began", "claim"), claim(0, "present"), replaced, watch("synced", "claim"))
    assert classes(judged(*again)) == ["claim_replaced"]
    verdict = judged(statefulset(2, **DELETE), *again)
    assert (verdict.violations, verdict.by_policy) == ((), ())
    assert Unknown("default/web-1", gone) in verdict.unknowns


def test_volumes_that_can_be_seen_again_are_no_longer_unknown() -> None:
    hidden = Event(OBSERVER, "unobservable", Kind.OK, {"kind": "volume", "error": "forbidden"})
    assert judged(hidden).value is Value.UNKNOWN
    assert judged(hidden, watch("synced", "volume")).value is Value.PASS


def test_a_claim_that_was_lost_and_is_bound_again_was_lost() -> None:
    assert classes(judged(claim(0, phase="Lost"), claim(0))) == ["claim_lost"]


def test_a_claim_made_anew_before_the_eyes_of_the_run_is_no_unwatched_one_later() -> None:
    delete = statefulset(2, **DELETE)
    made_anew = (claim(1, "deleted"), claim(1, "added", uid="new", volume="pv-new"))
    again = (watch("began", "claim"), claim(0, "present"), claim(1, "present", uid="new", volume="pv-new"))
    assert classes(judged(delete, *made_anew, *again, watch("synced", "claim"))) == ["claim_replaced"]


def test_a_claim_that_was_missing_before_its_namespace_went_stays_accused() -> None:
    """What went in the round in which the namespace did went with it; what a round ended without, did not."""
    gone, ended = claim(1, "deleted"), Event(RUN, "round", Kind.OK, {"round": 1, "violations": 0, "verdict": "pass"})
    going = Event(OBSERVER, "namespace", Kind.OK, {"name": "default", "change": "terminating"})
    for events, found in (((gone, going), []), ((going, gone), []), ((gone, ended, going), ["claim_missing"])):
        verdict = judged(*events)
        assert classes(verdict) == found
        assert verdict.by_policy == (() if found else ("disk-ssd-web-1: deleted with its namespace",))
