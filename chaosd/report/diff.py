"""Two runs side by side, such as a new driver against the old one: verdicts, classes, coverage, and whether recovery takes
another time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chaosd.report.document import Report
from chaosd.report.making import Made
from chaosd.report.recoveries import percentile
from chaosd.report.runs import duration
from chaosd.report.significance import SIGNIFICANT, Comparison, mann_whitney


@dataclass(frozen=True, slots=True)
class Recovered:
    """Seconds from disruptions of one kind until the target had converged, in both runs. `p` is None where one has too few
    values; `slower` is the run that takes longer, "a" or "b", empty where chance may be the cause. `unlikely` is the
    threshold that `p` is held to: the more kinds are compared, the lower."""

    kind: str
    count_a: int
    count_b: int
    median_a: float | None
    median_b: float | None
    p: float | None
    unlikely: float
    slower: str


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs; of coverage only what does, as (a, b)."""

    a: Report
    b: Report
    classes: Mapping[str, tuple[int, int]]
    coverage: Mapping[str, tuple[Any, Any]]
    recovery: tuple[Recovered, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "schema_version": 1,
            "a": about(self.a),
            "b": about(self.b),
            "violations_by_class": {name: {"a": a, "b": b} for name, (a, b) in self.classes.items()},
            "coverage": {name: {"a": a, "b": b} for name, (a, b) in self.coverage.items()},
            "recovery": [asdict(one) for one in self.recovery],
            "differs": list(differences(self)),
        }


def compare(a: Made, b: Made) -> Diff:
    """What two runs have in common, and what not."""
    classes = {
        name: (a.report.verdict.violations_by_class.get(name, 0), b.report.verdict.violations_by_class.get(name, 0))
        for name in sorted({*a.report.verdict.violations_by_class, *b.report.verdict.violations_by_class})
    }
    of_a, of_b = a.report.verdict.coverage, b.report.verdict.coverage
    coverage = {
        name: (of_a.get(name), of_b.get(name)) for name in dict.fromkeys((*of_a, *of_b)) if of_a.get(name) != of_b.get(name)
    }
    return Diff(a.report, b.report, classes, coverage, _recovery(a.recoveries.seconds(), b.recoveries.seconds()))


def differences(diff: Diff) -> Iterator[str]:
    """What a reader must know, a line each."""
    a, b = diff.a.verdict, diff.b.verdict
    if a.verdict != b.verdict:
        yield f"the verdict was {a.verdict} and is {b.verdict}"
    for name, (before, after) in diff.classes.items():
        if before != after:
            yield f"{name}: {before} in A, {after} in B"
    for one in diff.recovery:
        if one.slower and one.median_a is not None and one.median_b is not None:
            medians = f"median {duration(one.median_a)} in A, {duration(one.median_b)} in B"
            yield f"recovery from {one.kind} takes longer in {one.slower.upper()}: {medians}, p = {one.p:.2g}"


def _recovery(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> tuple[Recovered, ...]:
    kinds = sorted({*a, *b})
    tests = {kind: mann_whitney(a.get(kind, ()), b.get(kind, ())) for kind in kinds}
    # Bonferroni: of many comparisons some look significant by chance.
    unlikely = SIGNIFICANT / max(1, sum(1 for test in tests.values() if test))
    return tuple(_recovered(kind, a.get(kind, ()), b.get(kind, ()), tests[kind], unlikely) for kind in kinds)


def _recovered(kind: str, a: Sequence[float], b: Sequence[float], test: Comparison | None, unlikely: float) -> Recovered:
    slower = "" if test is None or test.p >= unlikely else "a" if test.larger > 0.5 else "b"
    return Recovered(kind, len(a), len(b), _median(a), _median(b), test.p if test else None, unlikely, slower)


def _median(seconds: Sequence[float]) -> float | None:
    return round(percentile(sorted(seconds), 50), 3) if seconds else None


def about(report: Report) -> dict[str, Any]:
    """Which run it is, and what came of it."""
    verdict = report.verdict
    told = {"run": verdict.run, "experiment": verdict.experiment, "target": verdict.target, "seed": verdict.seed}
    return {**told, "cluster": verdict.cluster.version, "verdict": str(verdict.verdict), "state": report.state}
