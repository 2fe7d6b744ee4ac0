"""What all experiments of a daemon do now, as the document that its status page and its API tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from chaosd.checkers import Value
from chaosd.daemon.supervisor import Followed, State, Supervisor
from chaosd.ledger import Run
from chaosd.status import document
from chaosd.status.document import Status
from chaosd.status.run_status import MOST_VIOLATIONS, Found, Phase, ReplicaNow

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class _Told:
    """What is told of an experiment."""

    experiment: document.Experiment
    violations: tuple[document.Violation, ...]
    violations_count: int


class Teller:
    """Remembers what it told last, so that a look costs what has changed since."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[Any, Any]] = {}  # by kind and name: of what it was made, and what was made

    def status(self, supervisors: Sequence[Supervisor], refused: Mapping[str, str], not_ready: str, at: float) -> Status:
        """The document at a time in seconds since the epoch; experiments and targets in the order of their names."""
        before, self._told = self._told, {}

        def made(kind: str, name: str, of: tuple[Any, ...], make: Callable[[], Made]) -> Made:
            known = before.get((kind, name))
            now: Made = known[1] if known and known[0] == of else make()
            self._told[kind, name] = of, now
            return now

        named = sorted(supervisors, key=lambda one: one.experiment.name)
        told = [made("experiment", one.experiment.name, _seen_of(one), partial(_tell, one)) for one in named]
        targets = (
            made("target", target, (experiment, _seen(followed)), partial(_target, target, experiment, followed))
            for target, experiment, followed in _targets(named)
        )
        return Status(
            at=at,
            not_ready=not_ready,
            experiments=tuple(one.experiment for one in told),
            targets=tuple(targets),
            violations=tuple(found for one in told for found in one.violations),
            violations_count=sum(one.violations_count for one in told),
            refused=tuple(document.Refused(file=file, why=why) for file, why in sorted(refused.items())),
        )


def _seen_of(one: Supervisor) -> tuple[Any, ...]:
    """All that is told of it depends on."""
    return one, one.state, one.why, one.under_way, one.due_at, _seen(one.followed), one.recalled


def _seen(followed: Followed | None) -> tuple[Any, ...]:
    return (followed, followed.status.changes) if followed else ()


def _tell(one: Supervisor) -> _Told:
    return _Told(_experiment(one), tuple(_violations(one)), _count(one))


def _experiment(one: Supervisor) -> document.Experiment:
    state = one.state
    return document.Experiment(
        name=one.experiment.name,
        target=one.target,
        state=state.value,
        why=one.why if state in (State.PAUSED, State.FAILED, State.STOPPED) else "",
        run=_run(one.followed) if one.followed and one.under_way else None,
        judged=_judged(one),
        next_at=one.due_at,
    )


def _run(followed: Followed) -> document.Run:
    run, now = followed.run, followed.status
    at = document.Round(
        number=now.round,
        name=now.round_name,
        phase=now.phase,
        since=now.phase_since,
        disruption=now.disruption,
        disrupted_at=now.disrupted_at,
    )
    return document.Run(run=run.run, seed=run.seed, cluster=run.cluster, started_at=run.started_at, round=at)


def _judged(one: Supervisor) -> document.Judged | None:
    """The verdict on the run that began last, once there is one; until then on the one that an earlier process ended."""
    if one.followed and (now := one.followed.status).verdict:
        return document.Judged(
            verdict=now.verdict,
            at=now.judged_at,
            run=one.followed.run.run,
            ended=now.phase is Phase.ENDED,
            violations=now.violations_count,
        )
    if one.recalled:
        told = one.recalled
        value, count = Value(told["verdict"]), len(told["violations"])
        return document.Judged(verdict=value, at=told["ended_at"], run=told["run"], ended=True, violations=count)
    return None


def _count(one: Supervisor) -> int:
    if one.followed:
        return one.followed.status.violations_count
    return len(one.recalled["violations"]) if one.recalled else 0


def _violations(one: Supervisor) -> Iterator[document.Violation]:
    if one.followed:
        for found in one.followed.status.violations:
            yield _violation(one, one.followed.run, found)
    elif one.recalled:
        for told in one.recalled["violations"][:MOST_VIOLATIONS]:
            yield _recalled(one, one.recalled, told)


def _violation(one: Supervisor, run: Run, found: Found) -> document.Violation:
    violation = found.violation
    return document.Violation(
        failure=violation.failure,
        target=one.target,
        replica=violation.replica,
        experiment=one.experiment.name,
        run=run.run,
        claim=violation.binding.claim,
        handle=violation.binding.handle,
        file=violation.file,
        since=found.since,
    )


def _recalled(one: Supervisor, verdict: Mapping[str, Any], told: Mapping[str, Any]) -> document.Violation:
    """As it stands in a verdict.json."""
    return document.Violation(
        failure=told["class"],
        target=one.target,
        replica=f"{told['namespace']}/{told['pod']}",
        experiment=one.experiment.name,
        run=verdict["run"],
        claim=told["claim"],
        handle=told["volume_handle"],
        file=told["file"],
        since=verdict["ended_at"],
    )


def _targets(named: Sequence[Supervisor]) -> Iterator[tuple[str, str, Followed | None]]:
    """Each target with the experiment, and the run, that began last on it."""
    latest: dict[str, tuple[str, Followed | None]] = {}
    for one in named:
        _, known = latest.get(one.target, ("", None))
        if one.target not in latest or (one.followed and (not known or known.run.started_at < one.followed.run.started_at)):
            latest[one.target] = (one.experiment.name, one.followed)
    yield from ((target, *latest[target]) for target in sorted(latest))


def _target(target: str, experiment: str, followed: Followed | None) -> document.Target:
    """As that run saw it."""
    replicas = followed.status.replicas if followed else {}
    told = (_replica(name, replicas[name]) for name in sorted(replicas, key=_by_ordinal))
    return document.Target(target=target, experiment=experiment, replicas=tuple(told))


def _by_ordinal(replica: str) -> tuple[str, int]:
    name, _, ordinal = replica.rpartition("-")
    return name, int(ordinal)


def _replica(name: str, now: ReplicaNow) -> document.Replica:
    stands = now.binding
    return document.Replica(
        replica=name,
        pod=now.pod,
        since=now.since,
        claim=stands.claim,
        volume=stands.volume,
        handle=stands.handle,
        node=now.node or stands.node,
    )
