"""The rules as Prometheus itself reads and evaluates them. Needs Debian's prometheus, and no cluster."""

from __future__ import annotations

import subprocess

from tests.observed import ROOT, RULES


def _promtool(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *argv], capture_output=True, text=True, check=False)


def test_the_rules_are_sound() -> None:
    checked = _promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    tested = _promtool("test", "rules", *map(str, (ROOT / "tests" / "rules").glob("*.test.yaml")))
    assert tested.returncode == 0, tested.stdout + tested.stderr
