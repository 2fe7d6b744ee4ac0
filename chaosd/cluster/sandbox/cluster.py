"""The sandbox behind the port."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from chaosd.cluster.port import (
    Change,
    Claim,
    Container,
    EphemeralContainer,
    Lease,
    Namespace,
    Node,
    Pod,
    Room,
    StatefulSet,
    T,
    Volume,
)
from chaosd.cluster.sandbox import applying, budgets, namespaces, volumes
from chaosd.cluster.sandbox import statefulset as controller
from chaosd.cluster.sandbox.directory_disks import DirectoryDisks
from chaosd.cluster.sandbox.disks import Process
from chaosd.cluster.sandbox.kubelet import Kubelets
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.sandbox.memory_disks import MemoryDisks
from chaosd.cluster.sandbox.store import Store, Subject, Timings
from chaosd.errors import ConflictError, NotFoundError, RefusedError, UsageError

VERSION = "v1.37"
STATE_FILE = "state.json"
# Time passes for minReadySeconds even when nothing changes.
_TICK_SECONDS = 0.5


class SandboxCluster:
    """The embedded cluster. Open it with `open`, which keeps everything in one folder, or with `in_memory`.

    For tests and drills, beside the port: `store` (its objects), `disks`, `timings` (which may be replaced while it runs),
    `attach_seconds` (how much longer a disk takes to attach, by handle), `crash_node` and `boot_node`, `hang_node` and
    `wake_node`, and `tamper`.
    """

    kind = "sandbox"

    def __init__(
        self,
        store: Store,
        disks: DirectoryDisks | MemoryDisks,
        timings: Timings | None,
        lock: IO[str] | None = None,
    ) -> None:
        self._store = store
        self.disks = disks
        self._kubelets = Kubelets(store, disks, timings or Timings())
        self.attach_seconds = self._kubelets.attach_seconds
        self._lock = lock
        self._controllers: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        timings: Timings | None = None,
        nodes: int = 2,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.time,
    ) -> SandboxCluster:
        """The cluster in `directory`, as the last process left it, or a new one.

        Raises UsageError when another process has it, InconclusiveError when its state is damaged.
        """
        lock = _lock(directory)
        rng = rng or random.SystemRandom()
        store = Store(directory / STATE_FILE, rng, clock)
        try:
            known = store.load()
        except BaseException:
            lock.close()
            raise
        disks = DirectoryDisks(directory.resolve(), rng)
        cluster = cls(store, disks, timings, lock)
        cluster._begin(0 if known else nodes)
        return cluster

    @classmethod
    async def in_memory(
        cls,
        *,
        rng: random.Random,
        clock: Callable[[], float],
        timings: Timings | None = None,
        nodes: int = 2,
    ) -> SandboxCluster:
        """A new cluster that is nowhere but in this process. The same `rng`, `clock` and requests, in virtual time, make it
        do the same to the last byte. What disks do in a crash is drawn from a stream of its own."""
        timings = timings or Timings()
        disks = MemoryDisks(random.Random(rng.getrandbits(64)), timings)  # noqa: S311 - no secret
        cluster = cls(Store(None, rng, clock), disks, timings)
        cluster._begin(nodes)
        return cluster

    async def close(self) -> None:
        """End every process, store the state, and let the folder go."""
        if self._controllers:
            self._controllers.cancel()
            await asyncio.gather(self._controllers, return_exceptions=True)
        await self._kubelets.close()
        self._store.flush()
        if self._lock:
            self._lock.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was applied yet."""
        return not self._store.all(StatefulSet)

    async def apply(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Create or change what manifests describe: StatefulSets, PodDisruptionBudgets, autoscalers, ConfigMaps, and the
        namespace that each is in. Raises RefusedError for other kinds, and for changes of what is immutable, and
        in a namespace that is being deleted."""
        for document in documents:
            applying.apply(self._store, document)
        self._store.flush()

    async def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it. Raises NotFoundError, ConflictError when it is being deleted."""
        namespaces.delete(self._store, name)
        self._store.flush()

    async def delete_claim(self, namespace: str, name: str) -> None:
        """Delete a claim; while a pod uses it, it stays Terminating. Raises NotFoundError."""
        self._store.put(replace(self._store.get(Claim, namespace, name), deleting=True))
        self._store.flush()

    # What breaks it on purpose.

    @property
    def store(self) -> Store:
        """Its objects: `store.put(replace(...))` and `store.remove(...)` change them behind everybody's back."""
        return self._store

    @property
    def timings(self) -> Timings:
        """How long it takes for what; may be replaced while it runs."""
        return self._kubelets.timings

    @timings.setter
    def timings(self, timings: Timings) -> None:
        self._kubelets.timings = timings
        if isinstance(self.disks, MemoryDisks):
            self.disks.timings = timings

    def disk(self, namespace: str, claim: str) -> MemoryDisk:
        """In memory: the disk that a claim's volume stands on. Raises NotFoundError, KeyError."""
        assert isinstance(self.disks, MemoryDisks), "a disk that is a folder is broken by hand"
        volume = self._store.get(Claim, namespace, claim).volume
        return self.disks[self._store.get(Volume, "", volume).handle]

    def tamper(self, kind: type[Subject], change: Callable[[Subject], Subject | None]) -> Callable[[], None]:
        """Let every object of a kind that a controller is about to store pass through `change`, which returns it as it is,
        changed, or None so that it is never stored; and with `Mounting`, what kubelet is about to mount. Returns what ends
        that. To change an object once, `store.put(replace(...))` is enough."""
        return self._store.tamper(kind, change)

    def crash_node(
        self, name: str, *, lying: bool = False, keep: float = 0.5, down_seconds: float | None = None, boots: bool = True
    ) -> None:
        """A node loses its power. Of what its pods' disks were not asked to flush, each piece stays with the chance `keep`;
        `lying` disks lose what they acknowledged, too, since they were mounted or began to lie. It comes back after
        `down_seconds` (Timings.reboot, unless told), unless it `boots` not. Raises NotFoundError; ValueError for lying
        disks that are folders."""
        if lying and isinstance(self.disks, DirectoryDisks):
            raise ValueError("disks that are folders cannot lie: use a sandbox in memory")
        down = self.timings.reboot if down_seconds is None else down_seconds
        self._kubelets.crash(name, lying=lying, keep=keep, down_seconds=down if boots else None)
        self._store.flush()

    def boot_node(self, name: str) -> None:
        """A node that is away comes back. Raises NotFoundError."""
        self._kubelets.boot(name)
        self._store.flush()

    def hang_node(self, name: str) -> None:
        """A node hangs: what runs there stands still, and answers nothing. The cluster gives its pods up, as it does with a
        node that is deleted or tainted as out of service, and others come in their place; the old ones go on when it wakes,
        until their kubelet has seen that (kubernetes/kubernetes#61832). Raises NotFoundError; ValueError for disks that are
        folders."""
        if isinstance(self.disks, DirectoryDisks):
            raise ValueError("local processes cannot hang: use a sandbox in memory")  # noqa: TRY004 - as crash_node
        self.disks.hang(self._kubelets.hang(name))
        self._store.flush()

    def wake_node(self, name: str) -> None:
        """A node that hung goes on. Raises NotFoundError."""
        assert isinstance(self.disks, MemoryDisks), "it hung"
        self.disks.wake(self._kubelets.wake(name))
        self._store.flush()

    def create_replica(self, namespace: str, name: str, ordinal: int) -> None:
        """Create a replica's pod, whatever the StatefulSet's rules say. Raises NotFoundError."""
        controller.create(self._store, self._store.get(StatefulSet, namespace, name), ordinal)
        self._store.flush()

    # The port.

    async def version(self) -> str:
        """What it models."""
        return VERSION

    async def cluster_id(self) -> str:
        """Drawn when the sandbox was made."""
        return self._store.id

    async def clock(self) -> float:
        """See the port."""
        return float(int(self._store.now()))

    async def node_clock(self, node: str) -> float:
        """Every node has the cluster's own clock."""
        self._store.get(Node, "", node)
        return 0.0

    async def volume_room(self, node: str) -> Mapping[str, Room]:
        """No kubelet measures it."""
        return {}

    async def get(self, kind: type[T], namespace: str, name: str) -> T:
        """See the port."""
        return self._store.get(kind, namespace, name)

    async def list(self, kind: type[T], namespace: str, selector: Mapping[str, str] | None = None) -> Sequence[T]:
        """See the port."""
        found = self._store.all(kind, namespace)
        return [one for one in found if not selector or selector.items() <= getattr(one, "labels", {}).items()]

    def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """See the port."""
        return self._store.watch(kind, namespace)

    async def delete_pod(
        self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """See the port."""
        found = self._pod(namespace, name, uid)
        if dry_run:
            return
        controller.terminate(self._store, found, grace_seconds)
        self._store.flush()

    async def evict_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """See the port."""
        pod = self._pod(namespace, name, uid)
        budgets.refuse_beyond(self._store, pod)
        controller.terminate(self._store, pod, grace_seconds)
        self._store.flush()

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        """See the port. No process stands for the container; only what is started in it is one."""
        found = self._pod(namespace, pod, uid)
        if any(container.name == one.name for one in (*found.containers, *found.ephemeral)):
            raise RefusedError(f"Pod {pod} is invalid: spec.ephemeralContainers: Duplicate value: {container.name}")
        if any(mount.sub_path for mount in container.mounts):
            raise RefusedError(f"Pod {pod} is invalid: spec.ephemeralContainers: subPath: cannot be set")
        if container.like and container.like not in (one.name for one in found.containers):
            raise RefusedError(f"{pod} has no container {container.like}")
        known = {mount.volume for one in found.containers for mount in one.mounts}
        if unknown := [mount.volume for mount in container.mounts if mount.volume not in known]:
            raise RefusedError(f"Pod {pod} is invalid: spec.ephemeralContainers: volumeMounts: Not found: {unknown[0]}")
        added = Container(container.name, container.image, waiting="ContainerCreating", mounts=container.mounts)
        self._store.put(replace(found, ephemeral=(*found.ephemeral, added)))
        self._store.flush()

    async def scale(self, namespace: str, name: str, *, uid: str, replicas: int, expected: int) -> None:
        """See the port."""
        found = self._statefulset(namespace, name, uid)
        if found.replicas != expected:
            raise ConflictError(f"{namespace}/{name} has {found.replicas} replicas, not {expected}")
        if replicas != found.replicas:
            self._store.put(replace(found, replicas=replicas, generation=found.generation + 1))
        self._store.flush()

    @asynccontextmanager
    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str]) -> AsyncIterator[Process]:
        """See the port."""
        found = self._store.get(Pod, namespace, pod)
        inside = next((c for c in (*found.containers, *found.ephemeral) if container in ("", c.name)), None)
        if inside is None or found.deleting:
            raise RefusedError(f"container {container or 'of'} {pod} is not running")
        process = await self._kubelets.run(found, inside, argv)
        try:
            yield process
        finally:
            await self._kubelets.end(found.uid, process)

    async def signal_container(
        self, namespace: str, pod: str, container: str, signal: str, *, uid: str, container_id: str
    ) -> None:
        """See the port. What was started in the container ends, and the container starts again."""
        found = self._pod(namespace, pod, uid)
        inside = next((one for one in found.containers if one.name == container), None)
        if inside is None:
            raise NotFoundError(f"{namespace}/{pod} has no container {container}")
        if inside.id != container_id:
            raise ConflictError(f"{container} of {namespace}/{pod} is {inside.id}, not {container_id}")
        self._kubelets.signal(found, inside, signal)
        self._store.flush()

    async def cordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        found = self._node(node, uid)
        if found.unschedulable and found.cordoned_by != by:
            raise ConflictError(f"node {node} is cordoned already, by {found.cordoned_by or 'somebody else'}")
        self._store.put(replace(found, unschedulable=True, cordoned_by=by))
        self._store.flush()

    async def uncordon(self, node: str, *, uid: str, by: str) -> None:
        """See the port."""
        found = self._node(node, uid)
        if found.unschedulable and found.cordoned_by != by:
            raise ConflictError(f"node {node} was cordoned by {found.cordoned_by or 'somebody else'}, not by {by}")
        if found.cordoned_by == by:
            self._store.put(replace(found, unschedulable=False, cordoned_by=""))
        self._store.flush()

    async def annotate(
        self, kind: type[StatefulSet] | type[Namespace], namespace: str, name: str, changes: Mapping[str, str | None]
    ) -> None:
        """See the port."""
        found: StatefulSet | Namespace = self._store.get(kind, namespace, name)  # type: ignore[type-var]
        merged = {**found.annotations, **changes}
        self._store.put(replace(found, annotations={key: value for key, value in merged.items() if value is not None}))
        self._store.flush()

    async def restart_rollout(self, namespace: str, name: str, *, uid: str, at: str) -> None:
        """See the port."""
        applying.restart_rollout(self._store, self._statefulset(namespace, name, uid), at)
        self._store.flush()

    async def expand_claim(self, namespace: str, name: str, *, uid: str, storage: str) -> None:
        """See the port."""
        found = self._store.get(Claim, namespace, name)
        _check_uid(found.uid, uid)
        volumes.refuse_expansion(found, storage)
        self._store.put(replace(found, requested=storage))
        self._store.flush()

    async def manifest(self, namespace: str, name: str) -> Mapping[str, Any]:
        """See the port."""
        return applying.manifest_of(self._store, self._store.get(StatefulSet, namespace, name))

    async def delete_statefulset(
        self, namespace: str, name: str, *, uid: str, orphan: bool, expected: Mapping[str, Any] | None = None
    ) -> None:
        """See the port."""
        found = self._statefulset(namespace, name, uid)
        if expected is not None and applying.manifest_of(self._store, found) != expected:
            raise ConflictError(f"{found.key} is not any more what it was when its manifest was read")
        controller.delete(self._store, found, orphan=orphan)
        self._store.flush()

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """See the port."""
        applying.create(self._store, document, dry_run=dry_run)
        self._store.flush()

    async def get_config(self, namespace: str, name: str) -> Mapping[str, str]:
        """See the port."""
        with suppress(KeyError):
            return dict(self._store.configs[f"{namespace}/{name}"])
        raise NotFoundError(f'configmaps "{name}" not found')

    async def delete_config(self, namespace: str, name: str, *, expected: Mapping[str, str]) -> None:
        """See the port."""
        if await self.get_config(namespace, name) != expected:
            raise ConflictError(f'configmaps "{name}": its data are not the expected ones')
        del self._store.configs[f"{namespace}/{name}"]
        self._store.touch()
        self._store.flush()

    async def get_lease(self, namespace: str, name: str) -> Lease:
        """See the port."""
        with suppress(KeyError):
            return self._store.leases[f"{namespace}/{name}"]
        raise NotFoundError(f'leases "{name}" not found')

    async def put_lease(self, lease: Lease) -> Lease:
        """See the port."""
        self._check_version(lease)
        stored = replace(lease, version=self._store.next_version())
        self._store.leases[f"{lease.namespace}/{lease.name}"] = stored
        self._store.flush()
        return stored

    async def delete_lease(self, lease: Lease) -> None:
        """See the port."""
        await self.get_lease(lease.namespace, lease.name)
        self._check_version(lease)
        del self._store.leases[f"{lease.namespace}/{lease.name}"]
        self._store.touch()
        self._store.flush()

    async def allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """Whoever has the folder may do everything."""
        return True

    async def post_event(
        self, about: StatefulSet | Pod, topic: str, *, reason: str, message: str, warning: bool, count: int
    ) -> None:
        """See the port."""
        told = {"type": "Warning" if warning else "Normal", "reason": reason, "message": message, "count": count}
        self._store.record_event(
            {"target": f"{about.namespace}/{about.name}", "topic": topic, **told, "time": self._store.now()}
        )
        self._store.flush()

    def _begin(self, new_nodes: int) -> None:
        for number in range(1, new_nodes + 1):
            name = f"sandbox-{number}"
            labels = {"kubernetes.io/hostname": name}
            self._store.put(Node(name, self._store.uid(), boot_id=self._store.uid(), labels=labels))
        namespaces.complete(self._store)
        controller.label_pods(self._store)
        self._kubelets.resume()
        self._store.changed.set()
        self._controllers = asyncio.create_task(self._control(), name="sandbox controllers")

    async def _control(self) -> None:
        """Every controller, whenever something changed."""
        while True:
            self._store.changed.clear()
            ticks = False
            for found in self._store.all(StatefulSet):
                controller.reconcile(self._store, found)
                ticks |= found.min_ready_seconds > 0
            self._kubelets.reconcile()
            volumes.reclaim(self._store, self.disks)
            volumes.expand(self._store, self.disks)
            budgets.reconcile(self._store)
            namespaces.reconcile(self._store)
            self._store.flush()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS if ticks else None):
                    await self._store.changed.wait()

    def _pod(self, namespace: str, name: str, uid: str) -> Pod:
        pod = self._store.get(Pod, namespace, name)
        _check_uid(pod.uid, uid)
        return pod

    def _statefulset(self, namespace: str, name: str, uid: str) -> StatefulSet:
        found = self._store.get(StatefulSet, namespace, name)
        _check_uid(found.uid, uid)
        return found

    def _node(self, name: str, uid: str) -> Node:
        node = self._store.get(Node, "", name)
        _check_uid(node.uid, uid)
        return node

    def _check_version(self, lease: Lease) -> None:
        known = self._store.leases.get(f"{lease.namespace}/{lease.name}")
        if (known.version if known else "") != lease.version:
            raise ConflictError(f'leases "{lease.name}": the object has been modified')


def _lock(directory: Path) -> IO[str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "lock", "a+")  # noqa: SIM115 - held until close
    except OSError as error:
        raise UsageError(f"the sandbox's folder {directory}: {error.strerror}: name another with --sandbox-dir") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise UsageError(
            f"the sandbox in {directory} is in use by process {holder}: wait until it ends, or name another with "
            "--sandbox-dir"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _check_uid(found: str, expected: str) -> None:
    if found != expected:
        raise ConflictError(f"the UID in the precondition ({expected}) does not match the UID in record ({found})")
