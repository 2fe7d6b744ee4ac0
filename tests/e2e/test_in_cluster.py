"""The whole of it, as people run it: chaosd installed by Helm with its own ServiceAccount, a target, a Prometheus that
scrapes and alerts; then a disk goes bad."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.helm import Release
from tests.manifests import Document
from tests.prometheus import prometheus
from tests.real import RealCluster


def test_a_fault_on_a_disk_is_a_metric_an_event_a_firing_alert_and_a_verdict(
    release: Release,
    values: Callable[..., Document],
    real: RealCluster,
    testbed: Any,
    web: str,
    tmp_path: Path,
) -> None:
    release.install(values([{"kind": "pod-delete"}]), "--wait", "--timeout=180s")
    target = f'namespace="{web}",statefulset="web"'
    with release.forwarded() as address, prometheus(tmp_path, address) as asked:
        asked.until(f"chaosd_round{{{target}}} >= 2", 180)
        asked.until(f'chaosd_verifications_total{{{target},result="intact",cache="cold"}} > 0')
        assert asked.until(f"sum(chaosd_violations_open{{{target}}})") == 0
        assert asked.now('ALERTS{alertstate="firing",severity="critical"}') == []

        planted_at = _damage(testbed, real.handle(web, "disk-ssd-web-0"), release.runs()[0])
        asked.until(f"sum(chaosd_violations_open{{{target}}}) > 0", 180)
        seen_at = time.time()
        asked.until(f'ALERTS{{alertname="ChaosdDataViolation",alertstate="firing",{target}}}', 60)
        rounds = [line for line in release.logged() if " done: " in line["event"]]

    verdict = next(line["event"] for line in rounds if "violations 0" not in line["event"])
    assert "violations 1" in verdict, verdict
    events = real.get("events", f"--namespace={web}", "--field-selector=reason=ChaosdVerdict")["items"]
    assert [event["type"] for event in events if event["message"].startswith("fail, 1 violations")] == ["Warning"]
    # Within a round, which reads back all that is owed, and the second of a scrape.
    first = min(at for at in map(_at, rounds) if at > planted_at)
    assert seen_at - first < 5, (seen_at, first, planted_at)


def _damage(testbed: Any, handle: str, run: str) -> float:
    """Flip a bit in a file of the run's that is owed; when that was done, in seconds since the epoch."""
    folder = testbed.disks.mounts(handle)[0] / ".chaosd" / run
    written_once = sorted(file.name for file in folder.iterdir() if file.name.isdigit())
    testbed.disks.flip_bit(handle, f".chaosd/{run}/{written_once[0]}", 5000)
    return time.time()


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
