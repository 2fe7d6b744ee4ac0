"""The dashboard: the committed JSON is what the panels say, and what they ask is there to be told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from chaosd.metrics import Metrics
from dashboards.__main__ import ROOT, WRITTEN
from dashboards.board import DISRUPTED, as_json, dashboard
from dashboards.panels import ROWS, WITHOUT_PANEL, Look, Panel
from tests.observed import not_there
from tests.promql import read_by

PANELS = [panel for row in ROWS for panel in row.panels]
VARIABLES = {"$datasource", "$namespace", "$statefulset", "$experiment"}


def _asked() -> Iterator[str]:
    yield DISRUPTED
    yield from (query.expr for panel in PANELS for query in panel.queries)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.parent))
def test_the_committed_dashboard_is_what_the_panels_say(path: Path) -> None:
    assert path.read_text() == as_json(), "make docs"


@pytest.mark.parametrize("expr", list(_asked()))
def test_a_query_can_be_parsed_and_reads_only_what_is_told(expr: str) -> None:
    assert list(not_there(expr)) == []


def test_every_metric_has_a_panel_or_a_reason_why_not() -> None:
    read = {name for expr in _asked() for name, _ in read_by(expr)}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in read} | read
    declared = {told.name for told in Metrics(CollectorRegistry()).declared}
    assert declared - shown == set(WITHOUT_PANEL)


def test_what_the_runbooks_look_at_is_on_it() -> None:
    named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", (ROOT / "docs" / "runbooks.md").read_text())
    pages_of_prometheus = {"Targets"}
    assert len(named) > len(pages_of_prometheus)
    assert set(named) <= pages_of_prometheus | {shown.title for shown in (*ROWS, *PANELS)}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_legend_names_only_labels_that_its_query_leaves(panel: Panel) -> None:
    for query in panel.queries:
        left = {word for inside in re.findall(r"by \(([^)]*)\)", query.expr) for word in inside.split(", ")}
        recorded = {"namespace", "statefulset"} if "namespace_statefulset:" in query.expr else set()
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= left | recorded, query


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if panel.look is not Look.TABLE], ids=lambda panel: panel.title
)
def test_series_that_are_told_apart_have_legends_of_their_own(panel: Panel) -> None:
    for query in panel.queries:
        outermost = re.search(r"by \(([^)]*)\)", query.expr)
        left = set(outermost[1].split(", ")) if outermost else set()
        apart = left - {"job", *(() if panel.look is Look.HEATMAP else ("le",))}  # an instance is of one job
        assert apart <= set(re.findall(r"\{\{(\w+)\}\}", query.legend)), query


def test_variables_are_those_that_are_used_and_every_panel_has_a_place_and_a_number_of_its_own() -> None:
    made = dashboard()
    assert {f"${variable['name']}" for variable in made["templating"]["list"]} == VARIABLES
    used = set(re.findall(r"\$[a-z]\w*", json.dumps(made["panels"])))
    assert used == VARIABLES
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel.about for panel in PANELS)
