"""The nodes: scheduling, attaching, starting and stopping pods, each with the time that it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from chaosd.cluster.port import Attachment, Claim, Container, Node, Pod, Volume
from chaosd.cluster.sandbox import volumes
from chaosd.cluster.sandbox.disks import Disks
from chaosd.cluster.sandbox.process import LocalProcess
from chaosd.cluster.sandbox.store import Store, Timings


class Kubelets:
    """The kubelets of all nodes. `reconcile` starts what is to be done; each pod's life is a task."""

    def __init__(self, store: Store, disks: Disks, timings: Timings) -> None:
        self._store = store
        self._disks = disks
        self._timings = timings
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()
        self._processes: dict[str, set[LocalProcess]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """After a restart of the sandbox: containers run on, since they never were processes; folders of pods that are
        gone are removed, and the others' mounts told anew, since the sandbox may lie elsewhere now."""
        pods = {pod.uid: pod for pod in self._store.all(Pod)}
        self._running = {uid for uid, pod in pods.items() if pod.phase == "Running"}
        for uid in set(self._disks.mounted()) - set(pods):
            self._disks.unmount(uid)
        nodes = {node.name: node for node in self._store.all(Node)}
        for uid in self._running:
            self._disks.mount(pods[uid], self.handles(pods[uid]), nodes[pods[uid].node])

    def reconcile(self) -> None:
        """Start, stop and detach what the objects ask for."""
        pods = {pod.uid: pod for pod in self._store.all(Pod)}
        for uid, pod in pods.items():
            if pod.deleting:
                self._once(f"stop {uid}", self._stop, pod)
            elif pod.phase == "Pending":
                self._once(f"start {uid}", self._start, pod)
        for uid in self._running - set(pods):
            self._once(f"kill {uid}", self._kill, uid)
        for attachment in self._store.all(Attachment):
            if not volumes.in_use(self._store, attachment):
                self._once(f"detach {attachment.name}", self._detach, attachment)

    def handles(self, pod: Pod) -> dict[str, str]:
        """Disks by the pod's volume names."""
        found = {}
        for name, claim_name in pod.claims.items():
            claim = self._store.find(Claim, pod.namespace, claim_name)
            volume = self._store.find(Volume, "", claim.volume) if claim else None
            if volume:
                found[name] = volume.handle
        return found

    async def run(self, pod: Pod, container: Container, argv: list[str]) -> LocalProcess:
        """A process in a running container."""
        handles = self.handles(pod)
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C", "HOSTNAME": pod.hostname}
        environment["CHAOSD_PROC"] = str(self._disks.proc(pod))
        translated = self._disks.translate(pod, container, handles, argv)
        process = await LocalProcess.start(translated, environment, self._disks.root(pod))
        self._processes.setdefault(pod.uid, set()).add(process)
        return process

    async def end(self, pod_uid: str, process: LocalProcess) -> None:
        """The connection to a process ended."""
        await process.end()
        self._processes.get(pod_uid, set()).discard(process)

    async def close(self) -> None:
        """End every process and every task."""
        for processes in self._processes.values():
            for process in processes:
                process.kill()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _once(self, name: str, act: Any, subject: Any) -> None:
        if name not in self._lives:
            work: Coroutine[Any, Any, None] = act(subject)
            task = self._lives[name] = asyncio.create_task(work, name=name)
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._lives[name]
        self._store.changed.set()

    async def _start(self, pod: Pod) -> None:
        """Schedule, bind, attach, mount, run; each step only while the pod is still wanted."""
        bound = volumes.bind(self._store, self._disks, pod)
        if bound is None:
            self._store.put(replace(pod, unschedulable="pod has unbound PersistentVolumeClaims"))
            return
        node = self._choose_node()
        pod = replace(pod, node=node.name, scheduled_at=self._store.now(), unschedulable="")
        self._store.put(pod)
        for volume in bound:
            await self._attach(volume, node)
        await asyncio.sleep(self._timings.start)
        if not self._still_there(pod):
            return
        self._disks.mount(pod, self.handles(pod), node)
        self._running.add(pod.uid)
        containers = tuple(replace(c, id=f"sandbox://{self._store.hexadecimal(64)}", ready=True) for c in pod.containers)
        started = replace(pod, phase="Running", ready=True, ready_at=self._store.now(), containers=containers)
        self._store.put(started)

    def _still_there(self, pod: Pod) -> bool:
        found = self._store.find(Pod, pod.namespace, pod.name)
        return found is not None and found.uid == pod.uid and not found.deleting

    def _choose_node(self) -> Node:
        pods = [pod.node for pod in self._store.all(Pod)]
        nodes = [n for n in self._store.all(Node) if not n.unschedulable]
        return min(nodes, key=lambda node: (pods.count(node.name), node.name))

    async def _attach(self, volume: Volume, node: Node) -> None:
        while self._attached_elsewhere(volume, node):  # noqa: ASYNC110 - polls, as the real controller does
            await asyncio.sleep(self._timings.detach)
        wanted = volumes.attachment(volume, node.name, self._store)
        if wanted.attached:
            return
        self._store.put(wanted)
        await asyncio.sleep(self._timings.attach)
        self._store.put(replace(wanted, attached=True))

    def _attached_elsewhere(self, volume: Volume, node: Node) -> bool:
        return any(a.volume == volume.name and a.node != node.name for a in self._store.all(Attachment))

    async def _stop(self, pod: Pod) -> None:
        await asyncio.sleep(self._timings.stop)
        self._end_container(pod.uid)
        self._store.remove(pod)

    async def _kill(self, uid: str) -> None:
        """A forced deletion: the object is gone already, the container follows."""
        await asyncio.sleep(self._timings.stop)
        self._end_container(uid)

    def _end_container(self, uid: str) -> None:
        for process in self._processes.pop(uid, set()):
            process.kill()
        self._running.discard(uid)
        self._disks.unmount(uid)

    async def _detach(self, attachment: Attachment) -> None:
        await asyncio.sleep(self._timings.detach)
        if not volumes.in_use(self._store, attachment):
            self._store.remove(attachment)
