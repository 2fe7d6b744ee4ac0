"""Content that names itself: how the bytes of a file are made, and what any bytes found in its place are.

Pure. A file is a sequence of blocks of 4,096 bytes, the unit in which file systems and page caches lose, mix up and
tear data. Each block says whose it is, so that a block found in the wrong place can be told from a damaged one:

    offset  bytes  what
    0       8      magic `CHAOSDv2`
    8       32     SHA-256 of bytes 40…4095
    40      4      block index, from 0
    44      4      blocks in the record
    48      8      sequence of the record among its replica's, from 0
    56      2      length of the text below
    58      n      UTF-8: run, replica (NAMESPACE/POD), claim UID, volume handle, writer's pod UID, file, parted by newlines
    58+n    …      filler: of the noise of the run's seed, from where (claim UID or replica, sequence, block index) say

Numbers are big-endian. Any block can be made again from its label and the run's seed, so nothing but the label and the
digest is ever stored, and `classify` needs no copy of what was written.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

BLOCK_BYTES = 4096
# What a disk writes whole or not at all, at least (NVMe Base Specification, "Atomic Write Unit Power Fail").
SECTOR_BYTES = 512
MAGIC = b"CHAOSDv2"
_DIGEST = slice(8, 40)
_BODY = struct.Struct(">IIQH")
_BODY_AT = 40
_TEXT_AT = _BODY_AT + _BODY.size
# Blocks of registers and logs, which are held against what stands there again and again: 2 MiB.
_BLOCKS_KEPT = 512
_NOISE_BYTES = 1 << 20
_EVIDENCE_BYTES = 32
_EVIDENCE_RANGES = 16
# So many zeros at the end of a block come of a cut; by chance alone they would once in 2^64.
_ZEROS_OF_A_CUT = 8
# Bits of unrelated bytes differ in half of all places; beyond a quarter nothing shows that a block was ever ours.
_UNRELATED_BITS = BLOCK_BYTES * 8 // 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote: what all records of one session have in common. `claim_uid` and `handle` are empty where the path has
    no claim, or its volume no CSI handle."""

    run: str
    replica: str
    claim_uid: str
    handle: str
    pod_uid: str

    @property
    def owner(self) -> str:
        """Whose data it is: the claim's, or the replica's where there is no claim."""
        return self.claim_uid or self.replica


@dataclass(frozen=True, slots=True)
class Label:
    """What a record says of itself: the whole content of a file that is written once or overwritten, one entry of a log.
    `file` is the file's name in the run's folder."""

    origin: Origin
    sequence: int
    blocks: int
    file: str


class State(StrEnum):
    """What a block or a record turned out to be."""

    INTACT = "intact"
    TORN = "torn"  # part of it is there, the rest is what stood there before, or zero
    CORRUPT = "corrupt"  # ours, with bits changed
    ZEROED = "zeroed"  # whole blocks of it are zero
    STALE = "stale"  # an older record of the same file
    FOREIGN = "foreign"  # another claim's, another run's, or another pod's in this record's place
    MISDIRECTED = "misdirected"  # a block of another place
    TRUNCATED = "truncated"  # it ends early
    UNKNOWN = "unknown"  # bytes that carry no mark of chaosd's


# Where blocks of one record differ, the first of these is said of the record.
_PRECEDENCE = (
    State.FOREIGN,
    State.CORRUPT,
    State.UNKNOWN,
    State.MISDIRECTED,
    State.TORN,
    State.STALE,
    State.ZEROED,
    State.TRUNCATED,
    State.INTACT,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the bytes found are: the state of the record, the first block that shows it, and the evidence.

    `evidence` is plain JSON: how many blocks are in which state; of the first bad block what it names itself and hex of
    found and expected from the first differing byte on; of bytes that differ without being somebody else's, where
    (`changed`: ranges `[offset, length]` in the record) and how many bits.
    """

    state: State
    block: int | None
    evidence: Mapping[str, Any]


def blocks_in(length: int) -> int:
    """Blocks of a record of `length` bytes, which must be a positive multiple of BLOCK_BYTES (ValueError)."""
    if length <= 0 or length % BLOCK_BYTES:
        raise ValueError(f"a record's length must be a positive multiple of {BLOCK_BYTES} bytes, not {length}")
    return length // BLOCK_BYTES


def make_record(seed: int, label: Label) -> bytes:
    """The bytes of the record that `label` names."""
    by, blocks, sequence = label.origin, label.blocks, label.sequence
    text = f"{by.run}\n{by.replica}\n{by.claim_uid}\n{by.handle}\n{by.pod_uid}\n{label.file}".encode()
    owner = by.owner
    return b"".join([_make_block(seed, owner, text, blocks, sequence, index) for index in range(blocks)])


def digest(data: bytes) -> str:
    """Hex SHA-256. Refuses empty input (ValueError): a checksum of nothing was once taken for the expected one
    (longhorn/longhorn#9248)."""
    if not data:
        raise ValueError("no digest is taken of empty input")
    return hashlib.sha256(data).hexdigest()


def read_label(block: bytes) -> tuple[Label, int] | None:
    """The label and index of a block whose checksum holds, else None."""
    if len(block) != BLOCK_BYTES or block[:8] != MAGIC or hashlib.sha256(block[40:]).digest() != block[_DIGEST]:
        return None
    index, blocks, sequence, length = _BODY.unpack_from(block, _BODY_AT)
    fields = block[_TEXT_AT : _TEXT_AT + length].decode(errors="replace").split("\n")
    if len(fields) != 6:
        return None
    return Label(Origin(*fields[:5]), sequence, blocks, fields[5]), index


def classify(found: bytes, seed: int, label: Label, former: Label | None = None, *, appended: bool = False) -> Finding:
    """Say what the bytes found in the place of the record that `label` names are; `former` is the record that stood there
    before it, where one did, so that a write in place that happened in part is told from corruption. Where records are
    `appended` to their file, an earlier one never stood in the place of a later one: it went astray."""
    expected = make_record(seed, label)
    if found == expected:
        return Finding(State.INTACT, None, {})
    before = make_record(seed, former) if former else bytes(len(expected))
    states = [
        _state(_block(found, index), _block(expected, index), _block(before, index), index, label)
        for index in range(label.blocks)
    ]
    if len(found) > len(expected):
        states.append(State.CORRUPT)
    if appended:
        states = [State.MISDIRECTED if state is State.STALE else state for state in states]
    state = min(states, key=_PRECEDENCE.index)
    if state is State.STALE and State.INTACT in states:
        state = State.TORN
    first = states.index(State.STALE if state is State.TORN and State.TORN not in states else state)
    return Finding(state, first, _evidence(found, expected, states, first))


@lru_cache(maxsize=_BLOCKS_KEPT)
def _make_block(seed: int, owner: str, text: bytes, blocks: int, sequence: int, index: int) -> bytes:
    head = _BODY.pack(index, blocks, sequence, len(text)) + text
    at = zlib.crc32(f"{owner}\n{sequence}\n{index}".encode()) % (_NOISE_BYTES - BLOCK_BYTES)
    body = head + _noise(seed)[at : at + BLOCK_BYTES - _BODY_AT - len(head)]
    return MAGIC + hashlib.sha256(body).digest() + body


@lru_cache(maxsize=2)
def _noise(seed: int) -> bytes:
    """More than a disk looks through when it compresses; each block takes a part of it. To make each block a filler of its
    own took nearly three times as long as its checksum."""
    return hashlib.shake_128(str(seed).encode()).digest(_NOISE_BYTES)


def _state(found: bytes, expected: bytes, before: bytes, index: int, label: Label) -> State:
    if found == expected:
        return State.INTACT
    if len(found) < BLOCK_BYTES:
        return State.TRUNCATED if expected.startswith(found) else State.CORRUPT
    if not any(found):
        return State.ZEROED
    if named := read_label(found):
        return _state_of_named(*named, index, label)
    if _is_mix(found, expected, before) or _ends_in_zeros(found, expected):
        return State.TORN
    return State.CORRUPT if _differing_bits(found, expected) < _UNRELATED_BITS else State.UNKNOWN


def _state_of_named(other: Label, other_index: int, index: int, label: Label) -> State:
    if other.origin.owner != label.origin.owner or other.origin.run != label.origin.run:
        return State.FOREIGN
    if (other.file, other_index) != (label.file, index):
        return State.MISDIRECTED
    if other.sequence < label.sequence:
        return State.STALE
    # The very record, only that another pod wrote it.
    return State.FOREIGN if other.sequence == label.sequence else State.MISDIRECTED


def _is_mix(found: bytes, expected: bytes, before: bytes) -> bool:
    """Whether each sector is the expected one, what stood there before, or zero."""
    for at in range(0, BLOCK_BYTES, SECTOR_BYTES):
        sector = found[at : at + SECTOR_BYTES]
        if sector not in (expected[at : at + SECTOR_BYTES], before[at : at + SECTOR_BYTES]) and any(sector):
            return False
    return True


def _ends_in_zeros(found: bytes, expected: bytes) -> bool:
    """Whether a block is as expected up to some byte, and zeros from there on: a file that was cut there, and grew again.
    A few zeros may as well be bytes that changed."""
    whole = found.rstrip(b"\0")
    return len(found) - len(whole) >= _ZEROS_OF_A_CUT and expected.startswith(whole)


def _block(data: bytes, index: int) -> bytes:
    return data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]


def _differing_bits(found: bytes, expected: bytes) -> int:
    both = min(len(found), len(expected))
    return (int.from_bytes(found[:both], "big") ^ int.from_bytes(expected[:both], "big")).bit_count()


def _evidence(found: bytes, expected: bytes, states: Sequence[State], first: int) -> dict[str, Any]:
    got, want = _block(found, first), _block(expected, first)
    at = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    evidence: dict[str, Any] = {
        "state": str(states[first]),
        "blocks": {str(state): count for state, count in sorted(Counter(states).items())},
        "found_bytes": len(found),
        "expected_bytes": len(expected),
        "first_difference": first * BLOCK_BYTES + at,
        "found_hex": got[at : at + _EVIDENCE_BYTES].hex(),
        "expected_hex": want[at : at + _EVIDENCE_BYTES].hex(),
    }
    if changed := [index for index, state in enumerate(states) if state is State.CORRUPT]:
        surplus = len(expected) // BLOCK_BYTES
        ends = {index: None if index == surplus else (index + 1) * BLOCK_BYTES for index in changed}
        pairs = [(index, found[index * BLOCK_BYTES : ends[index]], _block(expected, index)) for index in changed]
        evidence["changed"] = [r for index, *pair in pairs for r in _ranges(index, *pair)][:_EVIDENCE_RANGES]
        evidence["differing_bits"] = sum(_differing_bits(*pair) for _, *pair in pairs)
    if named := read_label(got):
        label, index = named
        evidence["names_itself"] = {
            "run": label.origin.run,
            "replica": label.origin.replica,
            "claim_uid": label.origin.claim_uid,
            "volume_handle": label.origin.handle,
            "pod_uid": label.origin.pod_uid,
            "file": label.file,
            "sequence": label.sequence,
            "block": index,
        }
    return evidence


def _ranges(index: int, found: bytes, expected: bytes) -> Iterator[list[int]]:
    """Ranges `[offset, length]` in the record of the bytes that differ; what is beyond its end is one range."""
    start = None
    for at, (a, b) in enumerate(zip(found, expected, strict=False)):
        if a != b and start is None:
            start = at
        elif a == b and start is not None:
            yield [index * BLOCK_BYTES + start, at - start]
            start = None
    both = min(len(found), len(expected))
    if start is not None:
        yield [index * BLOCK_BYTES + start, both - start]
    if len(found) > both:
        yield [index * BLOCK_BYTES + both, len(found) - both]
