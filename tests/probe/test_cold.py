"""Cold readings of the agent: what it says of each kind of file system, and that it is so."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaosd.probe.agent import LocalFiles
from tests.waiting import until

DATA = os.urandom(3 * 65536 + 100)
FOREVER = 1 << 30

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Makes a file system and mounts it."""
    mounted = []

    def make(kind: str, *options: str) -> Path:
        folder = tmp_path / f"{kind}-{len(mounted)}"
        folder.mkdir()
        source = kind
        if kind.startswith("ext"):
            source = f"{folder}.img"
            subprocess.run(["mkfs." + kind, "-q", source, "64m"], check=True)
            options = ("loop", *options)
        words = ["-o", ",".join(options)] if options else []
        subprocess.run(["mount", "-t", kind, *words, source, folder], check=True)
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def _file(folder: Path) -> str:
    """A file whose pages are in the cache, and on the disk."""
    path = folder / "file"
    with path.open("wb") as file:
        file.write(DATA)
        file.flush()
        os.fsync(file.fileno())
    return str(path)


def _reads(path: str, count: int = 3) -> set[tuple[bool, bool]]:
    """Whether each reading gave the bytes, and was cold."""
    files = LocalFiles("/proc")
    told = [files.read(path, FOREVER) for _ in range(count)]
    return {(data == DATA, cold) for data, cold in told}


@pytest.mark.e2e
def test_a_disk_is_read_past_the_cache(mount: Mount) -> None:
    folder = mount("ext4")
    path = _file(folder)
    files = LocalFiles("/proc")
    assert files.read(path, FOREVER) == (DATA, True)
    assert Path(path).read_bytes() == DATA, "the pages are in the cache now"
    raw = Path(f"{folder}.img")
    at = raw.read_bytes().find(DATA[:4096])
    with raw.open("r+b") as image:
        image.seek(at)
        image.write(b"\0" * 4096)
    assert files.read(path, FOREVER) == (b"\0" * 4096 + DATA[4096:], True)
    assert Path(path).read_bytes() == DATA, "the cache has not seen it"


@pytest.mark.e2e
def test_a_file_system_that_takes_the_flag_and_reads_its_cache_is_found_out(mount: Mount) -> None:
    """ext4 with data=journal. Once the pages were dropped and seen to be gone, the reading is cold all the same; they stay
    for as long as the journal holds them."""
    path = _file(mount("ext4", "data=journal"))
    files = LocalFiles("/proc")
    until(lambda: files.read(path, FOREVER) == (DATA, True), "the journal lets the pages go")
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, DATA[:100], 0)  # a dirty page cannot be dropped
        assert files.read(path, FOREVER) == (DATA, False)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.e2e
def test_where_the_cache_is_all_there_is_nothing_is_cold(mount: Mount) -> None:
    assert _reads(_file(mount("ramfs"))) == {(True, False)}


def test_an_empty_file_says_nothing_of_its_file_system(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    files = LocalFiles("/proc")
    assert files.read(str(tmp_path / "empty"), FOREVER)[0] == b""
    assert files.read(_file(tmp_path), FOREVER)[0] == DATA


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    data, _ = LocalFiles("/proc").read(_file(tmp_path), 65536)
    assert data == DATA[:65536]
