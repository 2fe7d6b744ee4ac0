"""A picture of what the dashboard shows, for the docs, from the same queries and a real Prometheus. It is drawn by Altair,
not by Grafana: what is in it is the dashboard's, how it looks is not.

    python -m dashboards.pictures http://127.0.0.1:9090 docs/dashboard.svg
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import altair as alt

from dashboards.asking import Asked
from dashboards.board import COLUMNS
from dashboards.panels import ROWS, Look, Panel, Query

_MINUTES, _POINTS = 3, 60
_COLUMN, _GAP, _TALL, _TILE, _TILE_WIDE = 46, 56, 100, 38, 88  # pixels
_COLOURS = {"green": "#2e7d32", "orange": "#ef6c00", "red": "#c62828", "text": "#455a64"}
_HIDDEN = {"__name__", "job", "instance"}


def draw(asked: Asked, path: Path) -> None:
    """Write the picture of the last minutes as PNG or SVG, as the path ends."""
    rows = [line for row in ROWS for line in _row(asked, row.title, row.panels)]
    whole = alt.vconcat(*rows, spacing=18).configure(font="DejaVu Sans", aria=False).configure_view(stroke=None)
    whole = whole.configure_axis(labelFontSize=9, titleFontSize=9, grid=True, gridColor="#eceff1", domain=False)
    whole.configure_legend(labelFontSize=9, title=None, orient="bottom", symbolSize=40, labelLimit=220).save(
        str(path), ppi=72
    )


def _row(asked: Asked, title: str, panels: tuple[Panel, ...]) -> Iterator[alt.HConcatChart]:
    """Its lines; a new one where Grafana's columns are full."""
    heading: Any = alt.TitleParams(title, anchor="start", fontSize=15, offset=8)
    line: list[Panel] = []
    for panel in (*panels, None):
        if panel is None or sum(shown.width for shown in line) + panel.width > COLUMNS:
            drawn = alt.hconcat(*(_panel(asked, shown) for shown in line), spacing=_GAP, title=heading)
            yield drawn.resolve_scale(color="independent")
            heading, line = alt.Undefined, []
        if panel:
            line.append(panel)


def _panel(asked: Asked, panel: Panel) -> alt.Chart | alt.LayerChart:
    wide = panel.width * _COLUMN - _GAP
    if panel.look is Look.STAT:
        return _tiles(panel, list(_values(asked, panel)), wide)
    if panel.look is Look.TABLE:
        return _table(panel, [found["metric"] for query in panel.queries for found in asked.now(query.expr)], wide)
    points = list(_points(asked, panel))
    if not points:
        return _empty(panel, wide, _TALL)
    return _heatmap(panel, points, wide) if panel.look is Look.HEATMAP else _lines(panel, points, wide)


def _values(asked: Asked, panel: Panel) -> Iterator[dict[str, Any]]:
    for query in panel.queries:
        for found in asked.now(query.expr):
            value = float(found["value"][1])
            text, colour = panel.words.get(int(value)) or (_told(value, panel.unit), _colour(panel, value))
            yield {"text": text, "name": _legend(query, found["metric"]), "colour": _COLOURS[colour]}


def _colour(panel: Panel, value: float) -> str:
    return [colour for least, colour in panel.thresholds if least is None or value >= least][-1]


def _told(value: float, unit: str) -> str:
    if unit == "dateTimeFromNow":
        return f"{value / 1000 - time.time():+.0f} s"
    return f"{value:.0f} s" if unit == "s" else f"{value:g}"


def _points(asked: Asked, panel: Panel) -> Iterator[dict[str, Any]]:
    end = time.time()
    for query in panel.queries:
        for found in asked.between(query.expr, end - 60 * _MINUTES, end, 60 * _MINUTES / _POINTS):
            for at, value in found["values"]:
                if not math.isnan(float(value)):
                    yield {"at": at * 1000, "value": float(value), "series": _legend(query, found["metric"])}


def _legend(query: Query, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), query.legend).strip() or "none"


def _title(panel: Panel) -> alt.TitleParams:
    return alt.TitleParams(panel.title, anchor="start", fontSize=11, fontWeight="bold", color="#37474f")


def _tiles(panel: Panel, values: list[dict[str, Any]], wide: int) -> alt.Chart | alt.LayerChart:
    if not values:
        return _empty(panel, wide, _TILE)
    beside = min(len(values), max(1, wide // _TILE_WIDE))
    placed = [{**value, "x": i % beside, "y": i // beside} for i, value in enumerate(values)]
    base = alt.Chart(alt.Data(values=placed)).encode(x=alt.X("x:O", axis=None), y=alt.Y("y:O", axis=None))
    tile = base.mark_rect(cornerRadius=3, stroke="white", strokeWidth=3).encode(color=alt.Color("colour:N", scale=None))
    value = base.mark_text(color="white", fontSize=14, fontWeight="bold", dy=-6).encode(text="text:N")
    name = base.mark_text(color="white", fontSize=8, dy=11).encode(text="name:N")
    tall = _TILE * (placed[-1]["y"] + 1)
    return alt.layer(tile, value, name).properties(width=wide, height=tall, title=_title(panel))


def _empty(panel: Panel, wide: int, tall: int) -> alt.Chart:
    said = alt.Chart(alt.Data(values=[{"said": "nothing of it in this soak"}])).mark_text(color="#90a4ae", fontSize=10)
    return said.encode(text="said:N").properties(width=wide, height=tall, title=_title(panel))


def _lines(panel: Panel, points: list[dict[str, Any]], wide: int) -> alt.Chart:
    chart = alt.Chart(alt.Data(values=points))
    drawn = (
        chart.mark_bar(size=4) if panel.look is Look.BARS else chart.mark_line(interpolate="step-after", strokeWidth=1.5)
    )
    form = {"percentunit": ".0%", "bytes": ".2s", "Bps": ".2s"}.get(panel.unit, "~s")
    legend = alt.Legend(title=None, orient="bottom", columns=max(1, wide // 120))
    return drawn.encode(
        x=alt.X("at:T", axis=alt.Axis(title=None, format="%H:%M:%S", tickCount=3)),
        y=alt.Y("value:Q", axis=alt.Axis(title=None, format=form, tickCount=4), scale=alt.Scale(domainMin=0)),
        color=alt.Color("series:N", legend=legend),
    ).properties(width=wide, height=_TALL, title=_title(panel))


def _heatmap(panel: Panel, points: list[dict[str, Any]], wide: int) -> alt.Chart:
    bounds = sorted({float(point["series"]) for point in points})
    below: dict[float, float] = {}
    cells = []
    for point in sorted(points, key=lambda point: (point["at"], float(point["series"]))):
        bound = float(point["series"])
        count = point["value"] - (below.get(point["at"], 0.0) if bound != bounds[0] else 0.0)
        below[point["at"]] = point["value"]
        if count > 0:
            step = 60_000 * _MINUTES / _POINTS
            cells.append({"from": point["at"], "to": point["at"] + step, "bound": f"{bound:g}", "count": count})
    return (
        alt.Chart(alt.Data(values=cells))
        .mark_rect()
        .encode(
            x=alt.X("from:T", axis=alt.Axis(title=None, format="%H:%M:%S", tickCount=3)),
            x2="to:T",
            y=alt.Y("bound:O", sort=[f"{b:g}" for b in reversed(bounds)], axis=alt.Axis(title="up to s")),
            color=alt.Color("count:Q", scale=alt.Scale(scheme="blues"), legend=None),
        )
        .properties(width=wide, height=_TALL, title=_title(panel))
    )


def _table(panel: Panel, found: list[Mapping[str, str]], wide: int) -> alt.Chart:
    rows = sorted(found, key=lambda labels: (labels["namespace"], labels["statefulset"], labels["ordinal"]))
    names = [name for name in rows[0] if name not in _HIDDEN] if rows else []
    table = [{name: name for name in names}, *rows]
    cells = [
        {"row": i, "column": name, "text": line[name], "head": i == 0} for i, line in enumerate(table) for name in names
    ]
    return (
        alt.Chart(alt.Data(values=cells))
        .mark_text(align="left", fontSize=9)
        .encode(
            x=alt.X("column:N", axis=None, sort=names),
            y=alt.Y("row:O", axis=None),
            text="text:N",
            color=alt.condition("datum.head", alt.value("#78909c"), alt.value("#263238")),
        )
        .properties(width=wide, height=18 * len(table), title=_title(panel))
    )


if __name__ == "__main__":
    draw(Asked(sys.argv[1]), Path(sys.argv[2]))
