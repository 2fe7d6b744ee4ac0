"""The chart, rendered without a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "chaosd"
RELEASE, NAMESPACE = "soak", "lab"
Json = dict[str, Any]

POSTGRESQL: Json = {"ledger": {"postgresql": {"existingSecret": "db"}}}
SOAK: Json = {
    "target": {"namespace": "shop", "statefulset": "db"},
    "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}],
}


def rendered(values: Json, **names: str) -> list[Json]:
    """All documents. Raises HelmError where the schema or a template refuses the values."""
    texts = templates(values, **names)
    return [one for path, text in texts.items() if path.endswith(".yaml") for one in yaml.safe_load_all(text) if one]


def templates(values: Json, **names: str) -> Mapping[str, str]:
    """What each template made, by its path."""
    with Chart.load(CHART) as chart:
        chart.validate_schema(values)
        return chart.render(values, **{"name": RELEASE, "namespace": NAMESPACE, **names})


def only(documents: Sequence[Json], kind: str, name: str | None = None) -> Json:
    """The one of a kind, and of a name."""
    [found] = [one for one in documents if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def kinds(documents: Sequence[Json]) -> set[str]:
    """Those that are there."""
    return {one["kind"] for one in documents}


def pod_specs(documents: Sequence[Json]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those of chaosd's own pods, by the name of what makes them."""
    for one in documents:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def granted(documents: Sequence[Json], *, but: str = "") -> set[tuple[str, str, str]]:
    """Verbs, resources and places, as chaosd names them, of all Roles `but` one."""
    found = set()
    for role in documents:
        if role["kind"] not in ("Role", "ClusterRole") or role["metadata"]["name"] == but:
            continue
        for rule in role["rules"]:
            for resource in rule["resources"]:
                plural, slash, sub = resource.partition("/")
                for group in rule["apiGroups"]:
                    named = f"{plural}{f'.{group}' if group else ''}{slash}{sub}"
                    found |= {(verb, named, role["metadata"].get("namespace", "")) for verb in rule["verbs"]}
    return found
