"""The life of one run on one target: preflight, the interpreter's loop beside the observer and the lock, the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any, TypeVar

from chaosd import resumption
from chaosd.announcer import Announcer
from chaosd.checkers import Judgement, Panel
from chaosd.checkers import Verdict as CheckerVerdict
from chaosd.checkers.verdict import Unknown
from chaosd.cluster.lock import TargetLock
from chaosd.cluster.observer import Observer
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.coverage import Coverage
from chaosd.errors import AbortedError, ChaosdError, ClusterError, DeadlineError, NotReadyError
from chaosd.experiment import Experiment
from chaosd.generator import Generator, Limits, Plan
from chaosd.guards import Guard, gitops, remembered_seconds
from chaosd.history import RUN, Event, Kind
from chaosd.interpreter import Interpreter
from chaosd.ledger import Run, RunLedger
from chaosd.nemesis import Scene
from chaosd.probe.protocol import MAX_NAMES
from chaosd.probe.session import Place
from chaosd.report.verdict import Verdict, make_verdict
from chaosd.requirements import Requirement
from chaosd.retention import Retention, recalled
from chaosd.workload.worker import Worker

Result = TypeVar("Result")

# A larger request amortises its way through API server and kubelet; bounded, so that its reply comes in time and little
# is unanswered when its session is lost.
WRITE_BATCH_BYTES, WRITE_BATCH = 4 << 20, 64
READ_BATCH_BYTES, READ_BATCH = 16 << 20, MAX_NAMES


@dataclass(slots=True)
class Ending:
    """A run ends before its end when a signal says so."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""

    def because(self, reason: str) -> None:
        """End it; the first reason stands."""
        self.reason = self.reason or reason
        self.stop.set()

    async def unless_ended(self, waiting: Coroutine[Any, Any, Result]) -> Result:
        """Await what comes before the first disruption. Raises AbortedError, at once, when the run is ended meanwhile."""
        work, stopped = asyncio.ensure_future(waiting), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise AbortedError(f"{self.reason}: nothing was disturbed")
            return work.result()
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended: its verdict, and the error that ended it early, if one did."""

    verdict: Verdict
    error: ChaosdError | None = None


class Runner:
    """One run. `run` may be called once."""

    def __init__(
        self,
        cluster: Cluster,
        ledger: RunLedger,
        lock: TargetLock,
        target: Target,
        experiment: Experiment,
        run: Run,
        told: Sequence[Event] = (),
        keep_seconds: float | None = None,
    ) -> None:
        """`told` begins what is journaled; of what is judged, `keep_seconds` are kept, None for all."""
        self.panel = Panel()
        self.coverage = Coverage()
        self.journal = ledger.journal(run)
        self.journal.listen(self.panel.step)
        self.journal.listen(self.coverage.step)
        self.observer = Observer(cluster, target, self.journal.append)
        self._announcer = Announcer(cluster, lambda: self.observer.view.statefulset, run.run, self.journal.append)
        self.journal.listen(self._announcer.record)
        self._retention = self._retained(ledger, experiment, keep_seconds)
        self.generator: Generator | None = None
        self.older_runs: tuple[Run, ...] = ()  # of this ledger and target, whose files stand on the volumes, too
        self._cluster = cluster
        self._ledger = ledger
        self._lock = lock
        self._target = target
        self._experiment = experiment
        self._run = run
        self._workers: dict[str, Worker] = {}
        self._told = [*told]
        self._resumes: int | None = None  # the last round that a dead chaosd began
        self.began = False

    async def run(self, plans: Iterator[Plan], ending: Ending, *, writes: bool = True) -> Finished:
        """Carry out the plans, which say whether anything `writes`, and leave the verdict in the ledger.

        Raises what stands in the way before anything is disturbed (UsageError, NotReadyError); what ends the run later
        is in the result.
        """
        # The writer outlives everything else, so that what was healed is journaled too.
        writer = asyncio.create_task(self.journal.write(), name="ledger")
        error: ChaosdError | None = None
        try:
            await self._carry_out(plans, ending, writes)
        except* ChaosdError as caught:
            error = _first(caught)
            if not self.began:
                if writes and not self._resumes:
                    self._judge(error, over=True)  # nothing was done that anybody should go on with
                raise error from caught
        finally:
            for worker in self._workers.values():
                await worker.close()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        error = _aborted(error, ending)
        verdict = self._judge(error, over=self._is_over(error, writes))
        await self._announcer.end(verdict.verdict, len(verdict.violations))
        return Finished(verdict, error)

    @property
    def last_round(self) -> int:
        """The last round that a chaosd which died began; 0 where none did."""
        return self._resumes or 0

    @property
    def required(self) -> list[Requirement]:
        """What the experiment requires of the run, and how much of it there is."""
        require, replicas = self._experiment.require, self._target.replicas
        return list(require.judged(self.coverage.as_json(), replicas)) if require else []

    @property
    def covered(self) -> bool:
        """Whether a run that goes on until it has done what is required has done it."""
        return self._experiment.ends_when_covered and all(requirement.met for requirement in self.required)

    async def _carry_out(self, plans: Iterator[Plan], ending: Ending, writes: bool) -> None:
        """The loop beside what it needs all the time; when one of them dies, all stop, and the loop heals."""
        await self.journal.append(self._told)
        interpreter = self._interpreter(self._resumed(plans))
        if writes:
            self._lock.follow(lambda: resumption.standing(self._ledger, self._run, self.journal.last_durable))
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.observer.run(), name="observer"),
                tasks.create_task(self._lock.keep(), name="lock"),
                tasks.create_task(self._announcer.run(), name="announcer"),
            ]
            if self._retention:
                background.append(tasks.create_task(self._retention.run(), name="retention"))
            await ending.unless_ended(self._prepared(writes))
            self.began = True
            await interpreter.run(ending.stop)
            for task in background:
                task.cancel()

    def replay(self) -> int:
        """Take in the run's history so far; returns the last round that began. What was invoked and never answered is
        `info` from the next op on."""
        unanswered = recalled(self._ledger, self._run, self.panel, self.coverage)
        self.journal.last_durable = unanswered.last
        self._told += unanswered.events(self.panel.integrity)
        return unanswered.round

    def _retained(self, ledger: RunLedger, experiment: Experiment, keep_seconds: float | None) -> Retention | None:
        if keep_seconds is None:
            return None
        kept = max(keep_seconds, remembered_seconds(experiment.guards))
        retention = Retention(ledger, self.journal, self.panel, self.coverage, kept)
        self.journal.listen(retention.record)
        return retention

    def resume(self) -> None:
        """Go on with a run that another chaosd began, or this one before."""
        self._resumes = self.replay()
        self._told.append(resumption.restarted(self._resumes))

    def _resumed(self, plans: Iterator[Plan]) -> Iterator[Plan]:
        """Where a round is interrupted, it is ended first; nothing begins on top of a ledger that has lost something, or of
        a run that a guard has stopped."""
        interrupted = [resumption.rest(self._resumes, self._target.replicas)] if self._resumes else []
        if self._resumes and self._experiment.guards.stops_after(len(self.panel.judge().violations)):
            plans = iter(())
        return takewhile(lambda _: self.panel.integrity.lost_since is None, chain(interrupted, plans))

    async def _prepared(self, writes: bool) -> None:
        """Everything that must hold before the first disruption."""
        timeouts = self._experiment.timeouts
        await self.observer.synced(timeouts.probe)
        if self._resumes:
            return  # the target may have much to recover from: that is waited for, and judged, in the interrupted round
        try:
            await self.observer.converged(self._target.replicas, timeouts.probe)
        except DeadlineError as error:
            raise NotReadyError(f"{self._target.key} is not ready to be tested: {error}") from error
        for pod in self._target.pods:
            await self._workers[self._target.replica(pod)].prepare(writes=writes)
        await self._tell_older_runs()
        if writes:
            await self._warn()

    async def _warn(self) -> None:
        """Of who may interfere with the target, which is no reason not to test it."""
        statefulset = self.observer.view.statefulset
        if statefulset and (manager := gitops(statefulset)):
            warning = f"{manager} manages {statefulset.key}, and may undo what chaosd does to it, or be alarmed by it"
            await self.journal.append([Event(RUN, "warning", Kind.OK, {"warning": warning})])

    async def _tell_older_runs(self) -> None:
        """Which other runs' files stand on the volumes, and whether this ledger knows what they are owed."""
        older = sorted({run for worker in self._workers.values() for run in worker.older_runs})
        found = {name: self._ledger.run(name) for name in older}
        self.older_runs = tuple(run for run in found.values() if run and run.target == self._target.key)
        if found:
            in_ledger = {name: run is not None for name, run in found.items()}
            await self.journal.append([Event(RUN, "older-runs", Kind.OK, {"in_ledger": in_ledger})])

    def _interpreter(self, plans: Iterator[Plan]) -> Interpreter:
        experiment, target = self._experiment, self._target
        scene = Scene(
            self._cluster,
            self.observer,
            target,
            experiment.timeouts.disrupt,
            by=self._run.run,
            is_writing=self._is_writing,
            clock=self.journal.clock,
        )
        place = Place(
            target,
            experiment.target.folder,
            self._run.run,
            f"{self._run.run[-6:]}.{self.journal.epoch}",
            experiment.target.program,
            experiment.target.probe_image,
        )
        self._workers = _Workers(
            lambda pod: Worker(
                self._cluster,
                self.observer,
                place,
                pod,
                self.journal.append,
                self.panel.integrity,
                seed=self._run.seed,
                spec=experiment.workload,
                timeout_seconds=experiment.timeouts.probe,
                note=self._lock.note,
            )
        )
        self.generator = Generator(self._run.seed, plans, self.panel.integrity, target.replicas_up_to, _limits(experiment))
        return Interpreter(
            scene=scene,
            journal=self.journal,
            lock=self._lock,
            panel=self.panel,
            generator=self.generator,
            workers=self._workers,
            guard=Guard(experiment.guards, scene, self._disrupted_at(), self._space),
            experiment=experiment,
        )

    def _disrupted_at(self) -> list[float]:
        """When the target was disrupted, this run or others, as far as guards need to know."""
        seconds = remembered_seconds(self._experiment.guards)
        return self._ledger.disrupted_since(self._run, self.journal.clock() - seconds) if seconds else []

    def _space(self) -> dict[str, tuple[int, int]]:
        """Bytes that are free on each replica's volume, and in all, as its session told."""
        return {replica: worker.space for replica, worker in self._workers.items() if worker.space}

    def _is_writing(self, replica: str) -> bool:
        known = self.panel.integrity.replicas.get(replica)
        return bool(known and known.attempted)

    def _judge(self, error: ChaosdError | None, *, over: bool) -> Verdict:
        """What came of the run so far, left in the ledger where it is over."""
        ended_at = self.journal.clock()
        kind, version = self._run.cluster.split(" ", 1)
        verdict = make_verdict(
            _judged(self.panel, error, self.required if over else ()),
            aborted=str(error) if error else "",
            run=self._run.run,
            experiment=self._experiment.name,
            seed=self._run.seed,
            started_at=self._run.started_at,
            ended_at=ended_at,
            cluster={"kind": kind, "version": version},
            target=self._target.key,
            coverage=self.coverage.as_json(),
        )
        with suppress(ChaosdError):  # the verdict stands even if the ledger is what broke
            if over:
                self._ledger.end(self._run, verdict=verdict.as_json(), ended_at=ended_at)
                self._lock.finished(self._run.run)
        return verdict

    def _is_over(self, error: ChaosdError | None, writes: bool) -> bool:
        """Whether nobody shall go on with the run: not with one whose ledger has lost something, nor with one that had an
        end. One that goes on for ever is ended by a verification, if that is not cut short."""
        if self.panel.integrity.lost_since is not None:
            return True
        return not self._experiment.is_endless if writes else error is None


class _Workers(dict[str, Worker]):
    """A worker for each replica, made when it is first asked for: scripts scale past the replicas that were found."""

    def __init__(self, make: Callable[[str], Worker]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, replica: str) -> Worker:
        worker = self[replica] = self._make(replica.rpartition("/")[2])
        return worker


def _aborted(error: ChaosdError | None, ending: Ending) -> ChaosdError | None:
    """A run that was ended on purpose is aborted, also where what it had disturbed could not be undone then."""
    why = str(error.__context__) if error and isinstance(error.__context__, AbortedError) else ending.reason
    if not why or isinstance(error, AbortedError):
        return error
    if error is None:
        return AbortedError(why)
    return AbortedError(f"{why}; {error}") if isinstance(error, ClusterError) else error


def _first(group: BaseExceptionGroup[ChaosdError]) -> ChaosdError:
    """What broke first: the others broke because of it."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _judged(panel: Panel, error: ChaosdError | None, required: Sequence[Requirement]) -> Judgement:
    """An error that ended the run is something that was not seen, as is what it was required to do; that it was ended on
    purpose is not."""
    judgement = panel.judge()
    unseen = [Unknown("coverage", f"{one.words} that are required") for one in required if not one.met]
    if error and not isinstance(error, AbortedError):
        unseen.append(Unknown("run", f"ended early: {error}"))
    if not unseen:
        return judgement
    return Judgement(judgement.violations, (*judgement.verdicts, CheckerVerdict("run", unknowns=tuple(unseen))))


def _limits(experiment: Experiment) -> Limits:
    workload, timeouts = experiment.workload, experiment.timeouts
    return Limits(
        write_batch=max(1, min(WRITE_BATCH, WRITE_BATCH_BYTES // workload.size)),
        read_batch=max(1, min(READ_BATCH, READ_BATCH_BYTES // workload.longest_file)),
        room_bytes=workload.room_bytes,
        room_files=workload.room_files,
        file_bytes=workload.size,
        log_entries=workload.log.entries,
        retire_after=workload.retire_after,
        keep=workload.keep,
        write_seconds=timeouts.write,
        read_seconds=timeouts.read,
    )
