"""The status page in a real browser, of a daemon that soaks the sandbox: it follows, shows a fault, and can be used by
keyboard, on a phone, in the dark, and without JavaScript."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import NEEDS_BROWSER, Tab, browser
from tests.chaosd_process import Chaosd, get
from tests.e2e.conftest import EXPERIMENTS

pytestmark = [pytest.mark.e2e, NEEDS_BROWSER]

TOKEN = "a token of many characters"
_ROUND = "(document.body.innerText.match(/round (\\d+)/) || [])[1]"
_LIVE = "document.getElementById('connection').textContent === 'Live'"
_AUDIT = """axe.run().then(r => JSON.stringify({passes: r.passes.length, serious:
  r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => [v.id, v.nodes.map(n => n.html)])}))"""


class Daemon:
    """One that soaks a target of the sandbox, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiments = folder / "experiments"
        self.experiments.mkdir()
        self.begin("soak")
        (folder / "token").write_text(TOKEN)
        sandbox = ("--cluster", "sandbox", "--out", folder / "out", "--sandbox-dir", folder / "sandbox")
        env = {"CHAOSD_DRILL": "never", "CHAOSD_PAUSE_TOKEN_FILE": str(folder / "token")}
        self.process = Chaosd("daemon", self.experiments, *sandbox, "--listen", "127.0.0.1:0", env=env)

    def begin(self, name: str, **more: Any) -> None:
        """Give it an experiment on the target."""
        document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
        document |= {"name": name, "workload": {"files": 5, "size": "4Ki"}, **more}
        document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
        (self.folder / name).write_text(yaml.safe_dump(document))
        (self.folder / name).rename(self.experiments / f"{name}.yaml")

    def break_a_file(self) -> None:
        """Damage one that is owed, behind chaosd's back."""
        status = json.loads(get(f"{self.address}/api/status")[1])
        disk = self.folder / "sandbox" / "disks" / status["targets"][0]["replicas"][0]["handle"]
        broken = next(path for path in sorted(disk.glob(".chaosd/*/0*")) if path.stat().st_size)
        broken.write_bytes(b"X" * broken.stat().st_size)

    @property
    def address(self) -> str:
        """Where it serves."""
        return self.process.address()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    with made.process:
        made.process.until_line(lambda line: " round 1 done" in line)
        yield made


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browser(tmp_path) as opened:
        yield opened


async def test_it_follows_a_soak_and_shows_a_fault_in_its_round(daemon: Daemon, tab: Tab) -> None:
    await tab.open(daemon.address)
    await tab.until(_LIVE)
    first = int(await tab.until(_ROUND))
    await tab.until(f"Number({_ROUND}) > {first} + 1")
    assert await tab.run("document.querySelector('h1').textContent") == "Nothing broken"
    daemon.break_a_file()
    # The heading is drawn before the script and the style are told of it: what is awaited is all of it.
    await tab.until("document.querySelector('h1').textContent === 'Fail'")
    told = json.loads(get(f"{daemon.address}/api/status")[1])
    assert "corrupt on default/web-" in await tab.run("document.getElementById('violations').innerText")
    assert [found["class"] for found in told["violations"]] == ["corrupt"]
    assert "default/web" in await tab.run("document.getElementById('violations').innerText")
    assert tab.logged == []


async def test_a_new_experiment_comes_and_a_daemon_that_goes_is_told(daemon: Daemon, tab: Tab) -> None:
    await tab.open(daemon.address)
    await tab.until(_LIVE)
    daemon.begin("gate", rounds=1, schedule={"cron": "0 0 1 1 *"})
    await tab.until("document.body?.innerText.includes('gate') && document.querySelectorAll('tbody tr th').length >= 4")
    last = (
        "[...document.querySelectorAll('tbody tr')].find(row => row.innerText.includes('gate')).lastElementChild.innerText"
    )
    await tab.until(f"{last}.includes('in ')")
    daemon.process.send(signal.SIGTERM)
    assert await asyncio.to_thread(daemon.process.wait) == 4, daemon.process.told
    assert await tab.until("document.getElementById('connection').textContent.startsWith('Not live')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    daemon: Daemon, tab: Tab, axe: str, dark: bool
) -> None:
    for broken in (False, True):
        if broken:
            daemon.break_a_file()
            await tab.until("document.querySelector('h1').textContent === 'Fail'")
        for width in (1200, 360):
            await tab.open(daemon.address, width=width, height=800, dark=dark)
            await tab.until(_LIVE)
            assert await tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            background = await tab.run("getComputedStyle(document.body).backgroundColor")
            assert background == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")
            await tab.run(axe)
            audit = json.loads(await tab.run(_AUDIT))
            assert audit["serious"] == []
            assert audit["passes"] > 25


async def test_it_tells_all_of_it_without_javascript(daemon: Daemon, tab: Tab) -> None:
    await tab.open(daemon.address, script=False)
    text = await tab.run("document.body.innerText")
    for told in ("stands still without JavaScript", "round ", "disk-ssd-web-0", "Nothing broken", "Pause"):
        assert told in text
    assert re.search("just now|ago", text)
    assert tab.logged == []


async def _focused(tab: Tab) -> str:
    return str(
        await tab.run("document.activeElement.name || document.activeElement.ariaLabel || document.activeElement.tagName")
    )


async def test_a_target_is_paused_by_keyboard_alone_and_the_focus_stays_while_the_page_follows(
    daemon: Daemon, tab: Tab
) -> None:
    await tab.open(daemon.address)
    await tab.until(_LIVE)
    reached = []
    while (reached and reached[-1]) != "token":
        await tab.press("Tab")
        reached.append(await _focused(tab))
        assert len(reached) < 20, reached
    assert reached == ["Table of experiments", "Replicas of default/web", "target", "token"]
    assert await tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    round_ = await tab.run(_ROUND)
    await tab.type(TOKEN)
    await tab.until(f"{_ROUND} !== '{round_}'")
    assert await _focused(tab) == "token"
    assert await tab.run("document.activeElement.value") == TOKEN
    await tab.press("Tab")
    await tab.press("Enter")
    await tab.until("document.body?.innerText.includes('statefulset/web in default is paused')")
    await tab.open(daemon.address)
    await tab.until("document.body?.innerText.includes('the kill switch is thrown')")
    body = b'{"target": "default/web"}'
    request = urllib.request.Request(f"{daemon.address}/api/resume", body, {"Authorization": f"Bearer {TOKEN}"})
    await asyncio.to_thread(urllib.request.urlopen, request)
    await tab.until("document.body?.innerText.includes('running')")


async def test_names_that_are_html_stay_text(daemon: Daemon, tab: Tab) -> None:
    hostile = "<img src=x onerror=document.title='hit'>"
    (daemon.experiments / f"{hostile.replace('/', '')}.yaml").write_text("name: x\n")
    await tab.open(daemon.address)
    await tab.until("document.body?.innerText.includes('onerror')")
    assert await tab.run("document.images.length") == 0
    assert await tab.run("document.title") == "chaosd: status"
