"""Every metric: declared in `Metrics`, fed from the history by `TargetMetrics.record`, and by whoever holds the process.

docs/metrics.md is made of what is declared here (`make docs`). Labels are bounded: namespace and StatefulSet, a kind, class
or outcome from a fixed set; never a run, a file or a pod's UID. Counters start at 0 in every combination that can come, so
that a first failure is seen as a rise; histograms, timestamps and verdicts appear with their first value. Source of the
conventions: Prometheus docs, "Metric and label naming", "Instrumentation", "Histograms and summaries".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from chaosd import __version__
from chaosd.checkers import Judgement, Panel, Value
from chaosd.checkers.integrity import LOST, MISSING, UNSETTLED
from chaosd.checkers.records import expand, how_many
from chaosd.checkers.recovery import PHASES
from chaosd.checkers.verdict import Class
from chaosd.cluster.target import Target
from chaosd.experiment import Experiment
from chaosd.exposition import Exposition, Family
from chaosd.guards import REASONS
from chaosd.history import NEMESIS, OBSERVER, RESTART, RUN, Kind, Op
from chaosd.nemesis import DISRUPTIONS
from chaosd.nemesis.base import BLOCKED
from chaosd.payload import State
from chaosd.requirements import Drilled

Made = TypeVar("Made", Counter, Gauge, Histogram)

PREFIX = "chaosd"
# In the text format each would be a gauge of its own, beside every counter and histogram.
disable_created_metrics()

TARGET = ("namespace", "statefulset")
# From a disk of one's own, through one behind a network, to a volume that hangs.
_PROBE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
# From a pod that is back at once, through a volume that must be attached elsewhere, to the usual limit.
_RECOVERY_BUCKETS = (2, 5, 15, 30, 60, 120, 300)
_ROUND_BUCKETS = (2, 10, 30, 120, 600, 1800)
_OUTCOMES = (Kind.OK, Kind.FAIL, Kind.INFO)
_REPLICA_STATES = ("wanted", "ready")
_OBSERVER_ERRORS = ("open", "read", "watch_gap", "unobservable")
_DELIVERIES = ("delivered", "failed")
_EXPERIMENT_STATES = ("loaded", "refused")

COLD, CACHED, NOT_READ = "cold", "cached", "none"  # what is not there, or could not be read, came from nowhere
_INTACT, _DAMAGED, _FAILED = "intact", "damaged", "failed"
_ABSENT = "absent"  # what was never acknowledged need not be there
# Everything else that bytes can be is damage; which, the class of its violation says.
_RESULT_OF: Mapping[str, str] = {State.INTACT: _INTACT, UNSETTLED: UNSETTLED, MISSING: MISSING, LOST: MISSING}
_VERIFICATIONS = (
    *product((_INTACT, UNSETTLED), (COLD, CACHED)),
    *product((_DAMAGED, MISSING), (COLD, CACHED, NOT_READ)),
    *product((_ABSENT, _FAILED), (NOT_READ,)),
)

_OF_NO_TARGET = ("process", "webhook")
_COUNTS_ANEW = "starts again at 0, as `rate()` and `increase()` expect"
_FROM_HISTORY = "comes back from the run's history"
_FROM_LEDGER = "is told again from the ledger"
_TOLD_ANEW = "is told anew"


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric as it is documented. `values` are all that its last `labels` can be together, for each `each` (target,
    replica, experiment, webhook, process); `again` is what a restart of the daemon does to it."""

    name: str
    type: str
    text: str
    each: str
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    buckets: tuple[float, ...]
    again: str

    @property
    def unit(self) -> str:
        """As the name tells; empty for what is counted."""
        if self.name.endswith("_timestamp_seconds"):
            return "s since 1970"
        words = self.name.split("_")
        return next((unit for word, unit in (("seconds", "s"), ("bytes", "B")) if word in words), "")

    @property
    def series(self) -> int:
        """How many there are for `each`, at most. A histogram has one for each bucket, +Inf, sum and count."""
        return max(1, len(self.values)) * (len(self.buckets) + 3 if self.buckets else 1)


class Metrics:
    """The metrics of one process. One registry, given from outside, so that tests have their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.declared: list[Declared] = []
        self._families: list[Family] = []
        self._registry = registry
        self._running: dict[str, TargetMetrics] = {}
        self._before_scrapes: list[Callable[[], None]] = []
        self._open: dict[str, dict[str, Mapping[Class, int]]] = {}  # by target and experiment
        self._declare_workload()
        self._declare_disruptions()
        self._declare_runs()
        self._declare_process()
        self._exposition = Exposition(self._families)

    def _declare_workload(self) -> None:
        """What is written, and read back."""
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.writes = counter(
            "writes_total",
            "Records written (files, values of registers, entries of logs), by outcome.",
            "outcome",
            values=product(_OUTCOMES),
        )
        self.written_bytes = counter("written_bytes_total", "Bytes of acknowledged records.")
        self.write_duration = histogram(
            "write_duration_seconds", "From the invocation of a record's write to its acknowledgement.", _PROBE_BUCKETS
        )
        self.verifications = counter(
            "verifications_total",
            "Records read back, by what they were, and whether past the page cache.",
            "result",
            "cache",
            values=_VERIFICATIONS,
        )
        self.verified_bytes = counter(
            "verified_bytes_total", "Bytes of records read back intact.", "cache", values=product((COLD, CACHED))
        )
        self.verification_duration = histogram(
            "verification_duration_seconds", "From the invocation of a batch of readings to its outcomes.", _PROBE_BUCKETS
        )
        self.owed = gauge(
            "owed_verifications",
            "Acknowledged records that must be there. Only while a run is under way.",
            again=_FROM_HISTORY,
        )
        self.records_at_risk = gauge(
            "records_at_risk",
            "Owed records that were not read since the last disruption. Only while a run is under way.",
            again=_FROM_HISTORY,
        )
        self.bytes_at_risk = gauge("bytes_at_risk", "Bytes of the records at risk.", again=_FROM_HISTORY)
        self.last_verification = gauge(
            "last_verification_timestamp_seconds",
            "When a record was last read intact.",
            again="appears with the first reading",
        )

    def _declare_disruptions(self) -> None:
        """What is done to the target, and how it comes back."""
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.disruptions = counter(
            "disruptions_total",
            "Disruptions, of those kinds that the experiment has, by what came of them.",
            "kind",
            "outcome",
            values=product(DISRUPTIONS, _OUTCOMES),
        )
        self.blocked = counter(
            "disruptions_blocked_total",
            "Disruptions that were not done, and rounds that a guard held back, by reason.",
            "reason",
            values=product((*BLOCKED, *REASONS)),
        )
        self.held_until = gauge(
            "held_until_timestamp_seconds",
            "Until when a guard holds the next round back, or held the last one that it did.",
            again="appears when a guard holds a round back",
        )
        self.recovery_duration = histogram(
            "recovery_duration_seconds",
            "From a disruption that takes a pod away to each phase in which its replica comes back.",
            _RECOVERY_BUCKETS,
            "phase",
            values=product(PHASES),
        )
        self.convergence_duration = histogram(
            "convergence_duration_seconds",
            "From a disruption, by its kind, until the whole target was as it is wanted, or was given up.",
            _RECOVERY_BUCKETS,
            "kind",
            values=product(DISRUPTIONS),
        )
        self.recovery_limit = gauge(
            "recovery_limit_seconds", "How long the target may take to converge, as the experiment says."
        )
        self.target_replicas = gauge(
            "target_replicas",
            "Replicas of the target, by state.",
            "state",
            values=product(_REPLICA_STATES),
        )
        self.binding_info = gauge(
            "binding_info",
            "1 for what each replica stands on, as its last session told.",
            "ordinal",
            "claim",
            "volume",
            "handle",
            "node",
            each="replica",
            again="comes back with each replica's first session",
        )

    def _declare_runs(self) -> None:
        """What is judged."""
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.violations = counter(
            "violations_total", "Violations found by this process, by class.", "class", values=product(Class)
        )
        self.violations_open = gauge(
            "violations_open",
            "Violations of the last run of each experiment on the target, from its history, by class. Alert on it.",
            "class",
            values=product(Class),
            again=_FROM_HISTORY,
        )
        self.binding_checks = counter(
            "binding_checks_total", "Rounds in which bindings were judged, by verdict.", "result", values=product(Value)
        )
        self.round = gauge("round", "The round under way. Only while a run is.", again=_FROM_HISTORY)
        self.round_duration = histogram("round_duration_seconds", "How long rounds took.", _ROUND_BUCKETS)
        self.run_verdict = gauge(
            "run_verdict",
            "1 for the verdict on the experiment's last run so far, from the end of a round on.",
            "experiment",
            "verdict",
            values=product(Value),
            each="experiment",
            again="appears with the end of a round",
        )
        self.gate_last_verdict = gauge(
            "gate_last_verdict",
            "1 for the verdict on the experiment's last run that has ended.",
            "experiment",
            "verdict",
            values=product(Value),
            each="experiment",
            again=_FROM_LEDGER,
        )
        self.gate_last_timestamp = gauge(
            "gate_last_timestamp_seconds", "When that run ended.", "experiment", each="experiment", again=_FROM_LEDGER
        )
        self.gate_due_timestamp = gauge(
            "gate_due_timestamp_seconds",
            "When the experiment's schedule begins the run whose verdict is awaited.",
            "experiment",
            each="experiment",
        )
        self.observer_errors = counter(
            "observer_errors_total",
            "What could not be seen, by reason.",
            "reason",
            values=product(_OBSERVER_ERRORS),
        )

    def _declare_process(self) -> None:
        """What the daemon tells of itself. Of a ledger nothing is known at first, and 0 would be an alarm."""
        counter, gauge = self._counter, self._gauge
        self.targets = gauge("targets", "Targets under test.", each="process")
        self.targets_empty = counter(
            "targets_empty_total", "How often an experiment found no target that it may test.", each="process"
        )
        self.experiments = gauge(
            "experiments",
            "Experiments, by whether their files were loaded or refused.",
            "state",
            values=product(_EXPERIMENT_STATES),
            each="process",
        )
        self.paused = gauge(
            "paused",
            "Experiments that the kill switch, or a closed window of a guard, keeps from their targets.",
            each="process",
        )
        self.leader = gauge("leader", "1 for the process that acts, 0 for one that waits for its turn.", each="process")
        self.drill_detected = gauge(
            "drill_detected",
            "1 where every fault of the class that the last drill planted was found under its own name, else 0.",
            "class",
            values=product(Class),
            each="process",
            again="appears with the first drill",
        )
        self.webhook_deliveries = counter(
            "webhook_deliveries_total",
            "Runs of gates that were told by a webhook, or were given up.",
            "webhook",
            "outcome",
            values=product(_DELIVERIES),
            each="webhook",
        )
        self.ledger_size = gauge(
            "ledger_size_bytes", "Size of the ledger: of its files, or of the database that it is in.", each="process"
        )
        self.ledger_available = gauge(
            "ledger_available_bytes", "What is free where the ledger is; NaN where it is no file.", each="process"
        )
        build = gauge(
            "build_info", "1 for the version that this chaosd is.", "version", values=[(__version__,)], each="process"
        )
        build.labels(__version__).set(1)
        for state in _EXPERIMENT_STATES:
            self.experiments.labels(state)
        self.ledger_size.set(math.nan)
        self.ledger_available.set(math.nan)

    def _counter(self, name: str, text: str, *labels: str, **about: Any) -> Counter:
        return self._declare(Counter, name, text, labels, **{"again": _COUNTS_ANEW, **about})

    def _gauge(self, name: str, text: str, *labels: str, **about: Any) -> Gauge:
        return self._declare(Gauge, name, text, labels, **{"again": _TOLD_ANEW, **about})

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str, **about: Any) -> Histogram:
        return self._declare(Histogram, name, text, labels, **{"again": _COUNTS_ANEW, "buckets": buckets, **about})

    def _declare(
        self,
        make: Callable[..., Made],
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        again: str,
        values: Iterable[tuple[str, ...]] = (),
        each: str = "target",
        buckets: Sequence[float] = (),
    ) -> Made:
        all_labels = tuple(labels) if each in _OF_NO_TARGET else (*TARGET, *labels)
        more = {"buckets": buckets} if buckets else {}
        family = make(f"{PREFIX}_{name}", text, all_labels, registry=self._registry, **more)
        type_ = next(iter(family.describe())).type
        told = (f"{PREFIX}_{name}", type_, text, each, tuple(labels), tuple(values), tuple(buckets), again)
        self.declared.append(Declared(*told))
        self._families.append(family)
        return family

    def texts(self) -> Iterator[str]:
        """What a scrape is told, in parts, so that whoever serves it can do something else between two."""
        for measure in self._before_scrapes:
            measure()
        for target in list(self._running.values()):
            target.refresh()
            yield ""
        yield from self._exposition.texts()

    def before_scrapes(self, measure: Callable[[], None]) -> None:
        """Have `measure` set what is only known when it is asked for."""
        self._before_scrapes.append(measure)

    def webhooks(self, names: Iterable[str]) -> None:
        """That these are there, by which nothing was told yet."""
        for name in names:
            for outcome in _DELIVERIES:
                self.webhook_deliveries.labels(name, outcome)

    def ended(self, target: str, experiment: str, verdict: str, at: float) -> None:
        """That a run of an experiment on a target (`NAMESPACE/STATEFULSET`) ended `at` seconds since the epoch."""
        labels = (*target.split("/"), experiment)
        for value in Value:
            self.gate_last_verdict.labels(*labels, value).set(value == verdict)
        self.gate_last_timestamp.labels(*labels).set(at)

    def due(self, target: str, experiment: str, at: float) -> None:
        """When the run begins whose verdict is awaited next, in seconds since the epoch. To be told when the experiment is
        loaded and when a run of it has ended, not when one begins: one that never ends is to be missed."""
        self.gate_due_timestamp.labels(*target.split("/"), experiment).set(at)

    def drilled(self, results: Iterable[Drilled]) -> None:
        """What came of a drill. Of classes that it did not plant nothing is told any more."""
        found: dict[Class, bool] = {}
        for result in results:
            if result.wanted in set(Class):
                failure = Class(result.wanted)
                found[failure] = found.get(failure, True) and result.right
        self.drill_detected.clear()
        for failure, right in found.items():
            self.drill_detected.labels(failure).set(right)

    def start(self, target: str, kinds: Iterable[str]) -> None:
        """Counters of a target at 0, in every combination that can come where these kinds of disruption are drawn."""
        drawn = set(kinds)
        for family, declared in zip(self._families, self.declared, strict=True):
            if isinstance(family, Counter) and declared.each == "target":
                at = declared.labels.index("kind") if "kind" in declared.labels else None
                for values in declared.values or ((),):
                    if at is None or values[at] in drawn:
                        family.labels(*target.split("/"), *values)

    def found(self, target: str, experiment: str, violations: Mapping[Class, int]) -> None:
        """What is open of the experiment's last run. Others may take turns with it on the same target."""
        self._open.setdefault(target, {})[experiment] = violations
        self._tell_open(target)

    def _tell_open(self, target: str) -> None:
        for failure in Class:
            of_all = sum(violations[failure] for violations in self._open[target].values())
            self.violations_open.labels(*target.split("/"), failure).set(of_all)

    def follow(self, target: str, metrics: TargetMetrics) -> None:
        """What is counted when it is asked for, these tell from now on."""
        self._running[target] = metrics

    def rest(self, target: str, metrics: TargetMetrics) -> None:
        """They do not any more, since their run has ended; nothing where another's run has begun meanwhile."""
        if self._running.get(target) is metrics:
            del self._running[target]
            for family in (self.owed, self.records_at_risk, self.bytes_at_risk, self.round):
                family.remove(*target.split("/"))

    def forget(self, target: str) -> None:
        """Remove every series of a target that is not tested any more."""
        self._running.pop(target, None)
        self._open.pop(target, None)
        for family, declared in zip(self._families, self.declared, strict=True):
            if declared.each not in _OF_NO_TARGET:
                family.remove_by_labels(dict(zip(TARGET, target.split("/"), strict=True)))

    def forget_experiment(self, experiment: str) -> None:
        """Remove every series of an experiment that is not there any more."""
        for family, declared in zip(self._families, self.declared, strict=True):
            if declared.each == "experiment":
                family.remove_by_labels({"experiment": experiment})
        for target, found in self._open.items():
            if found.pop(experiment, None):
                self._tell_open(target)


class TargetMetrics:
    """The metrics of one run on one target; a listener of its journal."""

    def __init__(self, metrics: Metrics, target: Target, experiment: Experiment, panel: Panel) -> None:
        self._metrics = metrics
        self._target = target.key
        self._labels = (target.namespace, target.statefulset)
        self._experiment = experiment.name
        self._panel = panel
        self._invoked_at: dict[str, float] = {}
        self._round_began = 0.0
        self._disrupted: tuple[str, float] | None = None
        self._counted: dict[Class, int] = {}
        self._bindings: dict[str, tuple[str, ...]] = {}
        # Sequences of writes that were never answered, by replica.
        self._in_doubt = {name: set(replica.maybe) for name, replica in panel.integrity.replicas.items()}
        self._latest, self._refreshed = -1, -2
        self._initialise(experiment)
        self._recall(panel.judge())

    def close(self) -> None:
        """The run has ended: what was found stays, and what is only true of a run that is under way goes."""
        self._metrics.rest(self._target, self)

    def refresh(self) -> None:
        """What is counted only when it is asked for: the records are many, and change with every op."""
        if self._refreshed == self._latest:
            return
        self._refreshed = self._latest
        metrics, labels = self._metrics, self._labels
        replicas = self._panel.integrity.replicas.values()
        at_risk = [record.length for replica in replicas for record in replica.at_risk()]
        metrics.owed.labels(*labels).set(sum(len(replica.owed) for replica in replicas))
        metrics.records_at_risk.labels(*labels).set(len(at_risk))
        metrics.bytes_at_risk.labels(*labels).set(sum(at_risk))

    def record(self, op: Op) -> None:
        """Take in the next op, after the checkers did."""
        self._latest = op.index
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
        self._metrics.found(self._target, self._experiment, self._counted)

    def _initialise(self, experiment: Experiment) -> None:
        metrics, labels = self._metrics, self._labels
        steps = (step.disrupt for step in experiment.steps)
        metrics.start(self._target, {move.kind for move in (*experiment.disruptions, *steps) if move})
        metrics.binding_info.remove_by_labels(dict(zip(TARGET, labels, strict=True)))  # of an earlier run
        metrics.recovery_limit.labels(*labels).set(experiment.timeouts.converge)
        metrics.round.labels(*labels).set(0)
        metrics.follow(self._target, self)

    def _written(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        metrics.writes.labels(*labels, op.kind).inc()
        if op.kind is Kind.INFO:
            self._in_doubt.setdefault(op.process, set()).add(op.value["sequence"])
        elif op.kind is Kind.OK:
            metrics.written_bytes.labels(*labels).inc(op.value["length"])
            metrics.write_duration.labels(*labels).observe(op.time - self._invoked_at.get(op.process, op.time))

    def _read(self, op: Op) -> None:
        metrics, labels = self._metrics, self._labels
        records = how_many(op.value.get("sequences", ()))
        if op.kind is not Kind.OK:
            metrics.verifications.labels(*labels, _FAILED, NOT_READ).inc(records)
            metrics.observer_errors.labels(*labels, "read").inc()
            return
        result, cache = _RESULT_OF.get(op.value["finding"], _DAMAGED), op.value.get("cache") or NOT_READ
        if result == MISSING:
            in_doubt = self._in_doubt.get(op.process, set())
            absent = sum(sequence in in_doubt for sequence in expand(op.value["sequences"]))
            metrics.verifications.labels(*labels, _ABSENT, NOT_READ).inc(absent)
            records -= absent
        metrics.verifications.labels(*labels, result, cache).inc(records)
        metrics.verification_duration.labels(*labels).observe(op.time - self._invoked_at.get(op.process, op.time))
        if result in (_INTACT, UNSETTLED):
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
        if op.f in DISRUPTIONS:
            self._disruption(op)
        elif op.f == "converge" and op.kind is not Kind.INVOKE:
            if self._disrupted and op.kind is not Kind.INFO:
                kind, began = self._disrupted
                metrics.convergence_duration.labels(*labels, kind).observe(op.time - began)
            self._disrupted = None
        elif op.f == "hold":
            metrics.held_until.labels(*labels).set(op.value["until"])
        if reason := op.value.get("blocked"):
            metrics.blocked.labels(*labels, reason).inc()

    def _disruption(self, op: Op) -> None:
        if op.kind is Kind.INVOKE:
            self._disrupted = (op.f, op.time)
            return
        self._metrics.disruptions.labels(*self._labels, op.f, op.kind).inc()
        if op.kind is Kind.FAIL:
            self._disrupted = None  # surely nothing happened

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
        if op.f == RESTART:
            self._disrupted = None  # nobody watched: how long it took is not known
            metrics.round.labels(*labels).set(op.value["round"])
        if op.f != "round":
            return
        if op.kind is Kind.INVOKE:
            self._round_began = op.time
            metrics.round.labels(*labels).set(op.value["round"])
        if op.kind is not Kind.OK:
            return
        metrics.round_duration.labels(*labels).observe(op.time - self._round_began)
        for replica, sequences in self._in_doubt.items():
            sequences.intersection_update(self._panel.integrity.replicas[replica].maybe)
        judgement = self._panel.judge()
        binding = next(v for v in judgement.verdicts if v.checker == "binding")
        metrics.binding_checks.labels(*labels, binding.value).inc()
        self.judged(judgement)
