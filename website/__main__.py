"""Writes the pages that are made of the code."""

from __future__ import annotations

from pathlib import Path

from website import api, commands, schema

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {"commands.md": commands.markdown, "experiment-schema.md": schema.markdown, "api.md": api.markdown}

if __name__ == "__main__":
    for name, markdown in PAGES.items():
        (DOCS / name).write_text(markdown())
