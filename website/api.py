"""docs/api.md: what a daemon serves, of its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from website.schema import Schema, cell, section, type_of

_DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"
_HEAD = """# The daemon's HTTP API

This page is made (`make schema`, `make docs`) from [openapi.json](openapi.json), an OpenAPI document that clients can be
made from; `chaosd schema api` prints it, too.

{about}
"""


def markdown() -> str:
    """The page."""
    document: Schema = json.loads(_DOCUMENT.read_text())
    parts = [_HEAD.format(about=document["info"]["description"])]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.extend(_operation(f"{method.upper()} {path}", operation))
    for name, schema in document["components"]["schemas"].items():
        parts.extend(section(name, schema))
    return "".join(parts)


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## `{title}`\n\n{operation['summary']}\n"
    if "security" in operation:
        yield "\nOnly with the token, as `Authorization: Bearer TOKEN`.\n"
    if parameters := operation.get("parameters"):
        yield "\n| Parameter | In | Type | What it says |\n|---|---|---|---|\n"
        for told in parameters:
            row = (f"`{told['name']}`", told["in"], type_of(told["schema"]), told.get("description", ""))
            yield f"| {' | '.join(map(cell, row))} |\n"
    if body := operation.get("requestBody"):
        yield f"\nBody: {_content(body)}.\n"
    yield "\n| Answer | Body | When |\n|---|---|---|\n"
    for status, answer in operation["responses"].items():
        yield f"| {status} | {cell(_content(answer))} | {cell(answer['description'])} |\n"


def _content(told: Mapping[str, Any]) -> str:
    return "; ".join(f"`{kind}`, {type_of(body['schema'])}" for kind, body in told.get("content", {}).items())
