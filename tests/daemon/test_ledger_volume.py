"""The daemon whose ledger's volume is full, or read-only: nothing is disturbed meanwhile, and then it goes on. Marked e2e,
since mounting takes root."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

import pytest

from chaosd.ledger import Ledger
from tests.chaosd_process import Chaosd, get
from tests.daemon.test_process import _folder, _started
from tests.waiting import until

pytestmark = pytest.mark.e2e
BLOCK = b"\0" * 4096
DONE = (" round ", ": pod-delete default", ": scale ")


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """Of 2 MiB."""
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def _fill(volume: Path) -> Path:
    ballast = volume / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(BLOCK):
            pass
    assert os.statvfs(volume).f_bavail == 0
    return ballast


def _ends_well(daemon: Chaosd, ledger: str, out: Path) -> None:
    daemon.send(SIGTERM)
    assert daemon.wait() == 4, daemon.told
    assert json.loads((out / "one" / "verdict.json").read_text())["violations"] == []
    with Ledger.open_to_read(ledger) as opened:
        assert opened.open_undo() == []


def test_what_cannot_be_journaled_is_not_done_and_it_goes_on_once_there_is_room(tmp_path: Path, volume: Path) -> None:
    ledger = f"sqlite:///{volume}/chaosd.db"
    folder = _folder(tmp_path, one={"disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}]})
    with _started(tmp_path, folder, ledger=ledger) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " one: round 2 done" in line)
        ballast = _fill(volume)
        daemon.until_line(lambda line: " one: " in line and "disk is full; make room" in line)
        until(lambda: "disk is full" in get(f"{address}/readyz")[1], "the fault to be told")
        lines = len(daemon.stderr)
        time.sleep(8)
        assert get(f"{address}/readyz")[0] == 503
        assert get(f"{address}/healthz") == (200, "ok\n")
        assert [line for line in daemon.stderr[lines:] if any(words in line for words in DONE)] == []
        ballast.unlink()
        daemon.until_line(lambda line: " one: goes on with this run" in line)
        daemon.until_line(lambda line: " one: round 4 done" in line)
        until(lambda: get(f"{address}/readyz") == (200, "ok\n"), "the daemon to be ready")
        _ends_well(daemon, ledger, tmp_path / "out")


def test_one_that_finds_it_read_only_waits_until_it_can_be_written(tmp_path: Path, volume: Path) -> None:
    ledger = f"sqlite:///{volume}/chaosd.db"
    subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
    with _started(tmp_path, _folder(tmp_path, one={}), ledger=ledger) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: f"warning ledger {ledger}" in line)
        assert get(f"{address}/readyz")[0] == 503
        assert get(f"{address}/healthz") == (200, "ok\n")
        assert " run 01" not in daemon.told
        subprocess.run(["mount", "-o", "remount,rw", volume], check=True)
        daemon.until_line(lambda line: " one: round 2 done" in line)
        until(lambda: get(f"{address}/readyz") == (200, "ok\n"), "the daemon to be ready")
        _ends_well(daemon, ledger, tmp_path / "out")
