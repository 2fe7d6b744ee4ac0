"""The dashboard as Grafana's JSON. Plain dictionaries: the little that is used of Grafana's schema needs no library.

Source: Grafana docs, "Dashboard JSON model".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dashboards.panels import ROWS, TARGET, Look, Panel, Query

_SOURCE = {"type": "prometheus", "uid": "$datasource"}
COLUMNS, _HEIGHT = 24, {Look.STAT: 4, Look.TABLE: 7}
_HEIGHT_OF_OTHERS = 8
# Each that happened, as a mark in every panel.
DISRUPTED = f'sum by (kind) (increase(chaosd_disruptions_total{{{TARGET}, outcome="ok"}}[$__interval])) > 0'


def as_json() -> str:
    """The whole dashboard, the same for the same panels."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def dashboard() -> dict[str, Any]:
    """The dashboard as a document."""
    return {
        "uid": "chaosd",
        "title": "chaosd: is the data still there?",
        "description": "Durability of StatefulSets under disruptions. Metrics: docs/metrics.md; alerts: docs/alerts.md.",
        "tags": ["chaosd", "storage"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_annotation()]},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}
    asked = {
        "namespace": "label_values(chaosd_recovery_limit_seconds, namespace)",
        "statefulset": 'label_values(chaosd_recovery_limit_seconds{namespace=~"$namespace"}, statefulset)',
        "experiment": f'label_values({{__name__=~"chaosd_(run|gate_last)_verdict", {TARGET}}}, experiment)',
    }
    for name, query in asked.items():
        yield {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def _annotation() -> dict[str, Any]:
    return {
        "name": "Disruptions",
        "datasource": _SOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": DISRUPTED,
        "titleFormat": "{{kind}}",
        "step": "15s",
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for row in ROWS:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": _place(0, y, 24, 1),
        }
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            tall = _HEIGHT.get(panel.look, _HEIGHT_OF_OTHERS)
            yield {"id": number, **_panel(panel), "gridPos": _place(x, y, panel.width, tall)}
            x, height = x + panel.width, max(height, tall)
        y += height


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": Look.LINES if panel.look is Look.BARS else panel.look,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": [_target(panel, index, query) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }
    if panel.look is Look.TABLE:
        hidden = {"Time": True, "Value": True}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def _target(panel: Panel, index: int, query: Query) -> dict[str, Any]:
    instant = panel.look in (Look.STAT, Look.TABLE)
    formats = {Look.TABLE: "table", Look.HEATMAP: "heatmap"}
    return {
        "refId": chr(ord("A") + index),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": instant,
        "range": not instant,
        "format": formats.get(panel.look, "time_series"),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in panel.thresholds]
    made: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.words:
        options = {str(value): {"text": text, "color": colour} for value, (text, colour) in panel.words.items()}
        made["mappings"] = [{"type": "value", "options": options}]
    if panel.look is Look.BARS:
        made["custom"] = {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal"}}
    if panel.look is Look.LINES:
        made["custom"] = {"drawStyle": "line", "fillOpacity": 8, "showPoints": "auto", "spanNulls": False}
        made["min"] = 0
    return made


def _options(panel: Panel) -> dict[str, Any]:
    if panel.look is Look.STAT:
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "colorMode": "background", "graphMode": "none", "textMode": "value_and_name"}
    if panel.look is Look.HEATMAP:
        return {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"mode": "scheme", "scheme": "Blues"}}
    if panel.look is Look.TABLE:
        return {"showHeader": True, "sortBy": [{"displayName": "ordinal", "desc": False}]}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
