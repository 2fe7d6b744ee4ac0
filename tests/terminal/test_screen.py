"""The screen, seen through a terminal emulator: nothing tears, whatever is said above it and however it is resized."""

from __future__ import annotations

from io import StringIO

import pyte
import pytest
from rich.console import Console
from rich.text import Text

from chaosd.terminal.screen import Above, Screen


class _Terminal(StringIO):
    """A terminal of so many columns and lines, and what it shows."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.emulated = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.Stream(self.emulated)
        self.writes: list[str] = []

    def write(self, text: str, /) -> int:
        self.writes += [text] if text else []
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> list[str]:
        past = ["".join(line[x].data for x in range(self.emulated.columns)) for line in self.emulated.history.top]
        return [line.rstrip() for line in [*past, *self.emulated.display] if line.strip()]


def _screen(columns: int = 30, lines: int = 10) -> tuple[_Terminal, Console, Screen]:
    terminal = _Terminal(columns, lines)
    console = Console(file=terminal, force_terminal=True, width=columns, height=lines, _environ={"TERM": "xterm-256color"})
    return terminal, console, Screen(console)


def _texts(*lines: str) -> list[Text]:
    return [Text(line) for line in lines]


def test_lines_go_above_what_is_drawn_and_stay_in_their_order() -> None:
    terminal, _, screen = _screen()
    screen.draw(_texts("round 1", "bar 1"))
    for number in range(2, 30):
        screen.draw(_texts(f"round {number}", f"bar {number}"), _texts(f"said {number}"))
    assert terminal.shown == [*(f"said {number}" for number in range(2, 30)), "round 29", "bar 29"]


def test_fewer_lines_leave_nothing_of_the_ones_before() -> None:
    terminal, _, screen = _screen()
    screen.draw(_texts("one", "two", "three"))
    screen.draw(_texts("one"))
    assert terminal.shown == ["one"]


def test_a_long_line_above_is_broken_between_words() -> None:
    terminal, _, screen = _screen(20)
    screen.draw(_texts("frame"))
    screen.draw(_texts("frame"), _texts("a line that is longer than the terminal"))
    screen.draw(_texts("frame again"))
    assert terminal.shown == ["a line that is", "longer than the", "terminal", "frame again"]


def test_what_has_not_changed_is_not_written_again() -> None:
    terminal, _, screen = _screen()
    for _ in range(3):
        screen.draw(_texts("same"))
    assert len(terminal.writes) == 1


def test_what_is_typed_is_drawn_over_in_the_end() -> None:
    terminal, _, screen = _screen()
    screen.draw(_texts("same"))
    terminal.write("^C")
    screen.draw(_texts("same"))
    assert terminal.shown == ["same", "^C"]
    screen.draw_over()
    screen.draw(_texts("same"))
    assert terminal.shown == ["same"]


def test_each_frame_is_one_write() -> None:
    terminal, _, screen = _screen()
    screen.draw(_texts("one", "two"))
    screen.draw(_texts("one", "three"), _texts("said"))
    assert len(terminal.writes) == 2


@pytest.mark.parametrize("columns", [12, 60])
def test_a_terminal_of_another_width_shows_the_frame_once(columns: int) -> None:
    terminal, console, screen = _screen(30)
    screen.draw(_texts("x" * 29, "bar"))
    terminal.emulated.resize(10, columns)
    console.width = columns
    screen.draw(_texts("y" * min(29, columns - 1), "bar"))
    assert terminal.shown == ["y" * min(29, columns - 1), "bar"]


def test_where_the_terminal_broke_lines_in_two_all_of_them_are_erased() -> None:
    terminal, console, screen = _screen(30)
    screen.draw(_texts("x" * 29, "bar"))
    console.width = 10  # the emulator cuts lines; a terminal that breaks them shows 29 cells in 3 lines
    screen.draw(_texts("new"))
    assert "\x1b[4A\x1b[J" in terminal.writes[-1]


def test_no_mode_is_set_that_a_killed_process_would_leave_behind() -> None:
    terminal, _, screen = _screen()
    screen.draw(_texts("one"), _texts("said"))
    assert "\x1b[?" not in "".join(terminal.writes)


def test_what_others_write_comes_as_whole_lines() -> None:
    said: list[str] = []
    above = Above(said.append)
    above.write("half")
    assert said == []
    above.write(" a line\nand more")
    assert said == ["half a line"]
    above.flush()
    assert said == ["half a line"]
