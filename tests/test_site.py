"""The documentation as a site: it builds, is whole without a network, and a broken link fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_LOADED = re.compile(r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?([^"'\s>]+)|<link\b[^>]*\bhref=["']?([^"'\s>]+)""")
_IMPORTED = re.compile(r"""(?:url\(|@import)\s*["']?(https?://[^"')\s]+)""")


def _built(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", site]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository."""
    folder = tmp_path_factory.mktemp("site")
    built = _built(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "repository/ARCHITECTURE"} <= pages


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    loaded = {first or second for page in pages for first, second in _LOADED.findall(page.read_text())}
    assert any(link.endswith(".css") for link in loaded)
    assert any(link.endswith(".js") for link in loaded)
    assert not [link for link in loaded if "//" in link]
    assert not [found for style in site.rglob("*.css") for found in _IMPORTED.findall(style.read_text())]


def test_what_documents_link_to_outside_of_their_folder_is_in_it(site: Path) -> None:
    page = (site / "index.html").read_text()
    assert 'href="repository/experiments/soak.yaml.html"' in page
    assert "disruptions" in (site / "repository" / "experiments" / "soak.yaml.html").read_text()
    assert 'href="install.html"' in page


def test_a_bar_in_a_table_is_shown_without_its_escape(site: Path) -> None:
    page = (site / "commands.html").read_text()
    assert "<code>RUN|latest &lt;str&gt;</code>" in page
    assert "\\|" not in page


@pytest.mark.parametrize("link", ["nowhere.md", "failures.md#nowhere"])
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, link: str) -> None:
    for name in ("docs", "website", "experiments", "charts", "dashboards", "tests/testbed", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / file, tmp_path)
    with (tmp_path / "docs" / "gate.md").open("a") as document:
        document.write(f"\n[broken]({link})\n")
    built = _built(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "nowhere" in built.stderr
