"""The history as CSV (RFC 4180), an op a row, written while it is read."""

from __future__ import annotations

import csv
import json
from typing import TextIO

from chaosd.history import Op

COLUMNS = ("index", "time", "process", "f", "kind", "value")
# A spreadsheet takes what begins with one of these for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Writer:
    """Writes each op that it is told."""

    def __init__(self, file: TextIO) -> None:
        self._rows = csv.writer(file, lineterminator="\r\n")
        self._rows.writerow(COLUMNS)

    def step(self, op: Op) -> None:
        """The next row; `value` is a JSON object."""
        value = json.dumps(op.value, separators=(",", ":"))
        self._rows.writerow((op.index, op.time, _harmless(op.process), _harmless(op.f), str(op.kind), value))


def _harmless(told: str) -> str:
    return f"'{told}" if told.startswith(_FORMULA) else told
