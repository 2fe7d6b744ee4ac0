"""The chart's values: what is refused, and that they are documented."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import HelmError, lint

from chaosd import __version__
from chaosd import experiment as experiments
from tests.chart.rendering import CHART, POSTGRESQL, SOAK, Json, kinds, only, rendered

_INFO = 1  # severities: 2 warning, 3 error
VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())

REFUSED: Mapping[str, tuple[Json, str]] = {
    "a misspelt value": ({"replica": 1}, "replica"),
    "a misspelt value inside another": ({"ledger": {"persistence": {"sise": "5Gi"}}}, "sise"),
    "a text for a number": ({"replicas": "one"}, "replicas"),
    "a number for a text": ({"image": {"tag": 1.5}}, "tag"),
    "a text for a switch": ({"demo": {"enabled": "yes"}}, "enabled"),
    "a size that is none": ({"ledger": {"persistence": {"size": "much"}}}, "size"),
    "a pull policy that is none": ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "digest"),
    "a lease that ends at once": ({"daemon": {"leaseSeconds": 1}}, "leaseSeconds"),
    "a retention of less than a day": ({"ledger": {"retention": "0d"}}, "retention"),
    "a retention that is no number of days": ({"ledger": {"retention": 7}}, "retention"),
    "a secret without a key": ({"statusPage": {"pause": {"existingSecret": "pause", "key": ""}}}, "key"),
    "two daemons on one SQLite ledger": ({"replicas": 2}, "replicas"),
    "series scraped twice": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "metrics",
    ),
    "a demo beside experiments": ({"demo": {"enabled": True}, "experiments": {"soak": SOAK}}, "experiments"),
    "experiments in two places": ({"existingConfigMap": "mine", "experiments": {"soak": SOAK}}, "experiments"),
    "a name that no file can have": ({"experiments": {"a/b": SOAK}}, "a/b"),
    "an experiment without a target": (
        {"experiments": {"soak": {"rounds": 3}}},
        "experiments.soak names no target.statefulset",
    ),
    "an experiment that is no YAML": ({"experiments": {"soak": "a: [b"}}, "experiments.soak is no YAML"),
    "a disruption that is none": ({"targets": [{"namespace": "a", "disruptions": ["pod-delate"]}]}, '"pod-delate"'),
    "a disruption of an experiment that is none": (
        {"experiments": {"soak": {**SOAK, "disruptions": [{"kind": "pod-delate"}]}}},
        '"pod-delate"',
    ),
    "a webhook without a Secret": ({"webhooks": [{"name": "team"}]}, "existingSecret"),
    "a webhook whose address stands in the values": (
        {"webhooks": [{"name": "team", "existingSecret": "team", "url": "https://x"}]},
        "url",
    ),
    "a verdict that is none": (
        {"webhooks": [{"name": "team", "existingSecret": "team", "verdicts": ["failed"]}]},
        "webhooks",
    ),
    "a target without a namespace": ({"targets": [{"disruptions": ["scale"]}]}, "namespace"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_by_its_name(case: str) -> None:
    values, named = REFUSED[case]
    with pytest.raises(HelmError, match=named.replace(".", r"\.")):
        rendered(values)


def test_several_daemons_share_a_postgresql() -> None:
    assert "PodDisruptionBudget" in kinds(rendered({"replicas": 2, **POSTGRESQL}))


@pytest.mark.parametrize(
    "values", [{}, {"demo": {"enabled": True}}, {"experiments": {"soak": SOAK}}], ids=["none", "demo", "soak"]
)
def test_helm_has_nothing_to_object(values: Json) -> None:
    told = lint(CHART, values, strict=True)
    assert told["errors"] == []
    assert [message for message in told["messages"] if message["severity"] > _INFO] == []


def test_the_readme_is_made_of_the_values() -> None:
    assert (CHART / "README.md").read_text() == _values_table().readme(CHART), "make docs"


def test_a_value_without_a_comment_is_seen_in_the_readme(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path, dirs_exist_ok=True)
    (tmp_path / "values.yaml").write_text("# What it is.\none: {two: 3}\nfour:\n  # More.\n  five: [6]\n  seven: ''\n")
    rows = [line for line in _values_table().readme(tmp_path).splitlines() if line.startswith("| `")]
    assert rows == [
        '| `one` | `{"two": 3}` | What it is. |',
        "| `four.five` | `[6]` | More. |",
        '| `four.seven` | `""` | |',
    ]


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    assert _of_schema(SCHEMA) - {"global"} == _of_values(VALUES, SCHEMA)


def test_what_the_page_on_installing_shows_can_be_installed() -> None:
    page = (CHART.parents[1] / "docs" / "install.md").read_text()
    experiment, soak, gate = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    experiments.parse(experiment, "soak.yaml")
    made = kinds(rendered({**yaml.safe_load(soak), "experiments": {"soak": experiment}}))
    assert {"ServiceMonitor", "PrometheusRule", "PersistentVolumeClaim"} <= made
    [shown] = only(rendered(yaml.safe_load(gate)), "ConfigMap")["data"].values()
    assert experiments.parse(shown, "nightly.yaml").require


def test_chart_and_product_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    dockerfile = (CHART.parents[1] / "Dockerfile").read_text()
    assert chart["appVersion"] == __version__
    assert f"ARG VERSION={__version__}\n" in dockerfile


def _of_schema(schema: Json, above: str = "") -> set[str]:
    """Paths of what has no properties of its own. Lists are one value."""
    found = set()
    for name, about in schema["properties"].items():
        path = f"{above}{name}"
        found |= _of_schema(about, f"{path}.") if about.get("properties") else {path}
    return found


def _of_values(values: Json, schema: Json, above: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        path, about = f"{above}{name}", schema["properties"][name]
        found |= _of_values(value, about, f"{path}.") if about.get("properties") else {path}
    return found


def _values_table() -> Any:
    """charts/values_table.py, which is no module of the product's."""
    spec = importlib.util.spec_from_file_location("values_table", CHART.parent / "values_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
