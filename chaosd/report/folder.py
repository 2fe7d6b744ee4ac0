"""What came of a run, left as files for people and machines."""

from __future__ import annotations

from pathlib import Path

from chaosd.errors import UsageError
from chaosd.report import text
from chaosd.report.verdict import Verdict


def write(verdict: Verdict, folder: Path) -> None:
    """`verdict.json` and `report.txt`; the folder is made. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "verdict.json").write_text(verdict.as_json())
        (folder / "report.txt").write_text(text.render(verdict))
    except OSError as error:
        raise UsageError(f"{folder} cannot hold the report of run {verdict.run}: {error.strerror}: make room") from error
