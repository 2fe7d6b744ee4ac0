"""Plants: faults that the probe can put on a real volume, and the one name under which each must be found.

They act after a run has ended, on what it is owed, through sessions of their own in its folder.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chaosd import payload
from chaosd.checkers.records import How, Record, Replica, name_of, register_name
from chaosd.checkers.verdict import Class
from chaosd.errors import InconclusiveError
from chaosd.probe.protocol import Stored
from chaosd.probe.session import Session
from chaosd.simulation.fault import Fault

Step = Mapping[str, Any]

FILES, FILE_BYTES = 4, 4 * payload.BLOCK_BYTES
# What a run writes before a fault is planted: registers twice, and more files than there is room for, so that the first
# are deleted again.
WORKLOAD: Mapping[str, Any] = {
    "files": FILES,
    "size": FILE_BYTES,
    "share": {"bytes": 1 << 20, "files": 12},
    "retireAfter": 1,
    "keep": 0,
}
_WRITTEN: tuple[Step, ...] = tuple({"name": name, "write": FILES, "verify": True} for name in ("write", "write more"))
_DISTURBED: tuple[Step, ...] = (
    {"name": "write", "write": FILES},
    {"name": "delete every pod", "disrupt": {"kind": "pod-delete", "count": "all"}, "write": FILES, "verify": True},
    {"name": "scale down", "disrupt": {"kind": "scale", "to": 0}},
    {"name": "scale up", "disrupt": {"kind": "scale", "to": 2}, "verify": True},
)
_NEVER_WRITTEN = 9_999_999


@dataclass(frozen=True, slots=True)
class ProbePlant(Fault):
    """One fault, how it is put there, and the script of the run before it."""

    act: Callable[[Site], Awaitable[object]]
    steps: Sequence[Step] = _WRITTEN


@dataclass(frozen=True, slots=True)
class Site:
    """Where a plant is put: what is known of one replica of a run whose seed is `seed`, and sessions with its pod and with
    another one's."""

    seed: int
    rng: random.Random
    replica: Replica
    session: Session
    other: Replica
    other_session: Session

    def record(self, replica: Replica | None = None) -> Record:
        """A file that is owed, written once."""
        owed = (replica or self.replica).owed.values()
        return self.rng.choice([record for record in owed if record.how is How.CREATE])

    def log(self) -> str:
        """A log with at least two entries."""
        return next(name for name, log in self.replica.logs.items() if len(log.entries) > 1)

    async def read(self, name: str) -> bytes:
        """The bytes of a file of the run."""
        return (await self.session.fetch(name, FILE_BYTES))[0]

    async def put(self, name: str, data: bytes) -> None:
        """Put a file, in the place of the one that is there. Raises InconclusiveError."""
        _all_stored(await self.session.store(put={name: data}))

    async def overwrite(self, name: str, data: bytes) -> None:
        """Write over the beginning of a file. Raises InconclusiveError."""
        _all_stored(await self.session.store(overwrite={name: data}))


def _all_stored(stored: Stored) -> None:
    if why := {**stored.failed, **stored.unknown}:
        raise InconclusiveError(f"the fault could not be planted: {why}")


async def _file_removed(site: Site) -> None:
    await site.session.drop([site.record().file])


async def _register_removed(site: Site) -> None:
    await site.session.drop([register_name(1)])


async def _log_end_cut(site: Site) -> None:
    await site.put(site.log(), (await site.read(site.log()))[: payload.BLOCK_BYTES])


async def _log_rewound(site: Site) -> None:
    """What comes after stands where the first entry was."""
    await site.put(site.log(), (await site.read(site.log()))[payload.BLOCK_BYTES :])


async def _log_start_zeroed(site: Site) -> None:
    await site.overwrite(site.log(), bytes(payload.BLOCK_BYTES))


async def _block_zeroed(site: Site) -> None:
    await site.overwrite(site.record().file, bytes(payload.BLOCK_BYTES))


async def _sectors_missing(site: Site) -> None:
    """Of a block's sectors the last ones stayed zero."""
    name = site.record().file
    whole = (await site.read(name))[: payload.BLOCK_BYTES]
    there = payload.SECTOR_BYTES * site.rng.randrange(1, payload.BLOCK_BYTES // payload.SECTOR_BYTES)
    await site.overwrite(name, whole[:there] + bytes(len(whole) - there))


async def _file_cut(site: Site) -> None:
    name = site.record().file
    await site.put(name, (await site.read(name))[: 1 + site.rng.randrange(FILE_BYTES - 1)])


async def _bit_flipped(site: Site, name: str) -> None:
    data = bytearray(await site.read(name))
    data[site.rng.randrange(len(data))] ^= 1 << site.rng.randrange(8)
    await site.overwrite(name, bytes(data))


async def _bit_of_file_flipped(site: Site) -> None:
    await _bit_flipped(site, site.record().file)


async def _bit_of_log_flipped(site: Site) -> None:
    await _bit_flipped(site, site.log())


async def _misdirected(site: Site) -> None:
    await site.overwrite(site.log(), (await site.read(site.record().file))[: payload.BLOCK_BYTES])


async def _other_bytes(site: Site) -> None:
    await site.put(site.record().file, b"\x5a" * FILE_BYTES)


async def _older_value(site: Site) -> None:
    """Made anew from its label, as every record can be."""
    number = site.rng.randrange(2)
    former, *_ = site.replica.registers[register_name(number)].former  # every register was written twice
    await site.put(register_name(number), payload.make_record(site.seed, former))


async def _other_replicas(site: Site) -> None:
    data, _ = await site.other_session.fetch(site.record(site.other).file, FILE_BYTES)
    await site.put(site.record().file, data)


async def _other_pods(site: Site) -> None:
    """What another pod of the same name would have written there."""
    record = site.record()
    label = replace(record.label, origin=replace(record.origin, pod_uid=site.other_session.pod.uid))
    await site.put(record.file, payload.make_record(site.seed, label))


async def _resurrected(site: Site) -> None:
    there = site.replica.may_be_there()
    deleted = next(name for s in range(site.replica.next_sequence) if (name := name_of(s)) not in there)
    await site.put(deleted, await site.read(site.record().file))


async def _never_written(site: Site) -> None:
    await site.put(name_of(_NEVER_WRITTEN), await site.read(site.record().file))


async def _nothing(_: Site) -> None:
    """A healthy run."""


PLANTS: tuple[ProbePlant, ...] = (
    ProbePlant("a file is removed", Class.LOST, _file_removed),
    ProbePlant("the end of a log is cut off", Class.LOST, _log_end_cut),
    ProbePlant("the end of a log goes back, and what comes after is appended there", Class.LOST, _log_rewound),
    ProbePlant("the first entry of a log is zeros", Class.LOST, _log_start_zeroed),
    ProbePlant("a register is removed", Class.LOST, _register_removed),
    ProbePlant("of a write only the first sectors arrive", Class.TORN, _sectors_missing),
    ProbePlant("a block is zeros", Class.TORN, _block_zeroed),
    ProbePlant("a file ends early", Class.TORN, _file_cut),
    ProbePlant("a bit is flipped", Class.CORRUPT, _bit_of_file_flipped),
    ProbePlant("a bit of a log is flipped", Class.CORRUPT, _bit_of_log_flipped),
    ProbePlant("a write lands in another file", Class.CORRUPT, _misdirected),
    ProbePlant("a file holds other bytes", Class.CORRUPT, _other_bytes),
    ProbePlant("an older value of a register comes back", Class.STALE, _older_value),
    ProbePlant("a file is another replica's", Class.FOREIGN, _other_replicas),
    ProbePlant("a deleted file comes back", Class.UNEXPECTED, _resurrected),
    ProbePlant("a file stands there that nobody wrote", Class.UNEXPECTED, _never_written),
    ProbePlant("a file is as another pod would have written it", Class.DOUBLE_WRITER, _other_pods),
    ProbePlant("nothing: the volume is only read again", None, _nothing),
    ProbePlant("nothing: pods are deleted and replicas scaled", None, _nothing, _DISTURBED),
)
