"""The interpreter: the one loop. It asks the generator, journals, dispatches, journals.

Every task runs in a task of its own; each replica's worker and the nemesis do one thing at a time. Whatever ends the
loop, what was registered to be undone is undone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from chaosd.checkers import Panel
from chaosd.checkers.records import expand
from chaosd.cluster.inflight import patiently
from chaosd.cluster.lock import TargetLock
from chaosd.cluster.port import Attachment, Cluster, Namespace, Node, Pod
from chaosd.cluster.target import Target
from chaosd.errors import (
    AbortedError,
    BlockedError,
    ClusterError,
    ConflictError,
    DeadlineError,
    DisruptionError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    RightsError,
)
from chaosd.experiment import Experiment
from chaosd.generator import Generator, Pending, Task
from chaosd.guards import Guard, Refusal, namespace_of, refuse_untouchable
from chaosd.history import NEMESIS, OBSERVER, RUN, Event, Kind
from chaosd.ledger import Journal
from chaosd.nemesis import Disruption, Scene, combined, heal
from chaosd.nemesis.base import CONFLICT, NOT_READY
from chaosd.workload.worker import Worker

# The undo is issued within a second of a signal; its answer may take as long as the API server does.
HEAL_SECONDS = 60.0
KILL_SWITCH_SECONDS = 0.5  # between two looks at it
FORBIDDEN_SECONDS = 60.0  # between two where it may not be seen
CONFIRM_SECONDS = 10.0


class Interpreter:
    """Carries out what a generator says, on one target."""

    def __init__(
        self,
        *,
        scene: Scene,
        journal: Journal,
        lock: TargetLock,
        panel: Panel,
        generator: Generator,
        workers: Mapping[str, Worker],
        guard: Guard,
        experiment: Experiment,
    ) -> None:
        self._scene = scene
        self._journal = journal
        self._lock = lock
        self._panel = panel
        self._generator = generator
        self._workers = workers
        self._guard = guard
        self._experiment = experiment
        self._ends_at = math.inf  # on the loop's clock; no round begins after it
        self._held_by: Refusal | None = None
        self._namespace_goes = False
        self._undos: list[Mapping[str, Any]] = []
        self._kept = 0  # undos that were registered before the present disruption: a script's scaling lasts

    async def run(self, stop: asyncio.Event) -> None:
        """Until the generator has nothing left, the time is over, or `stop` is set. Raises AbortedError when the kill
        switch is thrown or a guard closes, and what the workers cannot go on after (LedgerError, TargetError,
        RightsError)."""
        running: dict[asyncio.Task[int], Task] = {}
        stopped = asyncio.create_task(stop.wait(), name="stop")
        paused = asyncio.create_task(self._kill_switch(), name="kill switch")
        now = asyncio.get_running_loop().time
        if self._experiment.duration is not None:
            passed = self._journal.clock() - self._journal.run.started_at  # a chaosd that died may have begun it
            self._ends_at = now() + self._experiment.duration - passed
        try:
            while not stopped.done():
                task = await self._next(now())
                if isinstance(task, Task):
                    running[asyncio.create_task(self._do(task), name=f"{task.process} {task.f}")] = task
                    continue
                if task is None:
                    break
                done, _ = await asyncio.wait(
                    [*running, stopped, paused], timeout=task.seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if paused in done:
                    paused.result()
                for ended in [worker for worker in running if worker.done()]:
                    self._generator.ended(running.pop(ended), done=ended.result(), now=now())
        finally:
            await _cancel([*running, stopped, paused])
            await self._heal()
            with suppress(ClusterError):  # what was deleted with its namespace is no fault
                await self._namespace()

    async def _next(self, now: float) -> Task | Pending | None:
        """What the generator says; between rounds only while there is time, and once guards allow a disruption."""
        upcoming = self._generator.upcoming()
        if upcoming and upcoming.decision:  # what is only read back is neither too early nor too late
            if now >= self._ends_at:
                return None
            if refusal := self._guard.too_early():
                return await self._held(refusal, self._ends_at - now)
        return self._generator.next(now, self._journal.last_index)

    async def _held(self, refusal: Refusal, left: float) -> Pending:
        """Until it may be asked again, told once. A run of so many rounds or steps is one that somebody waits for: it does
        not wait for hours. Raises AbortedError."""
        if refusal.window and (self._experiment.rounds or self._experiment.steps):
            raise AbortedError(f"{refusal.why}: begin it then, or give it a duration")
        if self._held_by is None or (refusal.reason, refusal.until) != (self._held_by.reason, self._held_by.until):
            told = {"error": refusal.why, "blocked": refusal.reason, "until": refusal.until}
            await self._journal.append([Event(NEMESIS, "hold", Kind.FAIL, told)])
        self._held_by = refusal
        assert refusal.until is not None, "of time, they have an end"
        return Pending(max(0.0, min(refusal.until - self._scene.clock(), left)))

    async def _do(self, task: Task) -> int:
        """Carry out one task; how many things it was sure of."""
        if task.process == RUN:
            return await self._account(task)
        if task.process == NEMESIS:
            return await self._disturb(task)
        worker = self._workers[task.process]
        if task.f == "write":
            return await worker.write(task.value["count"])
        if task.f == "read":
            return await worker.read(expand(task.value["sequences"]))
        if task.f == "list":
            return await worker.survey()
        return await worker.delete(expand(task.value["sequences"]))

    async def _account(self, task: Task) -> int:
        if task.f == "round":
            await self._journal.append([Event(RUN, "round", Kind.INVOKE, task.value)])
        elif task.f == "round-end":
            for replica, volume in self._panel.attachment.suspects():
                await self._journal.append([await self._confirmed(replica, volume)])
            judgement = self._panel.judge()
            found = {"violations": len(judgement.violations), "unknowns": len(judgement.unknowns)}
            value = {**task.value, **found, "verdict": str(judgement.value)}
            if self._experiment.guards.stops_after(len(judgement.violations)):
                self._generator.finish()
                value["ended"] = f"guards.stopAfter is {self._experiment.guards.stop_after}"
            await self._journal.append([Event(RUN, "round", Kind.OK, value)])
        else:
            await self._evaluate(task.value)
        return 1

    async def _confirmed(self, replica: str, volume: str) -> Event:
        """Where a replica's pod runs and its volume is attached, read anew: watches may lag behind each other."""
        cluster, value = self._scene.cluster, {"replica": replica, "volume": volume}
        try:
            async for attempt in patiently(CONFIRM_SECONDS):
                with attempt:
                    found = await cluster.list(Attachment, "")
                    pod = await cluster.get(Pod, *replica.split("/"))
                    attached_to = sorted(a.node for a in found if a.volume == volume and a.attached)
                    nodes = {node.name: node for node in await cluster.list(Node, "")}
        except ClusterError as error:
            return Event(OBSERVER, "confirm", Kind.FAIL, {**value, "error": str(error)})
        seen: dict[str, Any] = {
            "attached_to": attached_to,
            "dead_nodes": [name for name in attached_to if name not in nodes or not nodes[name].ready],
        }
        seen |= {"pod_uid": pod.uid, "pod_node": pod.node, "ready": pod.ready and not pod.deleting}
        return Event(OBSERVER, "confirm", Kind.OK, {**value, **seen})

    async def _evaluate(self, value: Mapping[str, Any]) -> None:
        events = []
        for shown in self._panel.steps.evaluate(value["expectation"], value["parameters"]):
            line = {"step": value["step"], "expectation": value["expectation"], "replica": shown.replica}
            line |= {"expected": shown.expected, "seen": shown.seen, "result": shown.result}
            events.append(Event(RUN, "expect", Kind.OK, line))
        await self._journal.append(events)

    async def _disturb(self, task: Task) -> int:
        if task.f == "heal":
            await self._heal(self._kept)
            return 1
        if task.f == "converge":
            return await self._converge(task.value["replicas"])
        assert isinstance(task.move, Disruption), "what an experiment draws from is one"
        return await self._disrupt(task.move, task.value)

    async def _disrupt(self, disruption: Disruption, parameters: Mapping[str, Any]) -> int:
        kind, self._kept = disruption.kind, len(self._undos)
        try:
            prepared = disruption.prepare(self._scene, parameters)
        except NotReadyError as error:
            return await self._refused(kind, parameters, NOT_READY, str(error))
        if refusal := await self._guard.refusal(disruption, prepared):
            return await self._refused(kind, parameters, refusal.reason, refusal.why)
        if prepared.undo:
            await self._register(prepared.undo)
        self._guard.disrupts()
        takes = sorted(map(self._scene.target.replica, prepared.takes))
        value = {**parameters, **prepared.more, "deletes": list(prepared.deletes), "takes": takes, "disrupts": True}
        await self._journal.append([Event(NEMESIS, kind, Kind.INVOKE, value)])
        outcome = await self._outcome(disruption.invoke(self._scene, prepared))
        await self._journal.append([Event(NEMESIS, kind, *outcome)])
        if outcome[0] is Kind.FAIL:
            self._generator.refused()
        return outcome[0] is Kind.OK

    async def _refused(self, kind: str, parameters: Mapping[str, Any], reason: str, why: str) -> int:
        """Nothing was done; how many things that is."""
        self._generator.refused()
        told = {"error": why, "blocked": reason}
        await self._journal.append([Event(NEMESIS, kind, Kind.INVOKE, parameters), Event(NEMESIS, kind, Kind.FAIL, told)])
        return 0

    async def _outcome(self, act: Any) -> tuple[Kind, Mapping[str, Any]]:
        try:
            return Kind.OK, {"evidence": dict(await act)}
        except ForbiddenError as error:
            raise RightsError(f"{error}: grant it, or leave this disruption out") from error
        except ConflictError as error:
            return Kind.FAIL, {"error": str(error), "blocked": CONFLICT}
        except BlockedError as error:
            return Kind.FAIL, {"error": str(error), "blocked": error.reason}
        except (ClusterError, DeadlineError, DisruptionError) as error:
            return Kind.INFO, {"error": str(error)}

    async def _register(self, undo: Mapping[str, Any]) -> None:
        """In the ledger and on the Lease, before anything is done that it undoes. Raises AbortedError where that fails."""
        # Of counts the last leads back to what was found, as those before it do.
        self._undos = [*(u for u in self._undos if (u["kind"], undo["kind"]) != ("scale", "scale")), undo]
        registered = combined(self._undos)
        await self._journal.append([Event(NEMESIS, "undo", Kind.INVOKE, registered)])
        try:
            await self._note(registered)
        except ClusterError as error:
            raise AbortedError(f"the undo could not be noted on the Lease, so nothing was done: {error}") from error

    async def _note(self, undo: Mapping[str, Any] | None) -> None:
        """On the Lease, which a moment without an API server must not prevent."""
        async for attempt in patiently(HEAL_SECONDS):
            with attempt:
                await self._lock.register_undo(undo)

    async def _heal(self, keep: int = 0) -> None:
        """Undo what is registered, but for the first `keep` undos. Safe to repeat: one that is cancelled on the way is done
        again, to its end."""
        kept, owed = self._undos[:keep], self._undos[keep:]
        if not owed:
            return
        undo = combined(owed)
        done = await heal_or_leave(self._scene.cluster, undo)
        # The last entry of a ledger is what is open, so what is kept is said once more, in the same breath.
        still_open = [Event(NEMESIS, "undo", Kind.INVOKE, combined(kept))] if kept else []
        await self._journal.append([Event(NEMESIS, "undo", Kind.OK, {**undo, "done": done}), *still_open])
        await self._note(combined(kept) if kept else None)
        self._undos = kept

    async def _converge(self, replicas: int) -> int:
        now = asyncio.get_running_loop().time
        began = now()
        await self._journal.append([Event(NEMESIS, "converge", Kind.INVOKE, {"replicas": replicas})])
        try:
            await self._scene.observer.converged(replicas, self._experiment.timeouts.converge)
        except DeadlineError:
            # It may have converged since: then it is late by nothing.
            if late := self._scene.observer.view.late(self._scene.target, replicas):
                value = {"seconds": self._experiment.timeouts.converge, "late": _late(self._scene.target, late)}
                await self._journal.append([Event(NEMESIS, "converge", Kind.FAIL, value)])
                return 0
        seconds = round(now() - began, 3)
        await self._journal.append([Event(NEMESIS, "converge", Kind.OK, {"seconds": seconds})])
        return 1

    async def _kill_switch(self) -> None:
        """Until an annotation says so, or the namespace goes. Raises AbortedError."""
        namespace, looks, now = None, 0.0, asyncio.get_running_loop().time
        while not self._namespace_goes:
            refuse_untouchable(self._scene.observer.view.statefulset, namespace)
            await asyncio.sleep(KILL_SWITCH_SECONDS)
            if now() >= looks:
                with suppress(ClusterError):  # it is asked again
                    namespace = await self._namespace()
                    looks = now() if namespace else now() + FORBIDDEN_SECONDS
        raise AbortedError(f"namespace {self._scene.target.namespace} is being deleted, and the target with it")

    async def _namespace(self) -> Namespace | None:
        """The target's, as far as it may be seen. That it is being deleted is journaled. Raises ClusterError."""
        name = self._scene.target.namespace
        try:
            found = await namespace_of(self._scene.cluster, name)
        except NotFoundError:
            found = Namespace(name, "", terminating=True)
        if found and found.terminating and not self._namespace_goes:
            self._namespace_goes = True
            await self._journal.append([Event(OBSERVER, "namespace", Kind.OK, {"name": name, "change": "terminating"})])
        return found


async def heal_or_leave(cluster: Cluster, undo: Mapping[str, Any]) -> str:
    """Carry out an undo, unless somebody else changed the target since; tells which. Raises ClusterError."""
    try:
        return await heal(cluster, undo, HEAL_SECONDS)
    except ConflictError as error:
        return f"left as it is: {error}"


def _late(target: Target, late: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"replica": target.replica(pod), "state": state} for pod, state in late.items()]


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
