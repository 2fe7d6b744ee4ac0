"""All experiments of a daemon: which there are, as their folder says, and how they fare."""

from __future__ import annotations

import asyncio
from collections import Counter

from chaosd.daemon.folder import ExperimentFolder, Reading
from chaosd.daemon.supervisor import Means, State, Supervisor
from chaosd.errors import ClusterError, LedgerError
from chaosd.run import Ending, Finished

_RELOAD_SECONDS = 2.0
_LEDGER_SECONDS = 10.0


class Conductor:
    """Runs the experiments of a folder until it is ended."""

    def __init__(self, means: Means, folder: ExperimentFolder) -> None:
        self._means = means
        self._folder = folder
        self._supervisors: dict[str, Supervisor] = {}  # by file
        self._refused: dict[str, str] = {}
        self._finished: dict[str, Finished] = {}  # of each experiment the last run
        self._ledger = ""  # why it cannot be written

    async def run(self, ending: Ending) -> list[Finished]:
        """What came of the last run of each experiment."""
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._follow_folder(tasks), name="experiments"),
                tasks.create_task(self._look_at_ledger(), name="ledger"),
            ]
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
        starting = sorted(name for name, one in self._by_name().items() if one.state is State.STARTING)
        if starting or not (self._supervisors or self._refused):
            return " of ".join(filter(None, ("no round has begun", ", ".join(starting))))
        return ""

    def states(self) -> Counter[State]:
        """How many experiments are in which state."""
        return Counter(one.state for one in self._supervisors.values())

    def _by_name(self) -> dict[str, Supervisor]:
        return {one.experiment.name: one for one in self._supervisors.values()}

    async def _follow_folder(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            if reading := self._folder.read():
                self._take(reading, tasks)
                await self._tell_refused(reading)
            self._measure()
            await asyncio.sleep(_RELOAD_SECONDS)

    def _take(self, reading: Reading, tasks: asyncio.TaskGroup) -> None:
        """Begin what is new, and end what is gone; what was changed is both, and gets its turn on the target."""
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
        if supervisor.finished:
            self._finished[supervisor.experiment.name] = supervisor.finished

    async def _tell_refused(self, reading: Reading) -> None:
        new = {file: why for file, why in reading.refused.items() if self._refused.get(file) != why}
        self._refused = dict(reading.refused)
        for file, why in new.items():
            stands = "; what it said before goes on" if file in reading.loaded else ""
            self._means.log.warning(f"refused: {why}{stands}")
            try:
                await self._means.own_pod.tell(f"experiment-{file.lower()}", "ChaosdExperimentRefused", f"{why}{stands}")
            except ClusterError as error:
                self._means.log.warning(f"that cannot be told in an Event: {error}")

    async def _look_at_ledger(self) -> None:
        """Whether it can be written, whether anything is to be written or not."""
        while True:
            try:
                await asyncio.to_thread(self._means.ledger.check_writable)
            except LedgerError as error:
                if not self._ledger:
                    self._means.log.warning(str(error))
                self._ledger = str(error)
            else:
                self._ledger = ""
            await asyncio.sleep(_LEDGER_SECONDS)

    def _measure(self) -> None:
        self._means.metrics.targets.set(
            len({one.target for one in self._supervisors.values() if one.state is State.RUNNING})
        )
