"""The daemon's metrics, checked by promtool and scraped by a real Prometheus."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.chaosd_process import Chaosd, get
from tests.prometheus import prometheus


def test_prometheus_scrapes_the_daemon(
    web: str, start: Callable[..., Chaosd], experiment: Callable[..., Path], tmp_path: Path
) -> None:
    path = experiment(target={"namespace": web})
    with start("daemon", path, "--listen", "127.0.0.1:0", env={"CHAOSD_DRILL": "never"}) as daemon:
        address = daemon.address()
        with prometheus(tmp_path, address) as asked:
            daemon.until_line(lambda line: " round 3" in line)
            _, text = get(f"{address}/metrics")
            checked = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
            this = f'namespace="{web}",statefulset="web"'
            asked.until(f'chaosd_writes_total{{{this},outcome="ok"}} >= 80')
            asked.until(f'chaosd_verifications_total{{{this},result="intact",cache="cold"}} >= 80')
            asked.until(f"sum(chaosd_disruptions_total{{{this}}}) >= 2")
            asked.until(f"count(chaosd_binding_info{{{this}}} == 1) == 2")
            asked.until("chaosd_targets == 1")
            assert asked.until(f"sum(chaosd_violations_total{{{this}}})") == 0
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4
    assert json.loads((tmp_path / "out" / "soak" / "verdict.json").read_text())["violations"] == []
