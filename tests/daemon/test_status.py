"""The status of a daemon as a process: a soak on the sandbox, a fault in it, and what is told again after a restart."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chaosd.daemon.service import serve
from chaosd.run import Ending
from chaosd.settings import Settings
from chaosd.status import feed as feeds
from tests.chaosd_process import get
from tests.daemon.test_process import _folder, _started
from tests.ports import free_port
from tests.waiting import until


def _status(address: str) -> Any:
    code, text = get(f"{address}/api/status")
    assert code == 200
    return json.loads(text)


def _replicas(status: Any, target: str) -> Any:
    (replicas,) = (one["replicas"] for one in status["targets"] if one["target"] == target)
    return replicas


def _break_a_file(disk: Path) -> None:
    broken = next(path for path in sorted(disk.glob(".chaosd/*/0*")) if path.stat().st_size)
    broken.write_bytes(b"X" * broken.stat().st_size)


def test_what_runs_and_what_is_broken_is_told_live_and_after_a_restart(tmp_path: Path) -> None:
    gate = {"on": "gate", "rounds": 1, "schedule": {"every": "6h"}}
    folder, sandbox = _folder(tmp_path, soak={}, gate=gate), tmp_path / "sandbox"
    with _started(tmp_path, folder, "--sandbox-dir", str(sandbox)) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " gate: verdict: pass" in line)
        daemon.until_line(lambda line: " soak: round 2 done" in line)
        # Its verdict is logged a moment before, and the status may be as old as a look.
        until(lambda: _status(address)["experiments"][0]["state"] == "waiting", "the gate to be waited for")
        told = _status(address)
        _break_a_file(sandbox / "disks" / _replicas(told, "default/soak")[0]["handle"])
        until(lambda: _status(address)["violations"], "the fault to be told")
        broken = _status(address)
        assert get(f"{address}/")[1].count("<h1>Fail</h1>") == 1
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 1, daemon.told
    gate_now, soak = told["experiments"]
    assert (gate_now["state"], gate_now["run"], gate_now["judged"]["ended"]) == ("waiting", None, True)
    assert gate_now["judged"]["verdict"] == soak["judged"]["verdict"] == "pass"
    assert gate_now["next_at"] > told["at"]
    assert (soak["state"], soak["next_at"]) == ("running", None)
    assert soak["run"]["round"]["number"] >= 2
    replicas = _replicas(told, "default/soak")
    assert [one["replica"] for one in replicas] == ["default/soak-0", "default/soak-1"]
    assert all(one["claim"] and one["volume"] and one["handle"] and one["node"] for one in replicas)
    (found,) = broken["violations"]
    assert (found["class"], found["target"], found["experiment"]) == ("corrupt", "default/soak", "soak")
    assert told["at"] < found["since"] < broken["at"]

    with _started(tmp_path, folder, "--sandbox-dir", str(sandbox)) as again:
        address = again.address()
        again.until_line(lambda line: "soak: goes on with this run" in line)
        until(lambda: _status(address)["violations"] == broken["violations"], "what was found to be told again")
        restored = _status(address)
        (gate_again, _) = restored["experiments"]
        assert gate_again["judged"] == gate_now["judged"]
        again.until_line(lambda line: " soak: " in line and " done: " in line)
        assert _status(address)["violations"] == broken["violations"]
        again.send(signal.SIGTERM)
        assert again.wait() == 1, again.told


def _post(address: str, action: str, token: str, target: str) -> int:
    body = json.dumps({"target": target}).encode()
    request = urllib.request.Request(f"{address}/api/{action}", body, {"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def _state(address: str) -> str:
    return str(_status(address)["experiments"][0]["state"])


def test_a_target_is_paused_and_resumed_with_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a token of many characters")
    with _started(tmp_path, _folder(tmp_path, one={}), pause_token_file=str(token)) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " one: round 2" in line)
        assert _post(address, "pause", "another token altogether", "default/one") == 401
        assert _post(address, "pause", token.read_text(), "default/other") == 404
        assert _post(address, "pause", token.read_text(), "default/one") == 200
        until(lambda: _state(address) == "paused", "the run to be paused")
        assert "the kill switch is thrown" in _status(address)["experiments"][0]["why"]
        disruptions = sum("pod-delete default" in line for line in daemon.stderr)
        assert _post(address, "resume", token.read_text(), "default/one") == 200
        until(lambda: _state(address) == "running", "the run to go on")
        assert sum("pod-delete default" in line for line in daemon.stderr) >= disruptions
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told


async def _answered(client: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    while True:
        try:
            return await client.get(url)
        except aiohttp.ClientConnectorError:  # it does not serve yet
            await asyncio.sleep(0.1)


async def _watch(address: str, parts: dict[str, str]) -> None:
    """Take the events of a daemon, as a page does, from when it serves until it ends."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20) as client:
        async for line in (await _answered(client, f"{address}/events")).content:
            if line.startswith(b'data: {"at"'):
                parts |= json.loads(line.removeprefix(b"data: "))["parts"]


async def test_of_whatever_changes_those_who_watch_are_told_without_a_look_at_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "ALIVE_SECONDS", 3600.0)  # with the signs of life comes a look
    folder, parts, port = _folder(tmp_path, one={}), dict[str, str](), free_port()
    settings = Settings(cluster="sandbox", out=tmp_path / "out", listen=f"127.0.0.1:{port}", drill="never")
    ending = Ending()

    async def told(text: str, *, no_more: bool = False) -> None:
        async with asyncio.timeout(300):
            while any(text in html for html in parts.values()) is no_more:  # noqa: ASYNC110 - a dict tells nobody
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch(f"http://127.0.0.1:{port}", parts))
        daemon = tasks.create_task(serve(settings, folder, ending))
        await told("round 2")
        (folder / "one.yaml").rename(tmp_path / "one.yaml")
        await told("No experiment is loaded.")
        (folder / "none.yaml").write_text("name: none")
        await told("none.yaml")
        (folder / "none.yaml").unlink()
        await told("none.yaml", no_more=True)
        (tmp_path / "one.yaml").rename(folder / "one.yaml")
        await told("1 running")
        ending.because("the test is over")
    assert [one.verdict.aborted for one in daemon.result()] == ["the test is over"]


def test_without_a_token_nothing_can_be_paused(tmp_path: Path) -> None:
    with _started(tmp_path, _folder(tmp_path, one={})) as daemon:
        address = daemon.address()
        assert _post(address, "pause", "", "default/one") == 404
        assert "<form" not in get(f"{address}/")[1]
    with _started(tmp_path, tmp_path / "experiments", pause_token_file=str(tmp_path / "none")) as daemon:
        assert daemon.wait() == 2, daemon.told
    assert "the token to pause with cannot be read" in daemon.told
