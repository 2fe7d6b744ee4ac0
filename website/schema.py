"""docs/experiment-schema.md: every field of an experiment, of the JSON Schema that editors complete from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SCHEMA = Path(__file__).resolve().parents[1] / "experiments" / "experiment.schema.json"
_HEAD = """# Fields of an experiment

Every field, with its type and bounds. This page is made (`make schema`, `make docs`) from the JSON Schema
[experiment.schema.json](../experiments/experiment.schema.json), which `chaosd schema experiment` prints, too: name it to
your editor, as the shipped experiments do in their first line, and it completes and checks them. What the parts are for is
in [experiments.md](experiments.md). A field that has neither a default nor a section of its own must be given.
"""
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "pattern": "matches"}
Schema = dict[str, Any]


def markdown() -> str:
    """The page."""
    schema: Schema = json.loads(_SCHEMA.read_text())
    parts = {"Experiment": schema, **schema["$defs"]}
    return _HEAD + "".join(text for name, part in parts.items() for text in section(name, part))


def section(name: str, part: Schema) -> Iterator[str]:
    """A part of a schema under its name: its fields, or what else it may be."""
    about = " ".join(part.get("description", "").split())
    yield f"\n## {name}\n\n{about}\n\n" if about else f"\n## {name}\n\n"
    if "properties" not in part:
        yield f"{type_of(part)}\n"
        return
    yield "| Field | Type | Default | What it says |\n|---|---|---|---|\n"
    for field, spec in part["properties"].items():
        # What stands in a section of its own has its defaults there.
        default = f"`{json.dumps(spec['default'])}`" if "default" in spec and "$ref" not in spec else ""
        meaning = " ".join(spec.get("description", "").split())
        yield "| " + " | ".join(cell(text) for text in (f"`{field}`", type_of(spec), default, meaning)) + " |\n"


def cell(text: str) -> str:
    """A text as it stands in a table."""
    return text.replace("|", "\\|")


def type_of(spec: Schema) -> str:
    """What a value may be, in words."""
    if "$ref" in spec:
        name = spec["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in spec or "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec.get("enum", [spec.get("const")]))
    if choices := spec.get("anyOf") or spec.get("oneOf"):
        return " or ".join(type_of(choice) for choice in choices)
    bounds = ", ".join(f"{sign} `{spec[name]}`" for name, sign in _BOUNDS.items() if name in spec)
    kind = {"array": "list", "null": "nothing", "object": "mapping"}.get(spec.get("type", ""), spec.get("type", "any"))
    if items := spec.get("items"):
        kind = f"list of {type_of(items)}"
    elif isinstance(values := spec.get("additionalProperties"), dict):
        kind = f"mapping to {type_of(values)}"
    return f"{kind} {bounds}".strip()
