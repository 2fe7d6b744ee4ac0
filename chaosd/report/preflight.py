"""What `chaosd preflight` found, for a terminal of any width."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chaosd.preflight import rights
from chaosd.preflight.checks import Check, Preflight, Status

_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.UNKNOWN: "yellow", Status.FAILED: "bold red"}


def shown(preflight: Preflight) -> RenderableType:
    """Each check with what was found and its mend."""
    return Group(Text(f"{preflight.target} on {preflight.cluster}\n"), _table(preflight.checks))


def closing(preflight: Preflight) -> str:
    """What comes after it: the roles, to be pasted, and how it ended. Lines that a terminal must not wrap."""
    roles = f"\n---\n{rights.as_yaml(preflight.roles)}" if preflight.roles else ""
    return f"{roles}\n{_summary(preflight)}"


def _summary(preflight: Preflight) -> str:
    counts = Counter(check.status for check in preflight.checks)
    rest = ", ".join(f"{counts[status]} {status}" for status in reversed(Status) if counts[status])
    return f"preflight: {'not ready' if preflight.failed else 'ready'} ({rest})"


def _table(checks: tuple[Check, ...]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mend = Text(f"\n-> {check.mend}", style="italic") if check.mend else Text()
        table.add_row(check.name, Text(check.status, style=_COLOURS[check.status]), Text(check.found) + mend)
    return table
