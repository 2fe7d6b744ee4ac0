"""What a drill is doing: on a terminal as it changes, elsewhere as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.status import Status

from chaosd.drill.table import Drilled


class DrillProgress:
    """Follows a drill of `total` runs."""

    def __init__(self, console: Console, total: int) -> None:
        self.results: list[Drilled] = []
        self._console = console
        self._total = total
        self._status: Status | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """On a terminal: what is under way, until the context ends."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status("drill") as self._status:
            yield

    def tell(self, line: str) -> None:
        """What somebody may want to read later."""
        self._console.print(f"{datetime.now(UTC):%H:%M:%S} {line}", highlight=False, markup=False, soft_wrap=True)

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
