"""The daemon in its first form: rounds for ever, and what it serves meanwhile."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

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
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    document |= {"rounds": 1, "workload": {"files": 2, "size": "4Ki"}}
    document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
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
        assert daemon.wait(5) == 4
    assert "ended by SIGTERM: nothing was disturbed" in daemon.told
