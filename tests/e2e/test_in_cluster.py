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
from tests.waiting import until


def test_a_fault_on_a_disk_is_a_metric_an_event_a_firing_alert_and_a_verdict(
    release: Release,
    values: Callable[..., Document],
    real: RealCluster,
    testbed: Any,
    web: str,
    tmp_path: Path,
) -> None:
    release.install(values([{"kind": "pod-delete"}]), "--wait", "--timeout=400s")
    target = f'namespace="{web}",statefulset="web"'
    with release.forwarded() as address, prometheus(tmp_path, address) as asked:
        asked.until(f"chaosd_round{{{target}}} >= 2", 300)
        asked.until(f'chaosd_verifications_total{{{target},result="intact",cache="cold"}} > 0')
        assert asked.until(f"sum(chaosd_violations_open{{{target}}})") == 0
        assert asked.now('ALERTS{alertstate="firing",severity="critical"}') == []

        planted_at = _damage(testbed, real.handle(web, "disk-ssd-web-0"), release.runs()[0])
        asked.until(f"sum(chaosd_violations_open{{{target}}}) > 0", 300)
        seen_at = asked.until(f"min_over_time(timestamp(sum(chaosd_violations_open{{{target}}}) > 0)[10m:1s])")
        asked.until(f'ALERTS{{alertname="ChaosdDataViolation",alertstate="firing",{target}}}')
        until(lambda: _failed(_rounds(release)), "the verdict of its round")
        rounds = _rounds(release)

    failed = _failed(rounds)[0]
    assert "violations 1" in failed["event"], failed
    until(lambda: _told(real, web, "fail, 1 violations") == ["Warning"], "the event")
    # A round reads back all that is owed, but one that was under way may have done so before.
    assert failed in [line for line in rounds if _at(line) > planted_at][:2], (rounds, planted_at)
    assert seen_at - _at(failed) < 30, "it is scraped every second"


def _damage(testbed: Any, handle: str, run: str) -> float:
    """Flip a bit in a file of the run's that is owed; when that was done, in seconds since the epoch."""
    written_once = [name for name in testbed.disks.names(handle, f".chaosd/{run}") if name.isdigit()]
    testbed.disks.flip_bit(handle, f".chaosd/{run}/{written_once[0]}", 5000)
    return time.time()


def _rounds(release: Release) -> list[dict[str, Any]]:
    """What was logged of each round at its end."""
    return [line for line in release.logged() if " done: " in line["event"]]


def _failed(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that ended with a violation."""
    return [line for line in rounds if "violations 0" not in line["event"]]


def _at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _told(real: RealCluster, namespace: str, verdict: str) -> list[str]:
    """The types of the events that tell this verdict."""
    events = real.get("events", f"--namespace={namespace}", "--field-selector=reason=ChaosdVerdict")["items"]
    return [event["type"] for event in events if event["message"].startswith(verdict)]
