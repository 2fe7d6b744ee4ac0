"""Plants: faults that are put into a simulated cluster on purpose, and the one name under which each must be found.

A plant acts between two rounds, when nothing is under way: `act` is called before each round from PLANTED_AT on, with the
number of rounds since then. What must happen in the middle of a round is a task that it starts.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from chaosd import payload
from chaosd.checkers.records import How, Record, name_of
from chaosd.checkers.verdict import Class, Value
from chaosd.cluster.port import Attachment, Claim, Pod, StatefulSet, Volume
from chaosd.cluster.sandbox.disks import Mounting
from chaosd.cluster.sandbox.memory_disk import MemoryDisk, Snapshot
from chaosd.generator import Plan
from chaosd.simulation.fault import Fault
from chaosd.simulation.world import NAME, NAMESPACE, Hook, World

# Two rounds before it, so that there is something to harm, and something has retired already.
PLANTED_AT = 3
_ALL_PODS = ({"kind": "pod-delete", "count": "all"},)
_LOWEST_POD = ({"kind": "pod-delete", "pick": "lowest"},)
_DOWN_AND_UP = ({"kind": "scale", "to": 0},)
_MIXED = ({"kind": "pod-delete", "weight": 3}, {"kind": "scale"})
_LONG_SECONDS = 10_000.0


@dataclass(frozen=True, slots=True)
class SimulatedPlant(Fault):
    """One fault, and how it is put there. `scenario` says what the run needs for it."""

    act: Callable[[_Site, int], None]
    scenario: Mapping[str, Any] = field(default_factory=lambda: {"disruptions": _ALL_PODS})

    def hook(self) -> Hook:
        """To be called between the rounds of one simulated run."""
        sites: list[_Site] = []

        def between_rounds(world: World, plan: Plan) -> None:
            if plan.number >= PLANTED_AT:
                sites.append(sites[0] if sites else _Site(world))
                sites[0].world = world  # another, where chaosd was killed meanwhile
                self.act(sites[0], plan.number - PLANTED_AT)

        return between_rounds


class _Site:
    """Where a plant is put: one replica of the world, drawn, and what belongs to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ordinal = world.rng.randrange(world.target.replicas)
        self.other = (self.ordinal + 1) % world.target.replicas
        self.kept: Any = None  # what an act leaves for the next one
        self.node = ""  # that an act made hang
        self.task: asyncio.Future[None] | None = None  # what an act began

    @property
    def cluster(self) -> Any:
        return self.world.cluster

    @property
    def disk(self) -> MemoryDisk:
        return self.world.disk(self.ordinal)

    @property
    def pod_name(self) -> str:
        return f"{NAME}-{self.ordinal}"

    @property
    def pod(self) -> Pod:
        return self.world.cluster.store.get(Pod, NAMESPACE, self.pod_name)

    @property
    def claim(self) -> Claim:
        return self.world.claim(self.ordinal)

    @property
    def volume(self) -> Volume:
        return self.world.cluster.store.get(Volume, "", self.claim.volume)

    def put(self, changed: Any) -> None:
        self.world.cluster.store.put(changed)

    def file(self, ordinal: int | None = None) -> str:
        """The path of a file that is owed, written once."""
        replica = self.world.known(self.ordinal if ordinal is None else ordinal)
        return self.world.path(self.world.rng.choice([r.file for r in replica.owed.values() if r.how is How.CREATE]))

    def log(self) -> str:
        """The path of a log with at least two entries."""
        logs = self.world.known(self.ordinal).logs
        return self.world.path(next(name for name, log in logs.items() if len(log.entries) > 1))

    def offset(self) -> int:
        """A place in a file."""
        return self.world.rng.randrange(self.world.scenario.file_bytes)


def _at_once(act: Callable[[_Site], object]) -> Callable[[_Site, int], None]:
    def first_only(site: _Site, step: int) -> None:
        if step == 0:
            act(site)

    return first_only


# Data.


def _log_end_cut(site: _Site) -> None:
    site.disk.truncate(site.log(), payload.BLOCK_BYTES)


def _log_rewound(site: _Site) -> None:
    """A crash forgets where the file ended, and what comes next is appended there."""
    log = site.log()
    site.cluster.crash_node(site.pod.node)
    site.disk.truncate(log, payload.BLOCK_BYTES)


def _resurrected(site: _Site, _: int) -> None:
    """As soon as one was deleted."""
    known = site.world.known(site.ordinal)
    gone = (name_of(s) for s in range(known.next_sequence) if site.kept is None)
    for name in gone:
        if name not in known.may_be_there():
            with suppress(LookupError):  # that sequence was no file
                site.kept = site.disk.resurrect(site.world.path(name))
                return


def _never_written(site: _Site) -> None:
    site.disk.write(site.world.path("09999999"), site.disk.file(site.file()).platter)
    site.disk.flush_all()


def _rolled_back(site: _Site, step: int) -> None:
    if step == 0:
        site.kept = site.disk.snapshot()
    elif step == 1:
        snapshot: Snapshot = site.kept
        site.disk.roll_back(snapshot)


def _older_value(site: _Site, step: int) -> None:
    path = site.world.path("r00")
    if step == 0:
        site.kept = site.disk.file(path).platter
    elif step == 1:
        site.disk.replace(path, site.kept)


def _hang_in_a_write(site: _Site) -> None:
    """The node of the replica's pod hangs when files were sent there and not answered yet; its pods are replaced
    elsewhere."""

    async def hang() -> None:
        while not _files_in(known.attempted.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.0002)
        site.node = site.pod.node
        site.cluster.hang_node(site.node)

    known = site.world.known(site.ordinal)
    site.task = asyncio.ensure_future(hang())


def _files_in(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record.how is How.CREATE]


def _written_late(site: _Site, step: int) -> None:
    """What the node had sent to the disk arrives only after the successor has seen that it is not there."""
    if step == 0:
        _hang_in_a_write(site)
    elif not site.kept and (absent := _files_in(site.world.known(site.ordinal).absent.values())):
        site.kept = absent[0]
        data = payload.make_record(site.world.run.seed, site.kept.label)
        site.disk.write(site.world.path(site.kept.file), data)
        site.disk.flush_all()


def _written_by_two(site: _Site, step: int) -> None:
    """The node wakes, and ends the write, when the successor has seen that nothing of it is there."""
    if step == 0:
        _hang_in_a_write(site)
    elif not site.kept and _files_in(site.world.known(site.ordinal).absent.values()):
        site.kept = site.node
        site.cluster.wake_node(site.node)


def _lied(site: _Site, step: int) -> None:
    """A disk acknowledges flushes that it does not do, which nobody can see before its power fails."""
    if step == 0:
        site.disk.begin_to_lie()
    elif step == 1:
        site.cluster.crash_node(site.pod.node, keep=0.0)


# Mounts.


def _unmounted(site: _Site) -> None:
    site.cluster.tamper(Mounting, lambda one: None if one.pod == site.pod_name else one)


def _empty_dir(site: _Site) -> None:
    site.cluster.tamper(Mounting, lambda one: replace(one, handle="") if one.pod == site.pod_name else one)


def _sub_path(site: _Site) -> None:
    site.cluster.tamper(Mounting, lambda one: replace(one, sub_path="other") if one.pod == site.pod_name else one)


# Bindings.


def _claim_deleted(site: _Site) -> None:
    site.put(replace(site.claim, deleting=True))


def _claim_gone(site: _Site) -> None:
    name = site.claim.name
    site.cluster.tamper(Claim, lambda claim: None if claim.name == name else claim)
    site.cluster.store.remove(site.claim)


def _other_volume(site: _Site) -> None:
    site.cluster.disks.create("d-other")
    name = "pvc-other"
    site.put(replace(site.volume, name=name, uid=site.cluster.store.uid(), handle="d-other"))
    site.put(replace(site.claim, volume=name))


def _other_disk(site: _Site) -> None:
    site.cluster.disks.create("d-other")
    site.put(replace(site.volume, handle="d-other"))


def _claimed_twice(site: _Site) -> None:
    site.put(replace(site.volume, claim_uid=site.world.claim(site.other).uid))


def _attached_elsewhere(site: _Site) -> None:
    """Of a replica that is not disturbed."""
    site.ordinal = site.world.target.replicas - 1
    volume, nodes = site.volume.name, ("sandbox-1", "sandbox-2")
    for found in site.cluster.store.all(Attachment):
        if found.volume == volume:
            site.put(replace(found, node=nodes[found.node == nodes[0]]))


def _other_claim(site: _Site) -> None:
    wanted, other = site.claim.name, site.world.claim(site.other).name

    def change(pod: Pod) -> Pod:
        return replace(pod, claims={k: other if v == wanted else v for k, v in pod.claims.items()})

    site.cluster.tamper(Pod, change)


def _other_hostname(site: _Site) -> None:
    site.cluster.tamper(Pod, lambda pod: replace(pod, hostname="localhost") if pod.name == site.pod_name else pod)


def _grown(site: _Site) -> None:
    site.put(replace(site.claim, capacity="2Gi", requested="2Gi"))


# Order and recovery.


def _out_of_order(site: _Site) -> None:
    """When all replicas are gone and the first comes back, the last is created beside it."""

    async def misbehave() -> None:
        store = site.cluster.store
        while store.get(StatefulSet, NAMESPACE, NAME).replicas or store.all(Pod, NAMESPACE):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        while not store.all(Pod, NAMESPACE):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        site.cluster.create_replica(NAMESPACE, NAME, site.world.target.replicas - 1)

    site.task = asyncio.ensure_future(misbehave())


def _never_attached(site: _Site) -> None:
    site.cluster.attach_seconds[site.volume.handle] = _LONG_SECONDS
    for found in site.cluster.store.all(Attachment):
        if found.volume == site.volume.name:
            site.put(replace(found, attached=False))


def _broken_file_system(site: _Site) -> None:
    """kubelet's fsck finds what it cannot mend, whenever the volume is to be mounted."""

    def refuse(one: Mounting) -> Mounting:
        if one.pod == site.pod_name:
            raise OSError(f"'fsck' found errors on device /dev/sandbox/{one.handle} but could not correct them")
        return one

    site.cluster.tamper(Mounting, refuse)


# What cannot be seen, and what is no fault.


def _read_only(site: _Site) -> None:
    site.disk.read_only = True


def _unreadable_for_a_while(site: _Site, step: int) -> None:
    if step == 0:
        site.disk.fail(errno.EIO, "read")
    elif step == 1:
        site.disk.mend()


def _full_for_a_while(site: _Site, step: int) -> None:
    if step == 0:
        site.disk.fill_up()
    elif step == 1:
        site.disk.make_room()


def _nothing(_: _Site, __: int) -> None:
    """A healthy run."""


_GIVES_UP_SOON = {
    "disruptions": _ALL_PODS,
    "experiment": {"timeouts": {"converge": "20s", "probe": "5s", "write": "5s", "read": "5s"}},
}

PLANTS: tuple[SimulatedPlant, ...] = (
    SimulatedPlant("a file is removed", Class.LOST, _at_once(lambda s: s.disk.lose(s.file()))),
    SimulatedPlant("everything is removed", Class.LOST, _at_once(lambda s: s.disk.lose(".chaosd"))),
    SimulatedPlant("the end of a log is cut off", Class.LOST, _at_once(_log_end_cut)),
    SimulatedPlant(
        "the end of a log goes back, and what comes after is appended there", Class.LOST, _at_once(_log_rewound)
    ),
    SimulatedPlant("the first entry of a log is zeros", Class.LOST, _at_once(lambda s: s.disk.zero(s.log(), 0))),
    SimulatedPlant("a register is removed", Class.LOST, _at_once(lambda s: s.disk.lose(s.world.path("r01")))),
    SimulatedPlant("of a write only the first sectors arrive", Class.TORN, _at_once(lambda s: s.disk.tear_next())),
    SimulatedPlant("a write never arrives", Class.TORN, _at_once(lambda s: s.disk.lose_next())),
    SimulatedPlant("a block is zeros", Class.TORN, _at_once(lambda s: s.disk.zero(s.file(), 0))),
    SimulatedPlant("a file ends early", Class.TORN, _at_once(lambda s: s.disk.truncate(s.file(), 1 + s.offset() // 2))),
    SimulatedPlant("a bit is flipped", Class.CORRUPT, _at_once(lambda s: s.disk.flip(s.file(), s.offset(), 3))),
    SimulatedPlant("a bit of a log is flipped", Class.CORRUPT, _at_once(lambda s: s.disk.flip(s.log(), s.offset(), 5))),
    SimulatedPlant("a write lands in another file", Class.CORRUPT, _at_once(lambda s: s.disk.misdirect_next(s.log()))),
    SimulatedPlant("a file holds other bytes", Class.CORRUPT, _at_once(lambda s: s.disk.replace(s.file(), b"\x5a" * 4096))),
    SimulatedPlant("the disk is rolled back", Class.STALE, _rolled_back),
    SimulatedPlant("an older value of a register comes back", Class.STALE, _older_value),
    SimulatedPlant("a disk that lied about flushes loses its power", Class.STALE, _lied),
    SimulatedPlant("two disks are swapped", Class.FOREIGN, _at_once(lambda s: s.disk.swap(s.world.disk(s.other)))),
    SimulatedPlant(
        "a file is another replica's",
        Class.FOREIGN,
        _at_once(lambda s: s.disk.replace(s.file(), s.world.disk(s.other).file(s.file(s.other)).platter)),
    ),
    SimulatedPlant("the disk has a new file system", Class.REFORMATTED, _at_once(lambda s: s.disk.reformat())),
    SimulatedPlant("the volume is not mounted", Class.NOT_MOUNTED, _at_once(_unmounted)),
    SimulatedPlant(
        "the mount of a running pod goes",
        Class.NOT_MOUNTED,
        _at_once(lambda s: s.cluster.disks.drop_mount(s.pod.uid, "/data")),
    ),
    SimulatedPlant("an emptyDir is mounted instead", Class.NOT_MOUNTED, _at_once(_empty_dir)),
    SimulatedPlant("another folder of the volume is mounted", Class.NOT_MOUNTED, _at_once(_sub_path)),
    SimulatedPlant("a deleted file comes back", Class.UNEXPECTED, _resurrected),
    SimulatedPlant("a file stands there that nobody wrote", Class.UNEXPECTED, _at_once(_never_written)),
    SimulatedPlant("a write of a replaced pod lands late", Class.DOUBLE_WRITER, _written_late),
    SimulatedPlant("a node that hung goes on writing beside its pods' successors", Class.DOUBLE_WRITER, _written_by_two),
    SimulatedPlant("the claim grows, its file system does not", Class.NOT_EXPANDED, _at_once(_grown)),
    SimulatedPlant("the claim is made anew", Class.CLAIM_REPLACED, _at_once(_claim_deleted)),
    SimulatedPlant("the claim is bound to another volume", Class.VOLUME_REBOUND, _at_once(_other_volume)),
    SimulatedPlant("the volume has another disk", Class.HANDLE_CHANGED, _at_once(_other_disk)),
    SimulatedPlant("the claim goes and does not come back", Class.CLAIM_MISSING, _at_once(_claim_gone), _GIVES_UP_SOON),
    SimulatedPlant(
        "the claim's volume is lost",
        Class.CLAIM_LOST,
        _at_once(lambda s: s.put(replace(s.claim, phase="Lost"))),
        _GIVES_UP_SOON,
    ),
    SimulatedPlant("the volume is claimed by two", Class.DOUBLE_BOUND, _at_once(_claimed_twice)),
    SimulatedPlant(
        "the volume is attached elsewhere",
        Class.ATTACHED_ELSEWHERE,
        _at_once(_attached_elsewhere),
        {"disruptions": _LOWEST_POD},
    ),
    SimulatedPlant("the pod mounts another claim", Class.CLAIM_MISMATCH, _at_once(_other_claim)),
    SimulatedPlant("the pod has another hostname", Class.HOSTNAME_CHANGED, _at_once(_other_hostname)),
    SimulatedPlant(
        "replicas start out of order", Class.ORDER_VIOLATED, _at_once(_out_of_order), {"disruptions": _DOWN_AND_UP}
    ),
    SimulatedPlant("the volume is never attached again", Class.NOT_RECOVERED, _at_once(_never_attached), _GIVES_UP_SOON),
    SimulatedPlant("the file system is broken", Class.CORRUPT, _at_once(_broken_file_system), _GIVES_UP_SOON),
    SimulatedPlant("a bit is wrong in one reading", Value.UNKNOWN, _at_once(lambda s: s.disk.rot_next_read(s.offset()))),
    SimulatedPlant(
        "nothing can be read", Value.UNKNOWN, _at_once(lambda s: s.disk.fail(errno.EIO, "read")), _GIVES_UP_SOON
    ),
    SimulatedPlant("the file system is read-only", Value.UNKNOWN, _at_once(_read_only), _GIVES_UP_SOON),
    SimulatedPlant("the disk is full", Value.UNKNOWN, _at_once(lambda s: s.disk.fill_up()), _GIVES_UP_SOON),
)

CONTROLS: tuple[SimulatedPlant, ...] = (
    SimulatedPlant("nothing: pods are deleted and replicas scaled", None, _nothing, {"disruptions": _MIXED}),
    SimulatedPlant("nothing: nodes crash", None, _nothing, {"crashes": 3}),
    SimulatedPlant(
        "nothing: whenScaled: Delete",
        None,
        _nothing,
        {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}, "disruptions": _DOWN_AND_UP},
    ),
    SimulatedPlant(
        "nothing: podManagementPolicy: Parallel",
        None,
        _nothing,
        {"spec": {"podManagementPolicy": "Parallel"}, "disruptions": _DOWN_AND_UP},
    ),
    SimulatedPlant("nothing: every reading is an I/O error for a while", None, _unreadable_for_a_while, _GIVES_UP_SOON),
    SimulatedPlant("nothing: the disk is full for a while", None, _full_for_a_while, _GIVES_UP_SOON),
    SimulatedPlant(
        "nothing: pods are deleted by force", None, _nothing, {"disruptions": ({"kind": "pod-delete", "grace": 0},)}
    ),
)
