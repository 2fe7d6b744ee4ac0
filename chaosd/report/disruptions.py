"""What can be done to a target: the registry of disruptions as a table, as JSON, as docs/disruptions.md, and the rights
that it takes as charts/chaosd/files/rights.yaml.

Everything is taken from the specs themselves, so that no list is kept beside them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from rich.table import Table

from chaosd.nemesis import DISRUPTIONS, Disruption
from chaosd.nemesis.base import BLOCKED, Right
from chaosd.preflight import rights

_COMMON = ("kind", "weight")
_HEAD = """# Disruptions

What chaosd can do to a target, and what each finds. `chaosd disruptions` tells the same; this page is made from it
(`make docs`). An experiment names those that it wants: nothing else is ever done.

Each takes a `weight` (1): how often it is drawn, against the others. *Rights* are those beyond what every run needs; a run
asks the API server for those of its experiment before it begins. *Undone* is what chaosd puts right after the round, or
after its own death (`chaosd undo`); what somebody else changed meanwhile is left. What was not done is counted in
`chaosd_disruptions_blocked_total`, by reason.

| Reason | Why a disruption was not done |
|---|---|
"""
_RULES_HEAD = """\
# What chaosd may do, as rules of Roles: to every target, with an agent, to pause over HTTP, cluster-wide, to see the nodes'
# clocks in kube-node-lease, and for each disruption in the target's namespace, cluster-wide and in a namespace that it
# names. Made of the product's registry (`make docs`), which is what `chaosd preflight` asks for.
"""


def catalogue() -> list[dict[str, Any]]:
    """Every disruption as plain JSON: `kind`, what it `does` and `finds`, `remarks`, `parameters`, `rights`, `undone`."""
    return [_entry(kind, spec) for kind, spec in DISRUPTIONS.items()]


def as_json() -> str:
    """The catalogue as a document."""
    return json.dumps(catalogue(), indent=2)


def table() -> Table:
    """The catalogue for a terminal, of any width."""
    shown = Table.grid(padding=(0, 2, 1, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for entry in catalogue():
        parameters = ", ".join(parameter["name"] for parameter in entry["parameters"]) or "none"
        rights = "; ".join(_rights_text(entry))
        told = (entry["does"], f"finds: {entry['finds']}", f"parameters: {parameters}", f"rights: {rights}")
        shown.add_row(entry["kind"], "\n".join(told))
    return shown


def markdown() -> str:
    """docs/disruptions.md."""
    reasons = (f"| `{reason}` | {why} |\n" for reason, why in BLOCKED.items())
    return "\n".join([_HEAD + "".join(reasons), *_overview(), *(line for entry in catalogue() for line in _section(entry))])


def rules() -> str:
    """charts/chaosd/files/rights.yaml."""
    return _RULES_HEAD + yaml.safe_dump(rights.table(), sort_keys=False, default_flow_style=None, width=120)


def _entry(kind: str, spec: type[Disruption]) -> dict[str, Any]:
    first, *remarks = inspect.cleandoc(spec.__doc__ or "").split("\n\n")
    does, _, finds = " ".join(first.split()).rstrip(".").partition("; finds")
    return {
        "kind": kind,
        "does": does,
        "finds": finds.lstrip(" ,"),
        "remarks": [" ".join(remark.split()) for remark in remarks],
        "parameters": list(_parameters(spec)),
        "rights": {
            "namespace": _told(spec.rights),
            "cluster": _told(spec.cluster_rights),
            "elsewhere": _told(spec.rights_elsewhere),
        },
        "no_rights": spec.no_rights,
        "undone": spec.undone,
    }


def _told(rights: Sequence[Right]) -> list[str]:
    """By resource: `get, patch on nodes`."""
    resources: dict[str, list[str]] = {}
    for verb, resource in rights:
        resources.setdefault(resource, []).append(verb)
    return [f"{', '.join(verbs)} on {resource}" for resource, verbs in resources.items()]


def _rights_text(entry: Mapping[str, Any]) -> list[str]:
    where = {"namespace": "", "cluster": " (cluster-wide)", "elsewhere": " (in `namespace`)"}
    return [f"{right}{where[scope]}" for scope, told in entry["rights"].items() for right in told] or [entry["no_rights"]]


def _parameters(spec: type[Disruption]) -> Iterator[dict[str, Any]]:
    schema = spec.model_json_schema(by_alias=True)
    required = schema.get("required", ())
    own = inspect.get_annotations(spec)  # those that are its own come first
    for name, about in sorted(schema["properties"].items(), key=lambda item: item[0] not in own):
        if name not in _COMMON:
            told = {"name": name, "type": _type(about), "required": name in required}
            yield {**told, "default": about.get("default"), "description": about.get("description", "")}


def _type(about: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if options := about.get("anyOf") or about.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options if option.get("type") != "null"))
    if "const" in about:
        return f"`{json.dumps(about['const']).strip(chr(34))}`"
    if "enum" in about:
        return ", ".join(f"`{value}`" for value in about["enum"])
    if about.get("pattern", "").endswith("(ms|s|m|h|d))+$"):
        return "duration"
    if about.get("type") == "array":
        return f"list of {_type(about['items'])}"
    if about.get("type") == "object":
        return "map of strings"
    return str(about.get("type", "disruption"))


def _overview() -> Iterator[str]:
    yield "| Disruption | What it does | What it finds |"
    yield "|---|---|---|"
    for entry in catalogue():
        yield f"| [`{entry['kind']}`](#{entry['kind']}) | {entry['does']} | {entry['finds']} |"
    yield ""


def _section(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## `{entry['kind']}`", "", f"{entry['does']}. Finds {entry['finds']}.", "")
    for remark in entry["remarks"]:
        yield from (remark, "")
    if entry["parameters"]:
        yield from ("| Parameter | Type | Default | What it says |", "|---|---|---|---|")
        for parameter in entry["parameters"]:
            default = "required" if parameter["required"] else _default(parameter["default"])
            cells = (f"`{parameter['name']}`", parameter["type"], default, parameter["description"])
            yield f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"
        yield ""
    yield from (f"**Rights**: {'; '.join(_rights_text(entry))}.", "")
    yield from (f"**Undone**: {entry['undone']}", "")


def _default(value: Any) -> str:
    if value in (None, "", [], ()):
        return "left out"
    return f"`{json.dumps(value).strip(chr(34))}`"
