"""The dashboard's queries, asked of a real Prometheus that scraped a real soak. Needs Debian's prometheus, no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards import pictures
from dashboards.board import DISRUPTED
from dashboards.panels import ROWS, Panel
from tests.chaosd_process import Chaosd
from tests.e2e.conftest import EXPERIMENTS
from tests.prometheus import Prometheus, prometheus
from tests.waiting import until


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After some rounds, which a guard keeps a moment apart, a gate that takes turns with them, and a drill."""
    folder = tmp_path_factory.mktemp("soak")
    experiments = folder / "experiments"
    experiments.mkdir()
    soak = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    soak["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    gate = {**soak, "name": "gate", "rounds": 1, "schedule": {"every": "40s"}}
    for experiment in ({**soak, "guards": {"minInterval": "4s"}}, gate):
        (experiments / f"{experiment['name']}.yaml").write_text(yaml.safe_dump(experiment))
    argv = ("--cluster", "sandbox", "--out", folder / "out", "--listen", "127.0.0.1:0")
    with Chaosd("daemon", experiments, *argv) as daemon, prometheus(folder, daemon.address()) as asked:
        for told in ("chaosd_gate_last_timestamp_seconds", "chaosd_drill_detected", "chaosd_held_until_timestamp_seconds"):
            asked.until(told, timeout_seconds=400)
        asked.until('sum(chaosd_disruptions_total{outcome="ok"}) >= 8', timeout_seconds=200)
        yield asked


@pytest.mark.parametrize("panel", [panel for row in ROWS for panel in row.panels], ids=lambda panel: panel.title)
def test_a_panel_has_something_to_show(soaked: Prometheus, panel: Panel) -> None:
    for query in panel.queries:
        soaked.until(query.expr)


def test_disruptions_are_told_as_annotations(soaked: Prometheus) -> None:
    soaked.until(DISRUPTED)


def test_every_rule_is_evaluated_and_no_alert_fires(soaked: Prometheus) -> None:
    soaked.until("namespace_statefulset:chaosd_recovery:ratio30d")
    until(lambda: "unknown" not in soaked.health_of_rules(), "each to be evaluated")
    assert set(soaked.health_of_rules()) == {"ok"}
    assert soaked.now('ALERTS{alertstate="firing"}') == []


def test_a_healthy_soak_has_kept_everything(soaked: Prometheus) -> None:
    assert soaked.until("min(namespace_statefulset:chaosd_durability:ratio1h)") == 1


def test_a_picture_is_drawn_of_it(soaked: Prometheus, tmp_path: Path) -> None:
    pictures.draw(soaked, tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").read_bytes().startswith(b"\x89PNG")
