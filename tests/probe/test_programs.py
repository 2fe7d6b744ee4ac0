"""Both programs, the shell one in every POSIX shell here, held to the same; what they do is looked at on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaosd.errors import ProbeError
from chaosd.probe import protocol

SHELLS = [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"]]
HERE = [shell for shell in SHELLS if shutil.which(shell[0])]
AGENT = [sys.executable]
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
        async with asyncio.timeout(120):
            while line := (await self.process.stdout.readline()).decode(errors="replace"):
                if line.startswith("nonce end "):
                    assert len(lines) >= int(line.split()[2])
                    return lines
                lines.append(line.rstrip("\n"))
        raise AssertionError(f"the probe ended after {lines}")

    async def begin(self) -> list[str]:
        return await self.ask("begin", "", b'14\n{"replica":1}\n')

    async def put(self, **files: bytes) -> protocol.Stored:
        named = {name.removeprefix("f"): data for name, data in files.items()}
        return await self.write("put", named)

    async def write(self, verb: str, files: dict[str, bytes]) -> protocol.Stored:
        return protocol.read_stored(files, await self.ask("store", *protocol.write_request(**{"put": {}, verb: files})))

    async def sums(self, *names: str) -> dict[str, protocol.Sum]:
        return protocol.read_sums(await self.ask("sums", f"2 {' '.join(names)}"))


def program_of(interpreter: list[str]) -> protocol.Program:
    return protocol.Program.AGENT if interpreter is AGENT else protocol.Program.SHELL


def started(interpreter: list[str], mount: Path | str) -> list[str]:
    return [*interpreter, *protocol.argv(program_of(interpreter), str(mount), ".chaosd", "RUN", 60)[1:]]


def name_of(interpreter: list[str]) -> str:
    return "agent" if interpreter is AGENT else " ".join(interpreter)


@pytest.fixture(params=[*HERE, AGENT], ids=name_of)
async def probe(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Probe]:
    process = await asyncio.create_subprocess_exec(
        *started(request.param, tmp_path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(protocol.opening(program_of(request.param)))
    yield Probe(process, tmp_path)
    assert process.stdout is not None
    process.stdin.close()
    async with asyncio.timeout(120):
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
    assert (facts.identity, facts.identity_error) == (None, "")
    assert facts.mountinfo == ""
    assert facts.free_bytes
    assert facts.free_bytes > 1 << 20
    assert [p.name for p in probe.mount.iterdir()] == ["theirs"]


async def test_a_path_that_is_not_there_is_told(probe: Probe) -> None:
    probe.mount.rmdir()
    facts = protocol.read_facts(await probe.ask("hello"))
    assert (facts.mount, facts.present, facts.entries, facts.free_bytes) == (str(probe.mount), False, (), None)
    assert facts.hostname
    probe.mount.mkdir()
    assert protocol.read_facts(await probe.ask("hello")).present


async def test_strange_names_do_not_break_the_reply(probe: Probe) -> None:
    for name in ("two\nlines", "a b", "*", "\udcff", "\x85", "-n"):
        (probe.mount / name).touch()
    facts = protocol.read_facts(await probe.ask("hello"))
    assert {"a b", "*", "-n"} < set(facts.entries)
    assert facts.present
    assert facts.hostname
    assert await probe.begin() == []


async def test_begin_writes_the_identity_once(probe: Probe) -> None:
    assert await probe.begin() == []
    assert (probe.mount / ".chaosd/identity").read_text() == '{"replica":1}\n'
    assert await probe.ask("begin", "", b"4\nnew\n") == []
    assert protocol.read_facts(await probe.ask("hello")).identity == '{"replica":1}'


async def test_an_identity_file_without_a_line_is_told_from_one_that_is_not_there(probe: Probe) -> None:
    await probe.begin()
    for damaged in (b"", b"\0" * 100):
        (probe.mount / ".chaosd/identity").write_bytes(damaged)
        identity = protocol.read_facts(await probe.ask("hello")).identity
        assert identity is not None
        assert identity.strip("\0") == ""
    (probe.mount / ".chaosd/identity").unlink()
    assert protocol.read_facts(await probe.ask("hello")).identity is None
    (probe.mount / ".chaosd/identity").mkdir()
    facts = protocol.read_facts(await probe.ask("hello"))
    assert ((facts.identity or "")[:1], facts.folders, facts.strays) == ("d", (probe.run.name,), ())
    (probe.mount / ".chaosd/identity").rmdir()
    (probe.mount / ".chaosd/identity").symlink_to("elsewhere")
    assert (protocol.read_facts(await probe.ask("hello")).identity or "").startswith("l")


async def test_files_are_stored_whole_and_read_back(probe: Probe) -> None:
    await probe.begin()
    stored = await probe.put(f0001=DATA, f0002=DATA[:4096])
    assert stored == protocol.Stored(frozenset({"0001", "0002"}), {}, {})
    assert (probe.run / "0001").read_bytes() == DATA
    assert list((probe.run / "stage").iterdir()) == []
    sums = await probe.sums("0001", "0002", "0003")
    assert sums["0001"].digest == hashlib.sha256(DATA).hexdigest()
    assert sums["0001"].cache in ("cold", "cached")
    assert sums["0003"] == protocol.Sum(absent=True)
    found, cache = protocol.read_bytes(await probe.ask("fetch", "2 0001"))
    assert found == DATA
    assert cache in ("cold", "cached"), "a page that is being written back cannot be dropped, a moment later it can"


async def test_names_are_listed_and_dropped_files_are_gone(probe: Probe) -> None:
    assert protocol.read_names(await probe.ask("list")) == []
    await probe.begin()
    await probe.put(f0001=DATA, f0002=DATA)
    assert sorted(protocol.read_names(await probe.ask("list"))) == ["0001", "0002", "stage"]
    protocol.refuse_failure(await probe.ask("drop", "0001 0099"))
    assert sorted(protocol.read_names(await probe.ask("list"))) == ["0002", "stage"]


async def test_a_file_is_overwritten_in_place_or_by_renaming(probe: Probe) -> None:
    await probe.begin()
    await probe.put(r0=DATA)
    kept = os.stat(probe.run / "r0").st_ino
    assert (await probe.write("overwrite", {"r0": DATA[::-1]})).durable == {"r0"}
    assert (probe.run / "r0").read_bytes() == DATA[::-1]
    assert os.stat(probe.run / "r0").st_ino == kept
    assert (await probe.put(r0=DATA)).durable == {"r0"}
    assert (probe.run / "r0").read_bytes() == DATA
    assert os.stat(probe.run / "r0").st_ino != kept


async def test_a_log_grows_at_its_end(probe: Probe) -> None:
    await probe.begin()
    assert (await probe.write("append", {"l0": DATA[:4096], "l1": DATA})).durable == {"l0", "l1"}
    assert (await probe.write("append", {"l0": DATA[4096:]})).durable == {"l0"}
    assert (probe.run / "l0").read_bytes() == (probe.run / "l1").read_bytes() == DATA


async def test_one_request_puts_overwrites_and_appends(probe: Probe) -> None:
    await probe.begin()
    await probe.put(r0=DATA)
    (probe.run / "l1").mkdir()
    stores = protocol.write_request(
        {"r1": DATA, "f1": DATA[:9]}, {"r0": DATA[::-1], "r9": DATA}, {"l0": DATA, "l1": DATA[:99]}
    )
    stored = protocol.read_stored(("r0", "r1", "r9", "f1", "l0", "l1"), await probe.ask("store", *stores))
    assert stored.durable == {"r0", "r1", "f1", "l0"}
    assert (set(stored.failed), set(stored.unknown)) == (set(), {"r9", "l1"})
    found = {name: (probe.run / name).read_bytes() for name in stored.durable}
    assert found == {"r0": DATA[::-1], "r1": DATA, "f1": DATA[:9], "l0": DATA}
    assert (await probe.sums("r1"))["r1"].digest, "the session goes on"


async def test_a_write_in_place_that_fails_or_is_cut_off_is_unknown(probe: Probe) -> None:
    await probe.begin()
    (probe.run / "l0").mkdir()
    assert set((await probe.write("overwrite", {"r0": DATA})).unknown) == {"r0"}
    assert set((await probe.write("append", {"l0": DATA})).unknown) == {"l0"}
    await probe.put(r1=DATA)
    assert (await probe.sums("r1"))["r1"].digest, "the session goes on"
    assert probe.process.stdin is not None
    assert probe.process.stdout is not None
    probe.process.stdin.write(b"nonce store 0 1 0\nr1 4096\n" + DATA[:100])
    probe.process.stdin.close()
    async with asyncio.timeout(120):
        assert b"stored" not in await probe.process.stdout.read()


async def test_a_file_that_cannot_be_opened_for_writing_is_unknown_and_the_session_goes_on(probe: Probe) -> None:
    """As on a file system that became read-only; here since it is a program that runs."""
    await probe.begin()
    await probe.put(r0=Path("/bin/sleep").read_bytes())
    (probe.run / "r0").chmod(0o755)
    running = await asyncio.create_subprocess_exec(probe.run / "r0", "60")
    try:
        for verb in ("overwrite", "append"):
            assert "busy" in (await probe.write(verb, {"r0": DATA})).unknown["r0"]
    finally:
        running.kill()
        await running.wait()
    assert (await probe.sums("r0"))["r0"].digest == hashlib.sha256(Path("/bin/sleep").read_bytes()).hexdigest()


async def test_what_is_known_of_the_file_system_and_of_other_runs(probe: Probe) -> None:
    (probe.mount / ".chaosd/OLDER").mkdir(parents=True)
    (probe.mount / ".chaosd/theirs").touch()
    (probe.mount / ".chaosd/.hidden").symlink_to("nowhere")
    facts = protocol.read_facts(await probe.ask("hello"))
    ask = ("stat", "-f", "-c", "%i %b %S", str(probe.mount))
    stat = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
    told, _ = await stat.communicate()
    fsid, blocks, size = told.decode().split()
    assert (facts.fsid, facts.total_bytes) == (fsid, int(blocks) * int(size))
    assert (facts.folders, sorted(facts.strays)) == (("OLDER",), [".hidden", "theirs"])


async def test_a_file_that_cannot_be_stored_fails_alone_and_the_session_goes_on(probe: Probe) -> None:
    await probe.begin()
    (probe.run / "stage/0001").mkdir()
    stored = await probe.put(f0001=DATA, f0002=DATA)
    assert stored.durable == {"0002"}
    assert "directory" in stored.failed["0001"]
    assert not (probe.run / "0001").exists()
    assert (await probe.sums("0002"))["0002"].digest


async def test_a_folder_that_is_gone_makes_everything_absent_and_writing_fail(probe: Probe) -> None:
    await probe.begin()
    await probe.put(f0001=DATA)
    shutil.rmtree(probe.run)
    assert (await probe.sums("0001"))["0001"].absent
    assert set((await probe.put(f0002=DATA)).failed) == {"0002"}


async def test_what_cannot_be_read_is_not_told_to_be_gone(probe: Probe) -> None:
    (probe.mount / ".chaosd").symlink_to(".chaosd")
    facts = protocol.read_facts(await probe.ask("hello"))
    assert (facts.identity, bool(facts.identity_error)) == (None, True)
    with pytest.raises(ProbeError):
        protocol.read_names(await probe.ask("list"))


async def test_a_file_cut_short_by_the_end_of_the_input_is_never_renamed(probe: Probe) -> None:
    await probe.begin()
    assert probe.process.stdin is not None
    probe.process.stdin.write(b"nonce store 2 0 0\n0001 4096\n" + DATA[:4096] + b"0002 4096\n" + DATA[:100])
    probe.process.stdin.close()
    async with asyncio.timeout(120):
        await probe.process.wait()
    assert not (probe.run / "0002").exists()
    assert (probe.run / "0001").read_bytes() == DATA[:4096]


async def test_an_unknown_verb_is_refused(probe: Probe) -> None:
    assert await probe.ask("format", "c:") == ["failed no such verb: format"]


async def test_its_end_leaves_no_process_behind(probe: Probe) -> None:
    await probe.ask("hello")
    assert probe.process.stdin is not None
    probe.process.stdin.close()
    async with asyncio.timeout(120):
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
    argv = started(["sh"], f"{tmp_path}//link/")
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate(protocol.opening(protocol.Program.SHELL) + b"nonce hello \n")
    assert f"resolved {tmp_path}/real" in told.decode().splitlines()


def test_a_mount_is_found_behind_links_and_slashes() -> None:
    line = "21 20 7:1 / /run/db rw - ext4 /dev/loop0 rw"
    facts = protocol.read_facts(["mount /var/run/db", "resolved /run/db", f"mountinfo {line}"])
    assert (facts.mountinfo, facts.mounted) == (line, True)
    facts = protocol.read_facts(["mount /srv//data", "resolved /srv/data", f"mountinfo {line}"])
    assert (facts.mountinfo, facts.mounted) == ("", False)
    assert protocol.read_facts(["mount /srv"]).mounted is None


@pytest.mark.parametrize("interpreter", [*HERE, AGENT], ids=name_of)
async def test_it_ends_with_its_input_however_early_that_ends(interpreter: list[str], tmp_path: Path) -> None:
    for _ in range(30):
        process = await asyncio.create_subprocess_exec(
            *started(interpreter, tmp_path), stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        async with asyncio.timeout(120):
            await process.communicate(protocol.opening(program_of(interpreter)))
        assert process.returncode == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # its watchdog, and what that started, are gone too


@pytest.mark.parametrize("interpreter", [*HERE, AGENT], ids=name_of)
async def test_a_program_that_came_in_part_does_nothing(interpreter: list[str], tmp_path: Path) -> None:
    opening = protocol.opening(program_of(interpreter))
    for length in (0, 1, len(opening) // 2, len(opening) - 1):
        process = await asyncio.create_subprocess_exec(
            *started(interpreter, tmp_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(120):
            told, _ = await process.communicate(opening[:length])
        assert (told, [*tmp_path.iterdir()]) == (b"", [])
