"""Metrics: their names and labels, zero from the start, and what each op of a history adds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chaosd.checkers import Panel
from chaosd.checkers.verdict import Class
from chaosd.cluster.target import Target
from chaosd.history import NEMESIS, RESTART, RUN, Event, Kind
from chaosd.metrics import Metrics, TargetMetrics
from tests.histories import (
    WEB_0,
    claim,
    disrupted,
    history,
    opened,
    pod,
    read,
    round_began,
    statefulset,
    volume,
    watch,
    written,
)

TARGET = Target("default", "web", "uid", "app", "/data", "disk-ssd", 2, 0)
THIS = {"namespace": "default", "statefulset": "web"}
FORBIDDEN_LABELS = {"run", "file", "pod", "pod_uid", "uid"}


class Scraped:
    """What a scrape would see after a history."""

    def __init__(self, *events: Event) -> None:
        self.registry = CollectorRegistry()
        panel = Panel()
        metrics = TargetMetrics(Metrics(self.registry), TARGET, "soak", panel)
        for op in history(*events):
            panel.step(op)
            metrics.record(op)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"chaosd_{name}", {**THIS, **labels})

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()


RESTARTED = Event(RUN, RESTART, Kind.OK, {"round": 1})
ENDED = Event(RUN, "round", Kind.OK, {"round": 1, "violations": 1})
SOUND = (
    statefulset(2, ready_replicas=2),
    claim(0),
    volume(0),
    pod(0, "present", ready=True),
    watch("synced"),
    opened(WEB_0),
)


def test_counters_are_0_in_every_combination_from_the_start() -> None:
    scraped = Scraped()
    for failure in Class:
        assert scraped("violations_total", **{"class": failure}) == 0
        assert scraped("violations_open", **{"class": failure}) == 0
    for outcome in ("ok", "fail", "info"):
        assert scraped("writes_total", outcome=outcome) == 0
        assert scraped("disruptions_total", kind="pod-delete", outcome=outcome) == 0
    for cache in ("cold", "cached"):
        assert scraped("verifications_total", result="intact", cache=cache) == 0
        assert scraped("verified_bytes_total", cache=cache) == 0
    assert scraped("last_verification_timestamp_seconds") is None
    assert scraped("write_duration_seconds_count") is None


def test_no_label_is_unbounded() -> None:
    scraped = Scraped(*SOUND, *written(WEB_0, 0), read(WEB_0, 0))
    for family in text_string_to_metric_families(scraped.text):
        for sample in family.samples:
            assert not FORBIDDEN_LABELS & set(sample.labels), sample.name
            if "ordinal" in sample.labels:
                assert sample.name == "chaosd_binding_info"
            if "experiment" in sample.labels:
                assert sample.name == "chaosd_run_verdict"


def test_names_are_those_of_the_documentation() -> None:
    text = (Path(__file__).resolve().parents[1] / "ARCHITECTURE.md").read_text()
    documented = set(re.findall(r"^\| `(chaosd_\w+)", text, re.MULTILINE))
    exported = {f.name for f in text_string_to_metric_families(Scraped(*SOUND).text)}
    exported = {name + "_total" if f"{name}_total" in documented else name for name in exported}
    exported = {"chaosd_build_info" if name == "chaosd_build" else name for name in exported}
    assert exported == documented


def test_writes() -> None:
    invoked, acknowledged = written(WEB_0, 0)
    scraped = Scraped(*SOUND, invoked, acknowledged, *written(WEB_0, 1))
    assert scraped("writes_total", outcome="ok") == 2
    assert scraped("written_bytes_total") == 8192
    assert scraped("write_duration_seconds_count") == 2
    assert scraped("owed_verifications") == 2


def test_readings() -> None:
    events = (*SOUND, *written(WEB_0, 0), *written(WEB_0, 1), read(WEB_0, 0), read(WEB_0, 1, finding="missing", cache=""))
    scraped = Scraped(*events)
    assert scraped("verifications_total", result="intact", cache="cold") == 1
    assert scraped("verifications_total", result="missing", cache="none") == 1
    assert scraped("verified_bytes_total", cache="cold") == 4096
    assert scraped("last_verification_timestamp_seconds") is not None


def test_what_is_at_risk_was_not_read_since_the_last_disruption() -> None:
    before = (*SOUND, *written(WEB_0, 0), *written(WEB_0, 1), disrupted("pod-delete", (WEB_0, "pod-0")))
    scraped = Scraped(*before)
    assert (scraped("records_at_risk"), scraped("bytes_at_risk")) == (2, 8192)
    scraped = Scraped(*before, read(WEB_0, 0))
    assert (scraped("records_at_risk"), scraped("bytes_at_risk")) == (1, 4096)


def test_a_violation_is_counted_once_however_often_it_is_judged() -> None:
    lost = (*SOUND, round_began(1), *written(WEB_0, 0), read(WEB_0, 0, finding="missing"))
    ended = Event(RUN, "round", Kind.OK, {"round": 1, "violations": 1})
    scraped = Scraped(*lost, ended, round_began(2), ended)
    assert scraped("violations_total", **{"class": "lost"}) == 1
    assert scraped("violations_open", **{"class": "lost"}) == 1
    assert scraped("run_verdict", experiment="soak", verdict="fail") == 1
    assert scraped("run_verdict", experiment="soak", verdict="pass") == 0
    assert scraped("round_duration_seconds_count") == 2


@pytest.mark.parametrize(
    ("kind", "value", "blocked"),
    [
        (Kind.OK, {}, None),
        (Kind.FAIL, {"blocked": "conflict"}, "conflict"),
        (Kind.FAIL, {"blocked": "not_ready"}, "not_ready"),
    ],
)
def test_disruptions(kind: Kind, value: dict[str, Any], blocked: str | None) -> None:
    scraped = Scraped(*SOUND, disrupted(), Event(NEMESIS, "pod-delete", kind, value))
    assert scraped("disruptions_total", kind="pod-delete", outcome=str(kind)) == 1
    if blocked:
        assert scraped("disruptions_blocked_total", reason=blocked) == 1


def test_replicas_and_bindings() -> None:
    scraped = Scraped(*SOUND)
    assert (scraped("target_replicas", state="wanted"), scraped("target_replicas", state="ready")) == (2, 2)
    moved = opened(WEB_0, "pod-2", binding={**opened(WEB_0).value["binding"], "node": "other"})
    scraped = Scraped(*SOUND, moved)
    labels = {"ordinal": "0", "claim": "disk-ssd-web-0", "volume": "pv-web-0", "handle": "d-web-0"}
    assert scraped("binding_info", **labels, node="other") == 1
    assert scraped("binding_info", **labels, node="n") is None


def test_what_could_not_be_seen() -> None:
    scraped = Scraped(*SOUND, watch("gap"), Event(WEB_0, "open", Kind.FAIL, {"error": "no answer"}))
    assert scraped("observer_errors_total", reason="watch_gap") == 1
    assert scraped("observer_errors_total", reason="open") == 1


def test_what_was_found_before_chaosd_died_is_open_and_is_not_counted_again() -> None:
    registry, panel = CollectorRegistry(), Panel()
    ops = history(*SOUND, round_began(1), *written(WEB_0, 0), read(WEB_0, 0, finding="missing"), RESTARTED, ENDED)
    for op in ops[:-2]:
        panel.step(op)
    metrics = TargetMetrics(Metrics(registry), TARGET, "soak", panel)
    for op in ops[-2:]:
        assert registry.get_sample_value("chaosd_violations_open", {**THIS, "class": "lost"}) == 1
        panel.step(op)
        metrics.record(op)
    assert registry.get_sample_value("chaosd_violations_total", {**THIS, "class": "lost"}) == 0
    assert registry.get_sample_value("chaosd_run_verdict", {**THIS, "experiment": "soak", "verdict": "fail"}) == 1


def test_a_round_in_which_chaosd_died_has_no_duration() -> None:
    scraped = Scraped(*SOUND, Event(RUN, "round", Kind.INFO, {"round": 1, "error": "chaosd died"}))
    assert scraped("round_duration_seconds_count") in (None, 0)
