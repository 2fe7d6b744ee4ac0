"""What `chaosd plan` tells, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chaosd.preflight import rights
from chaosd.preflight.outlook import Outlook

_INDENT = (0, 0, 1, 2)


def shown(outlook: Outlook) -> RenderableType:
    """The target, what it stands on, what is decided, the rights and the guards; nothing is left out for want of width."""
    sections = {
        f"plan of {outlook.experiment}, which touches nothing": _target(outlook),
        "replicas": _rows((replica["pod"], "\n".join(_replica(replica))) for replica in outlook.replicas),
        f"first decisions of seed {outlook.seed}": _rows(map(_decision, outlook.decisions)),
        "rights": _rows(_rights(outlook)),
        "guards in force": _rows(outlook.guards.items()),
    }
    parts = ((Text(title, style="bold"), Padding(section, _INDENT, expand=False)) for title, section in sections.items())
    return Group(*(part for pair in parts for part in pair))


def _target(outlook: Outlook) -> Table:
    share = f"{outlook.share['bytes']:,} bytes and {outlook.share['files']:,} files on each volume, at most"
    told = {
        "target": outlook.target,
        "cluster": outlook.cluster,
        "path": f"{outlook.path} in container {outlook.container}",
    }
    return _rows({**told, "writes": share}.items())


def _replica(replica: Mapping[str, Any]) -> Iterator[str]:
    yield f"claim {', '.join(filter(None, (replica['claim'] or 'none', replica['capacity'])))}"
    yield f"volume {replica['volume'] or 'unknown'}"
    yield f"handle {replica['handle'] or 'unknown'}, node {replica['node'] or 'none'}"
    if replica["free_bytes"] is None:
        yield f"room {replica['room_told_by']}"
    else:
        inodes = "inodes without a limit" if replica["free_files"] is None else f"{replica['free_files']:,} inodes"
        yield f"room {replica['free_bytes']:,} bytes and {inodes} free, as {replica['room_told_by']} tells"


def _decision(decision: Mapping[str, Any]) -> tuple[str, str]:
    more = {key: value for key, value in decision.items() if key not in ("round", "name", "kind")}
    words = " ".join(f"{key}={value}" for key, value in more.items())
    kind = decision.get("kind", "nothing is disturbed")
    named = f"{decision['name']}: " if decision["name"] != kind else ""  # a step of a script has a name of its own
    return str(decision["round"]), f"{named}{kind} {words}".rstrip()


def _rights(outlook: Outlook) -> Iterator[tuple[str, str]]:
    namespace, _, _ = outlook.target.partition("/")
    lacking = [right for right in outlook.rights if not right["granted"]]
    yield "granted", f"{len(outlook.rights) - len(lacking)} of {len(outlook.rights)}"
    for needed, name, meaning in (
        (True, "missing", "chaosd preflight prints the Roles that grant these"),
        (False, "unseen", "what these would show is unknown"),
    ):
        if told := [(r["verb"], r["resource"], r["namespace"]) for r in lacking if r["needed"] == needed]:
            yield name, f"{rights.summed(told, namespace)}: {meaning}"


def _rows(rows: Any) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in rows:
        table.add_row(name, Text(words))
    return table
