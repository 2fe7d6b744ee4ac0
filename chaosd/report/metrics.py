"""docs/metrics.md: every metric as `chaosd.metrics` declares it, and how to use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry

from chaosd.metrics import Declared, Metrics
from chaosd.nemesis import DISRUPTIONS

_HEAD = """# Metrics

What the daemon tells at `/metrics`, in Prometheus' text format. This page is made from `chaosd/metrics.py` (`make docs`).
Which of them to alert on, and why, is in [alerts.md](alerts.md); what Grafana shows in [dashboard.md](dashboard.md).

## How to use them

**Scrape with `honor_labels: true`** (`honorLabels` of a ServiceMonitor). `namespace` is the target's, not that of chaosd's
own pod; without it Prometheus calls it `exported_namespace`, and no rule and no panel finds it.

**Labels.** Beside those named below each metric of a target has `namespace` and `statefulset`. All are bounded: never a
run, a file or a pod's UID.

**After a restart** of the daemon, what is counted starts again at 0, which `rate()` and `increase()` expect; what is found
out anew is absent until then. What must not be forgotten comes back: violations and what is owed from the history of the
run, which goes on, and verdicts of runs that have ended from the ledger. So alert on `chaosd_violations_open`, not on a
rise of `chaosd_violations_total`, which a restart at the wrong moment hides. A history that is replayed is not counted
again: the totals of all processes that journaled a run, added up, are what its ledger holds.

**Counters start at 0** in every combination that can come, so the first failure is a rise. Histograms, timestamps and
verdicts appear with their first value: a 0 would be a lie.

**Several daemons.** One that waits for its turn tells `chaosd_leader` 0 and knows no targets, so add up or take the largest
over `job` and `instance`: `max by (namespace, statefulset) (chaosd_violations_open)`.

**A run that has ended** leaves what was found. What is only true of a run under way (`chaosd_owed_verifications`,
`chaosd_records_at_risk`, `chaosd_bytes_at_risk`, `chaosd_round`) goes with it; a target or an experiment that is no longer
there takes all its series with it.

"""

_VALUES = """\
`namespace` and `statefulset` are the target's, `ordinal` is a replica's number, `claim`, `volume`, `handle` and `node`
are what it stands on, `experiment` is the name in the experiment's file, `webhook` that in the settings, `version` is
chaosd's. Of readings, `damaged` is what is there and is not what was acknowledged (its class of failure is that of the
violation), `unsettled` is what an unanswered write may have left, `absent` such a write that is not there, which is no
fault; `none` is the `cache` of what is not there, or could not be read.
"""

# Labels whose values have a page of their own.
_PAGES = {"class": "a [class of failure](failures.md)", "kind": "a [kind of disruption](disruptions.md)"}
_REASONS = "a reason of [disruptions](disruptions.md) or of [guards](safety.md)"


def markdown() -> str:
    """The page."""
    declared = Metrics(CollectorRegistry()).declared
    return _HEAD + "\n".join([*_cardinality(declared), "", *_table(declared), "", *_values(declared)]) + "\n"


def _cardinality(declared: list[Declared]) -> Iterator[str]:
    of_kinds = sum(d.series for d in declared if "kind" in d.labels) // len(DISRUPTIONS)
    most = Counter({"target": -of_kinds * len(DISRUPTIONS)})
    for d in declared:
        most[d.each] += d.series
    yield "## How many there are"
    yield ""
    yield f"Of each target at most {most['target']} series, and {of_kinds} for each kind of disruption that is drawn;"
    yield f"{most['replica']} for each replica; {most['experiment']} for each experiment on it; {most['webhook']} for each"
    yield f"webhook; {most['process']} in all."
    yield "They grow with targets, replicas and experiments, and with nothing else: not with time, files, runs or pods."
    yield "What 100 targets take is in [figures.md](figures.md)."


def _table(declared: list[Declared]) -> Iterator[str]:
    yield "## All of them"
    yield ""
    yield "| Metric | Type | Unit | What it says | Series, at most | After a restart |"
    yield "|---|---|---|---|---|---|"
    for d in declared:
        labels = f"{{{','.join(d.labels)}}}" if d.labels else ""
        cells = (f"`{d.name}{labels}`", d.type, d.unit, d.text, f"{d.series} for each {d.each}", d.again)
        yield f"| {' | '.join(cells)} |"


def _values(declared: list[Declared]) -> Iterator[str]:
    yield "## What labels can be"
    yield ""
    yield from _VALUES.splitlines()
    yield ""
    yield "| Metric | Label | Values |"
    yield "|---|---|---|"
    for d in declared:
        for at, label in enumerate(d.labels[-len(d.values[0]) :] if d.values else ()):
            values = ", ".join(f"`{value}`" for value in dict.fromkeys(str(values[at]) for values in d.values))
            told = _REASONS if d.name == "chaosd_disruptions_blocked_total" else _PAGES.get(label, values)
            if label != "version":
                yield f"| `{d.name}` | `{label}` | {told} |"
