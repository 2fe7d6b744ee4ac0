"""A disk keeps what was flushed, as its mode will have it, and loses the rest with its power."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.power_disk import SECTOR, Mode, Rack

LARGE = 64 << 10
SIZE = 64 * LARGE


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    (tmp_path / "p-1.img").write_bytes(bytes(SIZE))
    return Rack(tmp_path)


def _platter(rack: Rack) -> bytes:
    return rack.image("p-1").read_bytes()


def _pattern(number: int, length: int = LARGE) -> bytes:
    return bytes([number]) * length


def _write_all(rack: Rack, mode: Mode, seed: int) -> list[bytes]:
    """Fills the disk with large writes, each flushed; returns what is on the platter in the place of each."""
    rack.set_mode("p-1", mode, seed)
    disk = rack[rack.open("p-1")]
    for number in range(SIZE // LARGE):
        disk.write(number * LARGE, _pattern(number + 1))
        disk.flush()
    platter = _platter(rack)
    return [platter[at : at + LARGE] for at in range(0, SIZE, LARGE)]


def test_what_was_flushed_outlives_a_cut_and_the_rest_does_not(rack: Rack) -> None:
    disk = rack[rack.open("p-1")]
    disk.write(0, _pattern(1))
    disk.flush()
    disk.write(LARGE, _pattern(2))
    before = rack.cut_power("p-1")
    assert (before.open, before.waiting_bytes) == (True, LARGE)
    assert rack.status("p-1").lost_bytes == LARGE
    assert _platter(rack) == _pattern(1) + bytes(SIZE - LARGE)


def test_what_waits_is_read_and_the_newest_of_it(rack: Rack) -> None:
    disk = rack[rack.open("p-1")]
    disk.write(0, _pattern(1))
    disk.write(SECTOR, _pattern(2, SECTOR))
    assert disk.read(0, 4 * SECTOR) == _pattern(1, SECTOR) + _pattern(2, SECTOR) + _pattern(1, 2 * SECTOR)
    assert not any(_platter(rack))


def test_a_handle_is_dead_after_a_cut_and_a_new_one_reads_the_platter(rack: Rack) -> None:
    old = rack.open("p-1")
    rack[old].write(0, _pattern(1))
    rack.cut_power("p-1")
    new = rack.open("p-1")
    rack[new].write(0, _pattern(2))
    for refused in (lambda: rack[old].read(0, SECTOR), lambda: rack[old].write(0, bytes(SECTOR)), rack[old].flush):
        with pytest.raises(OSError, match="the power was cut"):
            refused()
    rack.release(old)
    assert rack[new].read(0, LARGE) == _pattern(2)
    assert rack.status("p-1").waiting_bytes == LARGE


def test_the_last_release_brings_all_to_the_platter_though_the_disk_lies(rack: Rack) -> None:
    rack.set_mode("p-1", Mode.LYING, 0)
    one, other = rack.open("p-1"), rack.open("p-1")
    rack[one].write(0, _pattern(1))
    rack.release(one)
    assert not any(_platter(rack))
    rack.release(other)
    assert _platter(rack).startswith(_pattern(1))
    assert not rack.status("p-1").open


def test_a_disk_that_lies_loses_what_was_flushed(rack: Rack) -> None:
    rack.set_mode("p-1", Mode.LYING, 0)
    disk = rack[rack.open("p-1")]
    disk.write(0, _pattern(1))
    disk.flush()
    rack.cut_power("p-1")
    assert not any(_platter(rack))


def test_a_full_cache_gives_up_its_older_half_in_the_order_of_writing(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.power_disk._CACHE_BYTES", 3 * LARGE)
    disk = rack[rack.open("p-1")]
    for number, place in enumerate((0, 1, 0, 2), start=1):
        disk.write(place * LARGE, _pattern(number))
    assert _platter(rack)[: 3 * LARGE] == _pattern(1) + _pattern(2) + bytes(LARGE)
    assert disk.read(0, 3 * LARGE) == _pattern(3) + _pattern(2) + _pattern(4)
    assert disk.waiting_bytes == 2 * LARGE


def test_an_armed_cut_comes_at_that_write_which_is_not_acknowledged(rack: Rack) -> None:
    disk = rack[rack.open("p-1")]
    rack.cut_power_after("p-1", 2)
    disk.write(0, _pattern(1))
    with pytest.raises(OSError, match="the power was cut"):
        disk.write(LARGE, _pattern(2))
    status = rack.status("p-1")
    assert (status.cuts, status.lost_bytes, status.open) == (1, 2 * LARGE, False)


def test_an_armed_cut_can_be_called_off(rack: Rack) -> None:
    disk = rack[rack.open("p-1")]
    rack.cut_power_after("p-1", 1)
    rack.cut_power_after("p-1", None)
    disk.write(0, _pattern(1))
    assert rack.status("p-1").cuts == 0


@pytest.mark.parametrize("seed", range(5))
def test_dropped_writes_leave_what_was_there_before(rack: Rack, seed: int) -> None:
    places = _write_all(rack, Mode.DROP, seed)
    dropped = [place for place in places if not any(place)]
    assert 0 < len(dropped) == rack.status("p-1").spoilt_writes
    assert [place for number, place in enumerate(places) if place not in (bytes(LARGE), _pattern(number + 1))] == []


@pytest.mark.parametrize("seed", range(5))
def test_of_torn_writes_the_first_sectors_arrive(rack: Rack, seed: int) -> None:
    places = _write_all(rack, Mode.TEAR, seed)
    torn = [(number, place) for number, place in enumerate(places) if place != _pattern(number + 1)]
    assert 0 < len(torn) == rack.status("p-1").spoilt_writes
    for number, place in torn:
        arrived = place.rstrip(b"\0")
        assert arrived == _pattern(number + 1, len(arrived))
        assert len(arrived) % SECTOR == 0
        assert arrived


@pytest.mark.parametrize("seed", range(5))
def test_misdirected_writes_arrive_in_the_place_of_the_write_before(rack: Rack, seed: int) -> None:
    places = _write_all(rack, Mode.MISDIRECT, seed)
    hit = [number for number, place in enumerate(places[:-1]) if place == _pattern(number + 2)]
    assert 0 < len(hit) == rack.status("p-1").spoilt_writes
    assert all(not any(places[number + 1]) or number + 1 in hit for number in hit)


def test_small_writes_are_never_spoilt(rack: Rack) -> None:
    rack.set_mode("p-1", Mode.DROP, 0)
    disk = rack[rack.open("p-1")]
    for at in range(0, SIZE, LARGE // 2):
        disk.write(at, _pattern(1, LARGE // 2))
    disk.flush()
    assert _platter(rack) == _pattern(1, SIZE)


def test_the_same_seed_spoils_the_same_writes(rack: Rack) -> None:
    first = _write_all(rack, Mode.TEAR, 7)
    rack.image("p-1").write_bytes(bytes(SIZE))
    assert _write_all(rack, Mode.TEAR, 7) == first
    rack.image("p-1").write_bytes(bytes(SIZE))
    assert _write_all(rack, Mode.TEAR, 8) != first


def test_parts_of_sectors_are_refused(rack: Rack) -> None:
    disk = rack[rack.open("p-1")]
    with pytest.raises(OSError, match="whole sectors"):
        disk.write(1, bytes(SECTOR))
    with pytest.raises(OSError, match="whole sectors"):
        disk.read(0, 1)
