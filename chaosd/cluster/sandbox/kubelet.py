"""The nodes: scheduling, attaching, starting and stopping pods, each with the time that it takes; and nodes that crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any

from chaosd.cluster import affinity
from chaosd.cluster.port import Attachment, Claim, Container, Node, Pod, Volume
from chaosd.cluster.sandbox import volumes
from chaosd.cluster.sandbox.disks import Disks, Mounting, Process, refuse_absent
from chaosd.cluster.sandbox.store import Store, Timings
from chaosd.errors import RefusedError, UnreachableError

# An image whose name says this cannot be pulled.
NO_IMAGE = "noimage"
# The first process of an image whose name says this does not handle SIGTERM.
NO_TERM = "noterm"


class Kubelets:
    """The kubelets of all nodes. `reconcile` starts what is to be done; each pod's life is a task. `attach_seconds` are how
    much longer than others the disks with these handles take to be attached."""

    def __init__(self, store: Store, disks: Disks, timings: Timings) -> None:
        self.attach_seconds: dict[str, float] = {}
        self._store = store
        self._disks = disks
        self.timings = timings
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, str] = {}  # the node of each pod whose containers run, by its UID
        self._processes: dict[str, dict[Process, str]] = {}  # and the container of each, by the pod's UID

    def resume(self) -> None:
        """After a restart of the sandbox: containers run on, since they never were processes; folders of pods that are
        gone are removed, and the others' mounts told anew, since the sandbox may lie elsewhere now."""
        pods = {pod.uid: pod for pod in self._store.all(Pod)}
        nodes = {node.name: node for node in self._store.all(Node)}
        for uid in self._disks.mounted():
            if uid not in pods:
                self._disks.unmount(uid)
        for pod in pods.values():
            if pod.phase == "Running" and nodes[pod.node].ready:
                try:
                    there = (*pod.containers, *(c for c in pod.ephemeral if c.running))
                    self._disks.mount(pod, self._mountings(pod, there), nodes[pod.node])
                except OSError:
                    continue  # it is started again, which fails with an event
                self._running[pod.uid] = pod.node
        for node in nodes.values():
            if not node.ready:
                self._once(f"boot {node.name}", self._boot_later, node.name, self.timings.reboot)

    def reconcile(self) -> None:
        """Start, stop and detach what the objects ask for."""
        pods = {pod.uid: pod for pod in self._store.all(Pod)}
        down = {node.name for node in self._store.all(Node) if not node.ready}
        for uid, pod in pods.items():
            if pod.node in down:
                continue
            if pod.deleting:
                self._once(f"stop {uid}", self._stop, pod)
            elif uid not in self._running:
                self._once(f"start {uid}", self._start, pod)
            else:
                if any(container.ended for container in pod.containers):
                    self._once(f"restart {uid}", self._restart, pod)
                if any(not container.id for container in pod.ephemeral):
                    self._once(f"ephemeral {uid}", self._start_ephemeral, pod)
        for uid, node in self._running.items():
            if uid not in pods and node not in down:
                self._once(f"kill {uid}", self._kill, uid)
        used = volumes.in_use(self._store)
        for attachment in self._store.all(Attachment):
            if (attachment.volume, attachment.node) not in used:
                self._once(f"detach {attachment.name}", self._detach, attachment)

    async def run(self, pod: Pod, container: Container, argv: Sequence[str]) -> Process:
        """A process in a running container. Raises UnreachableError, RefusedError."""
        self._refuse_stopped(pod, container)
        process = await self._disks.start(pod, container, argv)
        self._processes.setdefault(pod.uid, {})[process] = container.name
        return process

    def signal(self, pod: Pod, container: Container, signal: str) -> None:
        """Send a signal to the first process of a container, which ends with all that was started in it, and is started
        again. No process stands for the first one. Raises UnreachableError, RefusedError."""
        self._refuse_stopped(pod, container)
        refuse_absent(container, "sh")
        if not pod.shared_processes and signal != "TERM":
            raise RefusedError(f"process 1 of a PID namespace gets no SIG{signal} from inside: set shareProcessNamespace")
        if not pod.shared_processes and NO_TERM in container.image:
            raise RefusedError("process 1 does not handle SIGTERM, so it gets none from inside: set shareProcessNamespace")
        for process, inside in self._processes.get(pod.uid, {}).items():
            if inside == container.name and not process.exited:
                process.kill()
        ended = replace(container, ready=False, ended="Completed" if signal == "TERM" else "Error")
        containers = tuple(ended if one.name == container.name else one for one in pod.containers)
        self._store.put(replace(pod, ready=False, ready_at=None, containers=containers))

    def _refuse_stopped(self, pod: Pod, container: Container) -> None:
        node = self._store.find(Node, "", pod.node)
        if node is not None and not node.ready:
            raise UnreachableError(f"exec into {pod.name}: error dialing backend: no route to {pod.node}")
        if pod.uid not in self._running or not container.running:
            raise RefusedError(f"container {container.name} of {pod.name} is not running")

    async def end(self, pod_uid: str, process: Process) -> None:
        """The connection to a process ended, which may outlive it."""
        await process.end()
        if process.exited:
            self._processes.get(pod_uid, {}).pop(process, None)

    def crash(self, name: str, *, lying: bool, keep: float, down_seconds: float | None) -> None:
        """A node loses its power: its processes end in the middle of what they do, and its page cache is gone. Its pods are
        not Ready, and start again when it is back after `down_seconds` (None: never, unless `boot` is called)."""
        node = self._store.get(Node, "", name)
        on_it = [pod for pod in self._store.all(Pod) if pod.node == name]
        crashed = self._stand_still(name)
        for uid in crashed:
            self._end_processes(uid)
            del self._running[uid]
        self._disks.crash(crashed, lying=lying, keep=keep)
        self._store.put(replace(node, ready=False))
        for pod in on_it:
            containers = tuple(replace(c, ready=False) for c in pod.containers)
            ephemeral = tuple(replace(c, ready=False, ended="Error") if c.id else c for c in pod.ephemeral)
            dead = replace(pod, ready=False, ready_at=None, containers=containers, ephemeral=ephemeral)
            self._store.put(dead)
        if down_seconds is not None:
            self._once(f"boot {name}", self._boot_later, name, down_seconds)

    def hang(self, name: str) -> list[str]:
        """A node hangs, with all that goes on there, and the cluster gives its pods up. Returns the UIDs of those that
        run."""
        node = self._store.get(Node, "", name)
        running = self._stand_still(name)
        self._store.put(replace(node, ready=False))
        for pod in self._store.all(Pod):
            if pod.node == name:
                self._store.remove(pod)
        return running

    def wake(self, name: str) -> list[str]:
        """A node that hung goes on, and learns only then what became of its pods. Returns the UIDs of those that run."""
        self._store.put(replace(self._store.get(Node, "", name), ready=True))
        return [uid for uid, where in self._running.items() if where == name]

    def _stand_still(self, name: str) -> list[str]:
        """Whatever kubelet was about to do on a node ends. Returns the UIDs of the pods that run there."""
        running = [uid for uid, where in self._running.items() if where == name]
        for uid in (*running, *(pod.uid for pod in self._store.all(Pod) if pod.node == name)):
            for life in ("start", "stop", "kill", "restart", "ephemeral"):
                self._cancel(f"{life} {uid}")
        return running

    def boot(self, name: str) -> None:
        """A node that was away comes back, with another boot id. What it had of pods that are gone goes."""
        pods = {pod.uid for pod in self._store.all(Pod)}
        for uid in self._disks.mounted():
            if uid not in pods and uid not in self._running:
                self._disks.unmount(uid)
        self._store.put(replace(self._store.get(Node, "", name), ready=True, boot_id=self._store.uid()))

    async def close(self) -> None:
        """End every process and every task."""
        for processes in self._processes.values():
            for process in processes:
                process.kill()
        tasks = list(self._lives.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _once(self, name: str, act: Callable[..., Coroutine[Any, Any, None]], *subject: Any) -> None:
        if name not in self._lives:
            task = self._lives[name] = asyncio.create_task(act(*subject), name=name)
            task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._lives.get(name) is task:
            del self._lives[name]
        self._store.changed.set()

    def _cancel(self, name: str) -> None:
        task = self._lives.pop(name, None)
        if task:
            task.cancel()

    async def _start(self, pod: Pod) -> None:
        """Schedule, bind, attach, mount, run; each step only while the pod is still wanted. What fails is told in an Event,
        and tried again after a while."""
        if self._still_there(pod) is None:
            return
        bound = volumes.bind(self._store, self._disks, pod)
        if bound is None:
            await self._unscheduled(pod, "pod has unbound PersistentVolumeClaims")
            return
        node = self._store.find(Node, "", pod.node) if pod.node else self._choose_node(bound)
        if node is None:
            await self._unscheduled(pod, f"0/{len(self._store.all(Node))} nodes are available: {self._why_not(bound)}")
            return
        if not pod.node:
            pod = self._store.put(replace(pod, node=node.name, scheduled_at=self._store.now(), unschedulable=""))
        for volume in bound:
            await self._attach(pod, volume, node)
        await asyncio.sleep(self.timings.start)
        now = self._still_there(pod)
        if now is None:
            return
        if image := next((c.image for c in now.containers if NO_IMAGE in c.image), None):
            waiting = tuple(replace(c, waiting="ImagePullBackOff" if NO_IMAGE in c.image else "") for c in now.containers)
            self._store.put(replace(now, containers=waiting))
            await self._failed(now, "Failed", f'Failed to pull image "{image}": not found')
            return
        try:
            self._disks.mount(now, self._mountings(now, now.containers), node)
        except OSError as error:
            await self._failed(now, "FailedMount", f"MountVolume.MountDevice failed: {error}")
            return
        self._running[now.uid] = node.name
        self._store.put(self._started(now))

    def _started(self, pod: Pod) -> Pod:
        """The pod with its containers running, which were started before if it ran before."""
        again = pod.phase == "Running"
        containers = tuple(
            replace(c, id=self._container_id(), ready=True, waiting="", ended="", restarts=c.restarts + again)
            for c in pod.containers
        )
        return replace(pod, phase="Running", ready=True, ready_at=self._store.now(), containers=containers)

    async def _restart(self, pod: Pod) -> None:
        """Containers that ended run again, and see what they saw: no volume was unmounted."""
        await asyncio.sleep(self.timings.start)
        now = self._still_there(pod)
        if now is None:
            return
        ended = tuple(container for container in now.containers if container.ended)
        for container in ended:
            self._disks.restart(now, container)
        again = {one.name: one for one in self._started(replace(now, containers=ended)).containers}
        containers = tuple(again.get(container.name, container) for container in now.containers)
        self._store.put(replace(now, ready=True, ready_at=self._store.now(), containers=containers))

    async def _start_ephemeral(self, pod: Pod) -> None:
        await asyncio.sleep(self.timings.start)
        now = self._still_there(pod)
        if now is None:
            return
        new = [container for container in now.ephemeral if not container.id]
        self._disks.mount_also(now, self._mountings(now, new))
        started = tuple(replace(c, id=self._container_id(), waiting="") if c in new else c for c in now.ephemeral)
        self._store.put(replace(now, ephemeral=started))

    def _container_id(self) -> str:
        return f"sandbox://{self._store.hexadecimal(64)}"

    async def _unscheduled(self, pod: Pod, why: str) -> None:
        self._store.put(replace(pod, unschedulable=why))
        await self._failed(pod, "FailedScheduling", why)

    async def _failed(self, pod: Pod, reason: str, message: str) -> None:
        self._store.warn(pod, reason, message)
        await asyncio.sleep(self.timings.retry)

    def _still_there(self, pod: Pod) -> Pod | None:
        """The pod as it is now."""
        found = self._store.find(Pod, pod.namespace, pod.name)
        return found if found is not None and found.uid == pod.uid and not found.deleting else None

    def _choose_node(self, volumes: Sequence[Volume]) -> Node | None:
        pods = [pod.node for pod in self._store.all(Pod)]
        possible = affinity.places(self._store.all(Node), volumes)
        chosen = min(possible, key=lambda name: (pods.count(name), name), default=None)
        return self._store.find(Node, "", chosen) if chosen else None

    def _why_not(self, volumes: Sequence[Volume]) -> str:
        """As the scheduler counts it."""
        nodes = self._store.all(Node)
        reasons = {
            "node(s) were not ready": sum(1 for node in nodes if not node.ready),
            "node(s) were unschedulable": sum(1 for node in nodes if node.unschedulable),
            "node(s) had volume node affinity conflict": sum(
                1 for node in nodes if not all(affinity.fits(volume, node) for volume in volumes)
            ),
        }
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)

    def _mountings(self, pod: Pod, containers: Sequence[Container]) -> list[Mounting]:
        return [
            found
            for container in containers
            for one in self._mountings_of(pod, container)
            if (found := self._store.tampered(one)) is not None
        ]

    def _mountings_of(self, pod: Pod, container: Container) -> Iterator[Mounting]:
        for mount in container.mounts:
            handle = ""
            if name := pod.claims.get(mount.volume):
                claim = self._store.find(Claim, pod.namespace, name)
                volume = self._store.find(Volume, "", claim.volume) if claim else None
                handle = volume.handle if volume else "unbound"
            where = (pod.namespace, pod.name, pod.uid, container.name)
            yield Mounting(*where, mount.volume, mount.path, handle, mount.sub_path, mount.read_only)

    async def _attach(self, pod: Pod, volume: Volume, node: Node) -> None:
        timings = self.timings
        waited, wait = 0.0, timings.detach
        while self._attached_elsewhere(volume, node):
            if waited > timings.retry:
                self._store.warn(pod, "FailedAttachVolume", f'Multi-Attach error for volume "{volume.name}"')
            await asyncio.sleep(wait)
            waited, wait = waited + wait, min(2 * wait, timings.retry)
        attachment = volumes.attachment(volume, node.name, self._store)
        if attachment.attached:
            return
        self._store.put(attachment)
        await asyncio.sleep(timings.attach + self.attach_seconds.get(volume.handle, 0.0))
        found = self._store.find(Attachment, "", attachment.name)
        if found is not None:
            self._store.put(replace(found, attached=True))

    def _attached_elsewhere(self, volume: Volume, node: Node) -> bool:
        return any(a.volume == volume.name and a.node != node.name for a in self._store.all(Attachment))

    async def _stop(self, pod: Pod) -> None:
        await asyncio.sleep(self.timings.stop)
        self._end_container(pod.uid)
        now = self._store.find(Pod, pod.namespace, pod.name)
        if now is not None and now.uid == pod.uid:
            self._store.remove(now)

    async def _kill(self, uid: str) -> None:
        """A forced deletion: the object is gone already, the container follows."""
        await asyncio.sleep(self.timings.orphan)
        self._end_container(uid)

    def _end_container(self, uid: str) -> None:
        self._end_processes(uid)
        self._running.pop(uid, None)
        self._disks.unmount(uid)

    def _end_processes(self, uid: str) -> None:
        for process in self._processes.pop(uid, {}):
            process.kill()

    async def _detach(self, attachment: Attachment) -> None:
        await asyncio.sleep(self.timings.detach)
        found = self._store.find(Attachment, "", attachment.name)
        if found is not None and (found.volume, found.node) not in volumes.in_use(self._store):
            self._store.remove(found)

    async def _boot_later(self, name: str, down_seconds: float) -> None:
        await asyncio.sleep(down_seconds)
        self.boot(name)
