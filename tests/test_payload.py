"""Content that names itself: any bytes found are told for what they are."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosd.payload import (
    BLOCK_BYTES,
    Finding,
    Label,
    Origin,
    State,
    blocks_in,
    digest,
    examine,
    make_file,
    read_label,
)

SEED = 7
MINE = Origin("RUN", "default/web-0", "claim-0", "d-0", "pod-a")
OTHER = Origin("RUN", "default/web-1", "claim-1", "d-1", "pod-b")
LABEL = Label(MINE, 12, 4)
FILE = make_file(SEED, LABEL)


def found(data: bytes) -> Finding:
    return examine(data, SEED, LABEL)


def test_a_file_is_the_same_each_time_and_of_whole_blocks() -> None:
    assert make_file(SEED, LABEL) == FILE
    assert len(FILE) == 4 * BLOCK_BYTES
    assert found(FILE).state is State.INTACT


def test_every_block_names_itself() -> None:
    for index in range(4):
        assert read_label(FILE[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]) == (LABEL, index)


def test_a_flipped_bit_is_corrupt_and_its_place_is_told() -> None:
    data = bytearray(FILE)
    data[2 * BLOCK_BYTES + 100] ^= 0b100
    finding = found(bytes(data))
    assert (finding.state, finding.block) == (State.CORRUPT, 2)
    assert finding.evidence["differing_bits"] == 1
    assert finding.evidence["first_difference"] == 2 * BLOCK_BYTES + 100


def test_a_file_cut_short_is_torn_where_it_ends() -> None:
    for length in (0, 1, BLOCK_BYTES, BLOCK_BYTES + 9):
        finding = found(FILE[:length])
        assert (finding.state, finding.block) == (State.TORN, length // BLOCK_BYTES)


def test_blocks_that_never_reached_the_disk_are_torn() -> None:
    finding = found(FILE[: 2 * BLOCK_BYTES] + bytes(2 * BLOCK_BYTES))
    assert (finding.state, finding.block) == (State.TORN, 2)
    assert finding.evidence["blocks"] == {"intact": 2, "zeroed": 2}


def test_another_claims_data_are_foreign_and_say_whose() -> None:
    finding = found(make_file(SEED, Label(OTHER, 12, 4)))
    assert finding.state is State.FOREIGN
    assert finding.evidence["names_itself"]["replica"] == "default/web-1"


def test_an_older_file_in_its_place_is_stale() -> None:
    finding = found(make_file(SEED, dataclasses.replace(LABEL, sequence=11)))
    assert finding.state is State.STALE
    assert finding.evidence["names_itself"]["sequence"] == 11


def test_blocks_in_each_others_place_are_corrupt_and_called_misdirected() -> None:
    swapped = FILE[BLOCK_BYTES : 2 * BLOCK_BYTES] + FILE[:BLOCK_BYTES] + FILE[2 * BLOCK_BYTES :]
    finding = found(swapped)
    assert (finding.state, finding.block) == (State.CORRUPT, 0)
    assert finding.evidence["condition"] == "misdirected"


def test_bytes_behind_the_end_are_corrupt() -> None:
    assert found(FILE + b"x").state is State.CORRUPT


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_no_changed_byte_is_called_intact_or_anything_but_corrupt(offset: int, change: int) -> None:
    data = bytearray(FILE)
    data[offset] ^= change
    finding = found(bytes(data))
    assert (finding.state, finding.block) == (State.CORRUPT, offset // BLOCK_BYTES)
    assert finding.evidence["differing_bits"] == change.bit_count()


@given(st.binary(max_size=5 * BLOCK_BYTES))
def test_arbitrary_bytes_are_never_intact_nor_somebody_elses(data: bytes) -> None:
    assert found(data).state in (State.TORN, State.CORRUPT)


@given(st.lists(st.sampled_from(["mine", "zero", "foreign", "stale"]), min_size=4, max_size=4))
def test_a_mixture_has_the_gravest_class(parts: list[str]) -> None:
    sources = {
        "mine": FILE,
        "zero": bytes(len(FILE)),
        "foreign": make_file(SEED, Label(OTHER, 12, 4)),
        "stale": make_file(SEED, dataclasses.replace(LABEL, sequence=3)),
    }
    data = b"".join(sources[p][i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES] for i, p in enumerate(parts))
    order = [("foreign", State.FOREIGN), ("stale", State.STALE), ("zero", State.TORN)]
    assert found(data).state is next((state for part, state in order if part in parts), State.INTACT)


def test_no_digest_is_taken_of_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        digest(b"")


def test_lengths_are_whole_blocks() -> None:
    assert blocks_in(3 * BLOCK_BYTES) == 3
    for length in (0, -1, 100):
        with pytest.raises(ValueError, match="multiple"):
            blocks_in(length)
