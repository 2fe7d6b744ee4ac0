"""What a report is made of: a run, and formats. They stand alone, so that a command which makes none need not load what
makes them."""

from __future__ import annotations

from collections.abc import Mapping

LATEST = "latest"  # the run that began last

# Each with the name of its file.
FILES: Mapping[str, str] = {
    "html": "report.html",
    "junit": "junit.xml",
    "json": "report.json",
    "markdown": "report.md",
    "csv": "ops.csv",
}
