"""All experiments of a daemon: which there are, as their folder says, and how they fare."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping

from chaosd.cluster import kill_switch
from chaosd.cluster.port import StatefulSet
from chaosd.daemon.folder import ExperimentFolder, Reading
from chaosd.daemon.status import Teller
from chaosd.daemon.supervisor import Means, State, Supervisor
from chaosd.errors import ClusterError, LedgerError, TargetError, UsageError
from chaosd.report.gate import Known
from chaosd.retention import compact_idle
from chaosd.run import Ending, Finished
from chaosd.status.document import Status

_RELOAD_SECONDS = 2.0
_LEDGER_SECONDS, _LEDGER_AGAIN_SECONDS = 10.0, 1.0
_COMPACTION_SECONDS = 3600.0
_PATIENCE_SECONDS = 10.0  # of who waits for an answer


class Conductor:
    """Runs the experiments of a folder until it is ended."""

    def __init__(self, means: Means, folder: ExperimentFolder, reading: Reading) -> None:
        """`reading` is what the folder said when it was read first."""
        self._means = means
        self._folder = folder
        self._reading: Reading | None = reading
        self._supervisors: dict[str, Supervisor] = {}  # by file
        self._refused: dict[str, str] = {}
        self._finished: dict[str, Finished] = {}  # of each experiment the last run
        self._ledger = self._unreadable = ""  # why it cannot be written, and the folder not be read
        self._teller = Teller()
        means.metrics.before_scrapes(self._measure)

    async def run(self, ending: Ending) -> list[Finished]:
        """What came of the last run of each experiment."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._follow_folder(tasks), name="experiments"),
                tasks.create_task(self._look_at_ledger(), name="ledger"),
                tasks.create_task(self._compact_ledger(), name="retention"),
            ]
            if self._means.settings.drill == "at-start":
                background.append(tasks.create_task(self._means.drill.run(), name="drill"))
            else:
                self._means.drill.skip()
            await ending.stop.wait()
            for task in background:
                task.cancel()
            for supervisor in self._supervisors.values():
                supervisor.stop(ending.reason)
        return list(self._finished.values())

    def not_ready(self) -> str:
        """What keeps the daemon from doing its work; empty where nothing does."""
        if self._ledger:
            return self._ledger
        starting = sorted(one.experiment.name for one in self._in(State.STARTING))
        if starting or not (self._supervisors or self._refused):
            return " of ".join(filter(None, ("no round has begun", ", ".join(starting))))
        return ""

    @property
    def gates(self) -> Mapping[str, Known | None] | None:
        """What is known of each experiment as a gate, None of those that are none; None as long as the folder's were not
        begun."""
        found = self._supervisors.values()
        return {one.experiment.name: one.gate for one in found} if self._supervisors or self._refused else None

    def status(self, at: float) -> Status:
        """What all experiments do now, at a time in seconds since the epoch."""
        return self._teller.status(list(self._supervisors.values()), self._refused, self.not_ready(), at)

    async def throw_kill_switch(self, target: str, paused: bool) -> str:
        """Pause a target (NAMESPACE/STATEFULSET) of these experiments, or resume it; says what is so now. Raises
        TargetError for another, RightsError, ClusterError."""
        on_it = [one for one in self._supervisors.values() if one.target == target]
        if not on_it:
            raise TargetError(f"{target} is no target of this daemon: name one that is")
        namespace, name = target.split("/")
        cluster, seconds = self._means.cluster, _PATIENCE_SECONDS
        told = await kill_switch.throw(cluster, StatefulSet, namespace, name, paused=paused, seconds=seconds)
        self._means.log.info(f"{told}, as was asked for over HTTP")
        for one in on_it if not paused else ():
            one.try_again()
        return told

    def _in(self, state: State) -> list[Supervisor]:
        return [one for one in self._supervisors.values() if one.state is state]

    async def _follow_folder(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            if self._reading:
                self._take(self._reading, tasks)
                self._means.changed()
                await self._tell_refused(self._reading)
            await asyncio.sleep(_RELOAD_SECONDS)
            self._reading = self._read_again()

    def _read_again(self) -> Reading | None:
        """What changed the folder says; while it cannot be read, what it said goes on."""
        try:
            reading = self._folder.read()
        except UsageError as error:
            if self._unreadable != str(error):
                self._means.log.warning(f"{error}; what it said before goes on")
            self._unreadable = str(error)
            return None
        self._unreadable = ""
        return reading

    def _take(self, reading: Reading, tasks: asyncio.TaskGroup) -> None:
        """Begin what is new, and end what is gone; what was changed is both, and gets its turn on the target."""
        for state, files in (("loaded", reading.loaded), ("refused", reading.refused)):
            self._means.metrics.experiments.labels(state).set(len(files))
        for file, supervisor in list(self._supervisors.items()):
            now = reading.loaded.get(file)
            if now is None or now.experiment != supervisor.experiment:
                supervisor.stop(f"its experiment was {'changed' if now else 'taken away'}")
                del self._supervisors[file]
        for file, loaded in reading.loaded.items():
            if file not in self._supervisors:
                supervisor = self._supervisors[file] = Supervisor(self._means, loaded.experiment)
                tasks.create_task(self._supervise(supervisor), name=loaded.experiment.name)

    async def _supervise(self, supervisor: Supervisor) -> None:
        await supervisor.run()
        name, metrics, left = supervisor.experiment.name, self._means.metrics, self._supervisors.values()
        if supervisor.finished:
            self._finished[name] = supervisor.finished
        if all(one.experiment.name != name for one in left):
            metrics.forget_experiment(name)
        if all(one.target != supervisor.target for one in left):
            metrics.forget(supervisor.target)

    async def _tell_refused(self, reading: Reading) -> None:
        new = {file: why for file, why in reading.refused.items() if self._refused.get(file) != why}
        self._refused = dict(reading.refused)
        for file, why in new.items():
            stands = "; what it said before goes on" if file in reading.loaded else ""
            self._means.log.warning(f"refused: {why}{stands}")
            try:
                await self._means.own_pod.tell(f"experiment-{file}", "ChaosdExperimentRefused", f"{why}{stands}")
            except ClusterError as error:
                self._means.log.warning(f"that cannot be told in an Event: {error}")

    def _measure(self) -> None:
        self._means.metrics.targets.set(len({one.target for one in self._in(State.RUNNING)}))
        self._means.metrics.paused.set(len(self._in(State.PAUSED)))

    async def _look_at_ledger(self) -> None:
        """Whether it can be written, whether anything is to be written or not; and how much more."""
        ledger, metrics = self._means.ledger, self._means.metrics
        while True:
            before = self._ledger
            try:
                await asyncio.to_thread(ledger.check_writable)
                metrics.ledger_size.set(await asyncio.to_thread(ledger.size_bytes))
                metrics.ledger_available.set(_or_nan(await asyncio.to_thread(ledger.available_bytes)))
            except LedgerError as error:
                if not self._ledger:
                    self._means.log.warning(str(error))
                self._ledger = str(error)
            else:
                self._ledger = ""
            if self._ledger != before:
                self._means.changed()
            await asyncio.sleep(_LEDGER_AGAIN_SECONDS if self._ledger else _LEDGER_SECONDS)

    def _journaled(self) -> list[int]:
        return [one.under_way.id for one in self._supervisors.values() if one.under_way is not None]

    async def _compact_ledger(self) -> None:
        """Of runs that nobody journals; those under way do it themselves."""
        while True:
            await asyncio.sleep(_COMPACTION_SECONDS)
            try:
                await compact_idle(self._means.ledger, self._means.settings.retention, time.time(), self._journaled)
            except LedgerError as error:
                self._means.log.warning(f"old runs were not compacted: {error}")


def _or_nan(value: int | None) -> float:
    return math.nan if value is None else value
