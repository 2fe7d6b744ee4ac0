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

# What this soak cannot tell: an endless run is no gate, and nobody drilled.
NOT_OF_A_SOAK = {"Last run that ended", "It ended, ago", "The next is due in", "The last drill"}


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After some rounds, which a guard keeps a moment apart."""
    folder = tmp_path_factory.mktemp("soak")
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    experiment = folder / "soak.yaml"
    experiment.write_text(yaml.safe_dump({**document, "guards": {"minInterval": "6s"}, "seed": 3}))
    argv = ("--cluster", "sandbox", "--out", folder / "out", "--listen", "127.0.0.1:0")
    with (
        Chaosd("daemon", experiment, *argv) as daemon,
        prometheus(folder, daemon.address().removeprefix("http://")) as asked,
    ):
        daemon.until_line(lambda line: " round 9:" in line, timeout_seconds=300)
        asked.until("chaosd_round >= 9")
        yield asked


@pytest.mark.parametrize("panel", [panel for row in ROWS for panel in row.panels], ids=lambda panel: panel.title)
def test_a_panel_has_something_to_show(soaked: Prometheus, panel: Panel) -> None:
    for query in panel.queries:
        assert bool(soaked.now(query.expr)) == (panel.title not in NOT_OF_A_SOAK), query.expr


def test_disruptions_are_told_as_annotations(soaked: Prometheus) -> None:
    soaked.until(DISRUPTED)


def test_every_rule_is_evaluated_and_no_alert_fires(soaked: Prometheus) -> None:
    soaked.until("namespace_statefulset:chaosd_recovery:ratio30d")
    assert set(soaked.health_of_rules()) == {"ok"}
    assert soaked.now('ALERTS{alertstate="firing"}') == []


def test_a_healthy_soak_has_kept_everything(soaked: Prometheus) -> None:
    assert soaked.until("min(namespace_statefulset:chaosd_durability:ratio1h)") == 1


def test_a_picture_is_drawn_of_it(soaked: Prometheus, tmp_path: Path) -> None:
    pictures.draw(soaked, tmp_path / "dashboard.png")
    assert (tmp_path / "dashboard.png").read_bytes().startswith(b"\x89PNG")
