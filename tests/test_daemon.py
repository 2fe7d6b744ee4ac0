"""The daemon in its first form: rounds for ever, and what it serves meanwhile."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.chaosd_process import Chaosd

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_past_the_experiments_rounds_and_serves_what_it_finds(tmp_path: Path, number: signal.Signals) -> None:
    path = _soak(tmp_path, rounds=1)
    with Chaosd("daemon", path, "--cluster", "sandbox", "--out", tmp_path / "out", "--listen", "127.0.0.1:0") as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " round 3" in line)
        assert _get(f"{address}/healthz") == (200, "ok\n")
        assert _get(f"{address}/readyz") == (200, "ok\n")
        code, text = _get(f"{address}/metrics")
        assert code == 200
        assert _get(f"{address}/nowhere")[0] == 404
        daemon.send(number)
        assert daemon.wait(30) == 4, daemon.told
    values = {
        (sample.name, sample.labels.get("outcome", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["chaosd_writes_total", "ok"] >= 8
    assert values["chaosd_targets", ""] == 1
    assert daemon.verdict["violations"] == []


def _soak(tmp_path: Path, **over: Any) -> Path:
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    document |= {"workload": {"files": 2, "size": "4Ki"}, **over}
    document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _open_violations(address: str) -> float:
    families = text_string_to_metric_families(_get(f"{address}/metrics")[1])
    return sum(s.value for family in families for s in family.samples if s.name == "chaosd_violations_open")


def test_after_the_first_violation_it_disrupts_nothing_and_serves_even_when_started_again(
    tmp_path: Path,
) -> None:
    path, sandbox = _soak(tmp_path, guards={"stopAfter": 1}), tmp_path / "sandbox"
    args = ["--cluster", "sandbox", "--sandbox-dir", sandbox, "--out", tmp_path / "out", "--listen", "127.0.0.1:0"]
    with Chaosd("daemon", path, *args) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " round 2" in line)
        broken = next(path for path in sandbox.glob("disks/*/.chaosd/*/0*") if path.stat().st_size)
        broken.write_bytes(b"X" * broken.stat().st_size)
        daemon.until_line(lambda line: "nothing is disrupted any more: guards.stopAfter is 1" in line)
        rounds = sum(" done: " in line for line in daemon.stderr)
        time.sleep(1)
        assert _open_violations(address) == 1
        assert sum(" done: " in line for line in daemon.stderr) == rounds
        daemon.send(signal.SIGTERM)
        assert daemon.wait(30) == 1, daemon.told
        run = daemon.verdict["run"]
    with Chaosd("daemon", path, *args) as again:
        address = again.address()
        again.until_line(lambda line: "goes on with this run" in line)
        again.until_line(lambda line: " done: " in line)
        time.sleep(1)
        assert _open_violations(address) == 1
        assert not any(": pod-delete" in line or ": scale" in line for line in again.stderr), again.told
        again.send(signal.SIGTERM)
        assert again.wait(30) == 1, again.told
    assert again.verdict["run"] == run


def test_it_is_not_ready_before_the_first_round(tmp_path: Path) -> None:
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    manifest = list(yaml.safe_load_all((EXPERIMENTS / "targets" / "web.yaml").read_text()))
    manifest[1]["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = "none"
    (tmp_path / "web.yaml").write_text(yaml.safe_dump_all(manifest))
    document["target"]["manifest"] = "web.yaml"
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
    with Chaosd("daemon", path, "--cluster", "sandbox", "--out", tmp_path / "out", "--listen", "127.0.0.1:0") as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: "run 01" in line)
        time.sleep(0.2)
        assert _get(f"{address}/healthz")[0] == 200
        assert _get(f"{address}/readyz") == (503, "no round has begun\n")
        daemon.send(signal.SIGTERM)
        assert daemon.wait(30) == 4
    assert "ended by SIGTERM: nothing was disturbed" in daemon.told
