"""Integrity: is every acknowledged byte still there, and nothing that was deleted back again?

Pure. What is owed is known from the history alone: a record is owed from the `ok` of its write to the invocation of its
delete. A write that never answered (`info`) may be there or not, but is whole either way, since the probe renames only
what it has fsynced. Source of the idea: Jepsen's set checkers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import NEMESIS, RUN, Kind, Op
from chaosd.payload import Label, Origin, State, blocks_in

# Evidence names this many files of a violation; the count says how many there are.
NAMED_FILES = 20

_CLASS_OF = {
    State.TORN: Class.TORN,
    State.CORRUPT: Class.CORRUPT,
    State.STALE: Class.STALE,
    State.FOREIGN: Class.FOREIGN,
}


@dataclass(slots=True)
class Record:
    """One file of a replica. `asked_at` is the index at which it was last asked for, `read_at` that of its last intact
    reading, `cold_reads` how many were cold."""

    origin: Origin
    length: int
    digest: str
    written_at: int
    asked_at: int = -1
    read_at: int = -1
    reads: int = 0
    cold_reads: int = 0

    def label(self, sequence: int) -> Label:
        """What the file's blocks say of themselves."""
        return Label(self.origin, sequence, blocks_in(self.length))


@dataclass(slots=True)
class Replica:
    """What is known of one replica's records, by sequence.

    `attempted` were invoked and not answered, `maybe` never will be; `owed` were acknowledged; `dropping` may be gone,
    since their delete was invoked; `broken` were found damaged and are reported already. `opened_at` is the index of the
    op that opened the present session; `identity` what the identity file said when the present claim was first opened in
    this run. `writes_due`, `listing_due`: a round asked for it and it has not happened; `acknowledged`: a write ever was;
    `refused`: why the last one was refused; `unstable`: readings that contradicted each other.
    """

    next_sequence: int = 0
    origin: Origin | None = None
    binding: Binding = field(default_factory=Binding)
    at_risk_since: int = -1
    opened_at: int = -1
    identity: Mapping[str, Any] | None = None
    acknowledged: bool = False
    writes_due: bool = False
    listing_due: bool = False
    refused: str = ""
    unstable: int = 0
    mount_unseen: bool = False
    attempted: dict[int, Record] = field(default_factory=dict)
    maybe: dict[int, Record] = field(default_factory=dict)
    owed: dict[int, Record] = field(default_factory=dict)
    dropping: dict[int, Record] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    last_error: str = ""

    @property
    def bytes_held(self) -> int:
        """Bytes that its records may take on the volume."""
        held = (self.attempted, self.maybe, self.owed, self.dropping)
        return sum(r.length for records in held for r in records.values())

    @property
    def files_held(self) -> int:
        """Files that may be on the volume."""
        return len(self.attempted) + len(self.maybe) + len(self.owed) + len(self.dropping)

    def at_risk(self) -> Iterator[int]:
        """Owed records that were not read since the last thing that could have harmed them."""
        return (s for s, r in self.owed.items() if r.read_at < max(self.at_risk_since, r.written_at))


class Integrity:
    """Folds `open`, `write`, `read`, `list`, `delete` of every replica."""

    name = "integrity"

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self._found: dict[tuple[str, Class, str], Violation] = {}
        self._acknowledged = 0

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process in (NEMESIS, RUN):
            self._put_at_risk(op)
        elif fold := _FOLDS.get((op.f, op.kind)):
            fold(self, self.replicas.setdefault(op.process, Replica()), op)

    def release(self, claim_uid: str) -> None:
        """Nothing is owed any more that was written to this claim: its StatefulSet's own policy let it go."""
        for replica in self.replicas.values():
            for held in (replica.owed, replica.maybe, replica.dropping):
                for sequence in [s for s, record in held.items() if record.origin.claim_uid == claim_uid]:
                    del held[sequence]

    def verdict(self) -> Verdict:
        """Fail where a promise is broken, unknown where an owed record was not read after the last disruption."""
        return Verdict(
            self.name,
            violations=tuple(self._found.values()),
            unknowns=tuple(self._unknowns()),
            measured={
                "owed_records": sum(len(r.owed) for r in self.replicas.values()),
                "records_at_risk": sum(1 for r in self.replicas.values() for _ in r.at_risk()),
            },
        )

    def _unknowns(self) -> Iterator[Unknown]:
        if not self._acknowledged:
            yield Unknown("target", "no write was acknowledged, so nothing was tested")
        for name, replica in self.replicas.items():
            yield from (Unknown(name, why) for why in _not_tested(replica, self._acknowledged > 0))
            if count := sum(1 for _ in replica.at_risk()):
                why = replica.last_error or "the run ended before they were read"
                yield Unknown(name, f"{count} acknowledged files were not read back after the last disruption: {why}")

    def _put_at_risk(self, op: Op) -> None:
        """A disruption may harm everything; a round that verifies owes a reading of everything."""
        if op.f == "round" and op.kind is Kind.INVOKE:
            for name in op.value["replicas"]:
                replica = self.replicas.setdefault(name, Replica())
                replica.writes_due |= bool(op.value.get("files")) and not replica.acknowledged
                replica.listing_due |= bool(op.value["verify"])
        if op.kind is Kind.INVOKE and (op.value.get("disrupts") or op.value.get("verify")):
            for name, replica in self.replicas.items():
                replica.at_risk_since = op.index
                if op.f == "round" and name not in op.value["replicas"]:
                    replica.last_error = "the replica is scaled away, and only its pod can read its volume"

    def _opened(self, replica: Replica, op: Op) -> None:
        value = op.value
        binding = value.get("binding", {})
        first = not replica.origin or replica.origin.claim_uid != binding.get("claim_uid", "")
        replica.binding = Binding(**binding)
        origin = Origin(
            run=value["run"],
            replica=op.process,
            claim_uid=replica.binding.claim_uid,
            handle=replica.binding.handle,
            pod_uid=value["pod_uid"],
        )
        replica.opened_at = op.index
        if replica.origin != origin:
            replica.origin = origin
            replica.at_risk_since = op.index
        replica.mount_unseen = value.get("mounted") is None
        if value.get("mounted") is False and replica.binding.claim:
            evidence = {"mountinfo": value.get("mountinfo", ""), "path": value.get("path", "")}
            self._report(replica, op, Class.NOT_MOUNTED, -1, _Place(None, None, evidence))
        self._check_identity(replica, op, first=first)

    def _check_identity(self, replica: Replica, op: Op, *, first: bool) -> None:
        """The identity file names whose disk it was when it was written. A disk may have served others before this run, so
        what it says when a claim is first opened is what it must go on saying; this run's own name is never another's."""
        named = op.value.get("identity")
        if first:
            replica.identity = named
        if not named:
            return
        of_this_run = named.get("run") == op.value["run"]
        foreign = of_this_run and named.get("replica") != op.process
        if not first and not foreign:
            foreign = not of_this_run if replica.identity is None else named != replica.identity
        if foreign:
            failure = Class.CORRUPT if "unreadable" in named else Class.FOREIGN
            since = min((r.written_at for r in replica.owed.values()), default=op.index)
            self._report(replica, op, failure, since, _Place(None, None, {"identity_names": named}))

    def _write_invoked(self, replica: Replica, op: Op) -> None:
        sequence = op.value["sequence"]
        assert replica.origin is not None, "a write is invoked in a session, and a session was opened"
        record = Record(replica.origin, op.value["length"], op.value["digest"], op.index)
        replica.attempted[sequence] = record
        replica.next_sequence = max(replica.next_sequence, sequence + 1)

    def _write_acknowledged(self, replica: Replica, op: Op) -> None:
        record = replica.attempted.pop(op.value["sequence"])
        record.written_at = op.index
        replica.owed[op.value["sequence"]] = record
        replica.acknowledged, replica.writes_due, replica.refused = True, False, ""
        self._acknowledged += 1

    def _write_failed(self, replica: Replica, op: Op) -> None:
        replica.attempted.pop(op.value["sequence"])
        replica.refused = replica.last_error = op.value.get("error", "")

    def _write_unanswered(self, replica: Replica, op: Op) -> None:
        replica.maybe[op.value["sequence"]] = replica.attempted.pop(op.value["sequence"])

    def _read_invoked(self, replica: Replica, op: Op) -> None:
        for sequence in expand(op.value["sequences"]):
            if record := replica.owed.get(sequence) or replica.maybe.get(sequence):
                record.asked_at = op.index

    def _read(self, replica: Replica, op: Op) -> None:
        for sequence in expand(op.value["sequences"]):
            record = replica.owed.get(sequence) or replica.maybe.get(sequence)
            if record:  # else it was reported or dropped meanwhile
                self._found_in_place(replica, op, sequence, record)

    def _found_in_place(self, replica: Replica, op: Op, sequence: int, record: Record) -> None:
        finding = op.value["finding"]
        if finding == State.INTACT:
            record.read_at = op.index
            record.reads += 1
            record.cold_reads += op.value["cache"] == "cold"
        elif finding == "missing":
            self._missing(replica, op, sequence, record)
        else:
            place = _Place(op.value["file"], op.value.get("block"), op.value.get("evidence", {}))
            self._report(replica, op, _CLASS_OF[State(finding)], record.written_at, place)
            self._forget(replica, sequence)

    def _missing(self, replica: Replica, op: Op, sequence: int, record: Record) -> None:
        if sequence in replica.owed:
            place = _Place(op.value["file"], None, {"acknowledged_at": record.written_at, "bytes": record.length})
            self._report(replica, op, Class.LOST, record.written_at, place)
        self._forget(replica, sequence)

    def _forget(self, replica: Replica, sequence: int) -> None:
        replica.owed.pop(sequence, None)
        replica.maybe.pop(sequence, None)
        replica.broken.add(sequence)

    def _read_failed(self, replica: Replica, op: Op) -> None:
        replica.last_error = op.value.get("error", "")
        replica.unstable += bool(op.value.get("contradicted"))

    def _listed(self, replica: Replica, op: Op) -> None:
        """Whatever stands there must have been attempted, and must not have been deleted with acknowledgement."""
        replica.listing_due = False
        known = (replica.attempted, replica.maybe, replica.owed, replica.dropping)
        for sequence in expand(op.value["present"]):
            if sequence in replica.broken or any(sequence in held for held in known):
                continue
            never = sequence >= replica.next_sequence
            why = "it was never written" if never else "its delete was acknowledged"
            place = _Place(f"{op.value['folder']}/{sequence:08d}", None, {"why": why})
            self._report(replica, op, Class.UNEXPECTED, replica.opened_at, place)
            replica.broken.add(sequence)

    def _delete_invoked(self, replica: Replica, op: Op) -> None:
        for sequence in expand(op.value["sequences"]):
            record = replica.owed.pop(sequence, None) or replica.maybe.pop(sequence, None)
            if record:
                replica.dropping[sequence] = record

    def _delete_acknowledged(self, replica: Replica, op: Op) -> None:
        for sequence in expand(op.value["sequences"]):
            replica.dropping.pop(sequence, None)

    def _report(self, replica: Replica, op: Op, failure: Class, since: int, place: _Place) -> None:
        """One violation for each replica, class and pod in which it was seen; its files are counted in its evidence."""
        pod_uid = replica.origin.pod_uid if replica.origin else ""
        key = (op.process, failure, pod_uid)
        known = self._found.get(key)
        if known is None:
            files = [place.file] if place.file else []
            evidence = {**place.evidence, "pod_uid": pod_uid, "files": files, "file_count": len(files)}
            self._found[key] = Violation(
                failure, op.process, op.index, since, replica.binding, place.file or "", place.block, evidence
            )
        elif place.file:
            _add_file(known.evidence, place.file)


@dataclass(frozen=True, slots=True)
class _Place:
    file: str | None
    block: int | None
    evidence: Mapping[str, Any]


def _not_tested(replica: Replica, anything_acknowledged: bool) -> Iterator[str]:
    """Why nothing can be promised of a replica, beyond records that were not read."""
    if replica.writes_due and anything_acknowledged:
        yield f"none of its writes was acknowledged: {replica.last_error or 'it was never reached'}"
    elif replica.refused:
        yield f"its volume refused the last writes: {replica.refused}"
    if replica.unstable:
        yield f"{replica.unstable} readings of files gave two different answers in a row"
    if replica.listing_due:
        yield "its folder was not listed, so files that should not be there could not be seen"
    if replica.mount_unseen:
        yield "the table of mounts could not be read, so whether the path is the volume is not known"


def _add_file(evidence: Mapping[str, Any], file: str) -> None:
    assert isinstance(evidence, dict), "made in _report"
    evidence["file_count"] += 1
    if len(evidence["files"]) < NAMED_FILES:
        evidence["files"].append(file)


_FOLDS = {
    ("open", Kind.OK): Integrity._opened,
    ("write", Kind.INVOKE): Integrity._write_invoked,
    ("write", Kind.OK): Integrity._write_acknowledged,
    ("write", Kind.FAIL): Integrity._write_failed,
    ("write", Kind.INFO): Integrity._write_unanswered,
    ("read", Kind.INVOKE): Integrity._read_invoked,
    ("read", Kind.OK): Integrity._read,
    ("read", Kind.FAIL): Integrity._read_failed,
    ("read", Kind.INFO): Integrity._read_failed,
    ("list", Kind.OK): Integrity._listed,
    ("delete", Kind.INVOKE): Integrity._delete_invoked,
    ("delete", Kind.OK): Integrity._delete_acknowledged,
}


def compress(sequences: Iterable[int]) -> list[list[int]]:
    """Ranges `[first, last]` of the sequences, so that an op that names thousands stays small."""
    ranges: list[list[int]] = []
    for sequence in sorted(sequences):
        if ranges and sequence == ranges[-1][1] + 1:
            ranges[-1][1] = sequence
        else:
            ranges.append([sequence, sequence])
    return ranges


def expand(ranges: Iterable[Iterable[int]]) -> Iterator[int]:
    """The sequences that `compress` put into ranges."""
    for first, last in ranges:
        yield from range(first, last + 1)
