"""Taking a target: its lock, what dead runs left on it put right, and the run that begins there or goes on."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ulid import ULID

from chaosd import resumption
from chaosd.cluster.inflight import patiently
from chaosd.cluster.lock import TargetLock, names_undo
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import ClusterError, RightsError, TargetError
from chaosd.experiment import Experiment
from chaosd.history import NEMESIS, RUN, Event, Kind
from chaosd.interpreter import HEAL_SECONDS, heal_or_leave
from chaosd.ledger import Ledger, Run, RunLedger
from chaosd.preflight import rights
from chaosd.preflight.finding import find_target
from chaosd.run import Ending, Finished, Runner
from chaosd.settings import Settings

# A sandbox's folder has one process at a time, so a dead holder of a Lease in it need not be waited for long.
_SANDBOX_LEASE_SECONDS = 4


Watch = Callable[[Target, Runner, Run], None]


async def carry_out(
    cluster: Cluster,
    ledger: Ledger,
    settings: Settings,
    experiment: Experiment,
    ending: Ending,
    watch: Watch = lambda *_: None,
    until: Callable[[], bool] = lambda: False,
    told: Sequence[Event] = (),
) -> Finished:
    """Run an experiment to its end: a new run, or the one that was left unfinished. `watch` is told of the run before it
    begins, and may listen to its journal, which begins with what is `told`. No round begins once `until` is true; a run
    without an end is unfinished then."""
    namespace = experiment.target.namespace
    if lacking := await rights.missing(cluster, rights.needed(experiment)):
        named, mend = rights.summed(lacking, namespace), "grant them (chaosd preflight prints the Role)"
        raise RightsError(f"the credentials lack {named} in {namespace}: {mend}")
    async with taken(cluster, ledger, settings, experiment, ending) as held:
        lock, target, cluster_id = held.lock, held.target, await cluster.cluster_id()
        left = resumption.left_behind(ledger, lock.noted, held.lost, target.key, cluster_id, experiment)
        run = left.goes_on or await _begun(cluster, ledger, target, experiment)
        begins = (*told, *held.told, *left.told)
        runner = Runner(cluster, ledger, lock, target, experiment, run, begins, settings.retention)
        if left.goes_on:
            runner.resume()
        watch(target, runner, run)
        plans = experiment.plans(run.seed, target.replicas, target.first_ordinal)
        later = resumption.after(plans, runner.last_round)
        return await runner.run(takewhile(lambda _: not (until() or runner.covered), later), ending)


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
class Taken:
    """A target that is locked, and healed of what dead runs left on it, which is `told`; and what the ledger has `lost` of
    them."""

    lock: TargetLock
    target: Target
    told: tuple[Event, ...]
    lost: str


@asynccontextmanager
async def taken(
    cluster: Cluster, ledger: Ledger, settings: Settings, experiment: Experiment, ending: Ending
) -> AsyncIterator[Taken]:
    """The experiment's target until the context ends."""
    key = await _find_unless_owed(cluster, ledger, experiment)
    async with hold_lock(cluster, settings, key, ending) as (lock, undo):
        healed = await heal_target(cluster, ledger, lock, key, undo)
        target = await find_target(cluster, experiment)
        if not target.replicas:
            raise TargetError(f"{key} has no replicas, so there is nothing to test: scale it up")
        told = tuple(Event(RUN, "healed", Kind.OK, {"done": done}) for done in healed)
        lost = resumption.note_loss(ledger, lock.noted, key, await cluster.cluster_id(), time.time())
        yield Taken(lock, target, told, lost)


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
    owed = [(run, undo) for run, undo in ledger.open_undo() if run.target == key and is_of(run, here)]
    done = []
    for run, undo in owed:
        told = await heal_or_leave(cluster, undo)
        ledger.append(run, Event(NEMESIS, "undo", Kind.OK, {**undo, "done": told}), clock())
        done.append(told)
    if noted and noted not in [undo for _, undo in owed]:
        done.append(await heal_or_leave(cluster, noted))
    if noted:
        await _note_nothing(lock)
    return done


async def heal_from_lease(cluster: Cluster, lock: TargetLock, noted: Mapping[str, Any] | None) -> list[str]:
    """Undo what a target's Lease notes, without the ledger: whoever comes with that later does it once more, to no effect.
    Tells what was done."""
    if not noted:
        return []
    done = await heal_or_leave(cluster, noted)
    await _note_nothing(lock)
    return [done]


async def _note_nothing(lock: TargetLock) -> None:
    async for attempt in patiently(HEAL_SECONDS):
        with attempt:
            await lock.register_undo(None)


def is_of(run: Run, cluster_id: str) -> bool:
    """Whether a run was on this cluster, as far as that can be seen."""
    return not run.cluster_id or not cluster_id or run.cluster_id == cluster_id
