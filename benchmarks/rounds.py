"""Runs of chaosd that are measured by their own history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaosd import commands
from chaosd.checkers import Value
from chaosd.experiment import Experiment
from chaosd.history import Op
from chaosd.ledger import Ledger
from chaosd.run import Ending
from chaosd.settings import Settings


def history_of(experiment: Mapping[str, Any], settings: Settings, manifest: Path | None = None) -> list[Op]:
    """Run it, and give its history. A run that does not pass is no measurement."""
    parsed = Experiment.model_validate(experiment)
    finished = asyncio.run(commands.run_experiment(settings, parsed, manifest, Ending()))
    assert finished.verdict.verdict is Value.PASS, finished.verdict.as_json()
    with Ledger.open(settings.ledger_url) as ledger:
        run = ledger.run()
        assert run is not None
        return list(ledger.history(run))


def seconds_between(first: Op, last: Op) -> float:
    """By the daemon's clock."""
    return last.time - first.time
