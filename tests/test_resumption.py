"""After chaosd died: what was never answered, and whether the ledger is what the Lease says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaosd import resumption
from chaosd.checkers import Panel
from chaosd.checkers.verdict import Class, Value
from chaosd.history import LEDGER_LOST, NEMESIS, RESTART, RUN, Event, Kind
from chaosd.ledger import Ledger, Run
from tests.histories import WEB_0, history, opened, read, round_began, statefulset, written

RESTARTED = Event(RUN, RESTART, Kind.OK, {"round": 1})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened_ledger:
        yield opened_ledger


def _begin(ledger: Ledger) -> Run:
    return ledger.begin(
        "R", experiment="{}", seed=7, target="default/web", cluster="sandbox v1", cluster_id="c", started_at=1.0
    )


def test_everything_that_was_invoked_and_never_answered_is_info() -> None:
    panel, unanswered = Panel(), resumption.Unanswered()
    pod_delete = Event(NEMESIS, "pod-delete", Kind.INVOKE, {"disrupts": True})
    undo = Event(NEMESIS, "undo", Kind.INVOKE, {"kind": "scale"})
    reading = Event(WEB_0, "read", Kind.INVOKE, {"sequences": [[0, 0]]})
    begun = (statefulset(2), opened(WEB_0), round_began(3), *written(WEB_0, 0), written(WEB_0, 1)[0])
    for op in history(*begun, reading, read(WEB_0, 0), undo, pod_delete, Event(WEB_0, "list", Kind.INVOKE)):
        panel.step(op)
        unanswered.step(op)
    told = [(event.process, event.f, event.kind) for event in unanswered.events(panel.integrity)]
    named = ((WEB_0, "write"), (RUN, "round"), (NEMESIS, "pod-delete"), (WEB_0, "list"))
    assert told == [(process, f, Kind.INFO) for process, f in named]
    assert unanswered.round == 3


def test_a_ledger_that_has_what_the_lease_names_has_lost_nothing(ledger: Ledger) -> None:
    run = _begin(ledger)
    assert resumption.note_loss(ledger, resumption.standing(ledger, run, None), "default/web", "", 2.0) == ""
    op = ledger.append(run, Event(NEMESIS, "scale", Kind.INVOKE, {"to": 1, "nested": {"b": [1.5], "a": None}}), 2.25)
    noted = resumption.standing(ledger, run, op)
    ledger.append(run, Event(NEMESIS, "scale", Kind.OK), 3.0)
    assert resumption.note_loss(ledger, noted, "default/web", "", 4.0) == ""
    assert resumption.note_loss(ledger, {}, "default/web", "", 4.0) == ""
    assert resumption.note_loss(ledger, {**noted, "ledger": "another", "index": 99}, "default/web", "", 4.0) == ""


@pytest.mark.parametrize(
    ("over", "words"),
    [({"index": 5}, "has no op 5"), ({"hash": "0"}, "has another op 0"), ({"run": "LATER"}, "has no run LATER")],
)
def test_one_that_lacks_it_was_rolled_back_and_the_history_says_so(
    ledger: Ledger, over: dict[str, object], words: str
) -> None:
    run = _begin(ledger)
    op = ledger.append(run, Event(NEMESIS, "scale", Kind.INVOKE), 2.0)
    lost = resumption.note_loss(ledger, {**resumption.standing(ledger, run, op), **over}, "default/web", "", 3.0)
    assert words in lost
    assert [op.f for op in ledger.history(run)] == ["scale", LEDGER_LOST]


def _judged(*events: Event) -> Panel:
    panel = Panel()
    for op in history(statefulset(2), opened(WEB_0), round_began(1), *written(WEB_0, 0), *events):
        panel.step(op)
    return panel


def test_what_is_found_after_a_loss_accuses_nobody_and_what_was_found_before_stands() -> None:
    lost, missing = Event(RUN, LEDGER_LOST, Kind.OK, {"why": "rolled back"}), read(WEB_0, 0, finding="missing")
    after = _judged(lost, missing).judge()
    assert (after.value, [u.missing for u in after.unknowns][:1]) == (Value.UNKNOWN, ["rolled back"])
    before = _judged(missing, lost).judge()
    assert (before.value, [v.failure for v in before.violations]) == (Value.FAIL, [Class.LOST])


@pytest.mark.parametrize(
    "listed",
    [{"present": [[0, 1]]}, {"present": [[0, 0]], "documents": ["l000000"]}, {"present": [[0, 0]], "documents": ["r00"]}],
)
def test_files_beyond_the_history_are_unexpected_unless_chaosd_has_just_been_restarted(listed: dict[str, object]) -> None:
    seen = Event(WEB_0, "list", Kind.OK, {"folder": ".chaosd/RUN", "pod_uid": "pod-0", **listed})
    assert _judged(seen).judge().value is Value.FAIL
    restarted = _judged(RESTARTED, seen)
    assert (restarted.judge().violations, restarted.integrity.lost_since is None) == ((), False)
    later = Event(WEB_0, "list", Kind.OK, {**seen.value, "present": [[0, 9]]})
    assert _judged(RESTARTED, *written(WEB_0, 1), later).judge().value is Value.FAIL


def test_what_is_missing_after_a_restart_is_lost() -> None:
    """As long as nothing shows that the ledger has lost something."""
    assert [v.failure for v in _judged(RESTARTED, read(WEB_0, 0, finding="missing")).judge().violations] == [Class.LOST]
