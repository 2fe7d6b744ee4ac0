"""Content that names itself: how the bytes of a file are made, and what any bytes found in its place are.

Pure. A file is a sequence of blocks of 4,096 bytes, the unit in which file systems and page caches lose, mix up and
tear data. Each block says whose it is, so that a block found in the wrong place can be told from a damaged one:

    offset  bytes  what
    0       8      magic `CHAOSDv1`
    8       32     SHA-256 of bytes 40…4095
    40      4      block index, from 0
    44      4      blocks in the file
    48      8      file sequence of its replica, from 0
    56      2      length of the text below
    58      n      UTF-8: run, replica (NAMESPACE/POD), claim UID, volume handle, writer's pod UID, parted by newlines
    58+n    …      filler, generated from (run seed, claim UID or replica, sequence, block index)

Numbers are big-endian. Any block can be made again from its label and the run's seed, so nothing but the label and the
digest is ever stored.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

BLOCK_BYTES = 4096
MAGIC = b"CHAOSDv1"
_DIGEST = slice(8, 40)
_BODY = struct.Struct(">IIQH")
_BODY_AT = 40
_TEXT_AT = _BODY_AT + _BODY.size
_EVIDENCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote: what all files of one session have in common. `claim_uid` and `handle` are empty where the path has
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
    """What a whole file says of itself."""

    origin: Origin
    sequence: int
    blocks: int


class State(StrEnum):
    """What a block or a file turned out to be."""

    INTACT = "intact"
    TORN = "torn"
    CORRUPT = "corrupt"
    STALE = "stale"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the bytes found are: the class of the file, the first block that shows it, and the evidence.

    `evidence` is plain JSON: how many blocks are in which condition, and of the first bad block its condition, what it
    names itself, the offset of the first differing byte in the file, differing bits, and hex of found and expected.
    """

    state: State
    block: int | None
    evidence: Mapping[str, Any]


def blocks_in(length: int) -> int:
    """Blocks of a file of `length` bytes, which must be a positive multiple of BLOCK_BYTES (ValueError)."""
    if length <= 0 or length % BLOCK_BYTES:
        raise ValueError(f"a file's length must be a positive multiple of {BLOCK_BYTES} bytes, not {length}")
    return length // BLOCK_BYTES


def make_file(seed: int, label: Label) -> bytes:
    """The bytes of the file that `label` names."""
    text = _text(label.origin)
    return b"".join(_make_block(seed, label, text, index) for index in range(label.blocks))


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
    fields = block[_TEXT_AT : _TEXT_AT + length].decode().split("\n")
    return Label(Origin(*fields), sequence, blocks), index


def examine(found: bytes, seed: int, label: Label) -> Finding:
    """Compare the bytes found with the file that `label` names, and say what they are.

    Whole blocks of another claim make it foreign, of an older file of this claim stale; bytes that were never written
    make it corrupt; blocks that are missing or zero, as after a write that reached the disk in part, make it torn.
    Where several hold, the first of foreign, corrupt, stale, torn is said.
    """
    expected = make_file(seed, label)
    if found == expected:
        return Finding(State.INTACT, None, {})
    conditions = [_condition(found, expected, index, label) for index in range(label.blocks)]
    if len(found) > len(expected):
        conditions.append("surplus")
    state = min((_STATE_OF[c] for c in conditions), key=_PRECEDENCE.index)
    first = next(i for i, c in enumerate(conditions) if _STATE_OF[c] is state)
    return Finding(state, first, _evidence(found, expected, conditions, first))


_STATE_OF = {
    "intact": State.INTACT,
    "foreign": State.FOREIGN,
    "misdirected": State.CORRUPT,
    "altered": State.CORRUPT,
    "surplus": State.CORRUPT,
    "stale": State.STALE,
    "zeroed": State.TORN,
    "missing": State.TORN,
}
_PRECEDENCE = [State.FOREIGN, State.CORRUPT, State.STALE, State.TORN, State.INTACT]


def _text(origin: Origin) -> bytes:
    return "\n".join((origin.run, origin.replica, origin.claim_uid, origin.handle, origin.pod_uid)).encode()


def _make_block(seed: int, label: Label, text: bytes, index: int) -> bytes:
    head = _BODY.pack(index, label.blocks, label.sequence, len(text)) + text
    source = f"{seed}\n{label.origin.owner}\n{label.sequence}\n{index}".encode()
    body = head + hashlib.shake_128(source).digest(BLOCK_BYTES - _BODY_AT - len(head))
    return MAGIC + hashlib.sha256(body).digest() + body


def _condition(found: bytes, expected: bytes, index: int, label: Label) -> str:
    block = _block(found, index)
    if block == _block(expected, index):
        return "intact"
    if not block:
        return "missing"
    if not any(block):
        return "zeroed"
    named = read_label(block)
    if named is None:
        return "missing" if len(block) < BLOCK_BYTES and _block(expected, index).startswith(block) else "altered"
    other, other_index = named
    if other.origin.owner != label.origin.owner or other.origin.run != label.origin.run:
        return "foreign"
    return "stale" if other_index == index and other.sequence < label.sequence else "misdirected"


def _block(data: bytes, index: int) -> bytes:
    return data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]


def _evidence(found: bytes, expected: bytes, conditions: Iterable[str], first: int) -> dict[str, Any]:
    listed = list(conditions)
    got, want = _block(found, first), _block(expected, first)
    at = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    evidence: dict[str, Any] = {
        "blocks": {c: listed.count(c) for c in sorted(set(listed))},
        "condition": listed[first],
        "found_bytes": len(found),
        "expected_bytes": len(expected),
        "first_difference": first * BLOCK_BYTES + at,
        "differing_bits": sum((a ^ b).bit_count() for a, b in zip(got, want, strict=False)),
        "found_hex": got[at : at + _EVIDENCE_BYTES].hex(),
        "expected_hex": want[at : at + _EVIDENCE_BYTES].hex(),
    }
    named = read_label(got)
    if named:
        label, index = named
        evidence["names_itself"] = {
            "run": label.origin.run,
            "replica": label.origin.replica,
            "claim_uid": label.origin.claim_uid,
            "volume_handle": label.origin.handle,
            "pod_uid": label.origin.pod_uid,
            "sequence": label.sequence,
            "block": index,
        }
    return evidence
