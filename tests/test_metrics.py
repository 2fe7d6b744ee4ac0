"""Metrics: their names and labels, zero from the start, and what each op of a history adds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chaosd import commands
from chaosd.adapters import open_ledger
from chaosd.checkers import Panel, Value
from chaosd.checkers.verdict import Class
from chaosd.cluster.target import Target
from chaosd.drill.table import Drilled
from chaosd.experiment import Experiment, load
from chaosd.history import NEMESIS, OBSERVER, RESTART, RUN, Event, Kind, Op
from chaosd.ledger import Run
from chaosd.metrics import Declared, Metrics, TargetMetrics
from chaosd.nemesis import DISRUPTIONS
from chaosd.run import Ending, Runner
from chaosd.settings import Settings
from tests import manifests
from tests.histories import (
    WEB_0,
    claim,
    converged,
    disrupted,
    disruption_done,
    history,
    not_converged,
    opened,
    pod,
    read,
    round_began,
    statefulset,
    unanswered,
    volume,
    watch,
    written,
)

TARGET = Target("default", "web", "uid", "app", "/data", "disk-ssd", 2, 0)
SOAK = load(Path(__file__).resolve().parents[1] / "experiments" / "soak.yaml")
THIS = {"namespace": "default", "statefulset": "web"}
# The names that are fixed, and those that were added since.
DESIGNED = {
    "writes_total",
    "written_bytes_total",
    "write_duration_seconds",
    "verifications_total",
    "verified_bytes_total",
    "verification_duration_seconds",
    "violations_total",
    "violations_open",
    "binding_checks_total",
    "binding_info",
    "disruptions_total",
    "disruptions_blocked_total",
    "recovery_duration_seconds",
    "records_at_risk",
    "bytes_at_risk",
    "owed_verifications",
    "last_verification_timestamp_seconds",
    "round",
    "round_duration_seconds",
    "target_replicas",
    "targets",
    "targets_empty_total",
    "run_verdict",
    "gate_last_verdict",
    "gate_last_timestamp_seconds",
    "drill_detected",
    "observer_errors_total",
    "leader",
    "build_info",
}
ADDED = {
    "convergence_duration_seconds",
    "recovery_limit_seconds",
    "held_until_timestamp_seconds",
    "gate_due_timestamp_seconds",
    "experiments",
    "paused",
    "webhook_deliveries_total",
    "ledger_size_bytes",
    "ledger_available_bytes",
}
EACH = ("target", "replica", "experiment")
FORBIDDEN_LABELS = {"run", "file", "pod", "pod_uid", "uid"}


class Scraped:
    """What a scrape would see after a history."""

    def __init__(self, *events: Event) -> None:
        self.registry = CollectorRegistry()
        panel = Panel()
        self.metrics = Metrics(self.registry)
        self.run = TargetMetrics(self.metrics, TARGET, SOAK, panel)
        for op in history(*events):
            panel.step(op)
            self.run.record(op)
        self.texts = list(self.metrics.texts())

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
                assert sample.name.startswith(("chaosd_run_", "chaosd_gate_"))


def test_every_metric_of_the_design_is_there() -> None:
    declared = {told.name.removeprefix("chaosd_") for told in Metrics(CollectorRegistry()).declared}
    assert declared >= DESIGNED
    assert declared - DESIGNED == ADDED


def test_a_scrape_is_told_what_the_client_would_tell() -> None:
    events = (*SOUND, round_began(1), *written(WEB_0, 0), disrupted("pod-delete", (WEB_0, "pod-0")), disruption_done())
    scraped = Scraped(*events, pod(0, "deleted"), pod(0, "added", "pod-2", ready=True), *converged(), ENDED)
    scraped.metrics.ended("default/web", 'a "quoted"\n\\name', "fail", 1.7e9)
    assert "".join(scraped.metrics.texts()) == scraped.text
    assert scraped("recovery_duration_seconds_count", phase="ready") == 1
    scraped.metrics.forget("default/web")
    assert "".join(scraped.metrics.texts()) == scraped.text


def test_series_grow_with_targets_and_with_nothing_else() -> None:
    metrics = Metrics(CollectorRegistry())
    series = {
        each: sum(d.series for d in metrics.declared if d.each == each) for each in ("target", "replica", "experiment")
    }
    kinds = sum(d.series for d in metrics.declared if "kind" in d.labels) // len(DISRUPTIONS)
    of_one = series["target"] - kinds * len(DISRUPTIONS) + kinds * 2 + series["replica"] * 2 + series["experiment"]
    before = _of_targets(metrics)
    for ordinal, name in enumerate(("one", "two", "three"), 1):
        _fill(metrics, replace(TARGET, statefulset=name))
        assert _of_targets(metrics) - before == ordinal * of_one


def _fill(metrics: Metrics, target: Target) -> None:
    """Every series that a target's soak can have, by feeding each metric all that its labels can be."""
    TargetMetrics(metrics, target, SOAK, Panel())
    labels = (target.namespace, target.statefulset)
    for family, declared in zip(metrics._families, metrics.declared, strict=True):
        if declared.each in ("process", "webhook"):
            continue
        at = declared.labels.index("kind") if "kind" in declared.labels else None
        for values in declared.values or ((),):
            if at is None or values[at] in ("pod-delete", "scale"):
                for more in _beside(declared):
                    family.labels(*labels, *more, *values)


def _beside(declared: Declared) -> list[tuple[str, ...]]:
    if declared.each == "replica":
        return [(str(ordinal), "claim", "volume", "handle", "node") for ordinal in (0, 1)]
    return [("soak",)] if declared.each == "experiment" else [()]


def _of_targets(metrics: Metrics) -> int:
    lines = "".join(metrics.texts()).splitlines()
    return sum(1 for line in lines if not line.startswith("#") and "namespace=" in line)


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


def test_what_was_never_acknowledged_and_is_not_there_is_not_missing() -> None:
    wrote = (*SOUND, round_began(1), *written(WEB_0, 0), *unanswered(WEB_0, 1))
    scraped = Scraped(*wrote, read(WEB_0, 1, finding="missing", cache=""), read(WEB_0, 0, finding="missing", cache=""))
    assert scraped("verifications_total", result="absent", cache="none") == 1
    assert scraped("verifications_total", result="missing", cache="none") == 1
    again = Scraped(*wrote, read(WEB_0, 1), ENDED, read(WEB_0, 1, finding="missing", cache=""))
    assert again("verifications_total", result="absent", cache="none") == 1


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
    metrics = TargetMetrics(Metrics(registry), TARGET, SOAK, panel)
    for op in ops[-2:]:
        assert registry.get_sample_value("chaosd_violations_open", {**THIS, "class": "lost"}) == 1
        panel.step(op)
        metrics.record(op)
    assert registry.get_sample_value("chaosd_violations_total", {**THIS, "class": "lost"}) == 0
    assert registry.get_sample_value("chaosd_run_verdict", {**THIS, "experiment": "soak", "verdict": "fail"}) == 1


def test_a_round_in_which_chaosd_died_has_no_duration() -> None:
    scraped = Scraped(*SOUND, Event(RUN, "round", Kind.INFO, {"round": 1, "error": "chaosd died"}))
    assert scraped("round_duration_seconds_count") in (None, 0)


def test_how_long_the_target_took_is_told_by_kind_of_disruption() -> None:
    began = (*SOUND, disrupted("pod-delete", (WEB_0, "pod-0")), disruption_done())
    scraped = Scraped(*began, *converged())
    assert scraped("convergence_duration_seconds_count", kind="pod-delete") == 1
    assert scraped("convergence_duration_seconds_sum", kind="pod-delete") == 3  # a second for each op
    given_up = Scraped(*began, *not_converged(WEB_0, "no pod"))
    assert given_up("convergence_duration_seconds_count", kind="pod-delete") == 1
    refused = Event(NEMESIS, "pod-delete", Kind.FAIL, {"blocked": "conflict"})
    assert (
        Scraped(*SOUND, disrupted(), refused, *converged())("convergence_duration_seconds_count", kind="pod-delete") is None
    )
    assert Scraped(*began, RESTARTED, *converged())("convergence_duration_seconds_count", kind="pod-delete") is None


def test_until_when_a_guard_holds_the_next_round_back() -> None:
    scraped = Scraped(*SOUND, Event(NEMESIS, "hold", Kind.FAIL, {"error": "night", "blocked": "blackout", "until": 900.0}))
    assert scraped("held_until_timestamp_seconds") == 900
    assert scraped("disruptions_blocked_total", reason="blackout") == 1


def test_what_is_only_true_of_a_run_goes_with_it_and_what_was_found_stays() -> None:
    scraped = Scraped(*SOUND, round_began(1), *written(WEB_0, 0), read(WEB_0, 0, finding="missing"), ENDED)
    assert scraped("owed_verifications") is not None
    scraped.run.close()
    for name in ("owed_verifications", "records_at_risk", "bytes_at_risk", "round"):
        assert scraped(name) is None
    assert scraped("violations_open", **{"class": "lost"}) == 1


def test_a_run_that_ended_late_does_not_speak_for_the_next_one() -> None:
    scraped = Scraped(*SOUND, *written(WEB_0, 0))
    TargetMetrics(scraped.metrics, TARGET, SOAK, Panel())
    scraped.run.close()
    list(scraped.metrics.texts())
    assert scraped("owed_verifications") == 0


def test_what_one_experiment_found_stays_open_while_another_has_its_turn() -> None:
    scraped = Scraped(*SOUND, round_began(1), *written(WEB_0, 0), read(WEB_0, 0, finding="missing"), ENDED)
    TargetMetrics(scraped.metrics, TARGET, SOAK.model_copy(update={"name": "other"}), Panel())
    assert scraped("violations_open", **{"class": "lost"}) == 1
    scraped.metrics.forget_experiment("other")
    assert scraped("violations_open", **{"class": "lost"}) == 1
    scraped.metrics.forget_experiment("soak")
    assert scraped("violations_open", **{"class": "lost"}) == 0


def test_a_new_run_on_a_target_tells_no_binding_of_the_one_before() -> None:
    scraped = Scraped(*SOUND)
    TargetMetrics(scraped.metrics, TARGET, SOAK, Panel())
    assert "chaosd_binding_info{" not in scraped.text


def test_verdicts_of_runs_that_ended() -> None:
    scraped = Scraped()
    scraped.metrics.ended("default/web", "gate", "fail", 100.0)
    scraped.metrics.ended("default/web", "gate", "pass", 200.0)
    scraped.metrics.due("default/web", "gate", 300.0)
    verdicts = {value: scraped("gate_last_verdict", experiment="gate", verdict=value) for value in Value}
    assert verdicts == {"pass": 1, "fail": 0, "unknown": 0}
    assert scraped("gate_last_timestamp_seconds", experiment="gate") == 200
    assert scraped("gate_due_timestamp_seconds", experiment="gate") == 300


def test_what_a_drill_found() -> None:
    scraped = Scraped()
    right = Drilled("a bit", "corrupt", ("corrupt",), "fail", 1, 1, 1.0, 1.0)
    missed = Drilled("a file", "lost", (), "pass", 1, None, None, 1.0)
    control = Drilled("nothing", "", (), "pass", 1, None, None, 1.0)
    for results, found in (([right, missed, right, control], {"corrupt": 1, "lost": 0}), ([right], {"corrupt": 1})):
        scraped.metrics.drilled(results)
        seen = re.findall(r'^chaosd_drill_detected{class="(\w+)"} (\S+)$', scraped.text, re.MULTILINE)
        assert {failure: float(value) for failure, value in seen} == found
    scraped.metrics.drilled([right, replace(missed, wanted="corrupt")])
    assert scraped.registry.get_sample_value("chaosd_drill_detected", {"class": "corrupt"}) == 0


def test_a_target_and_an_experiment_that_are_gone_take_their_series_with_them() -> None:
    scraped = Scraped(*SOUND, round_began(1), ENDED)
    scraped.metrics.ended("default/web", "soak", "pass", 1.0)
    TargetMetrics(scraped.metrics, replace(TARGET, statefulset="other"), SOAK, Panel())
    scraped.metrics.forget_experiment("soak")
    assert 'experiment="' not in scraped.text
    scraped.metrics.forget("default/web")
    assert 'statefulset="web"' not in "".join(scraped.metrics.texts())
    assert 'statefulset="other"' in scraped.text


def test_of_a_ledger_that_is_no_file_nothing_is_told() -> None:
    scraped = Scraped()
    for name in ("chaosd_ledger_size_bytes", "chaosd_ledger_available_bytes"):
        value = scraped.registry.get_sample_value(name)
        assert value is not None
        assert math.isnan(value)


async def test_counters_and_ledger_agree(tmp_path: Path) -> None:
    """A run, a fault planted in its disks, and its verification: what was counted of both is in the ledger."""
    manifest = tmp_path / "target.yaml"
    manifest.write_text(yaml.safe_dump(manifests.statefulset()))
    workload = {"files": 6, "size": "4Ki", "share": {"bytes": "16Mi", "files": 500}, "keep": 1.0}
    experiment = Experiment.model_validate(
        {
            "name": "counted",
            "target": {"statefulset": "web"},
            "workload": workload,
            "rounds": 2,
            "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}],
        }
    )
    settings = Settings(cluster="sandbox", out=tmp_path)
    registry = CollectorRegistry()
    metrics = Metrics(registry)

    def watch(target: Target, runner: Runner, _: Run) -> None:
        runner.journal.listen(TargetMetrics(metrics, target, experiment, runner.panel).record)

    assert not (await commands.run_experiment(settings, experiment, manifest, Ending(), watch=watch)).verdict.violations
    a_file = next(path for path in (tmp_path / "sandbox" / "disks").glob("*/.chaosd/*/0000*"))
    a_file.unlink()
    (verified,) = await commands.verify_runs(settings, None, Ending(), watch=watch)
    with open_ledger(settings) as ledger:
        run = ledger.run()
        assert run
        expected = _tally(ledger.history(run))
    expected += Counter({("violations_total", name): n for name, n in verified.verdict.violations_by_class.items()})
    assert expected["violations_total", "lost"] == 1
    assert expected["writes_total", "ok"] >= 24
    assert {key: value for key, value in _counted(registry).items() if value} == dict(expected)


def _tally(ops: Iterable[Op]) -> Counter[tuple[str, ...]]:
    """What a history should be counted as, by a reading of its own: name and labels of each counter, and of the count of
    each histogram."""
    found: Counter[tuple[str, ...]] = Counter()
    panel, disrupted_by = Panel(), ""
    in_doubt: set[tuple[str, int]] = set()
    for op in ops:
        panel.step(op)
        if op.process == NEMESIS:
            disrupted_by = _tally_nemesis(found, op, disrupted_by)
        elif op.process == OBSERVER:
            found.update(("recovery_duration_seconds_count", phase) for phase, _ in panel.recovery.reached)
            found["observer_errors_total", "watch_gap"] += op.f == "watch" and op.value["change"] == "gap"
            found["observer_errors_total", "unobservable"] += op.f == "unobservable"
        elif (op.f, op.kind) == ("round", Kind.OK):
            found["round_duration_seconds_count",] += 1
            found["binding_checks_total", str(panel.checkers["binding"].verdict().value)] += 1
        elif op.process != RUN and op.kind is not Kind.INVOKE:
            if (op.f, op.kind) == ("write", Kind.INFO):
                in_doubt.add((op.process, op.value["sequence"]))
            _tally_worker(found, op, in_doubt)
    return +found


def _tally_worker(found: Counter[tuple[str, ...]], op: Op, in_doubt: set[tuple[str, int]]) -> None:
    sure = op.kind is Kind.OK
    if op.f == "write":
        found["writes_total", str(op.kind)] += 1
        found["written_bytes_total",] += op.value["length"] if sure else 0
        found["write_duration_seconds_count",] += sure
    elif op.f == "read":
        records = sum(last - first + 1 for first, last in op.value["sequences"])
        if sure and op.value["finding"] == "intact":
            found["verifications_total", "intact", op.value["cache"]] += records
            found["verified_bytes_total", op.value["cache"]] += op.value["bytes"]
        elif sure:
            assert op.value["finding"] == "missing", "nothing else was planted"
            for first, last in op.value["sequences"]:
                for sequence in range(first, last + 1):
                    was = "absent" if (op.process, sequence) in in_doubt else "missing"
                    found["verifications_total", was, "none"] += 1
        else:
            found["verifications_total", "failed", "none"] += records
            found["observer_errors_total", "read"] += 1
        found["verification_duration_seconds_count",] += sure
    elif op.f == "open":
        found["observer_errors_total", "open"] += not sure


def _tally_nemesis(found: Counter[tuple[str, ...]], op: Op, disrupted_by: str) -> str:
    """What the target was disrupted by, as long as it has not converged."""
    if "blocked" in op.value:
        found["disruptions_blocked_total", op.value["blocked"]] += 1
    if op.f in DISRUPTIONS and op.kind is Kind.INVOKE:
        return op.f
    if op.f in DISRUPTIONS:
        found["disruptions_total", op.f, str(op.kind)] += 1
        return "" if op.kind is Kind.FAIL else disrupted_by
    if op.f == "converge" and op.kind in (Kind.OK, Kind.FAIL) and disrupted_by:
        found["convergence_duration_seconds_count", disrupted_by] += 1
    return "" if op.f == "converge" and op.kind is not Kind.INVOKE else disrupted_by


def _counted(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Every counter of a target, and the count of every histogram."""
    samples = (sample for family in registry.collect() for sample in family.samples if "statefulset" in sample.labels)
    return {
        (sample.name.removeprefix("chaosd_"), *list(sample.labels.values())[2:]): sample.value
        for sample in samples
        if sample.name.endswith(("_total", "_count"))
    }
