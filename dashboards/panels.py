"""What the dashboard shows: rows of panels, each with its queries. A new metric gets a panel here, or a reason why not.

Everything is added up, or the largest is taken, over `job` and `instance`: restarts and several daemons change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

TARGET = 'namespace=~"$namespace", statefulset=~"$statefulset"'
EXPERIMENT = f'{TARGET}, experiment=~"$experiment"'
BY_TARGET = "by (namespace, statefulset)"
BY_EXPERIMENT = "by (namespace, statefulset, experiment)"
NAMED = "{{namespace}}/{{statefulset}}"
RATE = "[$__rate_interval]"

# Metrics that no panel shows, each with the reason.
WITHOUT_PANEL: Mapping[str, str] = {
    "chaosd_violations_total": "it counts anew after a restart: what is open is shown, from the history",
    "chaosd_webhook_deliveries_total": "verdicts are shown; this is of a way to tell them, for alerts of one's own",
}


class Look(StrEnum):
    """Grafana's kinds of panels that are used."""

    STAT = "stat"
    LINES = "timeseries"
    BARS = "barchart"  # a timeseries drawn as bars
    HEATMAP = "heatmap"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and the legend of what it gives."""

    expr: str
    legend: str = NAMED


@dataclass(frozen=True, slots=True)
class Panel:
    """`width` is in Grafana's 24 columns; `unit` one of its names; `words` what values mean, each with its colour;
    `thresholds` from which value on a colour is meant."""

    title: str
    look: Look
    queries: tuple[Query, ...]
    about: str
    unit: str = "short"
    width: int = 8
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def _coded(metric: str) -> str:
    """A verdict as a number: 0 pass, 1 unknown, 2 fail."""
    chosen = f"max {BY_EXPERIMENT} ({metric}{{{EXPERIMENT}, verdict="
    return f'2 * {chosen}"fail"}}) + {chosen}"unknown"}})'


def _percentiles(metric: str, by: str, what: str = "") -> tuple[Query, ...]:
    legend = f"{{{{{by}}}}} {what}".strip()
    summed = f"sum by (le, {by}) (rate({metric}_bucket{{{TARGET}}}{RATE}))"
    return tuple(Query(f"histogram_quantile({share}, {summed})", f"{legend} p{share * 100:.0f}") for share in (0.5, 0.95))


_VERDICTS = {0: ("pass", "green"), 1: ("unknown", "orange"), 2: ("fail", "red")}
_NONE_IS_WELL = ((None, "green"), (1.0, "red"))
_YES = {0: ("no", "text"), 1: ("yes", "green")}

ROWS: tuple[Row, ...] = (
    Row(
        "Is the data safe?",
        (
            Panel(
                "Verdict so far",
                Look.STAT,
                (Query(_coded("chaosd_run_verdict"), f"{NAMED} {{{{experiment}}}}"),),
                "Of the run under way, or of the last one. What was seen broken once stays in the verdict of its run.",
                words=_VERDICTS,
                width=5,
            ),
            Panel(
                "Last read intact, ago",
                Look.STAT,
                (Query(f"time() - max {BY_TARGET} (chaosd_last_verification_timestamp_seconds{{{TARGET}}})"),),
                "The age of what is known: nothing says that data are there which nobody has read since.",
                unit="s",
                thresholds=((None, "green"), (7200, "orange")),
                width=4,
            ),
            Panel(
                "Open violations",
                Look.STAT,
                (Query(f"sum {BY_TARGET} (max by (namespace, statefulset, class) (chaosd_violations_open{{{TARGET}}}))"),),
                "Promises that were broken. One is too many.",
                thresholds=_NONE_IS_WELL,
                width=4,
            ),
            Panel(
                "Last run that ended",
                Look.STAT,
                (Query(_coded("chaosd_gate_last_verdict"), f"{NAMED} {{{{experiment}}}}"),),
                "Of experiments with a schedule: the verdict that gates wait for.",
                words=_VERDICTS,
                width=5,
            ),
            Panel(
                "It ended, ago",
                Look.STAT,
                (
                    Query(
                        f"time() - max {BY_EXPERIMENT} (chaosd_gate_last_timestamp_seconds{{{EXPERIMENT}}})",
                        f"{NAMED} {{{{experiment}}}}",
                    ),
                ),
                "How old that verdict is.",
                unit="s",
                width=3,
            ),
            Panel(
                "The next is due in",
                Look.STAT,
                (
                    Query(
                        f"max {BY_EXPERIMENT} (chaosd_gate_due_timestamp_seconds{{{EXPERIMENT}}}) - time()",
                        f"{NAMED} {{{{experiment}}}}",
                    ),
                ),
                "Negative while a run that was due has not ended.",
                unit="s",
                thresholds=((None, "red"), (-21600, "green")),
                width=3,
            ),
        ),
    ),
    Row(
        "Durability",
        (
            Panel(
                "Records read intact, of all that were read",
                Look.LINES,
                tuple(
                    Query(f"namespace_statefulset:chaosd_durability:ratio{window}{{{TARGET}}}", f"{NAMED} in {window}")
                    for window in ("1h", "1d", "30d")
                ),
                "The durability SLI, by window. Only what was acknowledged, and could be read, counts.",
                unit="percentunit",
                width=6,
            ),
            Panel(
                "Open violations by class",
                Look.LINES,
                (
                    Query(
                        f"sum by (class) (max by (namespace, statefulset, class) (chaosd_violations_open{{{TARGET}}})) > 0"
                        f" or sum (chaosd_violations_open{{{TARGET}}}) == 0",
                        "{{class}}",
                    ),
                ),
                "docs/failures.md says what each class means, and what to look at next.",
                width=6,
            ),
            Panel(
                "Records owed, and at risk",
                Look.LINES,
                (
                    Query(f"sum (chaosd_owed_verifications{{{TARGET}}})", "owed"),
                    Query(f"sum (chaosd_records_at_risk{{{TARGET}}})", "not read since the last disruption"),
                ),
                "What must be there, and how much of it nobody has looked at since something happened.",
                width=6,
            ),
            Panel(
                "Bytes at risk",
                Look.LINES,
                (Query(f"sum (chaosd_bytes_at_risk{{{TARGET}}})", "not read since the last disruption"),),
                "The same, in bytes.",
                unit="bytes",
                width=6,
            ),
        ),
    ),
    Row(
        "Recovery",
        (
            Panel(
                "Replicas that came back, by seconds",
                Look.HEATMAP,
                (
                    Query(
                        f'sum by (le) (increase(chaosd_recovery_duration_seconds_bucket{{{TARGET}, phase="ready"}}{RATE}))',
                        "{{le}}",
                    ),
                ),
                "From the disruption that took the pod away until its successor was Ready.",
                unit="s",
                width=6,
            ),
            Panel(
                "Recovery by phase",
                Look.LINES,
                _percentiles("chaosd_recovery_duration_seconds", "phase"),
                "When the old pod was gone, the new one had a node, its volume was attached there, it was Ready.",
                unit="s",
                width=6,
            ),
            Panel(
                "Targets that were whole again, by seconds",
                Look.HEATMAP,
                (Query(f"sum by (le) (increase(chaosd_convergence_duration_seconds_bucket{{{TARGET}}}{RATE}))", "{{le}}"),),
                "From a disruption of any kind until all replicas were as they are wanted.",
                unit="s",
                width=6,
            ),
            Panel(
                "Recovery by kind of disruption",
                Look.LINES,
                (
                    *_percentiles("chaosd_convergence_duration_seconds", "kind"),
                    Query(f"max (chaosd_recovery_limit_seconds{{{TARGET}}})", "limit"),
                ),
                "The whole target, against the limit of its experiment.",
                unit="s",
                width=6,
            ),
            Panel(
                "Disruptions after which the target was whole within 120 s",
                Look.LINES,
                tuple(
                    Query(f"namespace_statefulset:chaosd_recovery:ratio{window}{{{TARGET}}}", f"{NAMED} in {window}")
                    for window in ("6h", "3d", "30d")
                ),
                "The recovery SLI; its objective is 95 % in 30 days.",
                unit="percentunit",
                width=12,
            ),
            Panel(
                "Replicas",
                Look.LINES,
                (
                    Query(
                        f"sum by (state) (max by (namespace, statefulset, state) (chaosd_target_replicas{{{TARGET}}}))",
                        "{{state}}",
                    ),
                ),
                "Wanted and ready, as the StatefulSet tells.",
                width=12,
            ),
        ),
    ),
    Row(
        "Write and verify",
        (
            Panel(
                "Records written",
                Look.LINES,
                (Query(f"sum by (outcome) (rate(chaosd_writes_total{{{TARGET}}}{RATE}))", "{{outcome}}"),),
                "`ok` was acknowledged, `fail` was surely not, of `info` nobody knows.",
                unit="wps",
                width=6,
            ),
            Panel(
                "Records read back",
                Look.LINES,
                (
                    Query(
                        f"sum by (result, cache) (rate(chaosd_verifications_total{{{TARGET}}}{RATE})) > 0",
                        "{{result}} {{cache}}",
                    ),
                ),
                "Cold readings went past the page cache, so they came from the volume; cached ones prove little.",
                unit="rps",
                width=6,
            ),
            Panel(
                "Bytes",
                Look.LINES,
                (
                    Query(f"sum (rate(chaosd_written_bytes_total{{{TARGET}}}{RATE}))", "written"),
                    Query(f"sum by (cache) (rate(chaosd_verified_bytes_total{{{TARGET}}}{RATE}))", "read {{cache}}"),
                ),
                "What chaosd takes of the storage.",
                unit="Bps",
                width=6,
            ),
            Panel(
                "How long a write and a reading take",
                Look.LINES,
                tuple(
                    query
                    for what in ("write", "verification")
                    for query in _percentiles(f"chaosd_{what}_duration_seconds", "namespace", what)
                ),
                "A batch each. A volume that becomes slow shows here first.",
                unit="s",
                width=6,
            ),
        ),
    ),
    Row(
        "Disruptions",
        (
            Panel(
                "Disruptions",
                Look.BARS,
                (
                    Query(
                        f"sum by (kind, outcome) (increase(chaosd_disruptions_total{{{TARGET}}}{RATE})) > 0",
                        "{{kind}} {{outcome}}",
                    ),
                ),
                "Each that happened is an annotation in every panel, too.",
                width=10,
            ),
            Panel(
                "Blocked, by reason",
                Look.BARS,
                (
                    Query(
                        f"sum by (reason) (increase(chaosd_disruptions_blocked_total{{{TARGET}}}[$__range])) > 0"
                        f" or sum (chaosd_disruptions_blocked_total{{{TARGET}}}) == 0",
                        "{{reason}}",
                    ),
                ),
                "Disruptions that were not done: docs/safety.md and docs/disruptions.md say what each reason means.",
                width=10,
            ),
            Panel(
                "Held back until",
                Look.STAT,
                (Query(f"max {BY_TARGET} (chaosd_held_until_timestamp_seconds{{{TARGET}}}) * 1000"),),
                "By a window or the pace of a guard; in the past where nothing holds it back any more.",
                unit="dateTimeFromNow",
                width=4,
            ),
        ),
    ),
    Row(
        "What each replica stands on",
        (
            Panel(
                "Bindings",
                Look.TABLE,
                (
                    Query(
                        f"max by (namespace, statefulset, ordinal, claim, volume, handle, node)"
                        f" (chaosd_binding_info{{{TARGET}}})",
                        "",
                    ),
                ),
                "Claim, volume, disk and node of each replica. Choose an earlier time to see what it was.",
                width=24,
            ),
        ),
    ),
    Row(
        "Does chaosd see?",
        (
            Panel(
                "What could not be seen",
                Look.LINES,
                (Query(f"sum by (reason) (increase(chaosd_observer_errors_total{{{TARGET}}}{RATE}))", "{{reason}}"),),
                "Sessions that did not open, readings that failed, gaps in watches, objects that may not be watched.",
                width=6,
            ),
            Panel(
                "Bindings judged, by verdict",
                Look.LINES,
                (Query(f"sum by (result) (increase(chaosd_binding_checks_total{{{TARGET}}}{RATE}))", "{{result}}"),),
                "Once in each round.",
                width=6,
            ),
            Panel(
                "Round",
                Look.LINES,
                (Query(f"max {BY_TARGET} (chaosd_round{{{TARGET}}})"),),
                "The one under way. A line that stays level is a run that stands still.",
                width=6,
            ),
            Panel(
                "How long rounds take",
                Look.LINES,
                _percentiles("chaosd_round_duration_seconds", "namespace"),
                "Write, disrupt, converge, read everything back.",
                unit="s",
                width=6,
            ),
            Panel(
                "The last drill",
                Look.STAT,
                (Query("min by (class) (chaosd_drill_detected)", "{{class}}"),),
                "Whether every fault of a class that chaosd planted itself was found under its own name.",
                words={0: ("missed", "red"), 1: ("found", "green")},
                width=24,
            ),
        ),
    ),
    Row(
        "The daemon",
        (
            Panel(
                "Leads",
                Look.STAT,
                (Query("max by (job, instance) (chaosd_leader)", "{{instance}}"),),
                "One of each release.",
                words=_YES,
                width=4,
            ),
            Panel(
                "Paused",
                Look.STAT,
                (Query("max (chaosd_paused)", "experiments"),),
                "Experiments that the kill switch, or a closed window, keeps from their targets.",
                thresholds=((None, "green"), (1, "orange")),
                width=3,
            ),
            Panel(
                "Version",
                Look.STAT,
                (Query("count by (version) (chaosd_build_info)", "{{version}}"),),
                "How many daemons are of which version.",
                width=3,
            ),
            Panel(
                "Experiments and targets",
                Look.LINES,
                (
                    Query("sum by (state) (chaosd_experiments)", "experiments {{state}}"),
                    Query("sum (chaosd_targets)", "targets under test"),
                    Query(f"sum (increase(chaosd_targets_empty_total{RATE}))", "targets not found"),
                ),
                "What is refused, and what finds no target, is not tested.",
                width=7,
            ),
            Panel(
                "Ledger",
                Look.LINES,
                (
                    Query("max (chaosd_ledger_size_bytes)", "size"),
                    Query("max (chaosd_ledger_available_bytes)", "free where it is"),
                ),
                "A ledger that cannot be written ends all runs.",
                unit="bytes",
                width=7,
            ),
        ),
    ),
)
