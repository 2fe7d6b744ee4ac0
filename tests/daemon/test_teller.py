"""What the status tells of experiments: anew where something of them has changed, and the same otherwise."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from chaosd.checkers import Panel, Value
from chaosd.cluster.target import Target
from chaosd.daemon.status import Teller
from chaosd.daemon.supervisor import Followed, State
from chaosd.history import Event
from chaosd.ledger import Run
from chaosd.status.document import Status
from chaosd.status.run_status import RunStatus
from tests.histories import WEB_0, converged, disrupted, history, opened, pod, round_began, round_ended

TARGET = Target("default", "web", "uid", "app", "/data", "disk-ssd", 1, 0)
VERDICT = {"verdict": "pass", "violations": [], "ended_at": 5.0, "run": "BEFORE"}


def _follow(run: str = "RUN") -> Followed:
    of = Run(1, run, "soak", "{}", 7, "default/web", "sandbox v1", "", 1.0)
    return Followed(of, RunStatus(TARGET, Panel(), lambda _: None, 0, 0.0))


def _supervisor(name: str = "soak", **more: Any) -> Any:
    at_first = {"state": State.RUNNING, "why": "", "under_way": None, "due_at": None, "recalled": None}
    target = f"default/{name}"
    return SimpleNamespace(
        **{"experiment": SimpleNamespace(name=name), "target": target, **at_first, "followed": _follow(), **more}
    )


def _tell(*events: Event) -> Callable[[Any], None]:
    def tell(one: Any) -> None:
        for op in history(*events):
            one.followed.status.record(op)

    return tell


def _set(**more: Any) -> Callable[[Any], None]:
    return lambda one: vars(one).update(more)


CHANGES = {
    "state": _set(state=State.WAITING),
    "why": _set(state=State.PAUSED, why="the kill switch is thrown"),
    "due": _set(due_at=9.0),
    "run": _set(under_way=None),
    "another run": _set(followed=_follow("OTHER"), under_way=object()),
    "last verdict": _set(recalled=VERDICT, followed=None),
    "round": _tell(round_began(3)),
    "disruption": _tell(disrupted()),
    "recovery": _tell(*converged()),
    "verdict": _tell(round_began(3), round_ended(3)),
    "pod": _tell(pod(0, "present", ready=True)),
    "binding": _tell(opened(WEB_0)),
    "end": lambda one: one.followed.status.end(Value.FAIL, 7.0),
}


def _told(teller: Teller, *supervisors: Any) -> Status:
    return teller.status(supervisors, {}, "", 10.0)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_is_told_anew_and_all_else_as_it_was(change: Callable[[Any], None]) -> None:
    one, other, teller = _supervisor(under_way=object()), _supervisor("other"), Teller()
    before = _told(teller, one, other)
    change(one)
    now = _told(teller, one, other)
    assert now == _told(Teller(), one, other)
    assert (now.experiments, now.targets) != (before.experiments, before.targets)
    assert now.experiments[0] is before.experiments[0]  # the other's
    assert now.targets[0] is before.targets[0]


def test_where_nothing_changed_nothing_is_made_anew() -> None:
    teller, one = Teller(), _supervisor(under_way=object())
    before, now = _told(teller, one), _told(teller, one)
    assert now.experiments[0] is before.experiments[0]
    assert now.targets[0] is before.targets[0]
    _tell(round_began(3))(one)
    changes = one.followed.status.changes
    _tell(pod(0, "present", ready=True))(one)
    _tell(pod(0, "present", ready=True))(one)
    assert one.followed.status.changes == changes + 1


def test_one_that_went_is_told_no_more_and_told_anew_when_it_is_back() -> None:
    teller, one = Teller(), _supervisor()
    assert len(_told(teller, one).experiments) == 1
    assert _told(teller).experiments == ()
    assert _told(teller, one).experiments[0].name == "soak"
