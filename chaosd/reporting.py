"""A composition root: the commands that only read a ledger. None opens a cluster, and a daemon that writes to the ledger is
not disturbed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from chaosd.ledger import Ledger
from chaosd.report import diff, files, runs
from chaosd.report.diff import Diff
from chaosd.report.document import Report
from chaosd.report.making import make
from chaosd.report.replay import verdict_of
from chaosd.report.runs import Standing
from chaosd.report.verdict import Verdict
from chaosd.settings import Settings


def list_runs(settings: Settings, limit: int) -> list[Standing]:
    """How the latest runs stand, the newest first. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        return [runs.standing(ledger, run, time.time()) for run in ledger.latest_runs(limit)]


def look_at(settings: Settings, name: str) -> tuple[Standing, Verdict]:
    """How one run stands, and what came of it, or has so far. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        standing = runs.standing(ledger, runs.find(ledger, name), time.time())
        return standing, verdict_of(ledger, standing)


def report(settings: Settings, name: str, formats: Sequence[str]) -> tuple[Report, list[Path]]:
    """A run's report in each of the formats, as files in the out folder. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        standing = runs.standing(ledger, runs.find(ledger, name), time.time())
        made, written = files.write(ledger, standing, formats, settings.out)
        return made.report, written


def compare(settings: Settings, one: str, other: str) -> Diff:
    """What differs between two runs. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        found = [runs.standing(ledger, runs.find(ledger, name), time.time()) for name in (one, other)]
        return diff.compare(*(make(ledger, standing) for standing in found))
