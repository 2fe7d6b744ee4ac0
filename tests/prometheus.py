"""A real Prometheus, Debian's, that scrapes one address and evaluates the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from dashboards.asking import Asked
from tests.observed import RULES
from tests.ports import free_port


class Prometheus(Asked):
    """A running one."""

    def until(self, expression: str, timeout_seconds: float = 180) -> float:
        """Wait until a query has an answer; its first value."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            try:
                if found := self.now(expression):
                    return float(found[0]["value"][1])
            except URLError:  # it is only starting
                pass
            time.sleep(0.5)
        raise AssertionError(f"Prometheus has nothing for {expression}")

    def health_of_rules(self) -> list[str]:
        """Of each, as its last evaluation went."""
        with urllib.request.urlopen(f"{self.address}/api/v1/rules", timeout=60) as answer:
            groups = json.load(answer)["data"]["groups"]
        return [rule["health"] for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, address: str) -> Iterator[Prometheus]:
    """Scrapes an address, such as http://127.0.0.1:9187, every second. Groups of rules are evaluated as often, since no
    test waits five minutes."""
    assert shutil.which("prometheus"), "Debian's prometheus is needed: tests/testbed/cluster.py packages installs it"
    rules, target = folder / "rules.yaml", address.removeprefix("http://")
    rules.write_text(re.sub(r"interval: 5m", "interval: 1s", RULES.read_text()))
    scrape: dict[str, Any] = {"job_name": "chaosd", "honor_labels": True, "static_configs": [{"targets": [target]}]}
    config = folder / "prometheus.yml"
    intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.write_text(json.dumps({"global": intervals, "rule_files": [str(rules)], "scrape_configs": [scrape]}))
    listen = f"127.0.0.1:{free_port()}"
    argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={listen}"]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield Prometheus(f"http://{listen}")
        finally:
            process.terminate()
            process.wait(120)
