"""The daemon's metrics, checked by promtool and scraped by a real Prometheus."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaosd_process import Chaosd


def test_prometheus_scrapes_the_daemon(
    web: str, start: Callable[..., Chaosd], experiment: Callable[..., Path], tmp_path: Path
) -> None:
    assert shutil.which("promtool"), "Debian's prometheus is needed: tests/testbed/cluster.py packages installs it"
    path = experiment(target={"namespace": web})
    with start("daemon", path, "--listen", "127.0.0.1:0", env={"CHAOSD_DRILL": "never"}) as daemon:
        address = daemon.address()
        with _prometheus(tmp_path, address.removeprefix("http://")) as ask:
            daemon.until_line(lambda line: " round 3" in line)
            text = _get(f"{address}/metrics")
            checked = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
            this = f'namespace="{web}",statefulset="web"'
            ask(f'chaosd_writes_total{{{this},outcome="ok"}} >= 80')
            ask(f'chaosd_verifications_total{{{this},result="intact",cache="cold"}} >= 80')
            ask(f"sum(chaosd_disruptions_total{{{this}}}) >= 2")
            ask(f"count(chaosd_binding_info{{{this}}} == 1) == 2")
            ask("chaosd_targets == 1")
            assert ask(f"sum(chaosd_violations_total{{{this}}})") == 0
        daemon.send(signal.SIGTERM)
        assert daemon.wait(90) == 4
    assert json.loads((tmp_path / "out" / "soak" / "verdict.json").read_text())["violations"] == []


@contextmanager
def _prometheus(folder: Path, target: str) -> Iterator[Callable[[str], float]]:
    """A Prometheus that scrapes one target; yields a function that waits until a query has an answer."""
    config = folder / "prometheus.yml"
    scrape = {"job_name": "chaosd", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    config.write_text(json.dumps({"scrape_configs": [scrape]}))
    listen = f"127.0.0.1:{_free_port()}"
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={listen}"]

    def ask(query: str) -> float:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = json.loads(_get(f"http://{listen}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
            if answer["data"]["result"]:
                return float(answer["data"]["result"][0]["value"][1])
            time.sleep(0.5)
        raise AssertionError(f"Prometheus has nothing for {query}")

    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield ask
        finally:
            process.terminate()
            process.wait(20)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _free_port() -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
