"""Registers and logs: which records stand in one file together, and what bytes found in it are.

Pure. A *register* holds one value, replaced by rename or overwritten in place. Its allowed values are the last
acknowledged one and every unanswered one after it; an unanswered write in place may leave any of its sectors old or new.
A *log* holds its entries one after the other; only the last may be unanswered, since then no other follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaosd import payload
from chaosd.checkers.integrity import LOST, UNSETTLED
from chaosd.checkers.records import Document, How, Record, Replica
from chaosd.payload import SECTOR_BYTES, State


@dataclass(frozen=True, slots=True)
class Found:
    """What stands in a register or log: `finding` as a `read` tells it, the first block of the file that shows it, and the
    evidence."""

    finding: str
    block: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def is_in_doubt(document: Document, pod_uid: str) -> bool:
    """Whether an unanswered write may still land while this pod is the replica's."""
    return document.in_doubt == pod_uid


def records_in(replica: Replica, document: Document) -> list[Record]:
    """Its records, in the order in which they were written."""
    return [record for sequence in document.entries if (record := replica.find(sequence))]


def length_of(records: Sequence[Record]) -> int:
    """Bytes that the file has, at most."""
    if records[0].how is How.APPEND:
        return sum(record.length for record in records)
    return max(record.length for record in records)


def digests_of(replica: Replica, records: Sequence[Record], seed: int) -> set[str]:
    """Checksums of what may stand there, whole."""
    if records[0].how is not How.APPEND:
        return {record.digest for record in records}
    acknowledged = b"".join(payload.make_record(seed, r.label) for r in records if r.sequence in replica.owed)
    last = records[-1]
    allowed = {payload.digest(acknowledged)} if acknowledged else set()
    if last.sequence not in replica.owed:
        allowed.add(payload.digest(acknowledged + payload.make_record(seed, last.label)))
    return allowed


def examine(found: bytes, replica: Replica, document: Document, seed: int) -> Found:
    """What the bytes of a register or log are."""
    records = records_in(replica, document)
    if records[0].how is How.APPEND:
        return _examine_log(found, replica, records, seed)
    return _examine_register(found, document, records, seed)


def _examine_register(found: bytes, document: Document, records: Sequence[Record], seed: int) -> Found:
    values = [payload.make_record(seed, record.label) for record in records]
    if found in values:
        return Found(State.INTACT)
    in_place = any(record.how is How.OVERWRITE for record in records[1:])
    if in_place and len(found) == len(values[0]) and _is_mix(found, values):
        return Found(UNSETTLED)
    # What is there is held against the value that it has most of, else what was acknowledged last.
    closest = max(range(len(values)), key=lambda number: _shared_sectors(found, values[number]))
    finding = payload.classify(found, seed, records[closest].label, next(iter(document.former), None))
    if finding.state in (State.CORRUPT, State.UNKNOWN) and len(found) == len(values[0]):
        overtaken = {sequence: payload.make_record(seed, label) for sequence, label in document.overtaken.items()}
        former = [payload.make_record(seed, label) for label in document.former]
        if _is_mix(found, [*values, *former, *overtaken.values(), bytes(len(found))]):
            mixed = [sequence for sequence, value in overtaken.items() if _shared_sectors(found, value)]
            return Found(State.TORN, finding.block, {**finding.evidence, "mixed_with": mixed})
    return Found(finding.state, finding.block, finding.evidence)


def _examine_log(found: bytes, replica: Replica, records: Sequence[Record], seed: int) -> Found:
    at = 0
    for number, record in enumerate(records):
        piece, wanted = found[at : at + record.length], payload.make_record(seed, record.label)
        if record.sequence not in replica.owed and _is_mix(found[at:], [wanted, bytes(len(wanted))]):
            return Found(State.INTACT if found[at:] in (b"", wanted) else UNSETTLED)
        if piece != wanted:
            return _first_bad_entry(found, at, number, record, records, seed)
        at += record.length
    if at < len(found):
        evidence = {"condition": "longer than what was appended", "expected_bytes": at, "found_bytes": len(found)}
        return Found(State.CORRUPT, at // payload.BLOCK_BYTES, evidence)
    return Found(State.INTACT)


def _first_bad_entry(found: bytes, at: int, number: int, record: Record, records: Sequence[Record], seed: int) -> Found:
    """An entry that is gone as a whole is lost; one of which something is there has the state of its bytes."""
    block, piece = at // payload.BLOCK_BYTES, found[at : at + record.length]
    told = {"entry": number, "entries": len(records), "found_bytes": len(found), "expected_bytes": length_of(records)}
    if not piece:
        return Found(LOST, block, {**told, "condition": "lost suffix"})
    if not any(piece):
        behind = any(found[at + len(piece) :])
        return Found(LOST, block, {**told, "condition": "hole" if behind else "lost suffix"})
    named = payload.read_label(piece[: payload.BLOCK_BYTES])
    later = {r.sequence for r in records[number + 1 :]}
    if named and named[0].file == record.file and named[0].sequence in later and named[1] == 0:
        evidence = {**told, "condition": "rewound end", "found_sequence": named[0].sequence}
        return Found(LOST, block, evidence)
    finding = payload.classify(piece, seed, record.label, appended=True)
    inside = finding.block or 0
    return Found(finding.state, block + inside, {**told, **finding.evidence})


def _shared_sectors(found: bytes, value: bytes) -> int:
    """How many sectors are the same, the last of which may be cut short."""
    sectors = ((at, found[at : at + SECTOR_BYTES]) for at in range(0, len(found), SECTOR_BYTES))
    return sum(value[at : at + len(sector)] == sector for at, sector in sectors)


def _is_mix(found: bytes, values: Sequence[bytes]) -> bool:
    """Whether each sector is one of those that may stand there; the last one may be cut short."""
    sectors = ((at, found[at : at + SECTOR_BYTES]) for at in range(0, len(found), SECTOR_BYTES))
    return len(found) <= len(values[-1]) and all(
        any(value[at : at + len(sector)] == sector for value in values) for at, sector in sectors
    )
