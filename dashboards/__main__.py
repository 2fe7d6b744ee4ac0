"""Writes the dashboard, and the copy of it that the chart carries: Helm warns of links."""

from __future__ import annotations

from pathlib import Path

from dashboards.board import as_json

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = (ROOT / "dashboards" / "chaosd.json", ROOT / "charts" / "chaosd" / "dashboards" / "chaosd.json")

if __name__ == "__main__":
    for path in WRITTEN:
        path.write_text(as_json())
