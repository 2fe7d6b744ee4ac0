"""The screen: lines that stay at the bottom of a terminal, while others scroll by above them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import TextIOBase
from math import ceil

from rich.console import Console
from rich.text import Text


class Screen:
    """Draws on a console that is a terminal.

    Rich's own Live is not used: it draws from a thread while the loop changes what is drawn, and counts the lines that it
    erases by the width that the terminal had. Everything goes out in one write, so that nothing tears; the cursor is never
    hidden and no mode is set, so that whatever kills the process leaves a terminal that works.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: list[int] = []  # cells of each line that is drawn now
        self._text = ""
        self._width = 0

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines that a frame may have: the last line is the cursor's, and some terminals wrap at the last
        column."""
        return max(10, self._console.width - 1), max(1, self._console.height - 1)

    @property
    def plain(self) -> bool:
        """Whether it has no characters but those of ASCII."""
        return self._console.options.ascii_only

    def draw(self, lines: Sequence[Text], above: Sequence[Text] = ()) -> None:
        """Show these lines in the place of the ones before; `above` them go lines that stay."""
        text = self._rendered(lines, soft_wrap=True)
        if not above and text == self._text and self._console.width == self._width:
            return
        self._write(f"{self._erased()}{self._rendered(above, soft_wrap=False)}{text}")
        self._shown, self._text, self._width = [line.cell_len for line in lines], text, self._console.width

    def draw_over(self) -> None:
        """The next frame is drawn even where nothing changed: a terminal echoes what is typed, such as ^C."""
        self._text = ""

    def _erased(self) -> str:
        """Back to the first line that is drawn. Where the terminal has become narrower, it has broken lines in two."""
        width = max(1, self._console.width)
        rows = sum(max(1, ceil(cells / width)) for cells in self._shown)
        return f"\r\x1b[{rows}A\x1b[J" if rows else ""

    def _rendered(self, lines: Sequence[Text], *, soft_wrap: bool) -> str:
        with self._console.capture() as captured:
            for line in lines:
                self._console.print(line, soft_wrap=soft_wrap, highlight=False)
        return captured.get()

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class Above(TextIOBase):
    """A stream for what others write meanwhile, such as a warning of Python's: its lines are handed to `say`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._begun = ""

    def write(self, text: str, /) -> int:
        """Whole lines are said at once, the rest when its end comes."""
        *lines, self._begun = f"{self._begun}{text}".split("\n")
        for line in lines:
            self._say(line)
        return len(text)
