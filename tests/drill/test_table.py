"""The table of a drill: a line for each plant, at any width, and what went wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.checkers.verdict import Class, Value
from chaosd.drill.table import Drilled, chosen, not_planted, table
from chaosd.errors import UsageError
from chaosd.simulation.fault import Fault

LOST = Drilled("a file is removed", "lost", ("lost",), "fail", 3, 1, 0.25, 1.5)
STALE = Drilled("an older value of a register comes back", "stale", ("stale",), "fail", 3, 2, 12.0, 2.0)
UNSEEN = Drilled("the disk fills up", "unknown", (), "unknown", 3, None, None, 0.1)
HEALTHY = Drilled("nothing: pods are deleted and replicas scaled", "", (), "pass", 3, None, None, 14.0)


def test_a_line_for_each_plant_then_the_classes_without_one_then_the_healthy_runs() -> None:
    assert table([LOST, HEALTHY, STALE], "here", [Class.REFORMATTED, Class.DOUBLE_BOUND]).splitlines() == [
        "CLASS         PLANTED                                        FOUND AS  RIGHT  ROUNDS  AFTER s  TOOK s",
        "lost          a file is removed                              lost      1/1    1       0.2      1.50",
        "stale         an older value of a register comes back        stale     1/1    2       12.0     2.00",
        "reformatted   not planted here                               -         -      -       -        -",
        "double_bound  not planted here                               -         -      -       -        -",
        "-             nothing: pods are deleted and replicas scaled  pass      1/1    -       -        14.00",
        "",
        "2 of 2 planted faults were found under their own name",
        "1 of 1 healthy runs raised nothing",
        "2 classes can be planted in a simulated cluster only: chaosd drill --cluster sandbox",
        "here; seed 3",
    ]


def test_a_narrow_terminal_has_the_same_lines_without_the_least_columns_and_with_wrapped_words() -> None:
    mismatch = replace(LOST, plant="the pod mounts another claim", wanted="claim_mismatch", found=("claim_mismatch",))
    assert table([mismatch, STALE, HEALTHY], "here", width=70).splitlines()[:7] == [
        "CLASS           PLANTED                 FOUND AS        RIGHT  AFTER s",
        "claim_mismatch  the pod mounts another  claim_mismatch  1/1    0.2",
        "                claim",
        "stale           an older value of a     stale           1/1    12.0",
        "                register comes back",
        "-               nothing: pods are       pass            1/1    -",
        "                deleted and replicas",
    ]


def test_what_cannot_be_seen_is_right_where_it_is_unknown_and_nothing_is_accused() -> None:
    assert UNSEEN.right
    assert not replace(UNSEEN, verdict="pass").right
    assert not replace(UNSEEN, found=("lost",), verdict="fail").right
    row = table([UNSEEN], "here").splitlines()[1]
    assert " ".join(row.split()) == "unknown the disk fills up unknown 1/1 - - 0.10"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    longest = replace(STALE, wanted="attached_elsewhere", found=("attached_elsewhere",))
    rows, _ = table([LOST, longest, HEALTHY], "here", width=width).split("\n\n")
    assert max(map(len, rows.splitlines())) <= width


def test_where_it_was_planted_more_than_once_the_longest_times_are_shown() -> None:
    slower = replace(LOST, seed=4, rounds=3, seconds=9.0, took_seconds=0.5)
    _, row, *_, last = table([LOST, slower], "here").splitlines()
    assert " ".join(row.split()) == "lost a file is removed lost 2/2 3 9.0 1.50"
    assert last == "here; seeds 3 to 4"


def test_what_is_wrong_has_a_line_of_its_own() -> None:
    other = replace(LOST, found=("corrupt", "lost"), report="/tmp/001/report.txt")
    missed = replace(STALE, found=(), verdict="pass")
    alarm = replace(HEALTHY, found=("torn",), verdict="fail")
    lines = table([other, missed, alarm], "here").splitlines()
    assert lines[5:10] == [
        "0 of 2 planted faults were found under their own name",
        "0 of 1 healthy runs raised nothing",
        "WRONG: seed 3: a file is removed: found corrupt + lost, verdict fail: /tmp/001/report.txt",
        "WRONG: seed 3: an older value of a register comes back: found nothing, verdict pass",
        "WRONG: seed 3: nothing: pods are deleted and replicas scaled: found torn, verdict fail",
    ]


@pytest.mark.parametrize(
    ("result", "right", "undecided"),
    [
        (LOST, True, False),
        (replace(LOST, found=("lost", "torn")), False, False),
        (replace(LOST, found=(), verdict="unknown"), False, True),
        (HEALTHY, True, False),
        (replace(HEALTHY, verdict="unknown"), False, True),
        (replace(HEALTHY, found=("lost",), verdict="fail"), False, False),
    ],
)
def test_right_is_its_own_name_and_no_other_and_of_a_healthy_run_a_pass(
    result: Drilled, right: bool, undecided: bool
) -> None:
    assert (result.right, result.undecided) == (right, undecided)


def test_controls_are_always_chosen_and_a_class_without_a_plant_is_refused() -> None:
    lost, stale, control = plants = [Fault("", Class.LOST), Fault("", Class.STALE), Fault("", None)]
    assert chosen(plants, [], "here") == plants
    assert chosen(plants, ["stale"], "here") == [stale, control]
    assert chosen(plants, ["lost", "stale"], "here") == [lost, stale, control]
    with pytest.raises(UsageError, match="--class torn: no such class can be planted here: there are lost, stale"):
        chosen(plants, ["lost", "torn"], "here")
    unseen = Fault("", Value.UNKNOWN)
    assert chosen([*plants, unseen], ["unknown"], "here") == [control, unseen]
    assert not_planted([lost, unseen, control]) == [failure for failure in Class if failure is not Class.LOST]
