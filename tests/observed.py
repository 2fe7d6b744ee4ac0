"""Every series name that a Prometheus has of chaosd, with its labels: what is exposed, and what the rules record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from chaosd.metrics import TARGET, Metrics
from tests.promql import read_by

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "charts" / "chaosd" / "rules" / "chaosd.rules.yaml"


def rules() -> list[Mapping[str, Any]]:
    """Every rule of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def series() -> dict[str, set[str]]:
    """Labels by name."""
    found = {}
    for declared in Metrics(CollectorRegistry()).declared:
        labels = {*declared.labels, *(() if declared.each == "process" else TARGET)}
        if declared.type == "histogram":
            found |= {f"{declared.name}_{part}": labels for part in ("count", "sum")}
            found[f"{declared.name}_bucket"] = {*labels, "le"}
        else:
            found[declared.name] = labels
    # The first part of a recorded name tells its labels (Prometheus docs, "Recording rules").
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    return found | {name: set(name.partition(":")[0].split("_")) for name in recorded}


def not_there(expression: str) -> Iterator[str]:
    """What an expression reads that nobody tells."""
    known = series()
    for name, labels in read_by(expression):
        if name not in known:
            yield name
        else:
            yield from (f"{name}{{{label}}}" for label in labels - known[name] - {"job", "instance"})
