"""One experiment of a daemon: its runs, one after the other, whatever ends them, until the daemon ends or the experiment
is changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from chaosd.checkers import Value
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.daemon.drilling import Drill
from chaosd.daemon.logs import Logger
from chaosd.daemon.notifying import Notifier
from chaosd.daemon.own_pod import OwnPod
from chaosd.daemon.turns import Turns
from chaosd.errors import AbortedError, ChaosdError, ClusterError, LedgerError, TargetError, UsageError
from chaosd.experiment import Experiment
from chaosd.history import Op
from chaosd.ledger import Ledger, Run, file_of
from chaosd.metrics import Metrics, TargetMetrics
from chaosd.narration import Narrator
from chaosd.report import folder, text
from chaosd.report.gate import Known, Running, status
from chaosd.resumption import is_same
from chaosd.run import Ending, Finished, Runner
from chaosd.schedule import Schedule
from chaosd.settings import Settings
from chaosd.status.run_status import RunStatus
from chaosd.taking import carry_out

_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 2.0, 300.0


class State(StrEnum):
    """What an experiment does."""

    STARTING = "starting"  # a run was begun, and no round of it
    RUNNING = "running"
    WAITING = "waiting"  # for its time, or its turn on the target
    PAUSED = "paused"  # by the kill switch or a guard, and tried again
    FAILED = "failed"  # and is tried again
    STOPPED = "stopped"  # by a guard, for good


# In these nothing is begun, for the reason that is told.
_HELD_UP = (State.PAUSED, State.FAILED, State.STOPPED)


@dataclass(frozen=True, slots=True)
class _Last:
    """Of the last run that has ended its verdict.json, and whether the experiment was changed since."""

    verdict: Mapping[str, Any] | None
    outdated: bool


@dataclass(frozen=True, slots=True)
class Means:
    """What all experiments of a daemon share."""

    settings: Settings
    cluster: Cluster
    ledger: Ledger
    own_pod: OwnPod
    turns: Turns
    scheduler: AsyncIOScheduler
    drill: Drill
    notifier: Notifier
    metrics: Metrics
    log: Logger
    changed: Callable[[], None]  # to be called when an experiment does something else than before


@dataclass(frozen=True, slots=True)
class Followed:
    """A run, and what it does now; once it has ended, what it did last."""

    run: Run
    status: RunStatus


class Supervisor:
    """Runs one experiment until `stop`."""

    def __init__(self, means: Means, experiment: Experiment) -> None:
        self.experiment = experiment
        self.target = f"{experiment.target.namespace}/{experiment.target.statefulset}"
        self.why = ""  # it failed or stopped
        self.finished: Finished | None = None  # the last run
        self.under_way: Run | None = None
        self.followed: Followed | None = None  # the last run that began here
        self.due_at: float | None = None  # of the run that is awaited or under way, in seconds since the epoch
        self._state = State.WAITING if experiment.schedule else State.STARTING
        self._means = means
        self._log = means.log.bind(experiment=experiment.name, target=self.target)
        self._ending = Ending()
        self._due = asyncio.Event()
        self._last = _Last(None, outdated=False)
        self._cluster_id = ""
        self._again = asyncio.Event()
        self._runner: Runner | None = None
        self._measured: TargetMetrics | None = None
        # A run of a daemon goes on for ever, unless it is one of many.
        endless = {} if experiment.schedule else {"rounds": None, "duration": None, "require": None}
        self._chosen = experiment.model_copy(update=endless)

    @property
    def state(self) -> State:
        """What it does now."""
        if self._state is State.STARTING and self._runner and self._runner.began:
            return State.RUNNING
        return self._state

    @property
    def recalled(self) -> Mapping[str, Any] | None:
        """The verdict.json of the last run of a schedule that has ended, whichever process ended it."""
        return self._last.verdict

    @property
    def gate(self) -> Known | None:
        """What is known of it as a gate; None where it is none: one that has no schedule, or requires nothing."""
        if self.experiment.schedule is None or self.experiment.require is None:
            return None
        run, runner = self.under_way, self._runner
        return Known(
            self.experiment.name,
            self.target,
            self._last.verdict,
            self._last.outdated,
            running=_running(run, runner) if run and runner else None,
            next_begins=self._next_begins(),
            held_up=self.why if self._state in _HELD_UP else "",
        )

    def stop(self, reason: str) -> None:
        """End it: what is disturbed is undone first."""
        self._ending.because(reason)

    def try_again(self) -> None:
        """Where it waits since something stood in its way: that is gone."""
        self._again.set()

    async def run(self) -> None:
        """Until it is stopped. Raises nothing that a run may end with."""
        if not await self._unless_ended(self._recall()):
            return
        pauses = _pauses()
        while not self._ending.stop.is_set() and await self._unless_ended(self._due.wait()):
            self._due.clear()
            try:
                self.finished = await self._turn()
            except ChaosdError as error:
                await self._failed(error, next(pauses))
                continue
            if not isinstance(self.finished.error, AbortedError):
                pauses = _pauses()
            await self._ended(self.finished, next(pauses))

    async def _recall(self) -> None:
        """Take up the schedule where the ledger says that it was left, once that and the cluster can be asked."""
        while self.experiment.schedule:
            try:
                self._cluster_id = await self._means.cluster.cluster_id()
                self._schedule(self.experiment.schedule)
            except (ClusterError, LedgerError) as error:
                self._cannot(error)
                await asyncio.sleep(_LEAST_PAUSE_SECONDS)
            else:
                return
        self._due.set()

    def _schedule(self, schedule: Schedule) -> None:
        """Raises LedgerError."""
        means, name, now = self._means, self.experiment.name, time.time()
        self._note_last()
        begun = means.ledger.run(target=self.target, cluster_id=self._cluster_id, experiment=name)
        self._does(State.WAITING, "")

        async def due() -> None:
            self._due.set()

        # One that was cut short, by whatever ended its chaosd, has not answered what it was begun for.
        cut_short = begun and (begun.verdict is None or json.loads(begun.verdict)["aborted"])
        first = datetime.fromtimestamp(now, UTC) if cut_short else schedule.due(begun.started_at if begun else None, now)
        means.scheduler.add_job(due, schedule.trigger, id=name, next_run_time=first, replace_existing=True)
        self._awaits(first)

    def _note_last(self) -> None:
        """What the ledger has of the last run that has ended. Raises LedgerError."""
        ended = self._means.ledger.last_ended(self.target, self._cluster_id, self.experiment.name)
        if ended and ended.verdict:
            self._note(json.loads(ended.verdict), outdated=not is_same(ended.experiment, self._chosen))

    def _note(self, verdict: Mapping[str, Any], *, outdated: bool) -> None:
        self._last = _Last(verdict, outdated)
        self._means.changed()
        self._means.metrics.ended(self.target, self.experiment.name, verdict["verdict"], verdict["ended_at"])

    def _notify(self) -> None:
        """Of one that was cut short and found nothing, another will tell that goes on with it or begins anew."""
        gate = status(self.gate, time.time()) if self.gate else None
        if gate and gate.last and not (gate.last.aborted and gate.last.verdict != Value.FAIL):
            self._means.notifier.tell(gate)

    def _awaits(self, due: datetime) -> None:
        self._log.info(f"the next run is due at {due:%Y-%m-%d %H:%M %Z}")
        self.due_at = due.timestamp()
        self._means.changed()
        self._means.metrics.due(self.target, self.experiment.name, self.due_at)

    def _next_begins(self) -> float | None:
        if self.under_way is None:
            return self.due_at
        job = self._means.scheduler.get_job(self.experiment.name)
        return job.next_run_time.timestamp() if job else None

    async def _turn(self) -> Finished:
        """One run, once the target is free."""
        means, turns = self._means, self._means.turns
        self._does(State.WAITING)
        told = await self._ending.unless_ended(means.drill.found()) if self._requires_drill else []
        async with AsyncExitStack() as held:
            # The name, too: one whose target was changed may still be undoing what it did to the other.
            for key in (self.experiment.name, self.target):
                await self._ending.unless_ended(held.enter_async_context(turns.turn(key)))
            self._runner, self._measured = None, None
            self._does(State.STARTING)
            if means.settings.ledger_on_tested_storage == "refuse":
                await means.own_pod.refuse_shared_storage(file_of(means.settings.ledger_url), self.experiment)
            try:
                return await carry_out(
                    means.cluster,
                    means.ledger,
                    means.settings,
                    self._chosen,
                    self._ending,
                    self._begins,
                    until=lambda: self._chosen.is_endless and turns.wanted(self.target),
                    told=told,
                )
            finally:
                self.under_way = None
                self._means.changed()
                if self._measured:
                    self._measured.close()

    @property
    def _requires_drill(self) -> bool:
        return self._chosen.require is not None and self._chosen.require.drill

    def _begins(self, target: Target, runner: Runner, run: Run) -> None:
        self._runner, self.under_way = runner, run
        narrator, log = Narrator(run, runner.coverage, lambda: runner.required), self._log.bind(run=run.run)
        log.info(f"run {run.run}, seed {run.seed}, on {run.cluster}")
        self._measured = TargetMetrics(self._means.metrics, target, self._chosen, runner.panel)
        runner.journal.listen(self._measured.record)
        self.followed = self._follow(target, runner, run)
        runner.journal.listen(partial(self._show, self.followed.status))
        self._means.changed()

        def told(op: Op) -> None:
            for line in narrator.lines(op):
                log.info(line, round=narrator.number)

        runner.journal.listen(told)

    def _show(self, status: RunStatus, op: Op) -> None:
        before = status.changes
        status.record(op)
        if status.changes != before:
            self._means.changed()

    def _follow(self, target: Target, runner: Runner, run: Run) -> Followed:
        def time_of(index: int) -> float | None:
            try:
                op = self._means.ledger.op(run, index)
            except LedgerError:
                return None  # whoever writes to it is told
            return op.time if op else None

        last = runner.journal.last_durable
        began_at = last.time if last else run.started_at
        return Followed(run, RunStatus(target, runner.panel, time_of, runner.last_round, began_at))

    async def _ended(self, finished: Finished, pause_seconds: float) -> None:
        verdict, guards = finished.verdict, self.experiment.guards
        if self.followed and self.followed.run.run == verdict.run:
            self.followed.status.end(verdict.verdict, verdict.ended_at)
            self._means.changed()
        try:
            folder.write(verdict, self._means.settings.out / self.experiment.name)
        except UsageError as error:  # what counts is in the ledger
            self._log.warning(str(error))
        self._log.info(text.summary(verdict), run=verdict.run)
        if self.experiment.schedule:
            self._note(json.loads(verdict.as_json()), outdated=False)
            self._notify()
        if guards.stops_after(len(verdict.violations)):
            self._does(State.STOPPED, f"guards.stopAfter is {guards.stop_after}")
            await self._ending.stop.wait()
        elif finished.error and not self.experiment.schedule:
            await self._failed(finished.error, pause_seconds)
        elif self.experiment.schedule is None:
            self._due.set()  # it let another pass
        else:
            self._does(State.WAITING)
            next_run: datetime = self._means.scheduler.get_job(self.experiment.name).next_run_time
            self._awaits(datetime.now(UTC) if self._due.is_set() else next_run)

    async def _failed(self, error: ChaosdError, pause_seconds: float) -> None:
        """Try again later: what stands in the way may go."""
        if self._ending.stop.is_set():
            return
        self._cannot(error)
        if self.experiment.schedule:
            with suppress(LedgerError):  # which may be the very error
                self._note_last()  # a run that could not begin has ended, too
        if isinstance(error, TargetError):
            self._means.metrics.targets_empty.inc()
        self._again.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_seconds):
                await self._unless_ended(self._again.wait())
        self._due.set()

    def _cannot(self, error: ChaosdError) -> None:
        if str(error) != self.why:
            self._log.warning(f"{error}; tried again for as long as that lasts")
        self._does(State.PAUSED if isinstance(error, AbortedError) else State.FAILED, str(error))

    def _does(self, state: State, why: str | None = None) -> None:
        self._state = state
        self.why = self.why if why is None else why
        self._means.changed()

    async def _unless_ended(self, waiting: Any) -> bool:
        """Whether it was awaited to its end."""
        try:
            await self._ending.unless_ended(waiting)
        except AbortedError:
            return False
        return True


def _running(run: Run, runner: Runner) -> Running:
    return Running(run=run.run, began=run.started_at, round=runner.coverage.rounds + runner.began)


def _pauses() -> Iterator[float]:
    seconds = _LEAST_PAUSE_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _MOST_PAUSE_SECONDS)
