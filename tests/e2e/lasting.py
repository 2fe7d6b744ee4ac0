"""A disruption that lasts until the test has done what it wants: nothing else is disturbed meanwhile."""

from __future__ import annotations

from pathlib import Path

from tests.manifests import Document
from tests.waiting import until

_SCRIPT = 'touch "$0"; until [ -e "$1" ]; do sleep 0.1; done'


class Lasting:
    """One of one run; `folder` is the test's own."""

    def __init__(self, folder: Path) -> None:
        self._begun, self._over = folder / "begun", folder / "over"

    @property
    def disruption(self) -> Document:
        """As an experiment has it."""
        return {"kind": "external", "command": ["sh", "-c", _SCRIPT, str(self._begun), str(self._over)]}

    def until_begun(self) -> None:
        """Wait until it has begun."""
        until(self._begun.exists, "the disruption")

    def end(self) -> None:
        """What was wanted is done."""
        self._over.touch()
