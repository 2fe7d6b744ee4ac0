"""What a drill is doing: on a terminal as it changes, elsewhere as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from chaosd.drill.table import Drilled
from chaosd.narration import printable
from chaosd.terminal import is_live

if TYPE_CHECKING:
    from rich.status import Status


@contextmanager
def status(stream: TextIO) -> Iterator[Status | None]:
    """On a terminal, a line that tells what is under way, until the context ends; None elsewhere."""
    if not is_live(stream):
        yield None
        return
    from rich.console import Console

    with Console(file=stream).status("drill") as shown:
        yield shown


class DrillProgress:
    """Follows a drill of `total` runs."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self.results: list[Drilled] = []
        self._stream = stream
        self._total = total
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """On a terminal: what is under way, until the context ends."""
        with status(self._stream) as self._status:
            yield

    def tell(self, line: str) -> None:
        """What somebody may want to read later."""
        told = f"{datetime.now(UTC):%H:%M:%S} {printable(line)}"
        if self._status:
            self._status.console.print(told, highlight=False, markup=False, soft_wrap=True)
        else:
            self._stream.write(f"{told}\n")
            self._stream.flush()

    def done(self, result: Drilled) -> None:
        """One more run is done."""
        self.results.append(result)
        found = " + ".join(result.found) or "nothing"
        counted = f"{len(self.results)} of {self._total}: {result.plant}"
        if self._status:
            self._status.update(f"drill: {counted}")
        elif result.wanted:
            self.tell(f"{counted}: found {found}")
        else:
            self.tell(f"{counted.replace('nothing: ', 'healthy: ')}: {result.verdict}")

    def ended_early(self) -> str:
        """How far it came, where that is not to its end."""
        done = len(self.results)
        return f"; ended early, after {done} of {self._total} runs" if done < self._total else ""
