"""The daemon's parts, put together."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from prometheus_client import CollectorRegistry

from chaosd import server
from chaosd.adapters import open_cluster, open_ledger
from chaosd.cluster.port import Cluster
from chaosd.cluster.shared_watches import sharing_watches
from chaosd.daemon import gates, logs
from chaosd.daemon.conductor import Conductor
from chaosd.daemon.drilling import Drill
from chaosd.daemon.folder import ExperimentFolder, Reading
from chaosd.daemon.leadership import Leadership
from chaosd.daemon.notifying import Notifier
from chaosd.daemon.own_pod import OwnPod
from chaosd.daemon.supervisor import Means
from chaosd.daemon.turns import Turns
from chaosd.errors import ChaosdError, ExperimentError, LedgerError, NotReadyError
from chaosd.ledger import Ledger
from chaosd.metrics import Metrics
from chaosd.report.gate import Known
from chaosd.run import Ending, Finished
from chaosd.settings import Settings
from chaosd.status import switch
from chaosd.status.document import Status
from chaosd.status.feed import Feed
from chaosd.status.routes import routes as status_routes

_LEDGER_AGAIN_SECONDS = 5.0
_STANDBY_SECONDS = 3.0  # for the lead that nobody has


async def serve(settings: Settings, path: Path, ending: Ending) -> list[Finished]:
    """Run the experiments in a folder, or one file, and serve what is found, until it is ended; what came of the last run
    of each. Raises what no waiting mends (UsageError), AbortedError where it lost the lead."""
    log, metrics = logs.opened(settings.log_format), Metrics(CollectorRegistry())
    folder = ExperimentFolder(path)
    reading = _first(folder, path)
    manifests = [loaded.manifest for loaded in reading.loaded.values()]
    token = switch.Token(settings.pause_token_file) if settings.pause_token_file else None
    state = _State(can_pause=token is not None)
    routes = [*server.own_routes(metrics.texts, state.not_ready), *gates.routes(state.gates), *status_routes(state.feed)]
    if token:
        routes += switch.routes(token, state.throw_kill_switch)
    async with server.serving(settings.listen, routes) as address, state.feed.open():
        log.info(f"metrics {address}/metrics")
        async with (
            open_cluster(settings, *manifests) as opened,
            sharing_watches(opened) as cluster,
            _leading(cluster, settings, ending, state),
        ):
            metrics.leader.set(1)
            log.info("leads" if settings.pod_name else "runs")
            with await _opened(settings, ending, state, log) as ledger:
                scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None})
                own_pod = OwnPod(cluster, settings.pod_namespace, settings.pod_name)
                drill = Drill(metrics, log)
                notifier = Notifier(metrics, log, settings.webhooks)
                changed, turns = state.feed.changed, Turns()
                means = Means(settings, cluster, ledger, own_pod, turns, scheduler, drill, notifier, metrics, log, changed)
                state.conductor = Conductor(means, folder, reading)
                scheduler.start()
                try:
                    async with notifier.open():
                        return await state.conductor.run(ending)
                finally:
                    scheduler.shutdown(wait=False)


class _State:
    """How far the daemon has come, for whoever asks whether it is ready."""

    def __init__(self, *, can_pause: bool) -> None:
        self.conductor: Conductor | None = None
        self.feed = Feed(self.status, can_pause=can_pause)
        self._before = "the cluster was not reached yet"

    @property
    def before(self) -> str:
        """What is missing before it runs anything."""
        return self._before

    @before.setter
    def before(self, missing: str) -> None:
        self._before = missing
        self.feed.changed()

    def not_ready(self) -> str:
        """What is missing."""
        return self.conductor.not_ready() if self.conductor else self.before

    def gates(self) -> Mapping[str, Known | None] | None:
        """What is known of the gates; None as long as it does not run any."""
        return self.conductor.gates if self.conductor else None

    def status(self, at: float) -> Status:
        """What it does, at a time in seconds since the epoch."""
        return self.conductor.status(at) if self.conductor else Status(at=at, not_ready=self.before)

    async def throw_kill_switch(self, target: str, paused: bool) -> str:
        """Pause a target or resume it. Raises NotReadyError, and what the conductor does."""
        if self.conductor is None:
            raise NotReadyError(f"this daemon runs nothing yet: {self.before}: ask the one that leads")
        return await self.conductor.throw_kill_switch(target, paused)


def _first(folder: ExperimentFolder, path: Path) -> Reading:
    """What is there when it starts. A file that is no experiment is refused as any command does; one of many in a folder
    must not keep the others from running."""
    reading = folder.read()
    assert reading is not None, "it was never read before"
    if reading.refused and path.is_file():
        raise ExperimentError(next(iter(reading.refused.values())))
    return reading


@asynccontextmanager
async def _leading(cluster: Cluster, settings: Settings, ending: Ending, state: _State) -> AsyncIterator[None]:
    """While the context is open. A daemon in no pod is the only one of its name. Who loses the lead ends everything before
    another can have it."""
    if not settings.pod_namespace:
        yield
        return
    holder = f"{settings.pod_name or socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    seconds = settings.lease_seconds
    lead = Leadership(cluster, settings.pod_namespace, settings.daemon_name, holder, seconds, time.time)
    await ending.unless_ended(_acquired(lead, state))
    state.before = "it leads since a moment ago"

    async def keep() -> None:
        try:
            await lead.keep()
        except ChaosdError as error:
            ending.because(f"it leads no more: {error}")

    keeping = asyncio.create_task(keep(), name="leadership")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await lead.release()


async def _acquired(lead: Leadership, state: _State) -> None:
    """Once it leads. One that waits for another to end is ready to follow that."""
    acquiring = asyncio.ensure_future(lead.acquire())
    try:
        await asyncio.wait({acquiring}, timeout=_STANDBY_SECONDS)
        state.before = "" if not acquiring.done() else state.before
        await acquiring
    finally:
        acquiring.cancel()


async def _opened(settings: Settings, ending: Ending, state: _State, log: logs.Logger) -> Ledger:
    """The ledger, once it can be had: a database that is away may come. Raises AbortedError."""
    while True:
        try:
            return await asyncio.to_thread(open_ledger, settings)
        except LedgerError as error:
            if state.before != str(error):
                log.warning(str(error))
            state.before = str(error)
        await ending.unless_ended(asyncio.sleep(_LEDGER_AGAIN_SECONDS))
