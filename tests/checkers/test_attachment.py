"""Attachment, by hand-written histories; the whole verdict is compared."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.attachment import Attachment
from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import OBSERVER, Event, Kind
from tests.histories import WEB_0, claim, history, pod, round_began, seen, watch


def attachment(on: str, change: str = "present", **more: Any) -> Event:
    value = {"name": f"csi-{on}", "volume": "pv-web-0", "node": on, "attached": True, "pod": "web-0"}
    return seen("attachment", change, **{**value, **more})


def confirmed(*attached_to: str, dead_nodes: tuple[str, ...] = ()) -> Event:
    value = {"replica": WEB_0, "volume": "pv-web-0", "pod_uid": "pod-0", "pod_node": "one", "ready": True}
    value["dead_nodes"] = list(dead_nodes)
    return Event(OBSERVER, "confirm", Kind.OK, {**value, "attached_to": list(attached_to)})


SUSPECT = [(WEB_0, "pv-web-0")]


def checked(*events: Event) -> Attachment:
    checker = Attachment()
    for op in history(*events):
        checker.step(op)
    return checker


def elsewhere(index: int, since: int, attached_to: list[str]) -> Verdict:
    evidence = {"volume": "pv-web-0", "pod_node": "one", "attached_to": attached_to, "pod_uid": "pod-0"}
    binding = Binding(volume="pv-web-0", node="one")
    return Verdict("attachment", (Violation(Class.ATTACHED_ELSEWHERE, WEB_0, index, since, binding, evidence=evidence),))


WEB_0_ON_ONE = pod(0, "present", ready=True, node="one")


def test_a_volume_on_its_pods_node_passes() -> None:
    checker = checked(round_began(1), WEB_0_ON_ONE, attachment("one"))
    assert (checker.suspects(), checker.verdict()) == ([], Verdict("attachment"))


def test_a_volume_on_another_node_is_attached_elsewhere() -> None:
    """hetznercloud/csi-driver#685, longhorn/longhorn#5345."""
    before = (round_began(1), WEB_0_ON_ONE, attachment("two"))
    assert checked(*before).suspects() == SUSPECT
    assert checked(*before).verdict() == Verdict("attachment")
    told = checked(*before, confirmed("two"))
    assert told.verdict() == elsewhere(3, 2, ["two"])
    assert told.suspects() == []


def test_an_attachment_that_went_while_the_volume_is_mounted_is_attached_elsewhere() -> None:
    """kubernetes/kubernetes#106710."""
    before = (round_began(1), WEB_0_ON_ONE, attachment("one"), attachment("one", "deleted"))
    assert checked(*before).suspects() == SUSPECT
    assert checked(*before, confirmed()).verdict() == elsewhere(4, 2, [])


def test_a_watch_that_lags_behind_accuses_nobody() -> None:
    before = (round_began(1), WEB_0_ON_ONE, attachment("two"))
    assert checked(*before, confirmed("one")).verdict() == Verdict("attachment")


def test_what_could_not_be_confirmed_is_unknown() -> None:
    before = (round_began(1), WEB_0_ON_ONE, attachment("two"))
    failed = Event(OBSERVER, "confirm", Kind.FAIL, {"replica": WEB_0, "volume": "pv-web-0", "error": "503"})
    why = "whether pv-web-0 is attached to its pod's node could not be confirmed: 503"
    assert checked(*before, failed).verdict() == Verdict("attachment", unknowns=(Unknown(WEB_0, why),))
    assert checked(*before, failed, confirmed("one")).verdict() == Verdict("attachment")


def test_a_pod_that_waits_for_its_volume_to_come_is_no_fault() -> None:
    waiting = pod(0, "present", node="one")
    assert checked(round_began(1), waiting, attachment("one", attached=False)).suspects() == []


def test_an_attachment_to_a_node_that_died_stays_by_design() -> None:
    before = (round_began(1), WEB_0_ON_ONE, attachment("two"))
    assert checked(*before, confirmed("two", dead_nodes=("two",))).verdict() == Verdict("attachment")


def test_attachments_that_may_not_be_watched_are_not_said_to_be_none() -> None:
    refused = Event(OBSERVER, "unobservable", Kind.OK, {"kind": "attachment", "error": "forbidden"})
    assert checked(WEB_0_ON_ONE, refused).verdict() == Verdict("attachment")


def test_a_volume_that_several_nodes_have_passes() -> None:
    assert checked(WEB_0_ON_ONE, attachment("one"), attachment("two")).suspects() == []


def test_a_driver_that_attaches_nothing_is_not_judged() -> None:
    nothing = Verdict("attachment", not_applicable=("no volume has an attachment: its driver attaches nothing",))
    assert checked(WEB_0_ON_ONE).verdict() == nothing


def test_a_volume_whose_claim_was_let_go_is_attached_nowhere_and_that_is_no_fault() -> None:
    """whenScaled: Delete and reclaimPolicy: Retain: the old volume stays, and the replica has another one."""
    moved = (claim(0, "deleted"), claim(0, "added", uid="new", volume="pv-new"), attachment("one", "deleted"))
    assert checked(claim(0), WEB_0_ON_ONE, attachment("one"), *moved).suspects() == []
    assert checked(claim(0), WEB_0_ON_ONE, attachment("one"), attachment("one", "deleted")).suspects() == SUSPECT


def test_a_pod_that_went_while_nobody_watched_needs_no_attachment() -> None:
    again = (watch("began"), watch("began", "attachment"), watch("synced"), watch("synced", "attachment"))
    assert checked(WEB_0_ON_ONE, attachment("one"), *again).suspects() == []
