"""A run's history, read once from its ledger, op by op, by everybody who wants to make something of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaosd.checkers import Judgement, Panel
from chaosd.coverage import Coverage
from chaosd.history import Op
from chaosd.ledger import Ledger
from chaosd.report.runs import Standing
from chaosd.report.verdict import Verdict, make_verdict
from chaosd.retention import recalled


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a run. Of a finished one the `verdict` is what stands in the ledger; `judgement` is what the checkers of
    this chaosd say of its history."""

    verdict: Verdict
    judgement: Judgement


def replay(
    ledger: Ledger,
    standing: Standing,
    before: Sequence[Callable[[Op, Panel], None]] = (),
    after: Sequence[Callable[[Op, Panel], None]] = (),
) -> Replayed:
    """Read the history; each op is told `before` and `after` the checkers take it in. In memory is no more than what
    the checkers and the listeners keep. Where a part of the history was compacted, listeners see what is left, and it is
    judged by the checkpoint that holds what the rest taught."""
    panel, coverage, run, whole = Panel(), Coverage(), standing.run, True
    for index, op in enumerate(ledger.history(run)):
        whole &= op.index == index  # also where a part goes while it is read
        for listener in before:
            listener(op, panel)
        panel.step(op)
        coverage.step(op)
        for listener in after:
            listener(op, panel)
    if not whole:
        panel, coverage = Panel(), Coverage()
        recalled(ledger, run, panel, coverage)
    judgement = panel.judge()
    if run.verdict:
        return Replayed(Verdict.model_validate_json(run.verdict), judgement)
    kind, version = run.cluster.split(" ", 1)
    so_far = make_verdict(
        judgement,
        aborted="",
        run=run.run,
        experiment=run.name,
        seed=run.seed,
        started_at=run.started_at,
        ended_at=standing.last_at or run.started_at,
        cluster={"kind": kind, "version": version},
        target=run.target,
        coverage=coverage.as_json(),
    )
    return Replayed(so_far, judgement)


def verdict_of(ledger: Ledger, standing: Standing) -> Verdict:
    """What stands in the ledger; of a run that has no verdict there, what can be said so far."""
    found = standing.run.verdict
    return Verdict.model_validate_json(found) if found else replay(ledger, standing).verdict
