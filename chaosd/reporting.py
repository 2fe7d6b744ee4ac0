"""A composition root: the commands that only read a ledger. None opens a cluster, and a daemon that writes to the ledger is
not disturbed."""

from __future__ import annotations

import time

from chaosd.ledger import Ledger
from chaosd.report import runs
from chaosd.report.replay import verdict_of
from chaosd.report.runs import Standing
from chaosd.report.verdict import Verdict
from chaosd.settings import Settings


def list_runs(settings: Settings, limit: int) -> list[Standing]:
    """How the latest runs stand, the newest first. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        return [runs.standing(ledger, run, time.time()) for run in ledger.runs(limit)]


def look_at(settings: Settings, name: str) -> tuple[Standing, Verdict]:
    """How one run stands, and what came of it, or has so far. Raises UsageError, LedgerError."""
    with Ledger.open_to_read(settings.ledger_url) as ledger:
        standing = runs.standing(ledger, runs.find(ledger, name), time.time())
        return standing, verdict_of(ledger, standing)
