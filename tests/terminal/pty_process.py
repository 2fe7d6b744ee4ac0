"""A program on a terminal of its own, as an emulator shows it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte


class OnTerminal:
    """A running `chaosd`, or another `program`, on a terminal of so many columns and lines. Use it in a `with`: what still
    runs is killed."""

    def __init__(
        self,
        *args: object,
        columns: int,
        lines: int,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "chaosd"),
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self.written = b""
        self.code: int | None = None
        self._stream = pyte.ByteStream(self.screen)
        known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        environment = {**known, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(program[0], [*program, *map(str, args)], environment)
        self._size(columns, lines)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)

    @property
    def rows(self) -> list[str]:
        """What is on the screen now."""
        return [row.rstrip() for row in self.screen.display]

    @property
    def all_rows(self) -> list[str]:
        """With what has scrolled away."""
        past = ("".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top)
        return [row.rstrip() for row in (*past, *self.screen.display) if row.strip()]

    def until(self, holds: Callable[[], bool], timeout_seconds: float = 300) -> None:
        """Wait until this holds of what the screen shows."""
        deadline = time.monotonic() + timeout_seconds
        while not holds():
            assert time.monotonic() < deadline, "\n".join(self.all_rows)
            assert self._read(), f"it ended before: {self.all_rows}"

    def type(self, text: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, text)

    def resize(self, columns: int, lines: int) -> None:
        """Another size of the window."""
        self.screen.resize(lines, columns)
        self._size(columns, lines)

    def wait(self, timeout_seconds: float = 300) -> int:
        """Its exit code, once it has ended."""
        deadline = time.monotonic() + timeout_seconds
        while self._read():
            assert time.monotonic() < deadline, "\n".join(self.all_rows)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def _read(self) -> bool:
        """Take in what was written meanwhile; False once nobody can write any more."""
        if not select.select([self._terminal], [], [], 0.2)[0]:
            return True
        try:
            told = os.read(self._terminal, 1 << 16)
        except OSError:  # the other end is closed (Linux, pty(7))
            return False
        self.written += told
        self._stream.feed(told)
        return bool(told)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
