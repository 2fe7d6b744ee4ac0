"""Progress as its users see it: on a terminal, in a pipe, and where a terminal can do nothing."""

from __future__ import annotations

import asyncio
import re
import signal
from io import StringIO
from pathlib import Path

import pytest

from chaosd import progress
from chaosd.progress import Progress
from tests.chaosd_process import chaosd
from tests.terminal.pty_process import OnTerminal

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
_COLOUR = re.compile(rb"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def _soak(tmp_path: Path, rounds: int) -> list[object]:
    subject = EXPERIMENTS / "soak.yaml"
    return ["run", subject, "--cluster", "sandbox", "--rounds", rounds, "--seed", 7, "--out", tmp_path / "out"]


def test_a_run_is_shown_live_through_a_resize_and_leaves_its_last_picture_and_the_verdict(tmp_path: Path) -> None:
    with OnTerminal(*_soak(tmp_path, 3), columns=100, lines=40) as shown:
        shown.until(lambda: any("✓ write" in row for row in shown.rows))
        assert any(row.startswith("round      1 of 3: ") for row in shown.rows)
        assert any("web-0 ●" in row and " verified " in row for row in shown.rows)
        shown.until(lambda: any(row.startswith("round      2 of 3: ") for row in shown.rows))
        shown.resize(40, 40)
        assert shown.wait() == 0
    rows = shown.all_rows
    assert rows.count("violations none") == 1
    assert [row[:18] for row in rows if row.startswith("round      ")] == ["round      3 of 3:"]
    assert any(" round 3 done:" in row for row in rows)
    assert "".join(rows[rows.index("violations none") + 1 :]).endswith("seed 7)")
    assert _COLOUR.search(shown.written)


def test_ctrl_c_leaves_a_clean_screen_without_colours_where_none_are_wanted(tmp_path: Path) -> None:
    with OnTerminal(*_soak(tmp_path, 100), columns=40, lines=30, env={"NO_COLOR": "1"}) as shown:
        shown.until(lambda: any(row.startswith("round      2 of 100: ") for row in shown.rows))
        shown.type(b"\x03")
        assert shown.wait() == 4
    rows = shown.all_rows
    assert rows.count("violations none") == 1
    assert not any("^C" in row for row in rows)
    told = "".join(rows[rows.index("violations none") + 1 :])
    assert told.startswith("chaosd: ended by SIGINT")
    assert "verdict: " in told
    assert not _COLOUR.search(shown.written)
    assert b"\x1b[?" not in shown.written  # no mode is left behind


def test_a_terminal_without_a_cursor_gets_plain_lines(tmp_path: Path) -> None:
    with OnTerminal(*_soak(tmp_path, 1), columns=80, lines=30, env={"TERM": "dumb"}) as shown:
        assert shown.wait() == 0
    assert b"\x1b" not in shown.written
    assert re.search(rb"\d\d:\d\d:\d\d round 1 of 1: ", shown.written)


def test_a_pipe_gets_plain_lines_even_where_colours_are_forced(tmp_path: Path) -> None:
    ran = chaosd(*map(str, _soak(tmp_path, 1)), env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert ran.code == 0, ran.told
    assert "\x1b" not in ran.told
    assert any(re.match(r"\d\d:\d\d:\d\d round 1 done: ", line) for line in ran.stderr)


async def test_where_nobody_looks_it_says_now_and_then_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_HEARTBEAT_SECONDS", 0.5)
    told = StringIO()
    shown = Progress(told)
    shown.tell("target", "default/web")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await shown.beside(asyncio.sleep(1.4))
    beats = (loop.time() - began) / 0.5
    lines = told.getvalue().splitlines()
    assert [line.partition(" ")[2] for line in lines[:2]] == ["target default/web", "goes on: waiting for the target"]
    assert 2 <= len(lines) <= 1 + beats


async def test_what_the_work_raises_comes_through() -> None:
    async def fails() -> None:
        raise ValueError(signal.SIGINT.name)

    with pytest.raises(ValueError, match="SIGINT"):
        await Progress(StringIO()).beside(fails())
