"""A small target whose storage keeps its word, under chaosd's own generator, worker, session and agent.

Two replicas, each with a disk in memory; probes that are lost before, within or after a request, or whose request lands
late; pods that are replaced between any two steps and within any request; replicas scaled away, with claims that go by
policy; a chaosd that is killed, and goes on as `verify`. All from one seed.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from chaosd.checkers import Judgement, Panel
from chaosd.checkers.records import How, Record, Replica
from chaosd.cluster.port import Claim, Container, Mount, Pod, Volume
from chaosd.cluster.target import Target
from chaosd.errors import DeadlineError, NotFoundError, NotReadyError, SessionLostError
from chaosd.generator import Decision, Generator, Limits, Pending, Plan, Task
from chaosd.history import NEMESIS, RUN, Event, Kind, Op
from chaosd.payload import SECTOR_BYTES
from chaosd.probe.agent import Agent
from chaosd.probe.protocol import Program, opening
from chaosd.probe.session import Place
from chaosd.workload.spec import Log, Registers, Share, Workload
from chaosd.workload.worker import Worker
from tests import histories

TARGET = Target("default", "web", "web-uid", "app", "/data", "disk-ssd", 2, 0)
SPEC = Workload(
    files=3,
    size=4096,
    registers=Registers(count=2, size=8192),
    log=Log(entries=3, size=4096),
    share=Share(bytes=256 << 10, files=30),
    retireAfter=1,
    keep=0.1,
)
LIMITS = Limits(
    write_batch=2,
    read_batch=4,
    room_bytes=SPEC.room_bytes,
    room_files=9,
    file_bytes=SPEC.size,
    log_entries=SPEC.log.entries,
    retire_after=1,
    keep=SPEC.keep,
    write_seconds=3.0,
    read_seconds=20.0,
)
RUN_FOLDER = "/data/.chaosd/RUN"
SEED = 7


class KilledError(Exception):
    """chaosd itself is killed."""


class _CutOffError(Exception):
    """The probe is killed within a request."""


@dataclass
class Disk:
    """A volume: files by path, and the folders there are."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/data"})

    def copy(self) -> Disk:
        return Disk(self.name, dict(self.files), set(self.folders))


class Files:
    """The agent's port. What it wrote is durable at once; it is cut off after so many operations, within the last."""

    def __init__(self, disk: Disk, hostname: str, rng: random.Random, operations: int | None = None) -> None:
        self._disk = disk
        self._hostname = hostname
        self._rng = rng
        self._left = operations

    def facts(self, mount: str) -> Iterator[str]:
        yield f"hostname {self._hostname}"
        yield f"resolved {mount}"
        yield f"mountinfo 36 35 8:16 / {mount} rw - ext4 /dev/{self._disk.name} rw"
        yield "mountinfo 37 35 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/root rw"
        yield f"fsid {self._disk.name}"

    def make_folder(self, path: str) -> bool:
        self._step()
        made = path not in self._disk.folders
        self._disk.folders.add(path)
        return made

    def write(self, path: str, data: bytes, *, append: bool = False, create: bool = True) -> None:
        before = self._disk.files.get(path)
        if before is None and not create:
            raise FileNotFoundError(2, "No such file or directory")
        kept = before or b""
        try:
            self._step()
        except _CutOffError:
            self._disk.files[path] = self._part(kept, data, append=append)
            raise
        self._disk.files[path] = kept + data if append else data + kept[len(data) :]

    def _part(self, kept: bytes, data: bytes, *, append: bool) -> bytes:
        """Some sectors are written; at the end of a file, the others are zero, and it may end before them."""
        old = bytes(len(data)) if append else kept.ljust(len(data), b"\0")
        sectors = range(0, len(data), SECTOR_BYTES)
        mixed = b"".join(self._rng.choice([data, old])[at : at + SECTOR_BYTES] for at in sectors)
        return kept + mixed[: self._rng.randrange(len(mixed) + 1)] if append else mixed

    def move(self, names: Sequence[str], folder: str, to: str) -> None:
        for name in names:
            self._step()
            self._disk.files[f"{to}/{name}"] = self._disk.files.pop(f"{folder}/{name}")

    def remove(self, names: Sequence[str], folder: str) -> None:
        for name in names:
            self._step()
            self._disk.files.pop(f"{folder}/{name}", None)

    def sync(self, folder: str) -> None:
        self._step()

    def names(self, folder: str) -> list[str]:
        if folder not in self._disk.folders:
            raise FileNotFoundError(2, "No such file or directory")
        paths = (*self._disk.files, *self._disk.folders)
        return sorted({path.rpartition("/")[2] for path in paths if path.rpartition("/")[0] == folder})

    def described(self, path: str) -> str:
        if path in self._disk.folders:
            return f"drwxr-xr-x {path}"
        if path not in self._disk.files:
            raise FileNotFoundError(2, "No such file or directory")
        return ""

    def read(self, path: str, most: int) -> tuple[bytes, bool]:
        if path not in self._disk.files:
            raise FileNotFoundError(2, "No such file or directory")
        if self._left is not None and self._rng.random() < 0.3:
            raise OSError(5, "Input/output error")
        return self._disk.files[path][:most], self._rng.random() < 0.5

    def _step(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise _CutOffError


class World:
    """The target, and one run of chaosd on it. `trouble` is how often a request goes wrong."""

    def __init__(self, seed: int, trouble: float, *, policy: str = "Retain") -> None:
        self.rng = random.Random(seed)
        self.trouble = trouble
        self.policy = policy
        self.ops: list[Op] = []
        self.panel = Panel()
        self.workers: dict[str, Worker] = {}
        self.now = 0.0
        self.made = 0
        self.disks: dict[str, Disk] = {}  # by volume
        self.claims: dict[int, tuple[str, str]] = {}  # UID and volume
        self.pods: dict[int, str] = {}  # UIDs
        self.late: list[tuple[str, Callable[[], None]]] = []  # by pod
        self.waiting: list[Task] = []  # disruptions that may strike within a request
        self.generator: Generator | None = None
        self.snapshots: list[dict[str, Disk]] = []
        self.tell(histories.statefulset(2, "present", retention_when_scaled=policy))
        for ordinal in (0, 1):
            self.make_claim(ordinal)
            self.make_pod(ordinal)
        self.tell(*(histories.watch("synced", kind) for kind in histories.KINDS))

    # The history.

    async def journal(self, events: Sequence[Event]) -> list[Op]:
        return self.tell(*events)

    def tell(self, *events: Event) -> list[Op]:
        ops = [Op(len(self.ops) + n, self.now, e.process, e.f, e.kind, e.value) for n, e in enumerate(events)]
        self.ops += ops
        for op in ops:
            self.panel.step(op)
        return ops

    def judge(self) -> Judgement:
        return self.panel.judge()

    # The cluster.

    def _new(self, what: str) -> str:
        self.made += 1
        return f"{what}-{self.made}"

    def make_claim(self, ordinal: int) -> None:
        uid, volume = self.claims[ordinal] = self._new("claim"), self._new("pv")
        self.disks[volume] = Disk(volume)
        self.tell(histories.volume(ordinal, "added", name=volume, handle=f"d-{volume}", claim_uid=uid))
        self.tell(histories.claim(ordinal, "added", uid=uid, volume=volume))

    def make_pod(self, ordinal: int) -> None:
        uid = self.pods[ordinal] = self._new("pod")
        self.tell(histories.pod(ordinal, "added", uid, node="n"))
        self.tell(histories.pod(ordinal, "modified", uid, node="n", ready=True))

    def end_pod(self, ordinal: int, *, forced: bool = False) -> None:
        uid = self.pods.pop(ordinal)
        for owner, landing in [entry for entry in self.late if entry[0] == uid]:
            if forced and self.rng.random() < 0.5:
                continue  # it lands even later
            self.late.remove((owner, landing))
            if self.rng.random() < 0.5:
                landing()
        self.tell(histories.pod(ordinal, "deleted", uid))

    def disk_of(self, ordinal: int) -> Disk:
        return self.disks[self.claims[ordinal][1]]

    async def get(self, kind: type[Any], _: str, name: str) -> Any:
        ordinal = int(name.rpartition("-")[2])
        if kind is Volume:
            return Volume(name, f"uid-{name}", "Bound", "csi", f"d-{name}")
        if kind is Pod:
            return self.pod(ordinal)
        if ordinal not in self.claims:
            raise NotFoundError(name)
        uid, volume = self.claims[ordinal]
        return Claim("default", name, uid, "Bound", volume)

    def pod(self, ordinal: int) -> Pod:
        if ordinal not in self.pods:
            raise NotFoundError(f"web-{ordinal}")
        uid, claim = self.pods[ordinal], f"disk-ssd-web-{ordinal}"
        app = Container("app", id=f"container-{uid}", ready=True, mounts=(Mount("disk-ssd", "/data"),))
        return Pod(
            "default", f"web-{ordinal}", uid, "Running", "n", ready=True, claims={"disk-ssd": claim}, containers=(app,)
        )

    async def wait(self, look: Callable[[Any], Any], timeout_seconds: float, what: str) -> Any:
        @dataclass
        class View:
            pods: dict[str, Pod]

        found = look(View({f"web-{n}": self.pod(n) for n in self.pods}))
        if found is None:
            raise DeadlineError(f"waited {timeout_seconds:.0f} s for {what}")
        return found

    @asynccontextmanager
    async def exec(self, _: str, pod: str, __: str, ___: Sequence[str]) -> AsyncIterator[Stream]:
        ordinal = int(pod.rpartition("-")[2])
        if self.rng.random() < self.trouble / 2:
            raise NotReadyError("the container is not running")
        yield Stream(self, ordinal, self.pod(ordinal).uid)

    # What chaosd does.

    def worker(self, process: str) -> Worker:
        if process not in self.workers:
            place = Place(TARGET, ".chaosd", "RUN", "epoch", Program.AGENT)
            cluster: Any = self
            self.workers[process] = Worker(
                cluster,
                cluster,
                place,
                process.split("/")[1],
                self.journal,
                self.panel.integrity,
                seed=SEED,
                spec=SPEC,
                timeout_seconds=60.0,
                note=lambda: asyncio.sleep(0),
            )
        return self.workers[process]

    async def run(self, plans: Iterator[Plan]) -> None:
        """The interpreter's loop: what may run at once is carried out in any order."""
        self.generator = Generator(SEED, plans, self.panel.integrity, TARGET.replicas_up_to, LIMITS)
        pool: list[Task] = []
        while (task := self.generator.next(self.now, len(self.ops) - 1)) is not None:
            self.now += 0.1
            if isinstance(task, Task):
                (self.waiting if task.process == NEMESIS else pool).append(task)
            if isinstance(task, Pending) or self.rng.random() < 0.3:
                await self._one_of(pool)
                self.now += self.rng.random()

    async def _one_of(self, pool: list[Task]) -> None:
        if self.waiting and (not pool or self.rng.random() < 0.3):
            self.disturb()
        elif pool:
            task = pool.pop(self.rng.randrange(len(pool)))
            done = await self._do(task)
            assert self.generator is not None
            self.generator.ended(task, done=done, now=self.now)

    async def _do(self, task: Task) -> int:
        if task.f == "round-end":
            self.snapshots.append({name: disk.copy() for name, disk in self.disks.items()})
            self.tell(Event(RUN, "round", Kind.OK, dict(task.value)))
        elif task.process == RUN:
            self.tell(Event(RUN, "round", Kind.INVOKE, task.value))
        else:
            return await _WORK[task.f](self.worker(task.process), task.value)
        return 1

    def disturb(self) -> None:
        """Carry out what the nemesis waits to do."""
        if not self.waiting:
            return
        task = self.waiting.pop(0)
        assert self.generator is not None
        {"pod-delete": self._delete_pods, "scale": self._scale, "heal": self._heal, "converge": self._converge}[task.f](
            task.value
        )
        self.generator.ended(task, done=1, now=self.now)

    def _delete_pods(self, value: Any) -> None:
        doomed = [(f"default/web-{n}", self.pods[n]) for n in value["ordinals"] if n in self.pods]
        forced = value["grace"] == "0"
        self.tell(histories.disrupted("pod-delete", *doomed, grace=value["grace"]))
        for replica, _ in doomed:
            self.end_pod(int(replica[-1]), forced=forced)
        for replica, _ in sorted(doomed):
            self.make_pod(int(replica[-1]))
        self.tell(histories.disruption_done())

    def _scale(self, value: Any) -> None:
        self.tell(histories.disrupted("scale", to=value["to"]))
        self.tell(histories.statefulset(value["to"], retention_when_scaled=self.policy))
        for ordinal in reversed(range(value["to"], 2)):
            self.end_pod(ordinal)
            if self.policy == "Delete":
                uid, volume = self.claims.pop(ordinal)
                self.tell(histories.claim(ordinal, "deleted", uid=uid, volume=volume))
        self.tell(histories.disruption_done("scale"))

    def _heal(self, _: Any) -> None:
        self.tell(histories.statefulset(2, retention_when_scaled=self.policy))
        for ordinal in (0, 1):
            if ordinal not in self.claims:
                self.make_claim(ordinal)
            if ordinal not in self.pods:
                self.make_pod(ordinal)

    def _converge(self, _: Any) -> None:
        self.tell(*histories.converged())

    async def verify(self) -> Judgement:
        """chaosd begins anew on the same run, reads all that is owed with no trouble, and judges."""
        self.trouble = 0.0
        before, self.panel = self.ops, Panel()
        self.ops = []
        for op in before:
            self.tell(Event(op.process, op.f, op.kind, op.value))
        for process, replica in self.panel.integrity.replicas.items():
            for sequence in list(replica.attempted):
                self.tell(histories.write(process, sequence, Kind.INFO, error="the run ended before it was answered"))
        self._observe_anew()
        await self.run(iter([Plan(99, "verify", 2, 0, None, heal=False, verify=True)]))
        await self.forget_sessions()
        return self.judge()

    def replace_pods(self) -> None:
        """Every pod, one after the other, so that each path is opened anew."""
        for ordinal in sorted(self.pods):
            self._delete_pods({"ordinals": [ordinal], "grace": "30"})

    def owed(self, ordinal: int, *hows: How) -> list[Record]:
        """What a replica's storage acknowledged in one of these ways and was not deleted since."""
        replica = self.panel.integrity.replicas.get(f"default/web-{ordinal}", Replica())
        return [record for record in replica.owed.values() if record.how in hows]

    def _observe_anew(self) -> None:
        self.tell(*(histories.watch("began", kind) for kind in histories.KINDS))
        self.tell(histories.statefulset(2, "present", retention_when_scaled=self.policy))
        self._heal({})
        for ordinal, (uid, volume) in self.claims.items():
            self.tell(histories.volume(ordinal, "present", name=volume, handle=f"d-{volume}", claim_uid=uid))
            self.tell(histories.claim(ordinal, "present", uid=uid, volume=volume))
            self.tell(histories.pod(ordinal, "present", self.pods[ordinal], node="n", ready=True))
        self.tell(*(histories.watch("synced", kind) for kind in histories.KINDS))

    async def forget_sessions(self) -> None:
        """As chaosd's end does."""
        for worker in self.workers.values():
            await worker.close()
        self.workers.clear()
        self.waiting.clear()


_WORK: dict[str, Callable[[Worker, Any], Any]] = {
    "write": lambda worker, value: worker.write(value["count"]),
    "read": lambda worker, value: worker.read([s for a, b in value["sequences"] for s in range(a, b + 1)]),
    "list": lambda worker, _: worker.survey(),
    "delete": lambda worker, value: worker.delete([s for a, b in value["sequences"] for s in range(a, b + 1)]),
}


class Stream:
    """A probe's process, its input and output."""

    exit_status = 137
    stderr = b""

    def __init__(self, world: World, ordinal: int, pod_uid: str) -> None:
        self._world = world
        self._disk = world.disk_of(ordinal)
        self._ordinal = ordinal
        self._pod_uid = pod_uid
        self._reply = b""
        self._lost = False
        self._has_read_itself = False

    async def write(self, data: bytes) -> None:
        if not self._has_read_itself:
            assert data == opening(Program.AGENT)
            self._has_read_itself = True
            return
        world, rng = self._world, self._world.rng
        self._strike()
        if self._lost or world.pods.get(self._ordinal) != self._pod_uid:
            raise SessionLostError("the pod is gone")
        if b" begin " in data or b" hello " in data or rng.random() >= world.trouble:
            self._reply += self._answer(data)
            self._strike()
            return
        self._lost = rng.random() < 0.9
        how = rng.choice(["before", "within", "after", "late", "killed"])
        if how == "late":
            world.late.append((self._pod_uid, lambda: self._answer(data) and None))
        elif how == "within":
            answer = self._answer(data, rng.randrange(8))
            self._reply += b"" if self._lost else answer
        elif how in ("after", "killed"):
            self._answer(data)
        self._strike()
        if how == "killed" and rng.random() < 0.1:
            raise KilledError

    def _strike(self) -> None:
        """Anything may happen between two moments: a disruption, or an earlier request that lands."""
        world = self._world
        if world.rng.random() < world.trouble:
            world.disturb()
        if world.late and world.rng.random() < 0.3:
            _, landing = world.late.pop(world.rng.randrange(len(world.late)))
            landing()

    def _answer(self, data: bytes, operations: int | None = None) -> bytes:
        replies = io.BytesIO()
        files = Files(self._disk, f"web-{self._ordinal}", self._world.rng, operations)
        with suppress(_CutOffError):
            Agent(files, "/data", ".chaosd", "RUN").serve(io.BytesIO(data), replies)
        return replies.getvalue()

    async def read(self) -> bytes:
        piece, self._reply = self._reply, b""
        if not piece:
            self._lost = True
            raise SessionLostError("the connection broke")
        return piece

    async def close_stdin(self) -> None:
        self._lost = True


def plans(rng: random.Random, rounds: int, graces: Sequence[str]) -> Iterator[Plan]:
    """Rounds with disruptions drawn."""
    for number in range(1, rounds + 1):
        if rng.random() < 0.4:
            decision = Decision("scale", {"to": rng.randrange(2)})
        else:
            decision = Decision("pod-delete", {"ordinals": rng.choice([[0], [1], [0, 1]]), "grace": rng.choice(graces)})
        yield Plan(number, decision.kind, 2, SPEC.files, decision, heal=True, verify=True)


async def lived(seed: int, *, rounds: int, trouble: float, policy: str, graces: Sequence[str]) -> World:
    """A target after a run that all kinds of trouble befell, but none of its storage's making."""
    world = World(seed, trouble, policy=policy)
    with suppress(KilledError):
        await world.run(plans(random.Random(seed + 1), rounds, graces))
    await world.forget_sessions()
    return world
