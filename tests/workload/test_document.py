"""Registers and logs: whatever may stand in one is never called a failure, and whatever may not always is."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from chaosd import payload
from chaosd.checkers.integrity import LOST, UNSETTLED
from chaosd.checkers.records import Document, How, Record, Replica
from chaosd.payload import BLOCK_BYTES, SECTOR_BYTES, Origin, State
from chaosd.workload import document
from chaosd.workload.document import Found

SEED = 7
MINE = Origin("RUN", "default/web-0", "claim-0", "d-0", "pod-a")
LENGTH = 2 * BLOCK_BYTES
SECTORS = LENGTH // SECTOR_BYTES
REGISTER, LOG = "r01", "l000000"
ALLOWED = (State.INTACT, UNSETTLED)


class Volume:
    """A replica whose register or log was written to; sequences count from 0."""

    def __init__(self) -> None:
        self.replica = Replica(origin=MINE)
        self.origin = MINE

    def write(self, how: How, *, answered: bool = True) -> bytes:
        """Write the next record; its bytes."""
        file = LOG if how is How.APPEND else REGISTER
        record = Record(self.origin, self.replica.next_sequence, file, how, LENGTH, "", -1)
        data = payload.make_record(SEED, record.label)
        record.digest = payload.digest(data)
        self.replica.attempt(record)
        if answered:
            self.replica.acknowledge(record.sequence, record.sequence)
        else:
            self.replica.leave_open(record.sequence)
        return data

    @property
    def document(self) -> Document:
        return (self.replica.registers | self.replica.logs)[REGISTER if self.replica.registers else LOG]

    @property
    def records(self) -> list[Record]:
        return document.records_in(self.replica, self.document)

    def look(self, found: bytes) -> Found:
        """What bytes are, after what must hold of anything that is said of them."""
        told = document.examine(found, self.replica, self.document, SEED)
        digests = document.digests_of(self.replica, self.records, SEED)
        if payload.hashlib.sha256(found).hexdigest() in digests:
            assert told == Found(State.INTACT)
        assert (told.block is None) == (told.finding in ALLOWED)
        assert json.loads(json.dumps(told.evidence)) == told.evidence
        return told


def mix(values: Sequence[bytes], choice: Iterable[int]) -> bytes:
    """Each sector from one of the values."""
    return b"".join(values[which % len(values)][at * SECTOR_BYTES :][:SECTOR_BYTES] for at, which in enumerate(choice))


def flipped(data: bytes, bits: Iterable[int]) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


CHOICE = st.lists(st.integers(0, 3), min_size=SECTORS, max_size=SECTORS)
BITS = st.sets(st.integers(0, LENGTH * 8 - 1), min_size=1, max_size=9)
OPEN = st.integers(0, 3)


# Registers.


@given(OPEN)
def test_a_register_replaced_by_rename_holds_any_of_its_allowed_values_whole(unanswered: int) -> None:
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.REPLACE, answered=False) for _ in range(unanswered))]
    assert [volume.look(value) for value in values] == [Found(State.INTACT)] * len(values)


@given(OPEN, CHOICE)
def test_a_register_replaced_by_rename_holds_no_mixture(unanswered: int, choice: list[int]) -> None:
    volume = Volume()
    former = volume.write(How.REPLACE)
    values = [volume.write(How.REPLACE), *(volume.write(How.REPLACE, answered=False) for _ in range(unanswered)), former]
    found = mix(values, choice)
    assert (volume.look(found).finding in ALLOWED) == (found in values[:-1])


@given(OPEN, CHOICE)
@example(1, [0, 1] * (SECTORS // 2))
def test_a_register_with_unanswered_writes_in_place_holds_any_mixture_of_them(unanswered: int, choice: list[int]) -> None:
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.OVERWRITE, answered=False) for _ in range(unanswered))]
    found = mix(values, choice)
    assert volume.look(found).finding == (State.INTACT if found in values else UNSETTLED)


@given(OPEN, CHOICE, BITS)
def test_a_mixture_with_flipped_bits_is_a_failure(unanswered: int, choice: list[int], bits: set[int]) -> None:
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.OVERWRITE, answered=False) for _ in range(unanswered))]
    assert volume.look(flipped(mix(values, choice), bits)).finding not in ALLOWED


@given(OPEN, CHOICE, st.integers(0, LENGTH - 1), st.integers(1, LENGTH))
def test_a_register_of_another_length_is_a_failure(unanswered: int, choice: list[int], length: int, surplus: int) -> None:
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.OVERWRITE, answered=False) for _ in range(unanswered))]
    found = mix(values, choice)
    assert volume.look(found[:length]).finding not in ALLOWED
    assert volume.look(found + bytes(surplus)).finding not in ALLOWED


@given(OPEN, st.integers(0, 3), st.integers(1, LENGTH - 1), BITS)
def test_a_damaged_value_is_held_against_itself(unanswered: int, which: int, length: int, bits: set[int]) -> None:
    """Not against the acknowledged one, when the volume has one that was never answered."""
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.REPLACE, answered=False) for _ in range(unanswered))]
    value = values[which % len(values)]
    assert volume.look(value[:length]).finding == State.TRUNCATED
    told = volume.look(flipped(value, bits))
    assert (told.finding, told.evidence["differing_bits"]) == (State.CORRUPT, len(bits))


@given(OPEN, CHOICE)
def test_zeros_in_a_register_are_a_failure(unanswered: int, choice: list[int]) -> None:
    volume = Volume()
    values = [volume.write(How.REPLACE), *(volume.write(How.OVERWRITE, answered=False) for _ in range(unanswered))]
    found = mix([*values, bytes(LENGTH)], choice)
    holed = not all(any(found[at : at + SECTOR_BYTES]) for at in range(0, LENGTH, SECTOR_BYTES))
    assert (volume.look(found).finding in ALLOWED) == (not holed)


@given(st.sampled_from([How.REPLACE, How.OVERWRITE]), CHOICE)
@example(How.OVERWRITE, [0, 1] * (SECTORS // 2))
def test_the_value_before_the_acknowledged_one_is_stale_and_in_part_torn(how: How, choice: list[int]) -> None:
    volume = Volume()
    former, value = volume.write(How.REPLACE), volume.write(how)
    found = mix([former, value], choice)
    wanted = State.INTACT if found == value else State.STALE if found == former else State.TORN
    assert volume.look(found).finding == wanted


@given(CHOICE)
@example([1, 2] * (SECTORS // 2))
def test_an_overtaken_value_of_an_earlier_pod_is_stale_and_in_part_torn(choice: list[int]) -> None:
    volume = Volume()
    first, lost = volume.write(How.REPLACE), volume.write(How.OVERWRITE, answered=False)
    volume.origin = Origin("RUN", "default/web-0", "claim-0", "d-0", "pod-b")
    value = volume.write(How.OVERWRITE)
    assert (volume.look(value).finding, volume.look(lost).finding) == (State.INTACT, State.STALE)
    assert volume.look(lost).evidence["names_itself"]["pod_uid"] == "pod-a"
    found = mix([first, lost, value], choice)
    told = volume.look(found)
    assert (told.finding in ALLOWED) == (found == value)
    if found not in (first, lost, value):
        assert told.finding == State.TORN


@given(st.binary(max_size=3 * LENGTH) | st.builds(lambda seed: random.Random(seed).randbytes(LENGTH), st.integers()))
def test_what_nobody_wrote_into_a_register_is_a_failure(found: bytes) -> None:
    volume = Volume()
    volume.write(How.REPLACE)
    volume.write(How.OVERWRITE, answered=False)
    assert volume.look(found).finding not in ALLOWED


def test_a_register_of_another_replica_is_foreign() -> None:
    theirs = Volume()
    theirs.origin = Origin("RUN", "default/web-1", "claim-1", "d-1", "pod-b")
    found, mine = theirs.write(How.REPLACE), Volume()
    mine.write(How.REPLACE)
    assert mine.look(found).finding == State.FOREIGN


# Logs.


def log(acknowledged: int, *, open_end: bool = False) -> tuple[Volume, list[bytes]]:
    """A log and its entries, the last of which was never answered where `open_end`."""
    volume = Volume()
    answers = [True] * acknowledged + [False] * open_end
    return volume, [volume.write(How.APPEND, answered=answered) for answered in answers]


ENTRIES = st.integers(1, 4)
PLACE = st.floats(0, 1, exclude_max=True)


def chosen(place: float, count: int) -> int:
    return int(place * count)


@given(ENTRIES, st.booleans())
def test_a_log_with_all_its_entries_is_intact(count: int, open_end: bool) -> None:
    volume, entries = log(count, open_end=open_end)
    assert volume.look(b"".join(entries)) == Found(State.INTACT)
    assert volume.look(b"".join(entries[:count])) == Found(State.INTACT)


@given(st.integers(0, 3), CHOICE, st.integers(0, LENGTH))
@example(2, [1] * SECTORS, LENGTH)
@example(0, [0] * SECTORS, 0)
@example(1, [0] * SECTORS, 100)
def test_an_unanswered_entry_is_there_whole_in_part_or_not_at_all(count: int, choice: list[int], length: int) -> None:
    volume, entries = log(count, open_end=True)
    part = mix([entries[-1], bytes(LENGTH)], choice)[:length]
    told = volume.look(b"".join(entries[:-1]) + part)
    assert told.finding == (State.INTACT if part in (b"", entries[-1]) else UNSETTLED)


@given(ENTRIES, st.booleans(), BITS, PLACE)
def test_flipped_bits_in_a_log_are_corrupt(count: int, open_end: bool, bits: set[int], place: float) -> None:
    volume, entries = log(count, open_end=open_end)
    hit = chosen(place, len(entries))
    entries[hit] = flipped(entries[hit], bits)
    told = volume.look(b"".join(entries))
    assert (told.finding, told.evidence["entry"]) == (State.CORRUPT, hit)
    assert told.block == (hit * LENGTH + min(bits) // 8) // BLOCK_BYTES


@given(ENTRIES, st.booleans(), PLACE)
def test_entries_that_are_gone_from_the_end_are_a_lost_suffix(count: int, open_end: bool, place: float) -> None:
    """As in an older snapshot of the file."""
    volume, entries = log(count, open_end=open_end)
    kept = chosen(place, count)
    for filler in (b"", bytes(LENGTH), bytes(100)):
        told = volume.look(b"".join(entries[:kept]) + filler)
        assert (told.finding, told.evidence["condition"]) == (LOST, "lost suffix")
        assert (told.evidence["entry"], told.block) == (kept, kept * LENGTH // BLOCK_BYTES)


@given(ENTRIES, PLACE, st.integers(1, LENGTH - 1))
def test_a_log_that_ends_within_an_entry_is_truncated_there(count: int, place: float, length: int) -> None:
    volume, entries = log(count)
    kept = chosen(place, count)
    told = volume.look(b"".join(entries[:kept]) + entries[kept][:length])
    assert (told.finding, told.evidence["entry"]) == (State.TRUNCATED, kept)
    assert told.block == (kept * LENGTH + length) // BLOCK_BYTES


@given(st.integers(2, 4), st.booleans(), PLACE)
def test_zeros_in_the_place_of_an_entry_are_a_hole(count: int, open_end: bool, place: float) -> None:
    volume, entries = log(count, open_end=open_end)
    hit = chosen(place, count - 1)
    entries[hit] = bytes(LENGTH)
    told = volume.look(b"".join(entries))
    assert (told.finding, told.evidence["condition"], told.evidence["entry"]) == (LOST, "hole", hit)


@given(st.integers(2, 4), st.booleans(), PLACE, st.integers(1, 2))
def test_later_entries_in_the_place_of_lost_ones_are_a_rewound_end(
    count: int, open_end: bool, place: float, lost: int
) -> None:
    """The file's end went back, and what was appended next was written over what had been acknowledged."""
    volume, entries = log(count, open_end=open_end)
    hit = chosen(place, count - 1)
    lost = min(lost, len(entries) - hit - 1)
    told = volume.look(b"".join(entries[:hit] + entries[hit + lost :]))
    assert (told.finding, told.evidence["condition"], told.evidence["entry"]) == (LOST, "rewound end", hit)


@given(st.integers(2, 4), st.permutations(range(4)))
def test_entries_in_another_order_are_a_failure(count: int, order: list[int]) -> None:
    volume, entries = log(count)
    shuffled = [entries[at] for at in order if at < count]
    assert (volume.look(b"".join(shuffled)).finding in ALLOWED) == (shuffled == entries)


@given(ENTRIES, st.booleans(), st.booleans(), st.integers(1, LENGTH))
def test_a_log_that_is_longer_than_what_was_appended_is_corrupt(
    count: int, open_end: bool, twice: bool, surplus: int
) -> None:
    """Such as by an append that happened twice."""
    volume, entries = log(count, open_end=open_end)
    more = entries[-1] if twice else random.Random(surplus).randbytes(surplus)
    assert volume.look(b"".join(entries) + more).finding == State.CORRUPT


@given(ENTRIES, st.booleans(), st.binary(min_size=1, max_size=3 * LENGTH))
def test_what_nobody_appended_is_a_failure(count: int, open_end: bool, found: bytes) -> None:
    volume, _ = log(count, open_end=open_end)
    assert volume.look(found).finding not in ALLOWED


def test_a_write_in_doubt_is_in_doubt_for_its_pod_alone() -> None:
    volume, _ = log(1, open_end=True)
    assert document.is_in_doubt(volume.document, "pod-a")
    assert not document.is_in_doubt(volume.document, "pod-b")


def test_the_length_of_a_file_is_that_of_what_may_stand_in_it() -> None:
    volume, _ = log(3)
    assert document.length_of(volume.records) == 3 * LENGTH
    register = Volume()
    register.write(How.REPLACE)
    register.write(How.OVERWRITE, answered=False)
    assert document.length_of(register.records) == LENGTH
