"""Content that names itself: any bytes found are told for what they are, and never for what they are not."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaosd.payload import (
    BLOCK_BYTES,
    MAGIC,
    SECTOR_BYTES,
    Finding,
    Label,
    Origin,
    State,
    blocks_in,
    classify,
    digest,
    make_record,
    read_label,
)

SEED = 7
BLOCKS = 4
MINE = Origin("RUN", "default/web-0", "claim-0", "d-0", "pod-a")
LABEL = Label(MINE, 12, BLOCKS, "file-3")
UNCLAIMED = replace(LABEL, origin=replace(MINE, claim_uid="", handle=""))


def by(label: Label, **origin: str) -> Label:
    return replace(label, origin=replace(label.origin, **origin))


def former_of(label: Label) -> Label:
    return by(replace(label, sequence=9), pod_uid="pod-z")


FORMER = former_of(LABEL)
RECORD = make_record(SEED, LABEL)
FORMERS = st.sampled_from([None, FORMER])
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40)
LABELS = st.builds(Label, st.builds(Origin, *[WORDS] * 5), st.integers(0, 2**64 - 1), st.integers(1, 3), WORDS)


def found(data: bytes, label: Label = LABEL, former: Label | None = None) -> Finding:
    """What `classify` says, after what must hold of anything it says."""
    expected = make_record(SEED, label)
    finding = classify(data, SEED, label, former)
    assert (finding.state is State.INTACT) == (data == expected) == (finding.block is None)
    if finding.block is not None:
        assert block(data, finding.block) != block(expected, finding.block)
        differs = finding.evidence["first_difference"]
        assert differs // BLOCK_BYTES == finding.block or differs == len(data)
        assert data[:differs][finding.block * BLOCK_BYTES :] == expected[:differs][finding.block * BLOCK_BYTES :]
        assert data[differs:].startswith(bytes.fromhex(finding.evidence["found_hex"]))
        assert expected[differs:].startswith(bytes.fromhex(finding.evidence["expected_hex"]))
        assert sum(finding.evidence["blocks"].values()) == label.blocks + (len(data) > len(expected))
        assert json.loads(json.dumps(finding.evidence)) == finding.evidence
    return finding


def block(data: bytes, index: int) -> bytes:
    return data[index * BLOCK_BYTES :][:BLOCK_BYTES]


def of(label: Label, index: int) -> bytes:
    return block(make_record(SEED, label), index)


def noise(seed: int, length: int = BLOCK_BYTES) -> bytes:
    """Bytes that nobody wrote; unlike Hypothesis' own never long rows of zeros, which are a state of their own."""
    return random.Random(seed).randbytes(length)


def names(label: Label, index: int) -> dict[str, str | int]:
    """What a block of `label` says of itself, as evidence."""
    words = ("run", "replica", "claim_uid", "volume_handle", "pod_uid", "file", "sequence", "block")
    return dict(zip(words, (*astuple(label.origin), label.file, label.sequence, index), strict=True))


def flipped(data: bytes, bits: Iterable[int]) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def sealed(body: bytes) -> bytes:
    """A block whose checksum holds, whatever it says of itself; laid out by hand, as the module's docstring has it."""
    body = body.ljust(BLOCK_BYTES - 40, b"\0")
    return MAGIC + hashlib.sha256(body).digest() + body


def ranges(offsets: Iterable[int]) -> list[list[int]]:
    """Neighbouring offsets of one block as `[first, count]`."""
    rows: list[list[int]] = []
    for offset in sorted(set(offsets)):
        if rows and sum(rows[-1]) == offset and offset % BLOCK_BYTES:
            rows[-1][1] += 1
        else:
            rows.append([offset, 1])
    return rows


def test_a_block_is_laid_out_as_documented() -> None:
    text = b"RUN\ndefault/web-0\nclaim-0\nd-0\npod-a\nfile-3"
    body = block(RECORD, 2)[40:]
    assert body.startswith(struct.pack(">IIQH", 2, 4, 12, len(text)) + text)
    assert block(RECORD, 2) == sealed(body)


@given(st.integers(), LABELS)
def test_a_record_is_the_same_each_time_and_every_block_of_it_names_itself(seed: int, label: Label) -> None:
    record = make_record(seed, label)
    assert (record, blocks_in(len(record))) == (make_record(seed, label), label.blocks)
    assert [read_label(block(record, i)) for i in range(label.blocks)] == [(label, i) for i in range(label.blocks)]
    assert classify(record, seed, label) == Finding(State.INTACT, None, {})


# A few bits of the record, some in a row, and nearly as many as make one block unlike any of ours.
BITS = range(len(RECORD) * 8)
SOME_BITS = st.sets(st.sampled_from(BITS), min_size=1, max_size=40)
A_ROW_OF_BITS = st.builds(lambda at, n: set(BITS[at : at + n]), st.sampled_from(BITS), st.integers(1, 500))
MANY_BITS = st.builds(lambda seed, n: set(random.Random(seed).sample(BITS, n)), st.integers(), st.integers(1, 8000))


@given(SOME_BITS | A_ROW_OF_BITS | MANY_BITS, FORMERS)
@example({8 * (2 * BLOCK_BYTES + 100) + 2}, None)
@example({8 * BLOCK_BYTES - 1, 8 * BLOCK_BYTES}, None)
def test_flipped_bits_are_corrupt_and_each_is_told(bits: set[int], former: Label | None) -> None:
    finding = found(flipped(RECORD, bits), former=former)
    assert (finding.state, finding.block) == (State.CORRUPT, min(bits) // 8 // BLOCK_BYTES)
    assert finding.evidence["first_difference"] == min(bits) // 8
    assert finding.evidence["differing_bits"] == len(bits)
    assert finding.evidence["changed"] == ranges(bit // 8 for bit in bits)[:16]
    assert finding.evidence["blocks"].get("corrupt") == len({bit // 8 // BLOCK_BYTES for bit in bits})
    assert "names_itself" not in finding.evidence


@given(st.integers(0, len(RECORD) - 1), st.integers(1, 1000) | st.integers(1, len(RECORD)), st.integers())
def test_overwritten_bytes_are_corrupt_or_unknown_and_nothing_else(at: int, length: int, seed: int) -> None:
    data = (RECORD[:at] + noise(seed, length) + RECORD[at + length :])[: len(RECORD)]
    finding = found(data)
    assert set(finding.evidence.get("blocks", ())) <= {"intact", "corrupt", "unknown"}
    if data != RECORD:
        assert finding.state in ((State.CORRUPT,) if length <= 1000 else (State.CORRUPT, State.UNKNOWN))


@given(st.integers(0, len(RECORD) - 1), FORMERS)
@example(0, None)
@example(BLOCK_BYTES, None)
@example(BLOCK_BYTES + 9, None)
def test_a_record_that_ends_early_is_truncated_where_it_ends(length: int, former: Label | None) -> None:
    finding = found(RECORD[:length], former=former)
    assert (finding.state, finding.block) == (State.TRUNCATED, length // BLOCK_BYTES)
    assert (finding.evidence["found_bytes"], finding.evidence["first_difference"]) == (length, length)
    assert finding.evidence["blocks"].get("intact", 0) == length // BLOCK_BYTES


@given(st.integers(0, len(RECORD) - 1))
@example(100)
@example(BLOCK_BYTES)
@example(len(RECORD) - 9)
def test_a_record_that_was_cut_and_grew_again_is_torn_there(cut: int) -> None:
    finding = found(RECORD[:cut] + bytes(len(RECORD) - cut))
    zeros = BLOCK_BYTES - cut % BLOCK_BYTES
    wanted = State.ZEROED if zeros == BLOCK_BYTES else State.TORN if zeros >= 8 else State.CORRUPT
    assert (finding.state, finding.block) == (wanted, cut // BLOCK_BYTES)


SECTORS = st.sampled_from(["e" * 8, "z" * 8, "f" * 8]) | st.text("ezf", min_size=8, max_size=8)


@given(st.lists(SECTORS, min_size=BLOCKS, max_size=BLOCKS), st.integers(0, 5))
@example(["e" * 8, "z" * 8, "e" * 8, "z" * 8], 0)
@example(["f" * 8] * 4, 4)
@example(["e" * 8, "e" * 8, "f" * 8, "f" * 8], 4)
@example(["e" * 8, "e" * 8, "efffffff", "e" * 8], 4)
def test_sectors_of_a_record_of_the_former_one_and_of_zeros_are_told_apart(rows: list[str], blocks: int) -> None:
    former = replace(FORMER, blocks=blocks) if blocks else None
    before = (make_record(SEED, former) if former else b"").ljust(len(RECORD), b"\0")
    # Where the former record did not reach, zeros are what stood there before.
    rows = [row if i < blocks else row.replace("f", "z") for i, row in enumerate(rows)]
    sources = {"e": RECORD, "z": bytes(len(RECORD)), "f": before}
    data = b"".join(sources[whose][at * SECTOR_BYTES :][:SECTOR_BYTES] for at, whose in enumerate("".join(rows)))
    whole = {"e" * 8: "intact", "z" * 8: "zeroed", "f" * 8: "stale"}
    states = [whole.get(row, "torn") for row in rows]
    shown = next((state for state in ("torn", "stale", "zeroed") if state in states), "intact")
    finding = found(data, former=former)
    assert finding.state == ("torn" if shown == "stale" and "intact" in states else shown)
    if shown != "intact":
        assert (finding.block, finding.evidence["blocks"]) == (states.index(shown), Counter(states))


@given(st.permutations(range(BLOCKS)), st.sampled_from([LABEL, UNCLAIMED]))
def test_blocks_in_each_others_place_are_misdirected(order: list[int], label: Label) -> None:
    finding = found(b"".join(of(label, i) for i in order), label)
    if moved := [at for at, index in enumerate(order) if at != index]:
        assert (finding.state, finding.block) == (State.MISDIRECTED, moved[0])
        assert finding.evidence["names_itself"] == names(label, order[moved[0]])
        assert finding.evidence["blocks"]["misdirected"] == len(moved)


@given(st.integers(1, 2 * BLOCK_BYTES), st.integers())
@example(2 * BLOCK_BYTES, 0)
def test_surplus_bytes_at_the_end_are_corrupt(length: int, seed: int) -> None:
    finding = found(RECORD + noise(seed, length))
    assert (finding.state, finding.block) == (State.CORRUPT, BLOCKS)
    assert finding.evidence["changed"] == [[len(RECORD), length]]


# What may stand in the place of a block of `mine`, and what it then is.
KINDS: dict[str, tuple[str, Callable[[Label, int], bytes]]] = {
    "mine": ("intact", of),
    "flipped": ("corrupt", lambda mine, i: flipped(of(mine, i), [100 * i])),
    "noise": ("unknown", lambda _, i: noise(i)),
    "zeros": ("zeroed", lambda *_: bytes(BLOCK_BYTES)),
    "half the former's": ("torn", lambda mine, i: of(mine, i)[:2048] + of(former_of(mine), i)[2048:]),
    "the former's": ("stale", lambda mine, i: of(former_of(mine), i)),
    "an older and longer one's": ("stale", lambda mine, i: of(replace(mine, sequence=3, blocks=6), i)),
    "a newer one's": ("misdirected", lambda mine, i: of(replace(mine, sequence=13), i)),
    "the next": ("misdirected", lambda mine, i: of(mine, (i + 1) % BLOCKS)),
    "the former's next": ("misdirected", lambda mine, i: of(former_of(mine), (i + 1) % BLOCKS)),
    "another file's": ("misdirected", lambda mine, i: of(replace(mine, sequence=5, file="file-4"), i)),
    "another run's": ("foreign", lambda mine, i: of(by(mine, run="RUN-0"), i)),
    "another replica's": (
        "foreign",
        lambda mine, i: of(by(mine, replica="web-1", claim_uid=mine.origin.claim_uid and "c"), i),
    ),
    "another claim's": (
        "foreign",
        lambda mine, i: of(replace(by(mine, claim_uid="c"), sequence=3, file="f"), (i + 2) % BLOCKS),
    ),
}
GRAVEST_FIRST = ["foreign", "corrupt", "unknown", "misdirected", "torn", "stale", "zeroed", "truncated", "intact"]


@given(
    st.lists(st.sampled_from(list(KINDS)), max_size=BLOCKS),
    st.integers(0, BLOCK_BYTES - 1),
    st.integers(0, 2),
    st.sampled_from([LABEL, UNCLAIMED]),
)
@example(["an older and longer one's"] * 4, 0, 0, LABEL)
@example(["another claim's"] * 4, 0, 0, LABEL)
@example(["another replica's"] * 4, 0, 0, UNCLAIMED)
@example(["mine", "mine", "another file's", "a newer one's"], 0, 0, LABEL)
@example(["the former's", "zeros", "the former's"], 0, 0, LABEL)
def test_a_mixture_is_called_what_is_gravest_in_it(kinds: list[str], partial: int, surplus: int, mine: Label) -> None:
    parts = [(KINDS[kind][0], KINDS[kind][1](mine, index)) for index, kind in enumerate(kinds)]
    parts += [("truncated", of(mine, len(kinds))[:partial])] * (len(kinds) < BLOCKS)
    parts += [("truncated", b"")] * (BLOCKS - len(parts))
    parts += [("corrupt", b"x" * surplus)] * (surplus > 0 and len(kinds) == BLOCKS)
    states = [state for state, _ in parts]
    finding = found(b"".join(data for _, data in parts), mine, former_of(mine))
    gravest = min(states, key=GRAVEST_FIRST.index)
    assert finding.state == ("torn" if gravest == "stale" and "intact" in states else gravest)
    if gravest != "intact":
        first = states.index(gravest)
        assert (finding.block, finding.evidence["state"]) == (first, gravest)
        assert finding.evidence["blocks"] == Counter(states)
        named = read_label(parts[first][1])
        assert (named is not None) == (gravest in ("foreign", "misdirected", "stale"))
        assert finding.evidence.get("names_itself") == (named and names(*named))


NOISE = st.builds(noise, st.integers(), st.integers(0, 5 * BLOCK_BYTES))
ZEROS = st.integers(0, 5 * BLOCK_BYTES).map(bytes)
SEALED = st.binary(max_size=200).map(sealed) | st.builds(
    lambda head, words: sealed(struct.pack(">IIQH", *head) + "\n".join(words).encode()),
    st.tuples(st.integers(0, 5), st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 2**16 - 1)),
    st.lists(WORDS, max_size=9),
)


@given(st.binary(max_size=5 * BLOCK_BYTES) | NOISE | ZEROS, FORMERS)
def test_arbitrary_bytes_are_nobodys(data: bytes, former: Label | None) -> None:
    finding = found(data, former=former)
    assert finding.state in (State.CORRUPT, State.UNKNOWN, State.ZEROED, State.TRUNCATED)
    assert finding.state is not State.ZEROED or not any(data)
    assert finding.state is not State.TRUNCATED or RECORD.startswith(data)
    assert "names_itself" not in finding.evidence
    assert read_label(data) is None


PIECES = NOISE | ZEROS | SEALED | st.sampled_from([make(LABEL, 1) for _, make in KINDS.values()])


@given(st.lists(PIECES, max_size=6))
def test_there_is_a_finding_for_any_bytes_and_any_former_record(pieces: list[bytes]) -> None:
    for former in (None, FORMER, replace(FORMER, blocks=1), replace(FORMER, file="file-4", origin=UNCLAIMED.origin)):
        found(b"".join(pieces), former=former)
        found(b"".join(pieces), UNCLAIMED, former)


@given(st.integers(0, BLOCK_BYTES * 8 - 1), st.integers(0, BLOCK_BYTES - 1), st.binary(min_size=1, max_size=9))
def test_a_block_with_any_bit_changed_or_another_length_has_no_label(bit: int, length: int, more: bytes) -> None:
    good = block(RECORD, 1)
    assert read_label(good) == (LABEL, 1)
    assert [read_label(bad) for bad in (flipped(good, [bit]), good[:length], good + more)] == [None] * 3


@given(st.lists(WORDS, min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_a_label_of_another_number_of_fields_is_none(fields: list[str], index: int) -> None:
    text = "\n".join(fields).encode()
    named = read_label(sealed(struct.pack(">IIQH", index, 4, 12, len(text)) + text))
    assert named == ((Label(Origin(*fields[:5]), 12, 4, fields[5]), index) if len(fields) == 6 else None)


def test_no_digest_is_taken_of_nothing() -> None:
    assert digest(b"abc") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(ValueError, match="empty"):
        digest(b"")


def test_lengths_are_whole_blocks() -> None:
    assert blocks_in(3 * BLOCK_BYTES) == 3
    for length in (0, -1, 100):
        with pytest.raises(ValueError, match="multiple"):
            blocks_in(length)
