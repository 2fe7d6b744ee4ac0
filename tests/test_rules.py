"""Alert rules: what they read is there, who is woken is told what to do, and each is tested both ways."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from chaosd.checkers.verdict import Class
from chaosd.guards import REASONS
from chaosd.nemesis.base import BLOCKED
from tests.observed import ROOT, not_there, rules
from tests.promql import read_by

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
CASES = [
    case
    for path in sorted((ROOT / "tests" / "rules").glob("*.test.yaml"))
    for case in yaml.safe_load(path.read_text())["tests"]
]


def _sections(document: Path) -> dict[str, str]:
    """The sections of a document of the second rank, by their anchors."""
    parts = re.split(r"^## (.+)$", document.read_text(), flags=re.MULTILINE)
    return {title.lower().replace(" ", "-"): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_only_what_is_told(rule: dict[str, str]) -> None:
    assert list(read_by(rule["expr"]))
    assert list(not_there(rule["expr"])) == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_and_leads_to_its_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    document, _, section = rule["annotations"]["runbook_url"].partition("#")
    assert section == name.lower()
    steps = _sections(ROOT / document)[section]
    assert re.search(r"^1\. ", steps, re.MULTILINE) or "above" in steps, "what to do, in order"


def test_every_runbook_is_of_an_alert() -> None:
    assert set(_sections(ROOT / "docs" / "runbooks.md")) == {name.lower() for name in ALERTS}


def test_each_reason_that_blocks_is_wanted_or_has_a_step_in_the_runbook() -> None:
    (wanted,) = re.findall(r'reason!~"([a-z_|]+)"', ALERTS["ChaosdDisruptionsBlocked"]["expr"])
    steps = _sections(ROOT / "docs" / "runbooks.md")["chaosddisruptionsblocked"].split("2. ", 1)[1]
    told = set(re.findall(r"`([a-z_]+)`", steps))
    assert sorted([*wanted.split("|"), *told]) == sorted([*BLOCKED, *REASONS])


def test_every_alert_is_argued_with_its_severity_and_how_long_it_waits() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    rows = re.findall(r"^\| \[`(\w+)`\]\(runbooks\.md#(\w+)\) \| (\w+) \| (\w+) \| \S.+ \|$", text, re.MULTILINE)
    told = {name: (anchor, severity, wait) for name, anchor, severity, wait in rows}
    assert told == {
        name: (name.lower(), rule["labels"]["severity"], str(rule.get("for", 0))) for name, rule in ALERTS.items()
    }


def test_every_class_of_failure_has_one_alert_that_stands_on_what_is_open() -> None:
    found: Counter[str] = Counter()
    for rule in ALERTS.values():
        if "chaosd_violations_open" in rule["expr"]:
            (pattern,) = re.findall(r'class=~?"([a-z_|]+)"', rule["expr"])
            found.update(pattern.split("|"))
        assert "chaosd_violations_total" not in rule["expr"]
    assert found == Counter(map(str, Class))


def test_every_alert_is_tested_for_firing_for_not_firing_and_for_what_it_says() -> None:
    fires, rests, says = set(), set(), set()
    for case in CASES:
        for asked in case.get("promql_expr_test", ()):
            for name in re.findall(r'^ALERTS\{alertname="(\w+)", alertstate="firing"\}$', asked["expr"]):
                (fires if asked.get("exp_samples") else rests).add(name)
        says |= {asked["alertname"] for asked in case.get("alert_rule_test", ()) if asked["exp_alerts"]}
    assert fires == rests == says == set(ALERTS)
