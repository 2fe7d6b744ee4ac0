"""The composition root: opens the cluster and the ledger that the settings name, and does what a command asks.

Each function here is a command's work; each raises the errors that stop it before it begins.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from ulid import ULID

from chaosd import resumption, server
from chaosd.cluster import target as targets
from chaosd.cluster.inflight import patiently
from chaosd.cluster.lock import TargetLock, names_undo
from chaosd.cluster.port import PAUSED_ANNOTATION, Cluster, Namespace, StatefulSet
from chaosd.cluster.sandbox import STATE_FILE, SandboxCluster
from chaosd.cluster.target import Target
from chaosd.errors import (
    AbortedError,
    ChaosdError,
    ClusterError,
    ExperimentError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    RightsError,
    TargetError,
    UsageError,
)
from chaosd.experiment import Experiment
from chaosd.generator import Plan
from chaosd.history import NEMESIS, RUN, Event, Kind
from chaosd.interpreter import HEAL_SECONDS, heal_or_leave
from chaosd.ledger import Ledger, Run, RunLedger
from chaosd.metrics import Metrics, TargetMetrics
from chaosd.preflight import rights
from chaosd.preflight.checks import Preflight, check_all
from chaosd.preflight.finding import find_target
from chaosd.preflight.outlook import Outlook, look_out
from chaosd.report import text
from chaosd.run import Ending, Finished, Runner
from chaosd.settings import Settings

# A sandbox's folder has one process at a time, so a dead holder of a Lease in it need not be waited for long.
_SANDBOX_LEASE_SECONDS = 4


@asynccontextmanager
async def open_cluster(settings: Settings, manifest: Path | None = None) -> AsyncIterator[Cluster]:
    """The cluster that the settings name; a sandbox that is empty gets the objects in `manifest`."""
    if settings.cluster == "sandbox":
        sandbox = await SandboxCluster.open(settings.sandbox_folder)
        try:
            if sandbox.is_empty and manifest:
                try:
                    await sandbox.apply(_documents(manifest))
                except RefusedError as error:
                    raise ExperimentError(f"target.manifest {manifest}: {error}") from error
            yield sandbox
        finally:
            await sandbox.close()
    else:
        # Imported only where it is used: the client alone takes tens of megabytes.
        from chaosd.cluster.kubernetes import KubernetesCluster

        kubernetes = await KubernetesCluster.open(
            kubeconfig=settings.kubeconfig, context=settings.context, qps=settings.qps, burst=settings.burst
        )
        try:
            yield kubernetes
        finally:
            await kubernetes.close()


async def run_experiment(
    settings: Settings,
    experiment: Experiment,
    manifest: Path | None,
    ending: Ending,
    *,
    watch: Callable[[Target, Runner, Run], None] = lambda *_: None,
) -> Finished:
    """Run an experiment to its end. `watch` is told of the run before it begins, and may listen to its journal."""
    async with AsyncExitStack() as held:
        cluster = await held.enter_async_context(open_cluster(settings, manifest))
        ledger = held.enter_context(open_ledger(settings))
        namespace = experiment.target.namespace
        if lacking := await rights.missing(cluster, rights.needed(experiment)):
            named, mend = rights.summed(lacking, namespace), "grant them (chaosd preflight prints the Role)"
            raise RightsError(f"the credentials lack {named} in {namespace}: {mend}")
        taken = await held.enter_async_context(_taken(cluster, ledger, settings, experiment, ending))
        lock, target = taken.lock, taken.target
        last = ledger.run(target=target.key, cluster_id=await cluster.cluster_id())
        left = resumption.left_behind(ledger, lock.noted, taken.lost, last, experiment)
        run = left.goes_on or await _begun(cluster, ledger, target, experiment)
        runner = Runner(cluster, ledger, lock, target, experiment, run, (*taken.told, *left.told))
        if left.goes_on:
            runner.resume()
        watch(target, runner, run)
        plans = experiment.plans(run.seed, target.replicas, target.first_ordinal)
        later = resumption.after(plans, runner.last_round)
        return _reported(await runner.run(later, ending), settings.out)


async def _begun(cluster: Cluster, ledger: Ledger, target: Target, experiment: Experiment) -> Run:
    return ledger.begin(
        str(ULID()),
        experiment=experiment.model_dump_json(by_alias=True),
        seed=experiment.seed if experiment.seed is not None else secrets.randbits(32),
        target=target.key,
        cluster=f"{cluster.kind} {await cluster.version()}",
        cluster_id=await cluster.cluster_id(),
        started_at=time.time(),
    )


async def verify_runs(
    settings: Settings,
    name: str | None,
    ending: Ending,
    *,
    watch: Callable[[Target, Runner, Run], None] = lambda *_: None,
) -> list[Finished]:
    """Read back everything that the named run is owed, and judge; disrupts nothing. Where none is named: the latest run,
    told first, and every older one of this ledger whose files stand on the volumes, too, each reported in a folder of its
    own."""
    async with AsyncExitStack() as held:
        ledger = held.enter_context(open_ledger(settings))
        run = ledger.run(name)
        if run is None:
            raise UsageError(f"{settings.ledger_url} has no run{f' {name}' if name else ''}: name another with --ledger")
        cluster = await held.enter_async_context(open_cluster(settings))
        if not _is_of(run, await cluster.cluster_id()):
            raise UsageError(f"run {run.run} was on another cluster: name that, or another run with --run")
        finished, older = await _verified(cluster, ledger, settings, run, ending, watch)
        verified = [_reported(finished, settings.out)]
        for known in older if name is None else ():
            if ending.stop.is_set():
                break
            try:
                finished, _ = await _verified(cluster, ledger, settings, known, ending, watch)
            except ChaosdError as error:
                raise type(error)(f"older run {known.run}: {error}; or verify one run alone with --run") from error
            folder = settings.out / known.run
            folder.mkdir(exist_ok=True)
            verified.append(_reported(finished, folder))
        return verified


async def _verified(
    cluster: Cluster,
    ledger: Ledger,
    settings: Settings,
    run: Run,
    ending: Ending,
    watch: Callable[[Target, Runner, Run], None],
) -> tuple[Finished, Sequence[Run]]:
    """One run, and the older ones of this ledger that were met on its volumes."""
    experiment = Experiment.model_validate_json(run.experiment)
    async with _taken(cluster, ledger, settings, experiment, ending) as taken:
        runner = Runner(cluster, ledger, taken.lock, taken.target, experiment, run, taken.told)
        runner.replay()
        watch(taken.target, runner, run)
        plan = Plan(runner.coverage.rounds + 1, "verify", taken.target.replicas, 0, None, heal=False, verify=True)
        finished = await runner.run(iter([plan]), ending, writes=False)
    return finished, [known for known in runner.older_runs if known.id < run.id]


def _reported(finished: Finished, out: Path) -> Finished:
    """What came of a run, left as files for people and machines."""
    (out / "verdict.json").write_text(finished.verdict.as_json())
    (out / "report.txt").write_text(text.render(finished.verdict))
    return finished


async def undo_runs(settings: Settings, only: str | None, ending: Ending) -> list[str]:
    """Heal what dead runs left, as the ledger and the targets' Leases say; tells what was done. Targets of others are let
    be: those whose Lease names nothing to undo, or has a holder that lives. `only` one target (NAMESPACE/STATEFULSET), if
    it is named: that may be gone, and the ledger, too."""
    async with AsyncExitStack() as held:
        ledger = held.enter_context(open_ledger(settings))
        cluster = await held.enter_async_context(open_cluster(settings))
        here = await cluster.cluster_id()
        owed = dict.fromkeys(run.target for run, _ in ledger.open_undo() if _is_of(run, here))
        labelled = (s.key for s in await cluster.list(StatefulSet, "", targets.SELECTOR)) if only is None else ()
        done: list[str] = []
        errors: list[ChaosdError] = []
        for key in dict.fromkeys((*owed, *labelled)) if only is None else (only,):
            try:
                if key in owed or await names_undo(cluster, key):
                    async with hold_lock(cluster, settings, key, ending) as (lock, undo):
                        done += await heal_target(cluster, ledger, lock, key, undo)
            except TargetError as error:  # whoever tests it has healed it before, and will again
                done.append(f"left as it is: {error}")
            except AbortedError:
                raise
            except ChaosdError as error:  # what this ledger knows nothing of may be gone, or nobody's business
                if key in owed or not isinstance(error, ClusterError):
                    errors.append(error)
                else:
                    done.append(f"{key} could not be looked at: {error}")
        if errors:
            raise errors[0]
        return done


async def throw_kill_switch(settings: Settings, kind: str, name: str, namespace: str, *, paused: bool) -> str:
    """Set or take away the annotation that stops every chaosd on a StatefulSet or in a namespace; says what is so now.
    Raises TargetError where there is no such object, RightsError, ClusterError."""
    what = StatefulSet if kind == "statefulset" else Namespace
    where = namespace if what is StatefulSet else ""
    named = f"{kind}/{name}{f' in {where}' if where else ''}"
    async with open_cluster(settings) as cluster:
        try:
            async for attempt in patiently(HEAL_SECONDS):
                with attempt:
                    await cluster.annotate(what, where, name, {PAUSED_ANNOTATION: "true" if paused else None})
        except NotFoundError as error:
            raise TargetError(f"there is no {named}: name one that is there") from error
        except ForbiddenError as error:
            raise RightsError(f"patch on {named} is not allowed: grant it ({error})") from error
    if paused:
        return f"{named} is paused: nothing there is disrupted until `chaosd resume` takes {PAUSED_ANNOTATION} away"
    return f"{named} is not paused"


async def plan_experiment(settings: Settings, experiment: Experiment, manifest: Path | None) -> Outlook:
    """What a run would touch, and its first decisions; touches nothing."""
    with _sandbox_copied(settings, disks=False) as untouched:
        async with open_cluster(untouched, manifest) as cluster:
            return await look_out(cluster, experiment, secrets.randbits(32))


async def preflight_experiment(settings: Settings, experiment: Experiment, manifest: Path | None) -> Preflight:
    """Whether anything stands in the way of a run; writes nothing."""
    with _sandbox_copied(settings, disks=True) as untouched:
        async with open_cluster(untouched, manifest) as cluster:
            return await check_all(cluster, experiment, settings.ledger_url, settings.lease_seconds)


async def serve(
    settings: Settings,
    experiment: Experiment,
    manifest: Path | None,
    ending: Ending,
    *,
    watch: Callable[[Target, Runner, Run], None] = lambda *_: None,
    serving: Callable[[str], None] = lambda _: None,
) -> Finished:
    """Run an experiment's rounds for ever, and serve its metrics meanwhile, also of a run that a guard has stopped.
    `serving` is told the address."""
    metrics = Metrics(CollectorRegistry())
    running: list[Runner] = []

    def begin(target: Target, runner: Runner, run: Run) -> None:
        runner.journal.listen(TargetMetrics(metrics, target, experiment, runner.panel).record)
        metrics.targets.set(1)
        running.append(runner)
        watch(target, runner, run)

    def not_ready() -> str:
        return "" if running and running[0].began else "no round has begun"

    endless = experiment.model_copy(update={"rounds": None, "duration": None})
    async with server.serving(settings.listen, metrics.texts, not_ready) as address:
        serving(address)
        finished = await run_experiment(settings, endless, manifest, ending, watch=begin)
        if finished.error is None and experiment.guards.stops_after(len(finished.verdict.violations)):
            await ending.stop.wait()
        return finished


def open_ledger(settings: Settings) -> Ledger:
    """The ledger that the settings name; the out folder is made. Raises UsageError, LedgerError."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {settings.out}: {error.strerror}: name a folder that can be written") from error
    return Ledger.open(settings.ledger_url)


@asynccontextmanager
async def hold_lock(
    cluster: Cluster, settings: Settings, key: str, ending: Ending
) -> AsyncIterator[tuple[TargetLock, Mapping[str, Any] | None]]:
    """The lock on a target until the context ends, and the undo that a dead holder left on it."""
    seconds = _SANDBOX_LEASE_SECONDS if cluster.kind == "sandbox" else settings.lease_seconds
    namespace, name = key.split("/")
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    lock = TargetLock(cluster, namespace, name, holder, seconds, time.time)
    undo = await ending.unless_ended(lock.acquire())
    try:
        yield lock, undo
    finally:
        with suppress(ClusterError):
            await lock.release()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A target that is locked, and healed of what dead runs left on it, which is `told`; and what the ledger has `lost` of
    them."""

    lock: TargetLock
    target: Target
    told: tuple[Event, ...]
    lost: str


@asynccontextmanager
async def _taken(
    cluster: Cluster, ledger: Ledger, settings: Settings, experiment: Experiment, ending: Ending
) -> AsyncIterator[_Taken]:
    """The experiment's target until the context ends."""
    key = await _find_unless_owed(cluster, ledger, experiment)
    async with hold_lock(cluster, settings, key, ending) as (lock, undo):
        healed = await heal_target(cluster, ledger, lock, key, undo)
        target = await find_target(cluster, experiment)
        if not target.replicas:
            raise TargetError(f"{key} has no replicas, so there is nothing to test: scale it up")
        told = tuple(Event(RUN, "healed", Kind.OK, {"done": done}) for done in healed)
        lost = resumption.note_loss(ledger, lock.noted, key, await cluster.cluster_id(), time.time())
        yield _Taken(lock, target, told, lost)


async def _find_unless_owed(cluster: Cluster, ledger: RunLedger, experiment: Experiment) -> str:
    """The target's key. What cannot be tested is refused before it is touched, unless a dead run has left something to be
    undone first: the StatefulSet may not even be there."""
    key = f"{experiment.target.namespace}/{experiment.target.statefulset}"
    if key not in {run.target for run, _ in ledger.open_undo()} and not await names_undo(cluster, key):
        await find_target(cluster, experiment)
    return key


async def heal_target(
    cluster: Cluster,
    ledger: RunLedger,
    lock: TargetLock,
    key: str,
    noted: Mapping[str, Any] | None,
    clock: Callable[[], float] = time.time,
) -> list[str]:
    """Undo what dead runs left on a target: what the ledger knows, and what its Lease notes, which may know more than a
    ledger that is gone or was rolled back. Tells what was done."""
    here = await cluster.cluster_id()
    owed = [(run, undo) for run, undo in ledger.open_undo() if run.target == key and _is_of(run, here)]
    done = []
    for run, undo in owed:
        told = await heal_or_leave(cluster, undo)
        ledger.append(run, Event(NEMESIS, "undo", Kind.OK, {**undo, "done": told}), clock())
        done.append(told)
    if noted and noted not in [undo for _, undo in owed]:
        done.append(await heal_or_leave(cluster, noted))
    if noted:
        async for attempt in patiently(HEAL_SECONDS):
            with attempt:
                await lock.register_undo(None)
    return done


@contextmanager
def _sandbox_copied(settings: Settings, *, disks: bool) -> Iterator[Settings]:
    """Settings whose sandbox, if that is the cluster, is a copy, with disks or without: opening one sets its controllers to
    work. The ledger stays where it is."""
    if settings.cluster != "sandbox":
        yield settings
        return
    with tempfile.TemporaryDirectory() as copy:
        with suppress(FileNotFoundError):
            if disks:
                shutil.copytree(settings.sandbox_folder, copy, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy(settings.sandbox_folder / STATE_FILE, copy)
        yield settings.model_copy(update={"sandbox_dir": Path(copy)})


def _is_of(run: Run, cluster_id: str) -> bool:
    """Whether a run was on this cluster, as far as that can be seen."""
    return not run.cluster_id or not cluster_id or run.cluster_id == cluster_id


def _documents(manifest: Path) -> list[Mapping[str, Any]]:
    try:
        return [document for document in yaml.safe_load_all(manifest.read_text()) if document]
    except OSError as error:
        raise ExperimentError(f"target.manifest {manifest}: {error.strerror}: name what the sandbox shall apply") from error
    except yaml.YAMLError as error:
        raise ExperimentError(f"target.manifest {manifest}: no YAML: {error}") from error
