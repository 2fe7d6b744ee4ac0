"""What a shell completes beside commands and options: subjects, runs, formats, classes. A shell waits for it, so it never
looks at a cluster, and says nothing of what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer

from chaosd.errors import ChaosdError
from chaosd.report.formats import FILES, LATEST

_RUNS = 50
_EXPERIMENTS = (".yaml", ".yml")


def experiments(incomplete: str) -> list[str]:
    """Experiments, and folders that may hold some."""
    return sorted(_files(incomplete))


def subjects(incomplete: str) -> list[str]:
    """The same, and StatefulSets, whose names only their cluster knows."""
    return [*_beginning(incomplete, "statefulset/"), *experiments(incomplete)]


def pausable(incomplete: str) -> list[str]:
    """What has a kill switch."""
    return [*_beginning(incomplete, "statefulset/", "namespace/")]


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """The latest runs of the ledger that the options name so far."""
    from chaosd import reporting
    from chaosd.settings import Settings

    given = {name: context.params.get(name) for name in ("ledger", "out")}
    try:
        known = reporting.list_runs(Settings(**{name: value for name, value in given.items() if value}), _RUNS)
    except (ChaosdError, ValueError):  # there is no such ledger, or it is none
        known = []
    return [*_beginning(incomplete, LATEST, *(standing.run.run for standing in known))]


def formats(incomplete: str) -> list[str]:
    """One more format after those that are there already, parted by commas."""
    before, comma, last = incomplete.rpartition(",")
    rest = (name for name in FILES if name not in re.split(r",\s*", before))
    return [f"{before}{comma}{name}" for name in _beginning(last, *rest)]


def classes(incomplete: str) -> list[str]:
    """Classes of failure."""
    from chaosd.checkers.verdict import Class

    return [*_beginning(incomplete, *map(str, Class))]


def _beginning(with_this: str, *names: str) -> Iterator[str]:
    return (name for name in names if name.startswith(with_this))


def _files(incomplete: str) -> Iterator[str]:
    folder, slash, name = incomplete.rpartition("/")
    try:
        found = list(Path(f"{folder}{slash}" or ".").iterdir())
    except OSError:
        return
    for path in found:
        if path.name.startswith(name) and not (path.name.startswith(".") and not name):
            if path.is_dir():
                yield f"{folder}{slash}{path.name}/"
            elif path.suffix in _EXPERIMENTS:
                yield f"{folder}{slash}{path.name}"
