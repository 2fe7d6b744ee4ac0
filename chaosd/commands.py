"""A composition root: what each command but `daemon` does, on the cluster and the ledger that the settings name.

Each function is a command's work; each raises the errors that stop it before it begins.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

from chaosd.adapters import open_cluster, open_ledger
from chaosd.cluster import kill_switch
from chaosd.cluster import target as targets
from chaosd.cluster.lock import names_undo
from chaosd.cluster.port import Cluster, Namespace, StatefulSet
from chaosd.cluster.sandbox import STATE_FILE
from chaosd.errors import AbortedError, ChaosdError, ClusterError, TargetError, UsageError
from chaosd.experiment import Experiment
from chaosd.generator import Plan
from chaosd.history import Event
from chaosd.interpreter import HEAL_SECONDS
from chaosd.ledger import Ledger, Run
from chaosd.preflight.checks import Preflight, check_all
from chaosd.preflight.outlook import Outlook, look_out
from chaosd.report import folder
from chaosd.run import Ending, Finished, Runner
from chaosd.settings import Settings
from chaosd.taking import Watch, carry_out, heal_target, hold_lock, is_of, taken


async def run_experiment(
    settings: Settings,
    experiment: Experiment,
    manifest: Path | None,
    ending: Ending,
    *,
    watch: Watch = lambda *_: None,
    told: Sequence[Event] = (),
) -> Finished:
    """Run an experiment to its end. `watch` is told of the run before it begins, and may listen to its journal, which
    begins with what is `told`."""
    async with AsyncExitStack() as held:
        cluster = await held.enter_async_context(open_cluster(settings, manifest))
        ledger = held.enter_context(open_ledger(settings))
        finished = await carry_out(cluster, ledger, settings, experiment, ending, watch, told=told)
        return _reported(finished, settings.out)


async def verify_runs(
    settings: Settings,
    name: str | None,
    ending: Ending,
    *,
    watch: Watch = lambda *_: None,
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
        if not is_of(run, await cluster.cluster_id()):
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
            verified.append(_reported(finished, settings.out / known.run))
        return verified


async def _verified(
    cluster: Cluster,
    ledger: Ledger,
    settings: Settings,
    run: Run,
    ending: Ending,
    watch: Watch,
) -> tuple[Finished, Sequence[Run]]:
    """One run, and the older ones of this ledger that were met on its volumes."""
    experiment = Experiment.model_validate_json(run.experiment)
    async with taken(cluster, ledger, settings, experiment, ending) as held:
        runner = Runner(cluster, ledger, held.lock, held.target, experiment, run, held.told)
        runner.replay()
        watch(held.target, runner, run)
        plan = Plan(runner.coverage.rounds + 1, "verify", held.target.replicas, 0, None, heal=False, verify=True)
        finished = await runner.run(iter([plan]), ending, writes=False)
    return finished, [known for known in runner.older_runs if known.id < run.id]


def _reported(finished: Finished, out: Path) -> Finished:
    folder.write(finished.verdict, out)
    return finished


async def undo_runs(settings: Settings, only: str | None, ending: Ending) -> list[str]:
    """Heal what dead runs left, as the ledger and the targets' Leases say; tells what was done. Targets of others are let
    be: those whose Lease names nothing to undo, or has a holder that lives. `only` one target (NAMESPACE/STATEFULSET), if
    it is named: that may be gone, and the ledger, too."""
    async with AsyncExitStack() as held:
        ledger = held.enter_context(open_ledger(settings))
        cluster = await held.enter_async_context(open_cluster(settings))
        here = await cluster.cluster_id()
        owed = dict.fromkeys(run.target for run, _ in ledger.open_undo() if is_of(run, here))
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
    async with open_cluster(settings) as cluster:
        return await kill_switch.throw(cluster, what, where, name, paused=paused, seconds=HEAL_SECONDS)


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
