"""What differs between two runs, as tables for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chaosd.report.diff import Diff, about, differences
from chaosd.report.runs import duration
from chaosd.report.significance import MIN_VALUES


def shown(diff: Diff) -> RenderableType:
    """For a terminal, of any width."""
    told = list(differences(diff)) or ["nothing differs in the verdict, the classes, or the time that recovery takes"]
    return Group(
        _runs(diff), Text(), *(Text(f"- {line}") for line in told), Text(), _recovery_table(diff), Text(), *_coverage(diff)
    )


def _runs(diff: Diff) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("", "A", "B"):
        table.add_column(title, overflow="fold")
    for (key, a), b in zip(about(diff.a).items(), about(diff.b).values(), strict=True):
        table.add_row(key, Text(str(a)), Text(str(b)))
    return table


def _recovery_table(diff: Diff) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for title in ("recovery from", "times A", "times B", "median A", "median B", "p", ""):
        table.add_column(title, overflow="fold")
    for one in diff.recovery:
        said = f"longer in {one.slower.upper()}" if one.slower else "no difference shown"
        said = f"too few to say: {MIN_VALUES} of each are needed" if one.p is None else said
        p = "" if one.p is None else f"{one.p:.2g}"
        table.add_row(one.kind, str(one.count_a), str(one.count_b), _seconds(one.median_a), _seconds(one.median_b), p, said)
    return table if diff.recovery else Text("recovery: neither run had anything to recover from")


def _seconds(value: float | None) -> str:
    return duration(value) if value is not None else ""


def _coverage(diff: Diff) -> Iterator[RenderableType]:
    table = Table(box=None, pad_edge=False)
    for title in ("coverage that differs", "A", "B"):
        table.add_column(title, overflow="fold")
    for name, (a, b) in diff.coverage.items():
        table.add_row(name.replace("_", " "), Text(str(a)), Text(str(b)))
    if diff.coverage:
        yield table
