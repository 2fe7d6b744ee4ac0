"""The drawing: what stands in the lines of a picture, at every width and height."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chaosd.checkers import Panel
from chaosd.history import NEMESIS, RUN, Event, Kind
from chaosd.requirements import Requirement
from chaosd.terminal.drawing import ASCII, Scene, draw
from chaosd.terminal.picture import Picture
from tests.histories import (
    FILES,
    WEB_0,
    WEB_1,
    begun,
    converged,
    history,
    listed,
    pod,
    pod_replaced,
    read,
    round_ended,
    sound,
)

_DAMAGED = (
    *begun(),
    *pod_replaced(),
    sound(1, "new-1", again=True),
    listed(WEB_1, *FILES),
    read(WEB_1, 0, 2),
    read(WEB_1, 1, finding="corrupt", block=1),
)
_REQUIRED = (
    Requirement("rounds", 10, 3, "rounds: 3 of 10"),
    Requirement("replicas hit", 2, 2, "replicas hit: 2 of 2"),
)


def _scene(*events: Event) -> Scene:
    picture = Picture(Panel())
    for op in history(*events):
        picture.panel.step(op)
        picture.record(op)
    picture.look_again()
    return Scene(
        head=[("target", "default/web"), ("cluster", "sandbox v1 - SIMULATED"), ("run", "01RUN, seed 7")],
        picture=picture,
        round="3 of 10: pod-delete",
        now=float(len(history(*events))),
        elapsed_seconds=72.0,
        left="about 6 min left",
        counts="72 files written, 62 readings verified (62 cold)",
        required=_REQUIRED,
    )


def _lines(scene: Scene, width: int = 100, height: int = 40) -> list[str]:
    return [line.plain.rstrip() for line in draw(scene, width, height)]


def test_it_shows_the_round_its_phase_each_replica_recoveries_and_violations() -> None:
    assert _lines(_scene(*_DAMAGED)) == [
        "─" * 100,
        "target     default/web",
        "cluster    sandbox v1 - SIMULATED",
        "run        01RUN, seed 7",
        "round      3 of 10: pod-delete",
        "phase      ✓ write  ✓ disrupt  ✓ recover  ▶ reading back what is owed 5 s  · judge",
        "disruption pod-delete",
        "data       72 files written, 62 readings verified (62 cold)",
        "elapsed    72 s, about 6 min left",
        "web-0 ● Ready        7 written  verified ──────────────────────── 0/6",
        "web-1 ● Ready        7 written  verified ━━━━━━━━━─────────────── 2/5 ✗",
        "required   · rounds       ━━━━━━━───────────────── 3 of 10",
        "           ✓ replicas hit ━━━━━━━━━━━━━━━━━━━━━━━━ 2 of 2",
        "recovery   pod-delete 5.0 s",
        "violations 1",
        "  ✗ corrupt web-1: 00000001, block 1",
    ]


@pytest.mark.parametrize("width", [20, 39, 59, 69, 70, 99, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = draw(_scene(*_DAMAGED), width, 40)
    assert max(line.cell_len for line in lines) <= width
    assert any("corrupt" in line.plain for line in lines)


def test_on_forty_columns_it_says_the_same_in_fewer_words() -> None:
    lines = _lines(_scene(*_DAMAGED), width=39)
    assert "phase      ▶ read 5 s (4 of 5)" in lines
    assert "web-1 ●   7 new ━━━━━━─────────── 2/5 ✗" in lines
    assert "required   · rounds: 3 of 10" in lines


@pytest.mark.parametrize("height", [1, 5, 12, 14, 16, 40])
def test_there_are_no_more_lines_than_the_terminal_has(height: int) -> None:
    assert len(draw(_scene(*_DAMAGED), 80, height)) == min(height, 16)


def test_of_many_replicas_those_are_shown_that_lag() -> None:
    names = [f"default/web-{number}" for number in range(40)]
    value = {"round": 1, "name": "round", "verify": True, "files": 1, "replicas": names}
    ready = [pod(number, "present", ready=True) for number in range(40)]
    scene = _scene(*ready, *(sound(n) for n in range(40)), Event(RUN, "round", Kind.INVOKE, value))
    assert scene.picture
    for name, shown in scene.picture.replicas.items():
        shown.verified = 0 if name.endswith("-33") else 1
    lines = _lines(scene, height=20)
    assert len(lines) == 20
    assert any(line.startswith("web-33 ") for line in lines)
    assert any(line == "… and 32 more replicas" for line in lines), lines


def test_a_guard_that_holds_back_tells_why_and_until_when() -> None:
    hold = Event(
        NEMESIS,
        "hold",
        Kind.FAIL,
        {"error": "guards.minInterval is 60 s, 60 s are left", "blocked": "interval", "until": 3_600.0},
    )
    scene = replace(_scene(*begun(), round_ended(), hold), now=3_558.0)
    assert "held back  until 01:00:00 UTC, in 42 s: the last disruption is too recent" in _lines(scene)


def test_without_a_run_it_says_what_is_waited_for() -> None:
    scene = replace(_scene(), picture=None, round="waiting for the target", required=())
    assert _lines(scene)[-1] == "round      waiting for the target"


def test_a_terminal_without_unicode_gets_ascii_alone() -> None:
    drawn = "\n".join(line.plain for line in draw(_scene(*_DAMAGED), 100, 40, ASCII))
    assert drawn.isascii()
    assert "web-1 * Ready" in drawn


def test_what_the_cluster_says_cannot_move_the_cursor() -> None:
    nasty = Event(NEMESIS, "pod-delete", Kind.FAIL, {"error": "refused\x1b[2J\n\rby a webhook", "blocked": "conflict"})
    lines = _lines(_scene(*begun(), Event(NEMESIS, "pod-delete", Kind.INVOKE, {}), nasty, *converged()))
    assert "disruption pod-delete ✗ not done: refused?[2J?by a webhook" in lines


def test_violations_are_red_and_say_so_without_colours_too() -> None:
    line = next(line for line in draw(_scene(*_DAMAGED), 100, 40) if "corrupt" in line.plain)
    assert "red" in str(line.style)
    assert line.plain.lstrip().startswith("✗ corrupt")
    assert WEB_0 not in line.plain
