"""What is owed: every record that was written to a replica's volume, by what is known of it from the history alone.

Pure. A *record* is what one write wrote: a whole file that is written once, one value of a register, one entry of a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any

from chaosd.checkers.verdict import Binding
from chaosd.payload import Label, Origin, blocks_in

REGISTER_PREFIX, LOG_PREFIX = "r", "l"
# Disks that lie go back by more than one value.
FORMERS_KEPT = 16
_LONGEST_NUMBER = 18  # digits that every database's integers hold


class How(StrEnum):
    """How a record was written."""

    CREATE = "create"  # a new file, renamed into place
    REPLACE = "replace"  # a register's value, renamed into the place of the one before
    OVERWRITE = "overwrite"  # a register's value, written over the one before
    APPEND = "append"  # a log's entry


_CREATE = How.CREATE  # looked up for each of millions of ops


@dataclass(slots=True)
class Record:
    """One record. `file` is the name of its file in the run's folder; `asked_at` the index at which it was last asked for,
    `read_at` the one at which its last intact reading began, `reads` how many there were."""

    origin: Origin
    sequence: int
    file: str
    how: How
    length: int
    digest: str
    written_at: int
    asked_at: int = -1
    read_at: int = -1
    reads: int = 0

    @property
    def label(self) -> Label:
        """What its blocks say of themselves."""
        return Label(self.origin, self.sequence, blocks_in(self.length), self.file)


@dataclass(slots=True)
class Document:
    """A file of several records, by sequence: of a register the last acknowledged value and the unanswered ones after it,
    of a log all entries in their order.

    `acknowledged_at` is the index at which anything of it was acknowledged first, since when the file must be there;
    `acknowledged` the sequence of the last acknowledged value, whole still or perhaps overwritten in part; `former` the
    ones before it, the latest first; `in_doubt` the UID of the pod from which a write was never answered, which may still
    land while that pod lives; `overtaken` such writes that a later value replaced.
    """

    entries: list[int] = field(default_factory=list)
    acknowledged_at: int = -1
    acknowledged: int = -1
    former: list[Label] = field(default_factory=list)
    in_doubt: str = ""
    overtaken: dict[int, Label] = field(default_factory=dict)


@dataclass(slots=True)
class Replica:
    """What is known of one replica's records.

    `attempted` were invoked and not answered, `maybe` never will be; `owed` were acknowledged; `dropping` may be gone,
    since their delete was invoked; `broken` were found damaged and are reported already; `absent` were never answered and
    then seen not to be there; `gone_in_doubt` are files of which nothing is owed any more, with the UID of the pod from
    which a write to them was never answered, `released` those that were on the last claim which its StatefulSet's policy
    let go.
    `listed_at` is the index at which the folder was listed last, `asked_at` that at which the last reading was invoked.
    `recalled`: chaosd died, and the one that was started after it has not written here yet. `writes_due`, `listing_due`: a
    round asked for it and it has not happened; `acknowledged`: a write ever was; `refused`: why the last one was refused;
    `unstable`: readings that contradicted each other; `strangers`: what chaosd did not write, in the run's folder and
    `strangers_beside` it.
    """

    next_sequence: int = 0
    origin: Origin | None = None
    binding: Binding = field(default_factory=Binding)
    at_risk_since: int = -1
    listed_at: int = -1
    asked_at: int = -1
    acknowledged: bool = False
    recalled: bool = False
    writes_due: bool = False
    listing_due: bool = False
    refused: str = ""
    unstable: int = 0
    attempted: dict[int, Record] = field(default_factory=dict)
    maybe: dict[int, Record] = field(default_factory=dict)
    owed: dict[int, Record] = field(default_factory=dict)
    dropping: dict[int, Record] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    absent: dict[str, Record] = field(default_factory=dict)
    gone_in_doubt: dict[str, str] = field(default_factory=dict)
    registers: dict[str, Document] = field(default_factory=dict)
    logs: dict[str, Document] = field(default_factory=dict)
    logs_begun: int = 0
    strangers: tuple[str, ...] = ()
    strangers_beside: tuple[str, ...] = ()
    last_error: str = ""
    bytes_held: int = 0  # that files which are written once may take on the volume
    files_held: int = 0  # of those, how many may be on the volume

    def find(self, sequence: int) -> Record | None:
        """A record that is, or may be, on the volume."""
        return self.owed.get(sequence) or self.maybe.get(sequence)

    def find_all(self, ranges: Iterable[Iterable[int]]) -> Iterator[Record]:
        """Of the records in ranges of sequences, those that are, or may be, on the volume."""
        find = self.find if self.maybe else self.owed.get  # as nearly always, and much faster
        return filter(None, map(find, expand(ranges)))

    def document(self, record: Record) -> Document | None:
        """The register or log that a record is part of."""
        if record.how is _CREATE:
            return None
        held = self.logs if record.how is How.APPEND else self.registers
        return held.get(record.file)

    def sequences_beside(self, record: Record) -> list[int]:
        """The sequences of all records in a record's file."""
        if record.how is not _CREATE and (document := self.document(record)):
            return document.entries.copy()
        return [record.sequence]

    def sequences_in_documents(self) -> set[int]:
        """The sequences of all values of registers and entries of logs."""
        return {s for held in (self.registers, self.logs) for document in held.values() for s in document.entries}

    def at_risk(self) -> Iterator[Record]:
        """Owed records that were not read since the last thing that could have harmed them."""
        for record in self.owed.values():
            if record.read_at < max(self.at_risk_since, record.written_at):
                yield record
        for document in self.registers.values():  # a value that may be overwritten in part is owed as far as it goes
            half = self.maybe.get(document.acknowledged)
            if half and half.read_at < max(self.at_risk_since, half.written_at):
                yield half

    # How records come and go.

    def attempt(self, record: Record) -> None:
        """It may be on the volume from now on."""
        sequence = record.sequence
        self.attempted[sequence] = record
        self.recalled = False
        if sequence >= self.next_sequence:
            self.next_sequence = sequence + 1
        if record.how is _CREATE:
            self.bytes_held += record.length
            self.files_held += 1
            return
        held = self.logs if record.how is How.APPEND else self.registers
        if record.file not in held:
            held[record.file] = Document()
            self.logs_begun += record.how is How.APPEND
        if never_there := self.absent.pop(record.file, None):  # a register is begun anew, and the first may yet land
            held[record.file].overtaken[never_there.sequence] = never_there.label
        held[record.file].entries.append(record.sequence)

    def acknowledge(self, sequence: int, index: int) -> None:
        """It is owed from now on, which op `index` says; a register's values before it are no longer."""
        record = self.attempted.pop(sequence, None)
        if record is None:
            return  # let go meanwhile, with its claim
        record.written_at = index
        self.owed[sequence] = record
        if record.how is _CREATE:
            return
        document = self.document(record)
        assert document is not None, "attempt made one"
        if document.acknowledged_at < 0:
            document.acknowledged_at = index
        if record.how is not How.APPEND:
            document.in_doubt = ""
            for earlier in document.entries[:-1]:
                self._overtake(document, earlier)
            document.entries, document.acknowledged = [sequence], sequence

    def _overtake(self, document: Document, sequence: int) -> None:
        was = self.owed.pop(sequence, None) or self.maybe.pop(sequence, None)
        if was and sequence == document.acknowledged:
            document.former = [was.label, *document.former[: FORMERS_KEPT - 1]]
        elif was:
            document.overtaken[sequence] = was.label

    def leave_open(self, sequence: int) -> None:
        """Nobody knows whether it is there. In place, the value before it need not be whole any more."""
        record = self.attempted.pop(sequence, None)
        if record is None:
            return
        self.maybe[sequence] = record
        document = self.document(record)
        if document is None:
            return
        document.in_doubt = record.origin.pod_uid
        if record.how is How.OVERWRITE:
            for earlier in document.entries:
                if was := self.owed.pop(earlier, None):
                    self.maybe[earlier] = was

    def withdraw(self, sequence: int) -> None:
        """It surely is not there."""
        if record := self.attempted.pop(sequence, None):
            self._let_go(record)

    def drop(self, ranges: Iterable[Iterable[int]]) -> None:
        """They may be gone from now on, and with each all that stands in its file."""
        for record in self.find_all(ranges):
            if record.how is _CREATE:
                self._drop(record.sequence)
                continue
            for beside in self.sequences_beside(record):
                self._drop(beside)

    def _drop(self, sequence: int) -> None:
        if doomed := self.owed.pop(sequence, None) or self.maybe.pop(sequence, None):
            self.dropping[sequence] = doomed

    def dropped(self, ranges: Iterable[Iterable[int]]) -> None:
        """Their files surely are gone."""
        for record in filter(None, map(self.dropping.get, expand(ranges))):
            if record.how is _CREATE:
                del self.dropping[record.sequence]
                self._let_go(record)
                continue
            for beside in self.sequences_beside(record):
                self.forget(beside)

    def release(self, claim_uid: str) -> None:
        """Nothing is owed any more of what was, or may yet have been, written to this claim."""
        held = (self.attempted, self.maybe, self.owed, self.dropping)
        going = [(of, r) for of in held for r in of.values() if r.origin.claim_uid == claim_uid]
        self.released = {record.file for _, record in going} or self.released
        for of, record in going:
            del of[record.sequence]
            self._let_go(record)

    def forget(self, sequence: int) -> None:
        """Nothing is owed or held of it any more, where anything was."""
        record = self.dropping.pop(sequence, None) or self.owed.pop(sequence, None) or self.maybe.pop(sequence, None)
        if record:
            self._let_go(record)

    def _let_go(self, record: Record) -> None:
        if record.how is _CREATE:
            self.bytes_held -= record.length
            self.files_held -= 1
            return
        held = self.logs if record.how is How.APPEND else self.registers
        document = held.get(record.file)
        if document and record.sequence in document.entries:
            document.entries.remove(record.sequence)
            if not document.entries:
                del held[record.file]
                if document.in_doubt:
                    self.gone_in_doubt[record.file] = document.in_doubt

    def forget_file(self, record: Record) -> None:
        """Nothing is owed any more of the file that a record is part of: it was reported."""
        for sequence in self.sequences_beside(record):
            self.forget(sequence)
        self.broken.add(record.file)

    def may_be_there(self) -> set[str]:
        """Names of the files that may be on the volume."""
        held = (self.attempted, self.maybe, self.owed, self.dropping)
        return {record.file for records in held for record in records.values()}


def name_of(sequence: int) -> str:
    """The name of a file that is written once."""
    return f"{sequence:08d}"


def register_name(number: int) -> str:
    """The name of a register."""
    return f"{REGISTER_PREFIX}{number:02d}"


def log_name(number: int) -> str:
    """The name of the replica's log that was begun as its `number`-th, from 0."""
    return f"{LOG_PREFIX}{number:06d}"


def sequence_of(name: str) -> int | None:
    """The sequence of the file that is written once and has this name; None for any other name."""
    if not (name.isascii() and name.isdigit() and len(name) <= _LONGEST_NUMBER):
        return None
    sequence = int(name)
    return sequence if name_of(sequence) == name else None


def is_document_name(name: str) -> bool:
    """Whether a register or a log may have this name."""
    number, made = name[1:], {REGISTER_PREFIX: register_name, LOG_PREFIX: log_name}.get(name[:1])
    if made is None or not (number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER):
        return False
    return made(int(number)) == name


def record_of(value: Mapping[str, Any], origin: Origin, index: int) -> Record:
    """The record that the invocation of a `write` names."""
    sequence, how = value["sequence"], value.get("how")
    if how is None:
        return Record(origin, sequence, f"{sequence:08d}", _CREATE, value["length"], value["digest"], index)
    return Record(origin, sequence, value["file"], How(how), value["length"], value["digest"], index)


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
    return chain.from_iterable(range(first, last + 1) for first, last in ranges)


def how_many(ranges: Iterable[Iterable[int]]) -> int:
    """How many sequences `compress` put into ranges."""
    return sum(last - first + 1 for first, last in ranges)
