"""After chaosd died: which run goes on, what it never answered, and whether its ledger still is what the target's Lease
says.

The same for a run on a cluster and for a simulated one; nothing here touches the cluster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from pydantic import ValidationError

from chaosd.checkers.integrity import Integrity
from chaosd.experiment import Experiment
from chaosd.generator import Plan
from chaosd.history import LEDGER_LOST, OBSERVER, RESTART, RUN, Event, Kind, Op
from chaosd.ledger import Run, RunLedger

_UNANSWERED = "chaosd died before it was answered"
# What the outcome of an op repeats of its invocation.
_REPEATED = ("round", "sequences")


@dataclass(frozen=True, slots=True)
class Left:
    """What the last chaosd left on a target: the run that `goes_on`, if one can; and what is told of it, in the history of
    the run that comes next."""

    goes_on: Run | None
    told: tuple[Event, ...] = ()


def standing(ledger: RunLedger, run: Run, last: Op | None) -> dict[str, Any]:
    """How far a run's ledger is, in a few words for the Lease: its id, and index and hash of the `last` op."""
    told = {"ledger": ledger.id, "run": run.run}
    return {**told, "index": last.index, "hash": _fingerprint(last)} if last else told


def note_loss(ledger: RunLedger, noted: Mapping[str, Any], target: str, cluster_id: str, now: float) -> str:
    """What the ledger has lost of what the Lease of `target` (NAMESPACE/STATEFULSET) says of it; empty where nothing. It is
    noted in the histories that it may have cut short: nothing is sure any more that they say."""
    lost = _lost(ledger, noted)
    if not lost:
        return ""
    # Where the run itself is lost, the one before it was under way, or had just ended, when the copy was made.
    cut_short = (ledger.run(noted["run"]), ledger.run(target=target, cluster_id=cluster_id))
    for run in {run.id: run for run in cut_short if run}.values():
        ledger.append(run, Event(RUN, LEDGER_LOST, Kind.OK, {"why": lost}), now)
    return lost


def left_behind(
    ledger: RunLedger, noted: Mapping[str, Any], lost: str, target: str, cluster_id: str, experiment: Experiment
) -> Left:
    """What to do about the last run of the experiment on this target (NAMESPACE/STATEFULSET) and cluster, given what its
    Lease says and what the ledger `lost`. Runs of other experiments there may be unfinished, and go on later."""
    if lost:
        return Left(None, (_unfinished(noted["run"], lost),))
    elsewhere = noted and noted["ledger"] != ledger.id
    told: tuple[Event, ...] = (_unfinished(noted["run"], "it is in another ledger"),) if elsewhere else ()
    latest = ledger.run(target=target, cluster_id=cluster_id)
    last = ledger.run(target=target, cluster_id=cluster_id, experiment=experiment.name)
    if latest and latest.ended_at is None and latest.name != experiment.name:
        told += (_unfinished(latest.run, f"it is of the experiment {latest.name}"),)
    if last is None or last.ended_at is not None:
        return Left(None, told)
    if why := _at_odds(last, experiment):
        return Left(None, (*told, _unfinished(last.run, why)))
    return Left(last, told)


def _unfinished(run: str, why: str) -> Event:
    return Event(RUN, "unfinished", Kind.OK, {"run": run, "why": why})


def _at_odds(run: Run, experiment: Experiment) -> str:
    """Why a run cannot go on with this experiment; empty where it can."""
    if experiment.seed not in (None, run.seed):
        return f"its seed is {run.seed}, and this one is {experiment.seed}"
    if not is_same(run.experiment, experiment):
        return "it is of this experiment before that was changed"
    if experiment.steps:
        return "it is a script, and what its steps had brought about was undone when it was interrupted"
    return ""


def is_same(document: str, experiment: Experiment) -> bool:
    """Whether the JSON document of a run's experiment says the same as this one, but for the seed, which a run has even
    where its experiment leaves it out, and for when it begins."""
    try:
        other = Experiment.model_validate_json(document)
    except ValidationError:  # of another version, that knew what this one does not
        return False
    apart = {"seed": None, "schedule": None}
    return other.model_copy(update=apart) == experiment.model_copy(update=apart)


def _lost(ledger: RunLedger, noted: Mapping[str, Any]) -> str:
    if not noted or noted["ledger"] != ledger.id:
        return ""
    run = ledger.run(noted["run"])
    since = "since then it was rolled back, such as by a backup that was restored or a disk that lied"
    if run is None:
        return f"the ledger has no run {noted['run']}, which the Lease names: {since}"
    if "index" not in noted:
        return ""
    found = ledger.op(run, noted["index"])
    if found is None or _fingerprint(found) != noted["hash"]:
        has = "another" if found else "no"
        return f"the ledger has {has} op {noted['index']} of run {run.run}, which the Lease has seen there: {since}"
    return ""


def _fingerprint(op: Op) -> str:
    return hashlib.sha256(json.dumps(op, sort_keys=True).encode()).hexdigest()[:32]


class Unanswered:
    """A fold over a history: what was invoked and never answered. Of writes, of which a process has many at a time, the
    integrity checker knows; an undo stays open until somebody has undone it."""

    def __init__(self) -> None:
        self.last: Op | None = None
        self.round = 0  # the last that began
        self._open: dict[tuple[str, str], Op] = {}

    @classmethod
    def after(cls, ended: Op) -> Unanswered:
        """What a history leaves unanswered in which a round has just `ended`, when nothing is under way: nothing."""
        made = cls()
        made.last, made.round = ended, ended.value["round"]
        return made

    def step(self, op: Op) -> None:
        """Take in the next op."""
        self.last = op
        if op.process == OBSERVER or op.f in ("write", "undo"):
            return
        if op.kind is not Kind.INVOKE:
            self._open.pop((op.process, op.f), None)
            return
        self._open[op.process, op.f] = op
        if op.f == "round":
            self.round = op.value["round"]

    def events(self, integrity: Integrity) -> Iterator[Event]:
        """All of it as `info`: nobody will ever know."""
        for process, replica in integrity.replicas.items():
            for sequence in replica.attempted:
                yield Event(process, "write", Kind.INFO, {"sequence": sequence, "error": _UNANSWERED})
        for op in self._open.values():
            repeated = {key: op.value[key] for key in _REPEATED if key in op.value}
            yield Event(op.process, op.f, Kind.INFO, {**repeated, "error": _UNANSWERED})


def restarted(round_number: int) -> Event:
    """That chaosd goes on with a run which had come so far."""
    return Event(RUN, RESTART, Kind.OK, {"round": round_number})


def rest(round_number: int, replicas: int) -> Plan:
    """What is left of a round in which chaosd died, or after which it did: it is read back what is owed before anything is
    written or disturbed again."""
    return Plan(round_number, "after a restart", replicas, 0, None, heal=True, verify=True)


def after(plans: Iterator[Plan], round_number: int) -> Iterator[Plan]:
    """The plans of later rounds. All are made, since each depends on how often those before it drew what."""
    return dropwhile(lambda plan: plan.number <= round_number, plans)
