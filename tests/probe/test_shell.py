"""The shell program, run by every POSIX shell that is here; what it does is looked at on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaosd.probe import protocol

SHELLS = [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"]]
HERE = [shell for shell in SHELLS if shutil.which(shell[0])]
DATA = os.urandom(16384)


class Probe:
    """The program as a local process."""

    def __init__(self, process: asyncio.subprocess.Process, mount: Path) -> None:
        self.process = process
        self.mount = mount
        self.run = mount / ".chaosd" / "RUN"

    async def ask(self, verb: str, arguments: str = "", data: bytes = b"") -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"nonce {verb} {arguments}\n".encode() + data)
        lines: list[str] = []
        async with asyncio.timeout(20):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith("nonce end "):
                    assert len(lines) >= int(line.split()[2])
                    return lines
                lines.append(line.rstrip("\n"))
        raise AssertionError(f"the probe ended after {lines}")

    async def begin(self) -> list[str]:
        return await self.ask("begin", "", b'14\n{"replica":1}\n')

    async def put(self, **files: bytes) -> protocol.Stored:
        named = {name.removeprefix("f"): data for name, data in files.items()}
        return protocol.read_stored(named, await self.ask("put", *protocol.put_request(named)))

    async def sums(self, *names: str) -> dict[str, protocol.Sum]:
        return protocol.read_sums(await self.ask("sums", f"2 {' '.join(names)}"))


@pytest.fixture(params=HERE, ids=" ".join)
async def probe(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Probe]:
    argv = protocol.argv(str(tmp_path), ".chaosd", "RUN", 60)[1:]
    process = await asyncio.create_subprocess_exec(
        *request.param,
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    yield Probe(process, tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    async with asyncio.timeout(10):
        await process.stdout.read()
        await process.wait()


def test_at_least_one_shell_is_here() -> None:
    assert ["sh"] in HERE


async def test_hello_tells_facts_and_writes_nothing(probe: Probe) -> None:
    (probe.mount / "theirs").write_text("x")
    facts = protocol.read_facts(await probe.ask("hello"))
    assert facts.lacks == ()
    assert (facts.mount, facts.present, facts.entries) == (str(probe.mount), True, ("theirs",))
    assert facts.hostname == Path("/proc/sys/kernel/hostname").read_text().strip()
    assert facts.identity == ""
    assert facts.mountinfo == ""
    assert facts.free_bytes
    assert facts.free_bytes > 1 << 20
    assert [p.name for p in probe.mount.iterdir()] == ["theirs"]


async def test_begin_writes_the_identity_once(probe: Probe) -> None:
    assert await probe.begin() == []
    assert (probe.mount / ".chaosd/identity").read_text() == '{"replica":1}\n'
    assert await probe.ask("begin", "", b"4\nnew\n") == []
    assert protocol.read_facts(await probe.ask("hello")).identity == '{"replica":1}'


async def test_files_are_stored_whole_and_read_back(probe: Probe) -> None:
    await probe.begin()
    stored = await probe.put(f0001=DATA, f0002=DATA[:4096])
    assert stored == protocol.Stored(frozenset({"0001", "0002"}), {}, "")
    assert (probe.run / "0001").read_bytes() == DATA
    assert list((probe.run / "stage").iterdir()) == []
    sums = await probe.sums("0001", "0002", "0003")
    assert sums["0001"].digest == hashlib.sha256(DATA).hexdigest()
    assert sums["0001"].cache in ("cold", "cached")
    assert sums["0003"] == protocol.Sum(absent=True)
    found, cache = protocol.read_bytes(await probe.ask("fetch", "2 0001"))
    assert (found, cache) == (DATA, sums["0001"].cache)


async def test_names_are_listed_and_dropped_files_are_gone(probe: Probe) -> None:
    assert protocol.read_names(await probe.ask("list")) == []
    await probe.begin()
    await probe.put(f0001=DATA, f0002=DATA)
    assert sorted(protocol.read_names(await probe.ask("list"))) == ["0001", "0002", "stage"]
    protocol.refuse_failure(await probe.ask("drop", "0001 0099"))
    assert sorted(protocol.read_names(await probe.ask("list"))) == ["0002", "stage"]


async def test_a_file_that_cannot_be_stored_fails_alone_and_the_session_goes_on(probe: Probe) -> None:
    await probe.begin()
    (probe.run / "stage/0001").mkdir()
    stored = await probe.put(f0001=DATA, f0002=DATA)
    assert stored.durable == {"0002"}
    assert "0001" in stored.failed
    assert not (probe.run / "0001").exists()
    assert (await probe.sums("0002"))["0002"].digest


async def test_a_folder_that_is_gone_makes_everything_absent_and_writing_fail(probe: Probe) -> None:
    await probe.begin()
    await probe.put(f0001=DATA)
    shutil.rmtree(probe.run)
    assert (await probe.sums("0001"))["0001"].absent
    assert set((await probe.put(f0002=DATA)).failed) == {"0002"}


async def test_a_file_cut_short_by_the_end_of_the_input_is_never_renamed(probe: Probe) -> None:
    await probe.begin()
    assert probe.process.stdin is not None
    probe.process.stdin.write(b"nonce put 2\n0001 4096\n" + DATA[:4096] + b"0002 4096\n" + DATA[:100])
    probe.process.stdin.close()
    async with asyncio.timeout(10):
        await probe.process.wait()
    assert not (probe.run / "0002").exists()
    assert (probe.run / "0001").read_bytes() == DATA[:4096]


async def test_an_unknown_verb_is_refused(probe: Probe) -> None:
    assert await probe.ask("format", "c:") == ["failed no such verb: format"]


async def test_its_end_leaves_no_process_behind(probe: Probe) -> None:
    await probe.ask("hello")
    assert probe.process.stdin is not None
    probe.process.stdin.close()
    async with asyncio.timeout(10):
        assert await probe.process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(probe.process.pid, signal.SIGCONT)


async def test_what_is_no_file_or_far_too_long_is_told_at_once(probe: Probe) -> None:
    await probe.begin()
    (probe.run / "0001").mkdir()
    (probe.run / "0002").symlink_to("nowhere")
    os.mkfifo(probe.run / "0003")
    with (probe.run / "0004").open("wb") as giant:
        giant.truncate(200 << 30)
    sums = await probe.sums("0001", "0002", "0003", "0004")
    assert [bool(sums[name].irregular) for name in ("0001", "0002", "0003", "0004")] == [True, True, True, False]
    assert sums["0004"].digest == hashlib.sha256(bytes(2 * 65536)).hexdigest()
    found, _ = protocol.read_bytes(await probe.ask("fetch", "2 0004"))
    assert len(found) == 2 * 65536


async def test_the_path_is_told_as_the_kernel_knows_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    argv = protocol.argv(f"{tmp_path}//link/", ".chaosd", "RUN", 60)
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate(b"nonce hello \n")
    assert f"resolved {tmp_path}/real" in told.decode().splitlines()


def test_a_mount_is_found_behind_links_and_slashes() -> None:
    line = "21 20 7:1 / /run/db rw - ext4 /dev/loop0 rw"
    facts = protocol.read_facts(["mount /var/run/db", "resolved /run/db", f"mountinfo {line}"])
    assert (facts.mountinfo, facts.mounted) == (line, True)
    facts = protocol.read_facts(["mount /srv//data", "resolved /srv/data", f"mountinfo {line}"])
    assert (facts.mountinfo, facts.mounted) == ("", False)
    assert protocol.read_facts(["mount /srv"]).mounted is None


@pytest.mark.parametrize("shell", HERE, ids=" ".join)
async def test_it_ends_with_its_input_however_early_that_ends(shell: list[str], tmp_path: Path) -> None:
    argv = protocol.argv(str(tmp_path), ".chaosd", "RUN", 60)[1:]
    for _ in range(30):
        process = await asyncio.create_subprocess_exec(
            *shell, *argv, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # its watchdog, and what that started, are gone too
