"""A report, made of one reading of a run's history."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chaosd import __version__
from chaosd.checkers import Judgement
from chaosd.history import Op
from chaosd.ledger import Ledger, Run
from chaosd.report import sentences
from chaosd.report.document import Disrupted, Report
from chaosd.report.evidence import Records, proofs
from chaosd.report.recoveries import Recoveries
from chaosd.report.replay import replay
from chaosd.report.runs import Standing, longest_silence
from chaosd.report.timeline import Timeline
from chaosd.report.verdict import Verdict

_DISRUPTIONS = 200


@dataclass(frozen=True, slots=True)
class Made:
    """A report, and what is drawn or compared: the timeline, where on it which violation was seen (by replica and number
    from 1), and the samples of recovery."""

    report: Report
    timeline: Timeline
    seen: Sequence[tuple[str, int, float]]
    recoveries: Recoveries


def make(ledger: Ledger, standing: Standing, also: Sequence[Callable[[Op], None]] = ()) -> Made:
    """Read the history once; every op is told `also`."""
    run = standing.run
    records, recoveries = Records(), Recoveries()
    timeline = Timeline(run.target, longest_silence(run), _DISRUPTIONS)
    others = tuple(lambda op, _, tell=tell: tell(op) for tell in also)
    replayed = replay(ledger, standing, before=(records.step,), after=(timeline.step, recoveries.step, *others))
    timeline.finish()
    verdict, judged = replayed.verdict, replayed.judgement.violations
    last = ledger.last_op(run)
    report = Report(
        chaosd=__version__,
        made_at=standing.now,
        state=standing.state.value,
        state_told=standing.told,
        ops=last.index + 1 if last else 0,
        sentence=sentences.verdict(verdict, standing.state),
        rests_on=tuple(sentences.rests_on(verdict)),
        does_not_say=tuple(sentences.does_not_say(verdict, standing.state, timeline.compacted)),
        judged_again=_judged_again(verdict, replayed.judgement),
        run_again=_run_again(run),
        experiment=_experiment(run),
        verdict=verdict,
        proofs=tuple(proofs(ledger, run, verdict, judged, records)),
        recovery_by_kind=recoveries.as_json(),
        disruptions=tuple(Disrupted(**asdict(one)) for one in timeline.worst()),
        disruptions_seen=timeline.disruptions_seen,
    )
    return Made(report, timeline, _seen(report, timeline), recoveries)


def _seen(report: Report, timeline: Timeline) -> list[tuple[str, int, float]]:
    shown = zip(report.verdict.violations, report.proofs, strict=False)
    return [
        (f"{violation.namespace}/{violation.pod}", number, timeline.place_of(proof.shown_by.index))
        for number, (violation, proof) in enumerate(shown, 1)
        if proof.shown_by
    ]


def _judged_again(verdict: Verdict, judgement: Judgement) -> str:
    counted: dict[str, int] = {}
    for found in judgement.violations:
        counted[found.failure] = counted.get(found.failure, 0) + 1
    if counted == verdict.violations_by_class:
        return ""
    said = ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "no violation"
    return f"chaosd {__version__} finds {said} in this history; the verdict is that of the chaosd which ran."


def _experiment(run: Run) -> dict[str, Any]:
    """As it can be written to a file: what is left out is not there."""
    told = json.loads(run.experiment)
    return {key: value for key, value in told.items() if value not in (None, "", [], {})}


def _run_again(run: Run) -> str:
    simulated = " --cluster sandbox" if run.cluster.startswith("sandbox ") else ""
    file = f"{run.name or 'experiment'}.yaml"
    return f"chaosd run {shlex.quote(file)} --seed {run.seed}{simulated}"
