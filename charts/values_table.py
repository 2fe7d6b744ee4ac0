"""Writes a chart's README.md: its values, their defaults, and what the comments above them in values.yaml say.

`make docs` runs it: `python charts/values_table.py CHART`. A value without a comment is told by its name and default alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_KEY = re.compile(r"^( *)([A-Za-z_]+):")
_INDENT = 2


def readme(chart: Path) -> str:
    """README.head.md, and a table of all values."""
    text = (chart / "values.yaml").read_text()
    rows = "\n".join(_rows(yaml.safe_load(text), _comments(text)))
    return f"{(chart / 'README.head.md').read_text()}\n| Value | Default | What it says |\n|---|---|---|\n{rows}\n"


def _comments(text: str) -> Mapping[str, str]:
    """By the path of the key that they stand above."""
    found: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip(" #"))
            continue
        if key := _KEY.match(line):
            path[len(key[1]) // _INDENT :] = [key[2]]
            if comment:
                found[".".join(path)] = " ".join(comment)
        comment = []
    return found


def _rows(values: Mapping[str, Any], comments: Mapping[str, str], above: str = "") -> Iterator[str]:
    """A value that has a comment is one row, with all that is in it, unless there are comments in it, too."""
    for name, value in values.items():
        path = f"{above}{name}"
        inside = any(other.startswith(f"{path}.") for other in comments)
        if inside or (value and isinstance(value, Mapping) and path not in comments):
            if path in comments:
                yield f"| `{path}` | | {comments[path]} |"
            yield from _rows(value, comments, f"{path}.")
        else:
            yield f"| `{path}` | `{json.dumps(value, ensure_ascii=False)}` | {comments.get(path, '')} |".replace(
                "|  |", "| |"
            )


if __name__ == "__main__":
    CHART = Path(sys.argv[1])
    (CHART / "README.md").write_text(readme(CHART))
