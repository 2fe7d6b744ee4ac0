"""The report's page in a real browser: axe finds nothing serious in it, light or dark, and it is no wider than a phone."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, NEEDS_BROWSER
from tests.chaosd_main import Main
from tests.report.ledgers import keep
from tests.report.test_report_files import SEED, damaged
from tests.test_report import verdict

_CSP = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
# What the page is made to say of itself, in place of what it showed.
_TELL = """<script>%s</script><script>
const wide = document.documentElement.scrollWidth, view = document.documentElement.clientWidth;
axe.run().then(r => { document.documentElement.textContent = "<<" + JSON.stringify({
  serious: r.violations.filter(v => ["serious", "critical"].includes(v.impact))
    .map(v => [v.id, v.nodes.map(n => n.html)]),
  passes: r.passes.length, wide, view}) + ">>" })</script></body>"""

pytestmark = [pytest.mark.e2e, NEEDS_BROWSER]


def _told(page: Path, folder: Path, *, dark: bool, width: int = 1200) -> dict[str, Any]:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=60000", "--dump-dom", page.as_uri()]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(unescape(told.stdout).split("<<")[1].split(">>")[0])
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    tmp_path: Path, main: Main, axe: str, dark: bool
) -> None:
    keep(tmp_path, *damaged(), verdict=verdict(*damaged()).as_json(), seed=SEED)
    assert main("report", "--out", tmp_path).code == 0
    page = tmp_path / "report.html"
    page.write_text(_CSP.sub("", page.read_text()).replace("</body>", _TELL % axe))  # which lets no script in
    for width in (1200, 500):  # a headless window is not narrower
        told = _told(page, tmp_path, dark=dark, width=width)
        assert told["serious"] == []
        assert told["passes"] > 30
        assert told["wide"] <= told["view"]
