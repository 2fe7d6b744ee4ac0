"""Every metric, and `record`, which feeds them from the history.

Names and labels are fixed in ARCHITECTURE.md, "Metrics". Labels are bounded: namespace and StatefulSet, a kind, class or
outcome from a fixed set; never a run, a file or a pod's UID. Counters start at 0 in every combination, so that a first
failure is seen as a rise; histograms and timestamps appear with their first value. Source of the conventions: Prometheus
docs, "Metric and label naming", "Instrumentation".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics

from chaosd import __version__
from chaosd.checkers import Judgement, Panel, Value
from chaosd.checkers.integrity import LOST, MISSING, UNSETTLED
from chaosd.checkers.records import how_many
from chaosd.checkers.verdict import Class
from chaosd.cluster.target import Target
from chaosd.guards import REASONS
from chaosd.history import NEMESIS, OBSERVER, RUN, Kind, Op
from chaosd.nemesis import DISRUPTIONS
from chaosd.nemesis.base import BLOCKED
from chaosd.payload import State

PREFIX = "chaosd"
# In the text format each would be a gauge of its own, beside every counter and histogram.
disable_created_metrics()
_TARGET = ("namespace", "statefulset")
_WRITE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECOVERY_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_OUTCOMES = (Kind.OK, Kind.FAIL, Kind.INFO)
_RESULTS = (*State, MISSING, LOST, UNSETTLED, "failed")
_CACHES = ("cold", "cached")
_NOT_READ = "none"  # what was not read, or is not there, came from nowhere
_REPLICA_STATES = ("wanted", "ready")
_OBSERVER_ERRORS = ("open", "read", "watch_gap", "unobservable")


class Metrics:
    """The metrics of one process. One registry, given from outside, so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", text, (*_TARGET, *labels), registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"{PREFIX}_{name}", text, (*_TARGET, *labels), registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", text, (*_TARGET, *labels), registry=registry, buckets=buckets)

        self.writes = counter("writes_total", "Records written, by outcome.", "outcome")
        self.written_bytes = counter("written_bytes_total", "Bytes of acknowledged records.")
        self.write_duration = histogram(
            "write_duration_seconds", "From a record's invocation to its acknowledgement.", _WRITE_BUCKETS
        )
        self.verifications = counter("verifications_total", "Records read back, by what they were.", "result", "cache")
        self.verified_bytes = counter("verified_bytes_total", "Bytes of records read back intact.", "cache")
        self.verification_duration = histogram(
            "verification_duration_seconds", "From a reading's invocation to its outcome, a batch each.", _WRITE_BUCKETS
        )
        self.violations = counter("violations_total", "Violations found, by class.", "class")
        self.violations_open = gauge("violations_open", "Violations of the present run in its ledger.", "class")
        self.binding_checks = counter("binding_checks_total", "Rounds in which bindings were judged.", "result")
        self.binding_info = gauge(
            "binding_info", "1 for what each replica stands on.", "ordinal", "claim", "volume", "handle", "node"
        )
        self.disruptions = counter("disruptions_total", "Disruptions, by what came of them.", "kind", "outcome")
        self.blocked = counter("disruptions_blocked_total", "Disruptions that were not done, by reason.", "reason")
        self.recovery_duration = histogram(
            "recovery_duration_seconds", "From a disruption to each phase of recovery.", _RECOVERY_BUCKETS, "phase"
        )
        self.records_at_risk = gauge("records_at_risk", "Owed records not read since the last disruption.")
        self.bytes_at_risk = gauge("bytes_at_risk", "Bytes of those records.")
        self.owed = gauge("owed_verifications", "Acknowledged records that must be there.")
        self.last_verification = gauge("last_verification_timestamp_seconds", "When a record was last read intact.")
        self.round = gauge("round", "The round under way.")
        self.round_duration = histogram("round_duration_seconds", "How long rounds took.", _RECOVERY_BUCKETS)
        self.target_replicas = gauge("target_replicas", "Replicas of the target, by state.", "state")
        self.observer_errors = counter("observer_errors_total", "What could not be seen, by reason.", "reason")
        self.targets = Gauge(f"{PREFIX}_targets", "Targets under test.", registry=registry)
        self.run_verdict = Gauge(
            f"{PREFIX}_run_verdict",
            "1 for the verdict of the experiment's run so far.",
            (*_TARGET, "experiment", "verdict"),
            registry=registry,
        )
        Info(f"{PREFIX}_build", "Which chaosd this is.", registry=registry).info({"version": __version__})


class TargetMetrics:
    """The metrics of one run on one target; a listener of its journal."""

    def __init__(self, metrics: Metrics, target: Target, experiment: str, panel: Panel) -> None:
        self._metrics = metrics
        self._labels = (target.namespace, target.statefulset)
        self._experiment = experiment
        self._panel = panel
        self._invoked_at: dict[str, float] = {}
        self._round_began = 0.0
        self._counted: dict[Class, int] = {}
        self._bindings: dict[str, tuple[str, ...]] = {}
        self._initialise()
        self._recall(panel.judge())

    def record(self, op: Op) -> None:
        """Take in the next op, after the checkers did."""
        if op.process == OBSERVER:
            self._observed(op)
        elif op.process == NEMESIS:
            self._nemesis(op)
        elif op.process == RUN:
            self._run(op)
        elif op.kind is Kind.INVOKE:
            self._invoked_at[op.process] = op.time
        elif op.f == "write":
            self._written(op)
        elif op.f == "read":
            self._read(op)
        elif op.f == "open":
            self._opened(op)

    def judged(self, judgement: Judgement) -> None:
        """Take in what the checkers say now."""
        before = self._counted
        self._recall(judgement)
        for failure, count in self._counted.items():
            self._metrics.violations.labels(*self._labels, failure).inc(max(0, count - before[failure]))
        for value in Value:
            labels = (*self._labels, self._experiment, value)
            self._metrics.run_verdict.labels(*labels).set(1 if value is judgement.value else 0)

    def _recall(self, judgement: Judgement) -> None:
        """What was found, by whichever chaosd, is open; counted is only what this one finds."""
        self._counted = dict.fromkeys(Class, 0)
        for violation in judgement.violations:
            self._counted[violation.failure] += 1
        for failure, count in self._counted.items():
            self._metrics.violations_open.labels(*self._labels, failure).set(count)

    def _initialise(self) -> None:
        metrics, labels = self._metrics, self._labels
        for family, values in self._zeroes():
            for value in values:
                family.labels(*labels, *value)
        for plain in (metrics.written_bytes, metrics.round):
            plain.labels(*labels)
        # Counted when they are scraped: the records are many, and change with every op.
        replicas = self._panel.integrity.replicas
        metrics.owed.labels(*labels).set_function(lambda: sum(len(r.owed) for r in replicas.values()))
        metrics.records_at_risk.labels(*labels).set_function(lambda: len(self._at_risk()))
        metrics.bytes_at_risk.labels(*labels).set_function(lambda: sum(self._at_risk()))

    def _zeroes(self) -> Iterable[tuple[Counter | Gauge, Iterable[tuple[str, ...]]]]:
        metrics = self._metrics
        yield metrics.writes, ((str(outcome),) for outcome in _OUTCOMES)
        yield metrics.verifications, ((result, cache) for result in _RESULTS for cache in (*_CACHES, _NOT_READ))
        yield metrics.verified_bytes, ((cache,) for cache in _CACHES)
        yield metrics.violations, ((str(failure),) for failure in Class)
        yield metrics.binding_checks, ((str(value),) for value in Value)
        yield metrics.disruptions, ((kind, str(outcome)) for kind in DISRUPTIONS for outcome in _OUTCOMES)
        yield metrics.blocked, ((reason,) for reason in (*BLOCKED, *REASONS))
        yield metrics.target_replicas, ((state,) for state in _REPLICA_STATES)
        yield metrics.observer_errors, ((reason,) for reason in _OBSERVER_ERRORS)

    def _at_risk(self) -> list[int]:
        """Bytes of each owed record that was not read since the last disruption."""
        return [record.length for r in self._panel.integrity.replicas.values() for record in r.at_risk()]

    def _written(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        metrics.writes.labels(*labels, op.kind).inc()
        if op.kind is Kind.OK:
            metrics.written_bytes.labels(*labels).inc(op.value["length"])
            metrics.write_duration.labels(*labels).observe(op.time - self._invoked_at.get(op.process, op.time))

    def _read(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        records = how_many(op.value.get("sequences", ()))
        cache = op.value.get("cache") or _NOT_READ
        if op.kind is not Kind.OK:
            metrics.verifications.labels(*labels, "failed", cache).inc(records)
            metrics.observer_errors.labels(*labels, "read").inc()
            return
        finding = op.value["finding"]
        metrics.verifications.labels(*labels, finding, cache).inc(records)
        metrics.verification_duration.labels(*labels).observe(op.time - self._invoked_at.get(op.process, op.time))
        if finding in (State.INTACT, UNSETTLED):
            metrics.verified_bytes.labels(*labels, cache).inc(op.value["bytes"])
            metrics.last_verification.labels(*labels).set(op.time)

    def _opened(self, op: Op) -> None:
        if op.kind is not Kind.OK:
            self._metrics.observer_errors.labels(*self._labels, "open").inc()
            return
        binding = op.value["binding"]
        ordinal = op.process.rpartition("-")[2]
        labels = (ordinal, binding["claim"], binding["volume"], binding["handle"], binding["node"])
        before = self._bindings.get(op.process)
        if before and before != labels:
            self._metrics.binding_info.remove(*self._labels, *before)
        self._bindings[op.process] = labels
        self._metrics.binding_info.labels(*self._labels, *labels).set(1)

    def _nemesis(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        if op.f in DISRUPTIONS and op.kind is not Kind.INVOKE:
            metrics.disruptions.labels(*labels, op.f, op.kind).inc()
        if reason := op.value.get("blocked"):
            metrics.blocked.labels(*labels, reason).inc()

    def _observed(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        if op.f == "statefulset":
            metrics.target_replicas.labels(*labels, "wanted").set(op.value.get("replicas", 0))
            metrics.target_replicas.labels(*labels, "ready").set(op.value.get("ready_replicas", 0))
        elif op.f == "watch" and op.value["change"] == "gap":
            metrics.observer_errors.labels(*labels, "watch_gap").inc()
        elif op.f == "unobservable":
            metrics.observer_errors.labels(*labels, "unobservable").inc()
        for phase, seconds in self._panel.recovery.reached:
            metrics.recovery_duration.labels(*labels, phase).observe(seconds)

    def _run(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        if op.f != "round":
            return
        if op.kind is Kind.INVOKE:
            self._round_began = op.time
            metrics.round.labels(*labels).set(op.value["round"])
        if op.kind is not Kind.OK:
            return
        metrics.round_duration.labels(*labels).observe(op.time - self._round_began)
        judgement = self._panel.judge()
        binding = next(v for v in judgement.verdicts if v.checker == "binding")
        metrics.binding_checks.labels(*labels, binding.value).inc()
        self.judged(judgement)
