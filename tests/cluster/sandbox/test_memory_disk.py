"""A disk in memory: what POSIX says of fsync, rename and crashes, and the ways in which disks fail."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, note
from hypothesis import strategies as st

from chaosd.cluster.sandbox.memory_disk import BLOCK_BYTES, SECTOR_BYTES, MemoryDisk

PATHS = ("a", "b", "c", "folder/a", "folder/b", "folder/c")
FOLDERS = ("", "folder")

_path = st.sampled_from(PATHS)
_act = st.one_of(
    st.tuples(st.just("write"), _path, st.integers(1, 3 * BLOCK_BYTES)),
    st.tuples(st.just("append"), _path, st.integers(1, 3 * BLOCK_BYTES)),
    st.tuples(st.just("flush"), _path),
    st.tuples(st.just("sync"), st.sampled_from(FOLDERS)),
    st.tuples(st.just("rename"), _path, _path),
    st.tuples(st.just("remove"), _path),
    st.tuples(st.just("remount")),
)
_acts = st.lists(_act, max_size=40)
_seeds = st.integers(0, 1 << 32)


@dataclass(eq=False)
class Content:
    """A file as the model has it: each version since the last fsync."""

    versions: list[bytes] = field(default_factory=lambda: [b""])

    @property
    def now(self) -> bytes:
        return self.versions[-1]

    def may_be(self, found: bytes) -> bool:
        """Each sector is that of some version, and so is the length."""
        if len(found) not in {len(version) for version in self.versions}:
            return False
        return all(
            any(
                version[at : at + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")[: len(found) - at]
                == found[at : at + SECTOR_BYTES]
                for version in self.versions
            )
            for at in range(0, len(found), SECTOR_BYTES)
        )


class Model:
    """What POSIX allows: for every name the files that it may stand for after a crash, the last being what it is now."""

    def __init__(self) -> None:
        self.names: dict[str, list[Content | None]] = {path: [None] for path in PATHS}

    def now(self, path: str) -> Content | None:
        return self.names[path][-1]

    def do(self, act: tuple[object, ...], data: bytes) -> None:
        match act:
            case ("write" | "append" as how, str(path), int()):
                content = self.now(path)
                if content is None:
                    content = Content()
                    self.names[path].append(content)
                before = content.now
                content.versions.append(data + before[len(data) :] if how == "write" else before + data)
            case ("flush", str(path)):
                if content := self.now(path):
                    content.versions = [content.now]
            case ("sync", str(folder)):
                self.sync(folder)
            case ("rename", str(path), str(to)):
                if (content := self.now(path)) and path != to:
                    self.names[to].append(content)
                    self.names[path].append(None)
            case ("remove", str(path)):
                if self.now(path):
                    self.names[path].append(None)
            case ("remount",):
                for folder in FOLDERS:
                    self.sync(folder)
                for path in PATHS:
                    self.do(("flush", path), b"")

    def sync(self, folder: str) -> None:
        for path, states in self.names.items():
            if path.rpartition("/")[0] == folder:
                del states[:-1]


def _disk(seed: int = 1, total_bytes: int = 1 << 20) -> MemoryDisk:
    disk = MemoryDisk(random.Random(seed), total_bytes)
    disk.make_folder("folder")
    disk.sync("")
    disk.mount()
    return disk


def _do(disk: MemoryDisk, act: tuple[object, ...], data: bytes) -> None:
    try:
        match act:
            case ("write" | "append" as how, str(path), int()):
                disk.write(path, data, append=how == "append")
            case ("flush", str(path)):
                disk.flush(disk.file(path))
            case ("sync", str(folder)):
                disk.sync(folder)
            case ("rename", str(path), str(to)):
                disk.rename(path, to)
            case ("remove", str(path)):
                disk.remove(path)
            case ("remount",):
                disk.unmount()
                disk.mount()
    except FileNotFoundError:
        pass


def _contents(disk: MemoryDisk) -> dict[str, bytes]:
    return {path: disk.file(path).data for path in disk.files()}


def _played(acts: list[tuple[object, ...]], seed: int) -> Iterator[tuple[MemoryDisk, Model]]:
    """The disk and the model after each act."""
    disk, model, rng = _disk(seed), Model(), random.Random(seed)
    yield disk, model
    for act in acts:
        data = rng.randbytes(act[2]) if isinstance(act[-1], int) else b""
        _do(disk, act, data)
        model.do(act, data)
        yield disk, model


@given(_acts, _seeds)
def test_processes_see_what_was_done(acts: list[tuple[object, ...]], seed: int) -> None:
    for disk, model in _played(acts, seed):
        assert _contents(disk) == {path: c.now for path in PATHS if (c := model.now(path))}
    used = disk.total_bytes - disk.free_bytes
    assert used == sum(-(-len(data) // BLOCK_BYTES) * BLOCK_BYTES for data in _contents(disk).values())
    assert disk.total_inodes - disk.free_inodes == 2 + len(_contents(disk)), "lost+found, folder, files"


@given(_acts, _seeds, st.sampled_from([0.0, 0.5, 1.0]))
@example([("write", "folder/a", 9000), ("flush", "folder/a"), ("rename", "folder/a", "b"), ("sync", "")], 3, 0.0)
def test_after_an_honest_crash_there_is_what_was_fsynced_and_nothing_that_never_was(
    acts: list[tuple[object, ...]], seed: int, keep: float
) -> None:
    *_, (disk, model) = _played(acts, seed)
    disk.crash(keep=keep)
    found = _contents(disk)
    for path, states in model.names.items():
        note(f"{path}: {len(states)} states, there: {path in found}")
        if path in found:
            assert any(content and content.may_be(found[path]) for content in states), path
        else:
            assert None in states, path
    if keep == 1.0:
        assert found == {path: c.now for path in PATHS if (c := model.now(path))}


@given(_acts, _seeds)
def test_a_renamed_file_is_at_its_old_name_or_at_its_new_one(acts: list[tuple[object, ...]], seed: int) -> None:
    disk = _disk(seed)
    disk.flush(disk.write("a", b"kept"))
    disk.sync("")
    others = [act for act in acts if act[0] in ("rename", "sync", "remount")]
    for act in others:
        _do(disk, act, b"")
    disk.crash()
    assert set(_contents(disk).values()) == {b"kept"}


@given(_acts, _acts, _seeds)
def test_a_lying_disk_may_lose_everything_since_it_began_to_lie(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]], seed: int
) -> None:
    *_, (disk, _) = _played(before, seed)
    disk.unmount()
    disk.mount()
    disk.begin_to_lie()
    kept = _contents(disk)
    rng = random.Random(seed)
    for act in after:
        _do(disk, act, rng.randbytes(act[2]) if isinstance(act[-1], int) else b"")
    disk.crash(keep=0.0)
    assert _contents(disk) == kept


@given(_acts, _seeds)
def test_the_same_seed_crashes_alike(acts: list[tuple[object, ...]], seed: int) -> None:
    found = []
    for _ in range(2):
        *_, (disk, _model) = _played(acts, seed)
        disk.crash(lying=seed % 2 == 0)
        found.append((_contents(disk), disk.file_system, disk.free_bytes, disk.free_inodes))
    assert found[0] == found[1]


def _stored(disk: MemoryDisk, path: str, data: bytes) -> None:
    """As a probe stores a file."""
    disk.flush(disk.write("stage", data))
    disk.rename("stage", path)
    disk.sync("")


def test_a_lie_is_told_by_the_crash_alone_and_reaches_back_to_the_mount() -> None:
    disk = _disk()
    _stored(disk, "old", b"x" * 9000)
    disk.unmount()
    disk.mount()
    _stored(disk, "new", b"y" * 9000)
    disk.crash(lying=True, keep=0.0)
    assert disk.files() == ["old"]
    _stored(disk, "newer", b"z" * 9000)
    disk.crash(keep=0.0)
    assert disk.files() == ["newer", "old"], "it is honest again"


def test_a_lie_goes_on_over_an_unmount() -> None:
    disk = _disk()
    disk.begin_to_lie()
    _stored(disk, "new", b"y")
    disk.unmount()
    disk.mount()
    assert disk.read("new", 10) == (b"y", True)
    disk.crash(keep=0.0)
    assert disk.files() == []


def test_what_was_not_flushed_is_kept_or_lost_block_by_block() -> None:
    outcomes = set()
    for seed in range(200):
        disk = _disk(seed)
        disk.flush(disk.write("a", b"o" * 4 * BLOCK_BYTES))
        disk.sync("")
        disk.write("a", b"n" * 4 * BLOCK_BYTES)
        disk.crash()
        data = disk.file("a").data
        outcomes.add(tuple(data[at : at + BLOCK_BYTES].count(b"n") for at in range(0, len(data), BLOCK_BYTES)))
    assert (BLOCK_BYTES,) * 4 in outcomes
    assert (0,) * 4 in outcomes
    assert any(0 < count < BLOCK_BYTES for outcome in outcomes for count in outcome), "torn within a block"
    assert all(count % SECTOR_BYTES == 0 for outcome in outcomes for count in outcome)


def test_a_name_without_its_folder_synced_may_stand_for_an_empty_file() -> None:
    disk = _disk()
    disk.write("a", b"data")
    disk.sync("")
    disk.crash(keep=0.0)
    assert disk.read("a", 10) == (b"", True)


FAULTS: dict[str, tuple[Callable[[MemoryDisk], object], dict[str, bytes]]] = {
    "flip": (lambda disk: disk.flip("a", 5000, 3), {"a": b"A" * 5000 + bytes([65 ^ 8]) + b"A" * 3191}),
    "zero": (lambda disk: disk.zero("a", 1), {"a": b"A" * 4096 + bytes(4096)}),
    "truncate": (lambda disk: disk.truncate("a", 100), {"a": b"A" * 100}),
    "lengthen": (lambda disk: disk.truncate("a", 8200), {"a": b"A" * 8192 + bytes(8)}),
    "replace": (lambda disk: disk.replace("a", b"!"), {"a": b"!"}),
    "lose": (lambda disk: disk.lose("a"), {"a": b""}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mounted", [True, False])
def test_what_goes_wrong_on_the_platter_is_read_cold_and_stays(fault: str, mounted: bool) -> None:
    disk = _disk()
    expected = {"a": b"A" * 8192, "b": b"B" * 8192}
    for path, data in expected.items():
        _stored(disk, path, data)
    if not mounted:
        disk.unmount()
    plant, changed = FAULTS[fault]
    plant(disk)
    expected = {path: data for path, data in (expected | changed).items() if data}
    assert {path: disk.read(path, 1 << 20) for path in disk.files()} == {p: (d, True) for p, d in expected.items()}
    disk.unmount()
    disk.mount()
    assert _contents(disk) == expected


def test_a_page_that_is_cached_hides_what_goes_wrong_below_it() -> None:
    disk = _disk()
    disk.can_read_directly = False
    _stored(disk, "a", b"A" * 10)
    disk.flip("a", 0)
    disk.write("a", b"A")
    assert disk.read("a", 10) == (b"A" * 10, False)
    disk.flush(disk.file("a"))
    assert disk.read("a", 10) == (b"A" * 10, True), "the write mended it"


def test_pages_that_cannot_be_dropped_are_read_until_the_disk_is_unmounted_or_its_node_crashes() -> None:
    for forget in (lambda disk: (disk.unmount(), disk.mount()), lambda disk: disk.crash()):
        disk = _disk()
        disk.can_read_directly = disk.can_drop_pages = False
        _stored(disk, "a", b"A" * 10)
        disk.flip("a", 0)
        assert disk.read("a", 10) == (b"A" * 10, False)
        forget(disk)
        assert disk.read("a", 10) == (b"@" + b"A" * 9, False), "nobody can tell that it was not cached"
        disk.flip("a", 0)
        assert disk.read("a", 10) == (b"@" + b"A" * 9, False), "what was read is cached, too"


def test_pages_that_were_dropped_on_request_hide_nothing() -> None:
    disk = _disk()
    disk.can_read_directly = False
    _stored(disk, "a", b"A" * 8192)
    disk.truncate("a", 10)
    assert disk.read("a", 8192) == (b"A" * 10, True)
    assert disk.total_bytes - disk.free_bytes == 4096


@pytest.mark.parametrize(
    ("plant", "new", "victim"),
    [
        (lambda disk: disk.lose_next(), bytes(8192), b"V" * 8192),
        (lambda disk: disk.tear_next(3), b"N" * 1536 + bytes(6656), b"V" * 8192),
        (lambda disk: disk.misdirect_next("victim", 1), bytes(4096) + b"N" * 4096, b"V" * 4096 + b"N" * 4096),
    ],
    ids=["lost", "torn", "misdirected"],
)
def test_a_write_that_was_acknowledged_and_went_wrong(
    plant: Callable[[MemoryDisk], object], new: bytes, victim: bytes
) -> None:
    disk = _disk()
    _stored(disk, "victim", b"V" * 8192)
    plant(disk)
    _stored(disk, "identity", b"small")
    _stored(disk, "new", b"N" * 8192)
    _stored(disk, "next", b"X" * 8192)
    assert [disk.read(path, 1 << 20)[0] for path in ("identity", "new", "next", "victim")] == [
        b"small",
        new,
        b"X" * 8192,
        victim,
    ]


def test_a_bit_that_rots_while_it_is_read_is_whole_the_next_time() -> None:
    disk = _disk()
    _stored(disk, "a", bytes(4096))
    disk.rot_next_read(7)
    assert disk.read("a", 100)[0] == bytes(100)
    assert disk.read("a", 4096)[0] == bytes(7) + b"\1" + bytes(4088)
    assert disk.read("a", 4096)[0] == bytes(4096)


def test_a_removed_file_comes_back() -> None:
    disk = _disk()
    _stored(disk, "a", b"A")
    disk.remove("a")
    disk.sync("")
    assert disk.resurrect() == "a"
    assert disk.read("a", 10) == (b"A", True)
    with pytest.raises(LookupError, match="no removed file b"):
        disk.resurrect("b")


def test_a_disk_is_rolled_back_swapped_and_reformatted() -> None:
    disk, other = _disk(1), _disk(2)
    _stored(disk, "a", b"1")
    snapshot, uuids = disk.snapshot(), (disk.file_system, other.file_system)
    _stored(disk, "b", b"2")
    disk.roll_back(snapshot)
    assert (disk.files(), disk.file_system) == (["a"], uuids[0])
    disk.swap(other)
    assert (disk.files(), other.files()) == ([], ["a"])
    assert (disk.file_system, other.file_system) == (uuids[1], uuids[0])
    fsid = other.fsid
    other.reformat()
    assert (other.files(), other.names("")) == ([], ["lost+found"])
    assert other.file_system not in uuids
    assert other.fsid != fsid


def _errno(act: Callable[[], object]) -> str:
    with pytest.raises(OSError) as caught:
        act()
    assert caught.value.errno is not None
    return errno.errorcode[caught.value.errno]


def test_a_full_disk_takes_what_fits_and_says_so() -> None:
    disk = _disk(total_bytes=1 << 20)
    _stored(disk, "a", b"A" * 4096)
    disk.fill_up(leave_bytes=8192)
    assert _errno(lambda: disk.write("b", b"B" * 12_288)) == "ENOSPC"
    assert disk.file("b").data == b"B" * 8192
    assert disk.free_bytes == 0
    disk.write("a", b"a" * 4096)
    disk.make_room()
    disk.write("b", b"B" * 12_288)
    disk.fill_up(leave_inodes=0)
    assert _errno(lambda: disk.write("c", b"")) == "ENOSPC"


def test_a_disk_that_fails_says_so_as_often_as_it_shall() -> None:
    disk = _disk()
    _stored(disk, "a", b"A")
    disk.read_only = True
    assert [_errno(act) for act in _changes(disk)] == ["EROFS"] * 4
    disk.mend()
    disk.fail(errno.EIO)
    assert [_errno(act) for act in (*_changes(disk), lambda: disk.read("a", 1), lambda: disk.names(""))] == ["EIO"] * 6
    disk.mend()
    disk.fail(errno.EIO, "read", times=2)
    assert [_errno(lambda: disk.read("a", 1)) for _ in range(2)] == ["EIO", "EIO"]
    assert disk.read("a", 1) == (b"A", True)


def _changes(disk: MemoryDisk) -> tuple[Callable[[], object], ...]:
    return (
        lambda: disk.write("b", b"B"),
        lambda: disk.make_folder("new"),
        lambda: disk.rename("a", "c"),
        lambda: disk.remove("a"),
    )


def test_a_failed_fsync_makes_pages_clean_that_are_on_no_disk() -> None:
    disk = _disk()
    file = disk.write("a", b"A")
    disk.sync("")
    disk.fail(errno.EIO, "sync", times=1)
    assert _errno(lambda: disk.flush(file)) == "EIO"
    disk.flush(file)
    assert file.data == b"A"
    disk.unmount()
    disk.mount()
    assert disk.read("a", 10) == (b"", True)


def test_two_mounts_share_the_pages_and_the_last_unmount_writes_them_back() -> None:
    disk = _disk()
    disk.mount()
    disk.write("a", b"A")
    disk.unmount()
    assert disk.file("a").platter == b""
    disk.unmount()
    assert disk.file("a").platter == b"A"
