"""The probe in memory, held to what tests/probe/test_programs.py holds both programs to; and how it ends."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
from collections.abc import Awaitable, Callable

import pytest

from chaosd import virtual_time
from chaosd.cluster.sandbox.disks import Mounting
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.sandbox.memory_files import MemoryFiles, MemoryMount
from chaosd.cluster.sandbox.memory_process import MemoryProcess, length_of_request
from chaosd.cluster.sandbox.store import Timings
from chaosd.errors import RefusedError, SessionLostError
from chaosd.probe import protocol

DATA = random.Random(1).randbytes(16384)
RUN = ".chaosd/RUN"


class Probe:
    """The agent on a new disk at /data."""

    def __init__(self, timings: Timings, seed: int = 1, program: protocol.Program = protocol.Program.AGENT) -> None:
        self.disk = MemoryDisk(random.Random(seed))
        self.root = MemoryDisk(random.Random(2), kind="overlay")
        self.root.make_folder("data")
        mounting = Mounting("default", "web-0", "uid", "app", "disk", "/data", "d-1")
        self.files = MemoryFiles([MemoryMount("/", self.root), MemoryMount("/data", self.disk, mounting)], "web-0", "boot")
        argv = protocol.argv(program, "/data", ".chaosd", "RUN", 60)
        self.process = MemoryProcess.start(self.files, argv, timings, random.Random(seed))
        self.disk.mount()

    async def ask(self, verb: str, arguments: str = "", data: bytes = b"") -> list[str]:
        await self.process.write(f"nonce {verb} {arguments}\n".encode() + data)
        lines = (await self.process.read()).decode().splitlines()
        assert lines[-1].startswith("nonce end ")
        return lines[:-1]

    async def begin(self) -> list[str]:
        return await self.ask("begin", "", b'14\n{"replica":1}\n')

    async def write(self, verb: str, **files: bytes) -> protocol.Stored:
        named = {name.removeprefix("f"): data for name, data in files.items()}
        return protocol.read_stored(named, await self.ask("store", *protocol.write_request(**{"put": {}, verb: named})))

    async def sums(self, *names: str) -> dict[str, protocol.Sum]:
        return protocol.read_sums(await self.ask("sums", f"2 {' '.join(names)}"))

    async def facts(self) -> protocol.Facts:
        return protocol.read_facts(await self.ask("hello"))

    def stored(self, name: str) -> bytes:
        """What is durable of a file of the run."""
        return self.disk.file(f"{RUN}/{name}").platter


async def _opened(timings: Timings, seed: int = 1) -> Probe:
    """One that has read its program, and waits for requests."""
    probe = Probe(timings, seed)
    await probe.process.write(protocol.opening(protocol.Program.AGENT))
    return probe


def _probing(test: Callable[[Probe], Awaitable[None]], timings: Timings | None = None) -> None:
    async def main() -> None:
        await test(await _opened(timings or Timings()))

    virtual_time.run(main())


def test_hello_tells_facts_and_writes_nothing() -> None:
    async def check(probe: Probe) -> None:
        probe.disk.write("theirs", b"x")
        facts = await probe.facts()
        assert (facts.lacks, facts.mount, facts.present) == ((), "/data", True)
        assert (facts.hostname, facts.boot_id, facts.identity) == ("web-0", "boot", None)
        assert facts.entries == ("lost+found", "theirs")
        assert (facts.mounted, facts.fs_type, facts.mount_root, facts.node_disk) == (True, "ext4", "/", False)
        assert (facts.fsid, facts.uuid) == (probe.disk.fsid, probe.disk.file_system.hex)
        assert (facts.total_bytes, facts.free_bytes) == (1 << 30, (1 << 30) - 4096)
        assert facts.free_files == (1 << 16) - 2
        assert facts.read_only is False
        probe.disk.read_only = True
        assert (await probe.facts()).read_only is True
        assert probe.disk.files() == ["theirs"]

    _probing(check)


def test_begin_writes_the_identity_once() -> None:
    async def check(probe: Probe) -> None:
        assert await probe.begin() == []
        assert probe.disk.file(".chaosd/identity").platter == b'{"replica":1}\n'
        assert await probe.ask("begin", "", b"4\nnew\n") == []
        facts = await probe.facts()
        assert (facts.identity, facts.folders) == ('{"replica":1}', ("RUN",))

    _probing(check)


def test_files_are_stored_whole_and_read_back_cold() -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        stored = await probe.write("put", f0001=DATA, f0002=DATA[:4096])
        assert stored == protocol.Stored(frozenset({"0001", "0002"}), {}, {})
        assert probe.stored("0001") == DATA
        assert probe.disk.names(f"{RUN}/stage") == []
        sums = await probe.sums("0001", "0002", "0003")
        assert sums["0001"] == protocol.Sum(digest=hashlib.sha256(DATA).hexdigest(), cache="cold")
        assert sums["0003"] == protocol.Sum(absent=True)
        assert protocol.read_bytes(await probe.ask("fetch", "2 0001")) == (DATA, "cold")
        probe.disk.can_read_directly = False
        probe.disk.write(f"{RUN}/0001", DATA)
        sums = await probe.sums("0001", "0002")
        assert [sums[name].cache for name in ("0001", "0002")] == ["cached", "cold"]

    _probing(check)


def test_what_was_acknowledged_survives_a_crash() -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        await probe.write("put", f0001=DATA)
        await probe.write("append", l0=DATA[:100])
        await probe.write("append", l0=DATA[100:])
        await probe.write("overwrite", f0001=DATA[::-1])
        await probe.ask("drop", "0009")
        probe.disk.crash(keep=0.0)
        assert {name: probe.stored(name) for name in ("0001", "l0")} == {"0001": DATA[::-1], "l0": DATA}
        assert (await probe.facts()).identity == '{"replica":1}'

    _probing(check)


def test_names_are_listed_and_dropped_files_are_gone() -> None:
    async def check(probe: Probe) -> None:
        assert protocol.read_names(await probe.ask("list")) == []
        await probe.begin()
        await probe.write("put", f0001=DATA, f0002=DATA)
        assert protocol.read_names(await probe.ask("list")) == ["0001", "0002", "stage"]
        protocol.refuse_failure(await probe.ask("drop", "0001 0099"))
        probe.disk.crash(keep=0.0)
        assert protocol.read_names(await probe.ask("list")) == ["0002", "stage"]

    _probing(check)


def test_a_write_that_fails_says_what_is_known_and_the_session_goes_on() -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        probe.disk.make_folder(f"{RUN}/l0")
        assert set((await probe.write("overwrite", r0=DATA)).unknown) == {"r0"}
        assert set((await probe.write("append", l0=DATA)).unknown) == {"l0"}
        probe.disk.make_folder(f"{RUN}/stage/0001")
        stored = await probe.write("put", f0001=DATA, f0002=DATA)
        assert (stored.durable, dict(stored.failed)) == ({"0002"}, {"0001": "Is a directory"})
        probe.disk.fail(errno.EIO, "sync", times=1)
        assert dict((await probe.write("put", f0003=DATA)).failed) == {"0003": "Input/output error"}
        probe.disk.fill_up()
        assert dict((await probe.write("put", f0004=DATA)).failed) == {"0004": "No space left on device"}
        probe.disk.read_only = True
        assert dict((await probe.write("put", f0005=DATA)).failed) == {"0005": "Read-only file system"}
        assert await probe.ask("drop", "0002") == ["failed Read-only file system"]
        assert (await probe.sums("0002", "l0"))["l0"].irregular.startswith("drwx")
        assert await probe.ask("format", "c:") == ["failed no such verb: format"]

    _probing(check)


def test_a_mount_that_goes_uncovers_the_containers_own_disk() -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        probe.files.drop("/data")
        facts = await probe.facts()
        assert (facts.present, facts.mounted, facts.entries, facts.uuid) == (True, False, (), "")
        assert (await probe.write("put", f0001=DATA)).failed
        await probe.begin()
        assert (await probe.write("put", f0001=DATA)).durable == {"0001"}
        assert probe.disk.files() == [".chaosd/identity"]
        probe.root.lose("data")
        assert not (await probe.facts()).present

    _probing(check)


@pytest.mark.parametrize("pieces", [1, 7, 4096])
def test_requests_may_come_in_pieces_and_several_at_once(pieces: int) -> None:
    async def check() -> None:
        probe = Probe(Timings(), program=protocol.Program.SHELL)
        arguments, data = protocol.write_request({"0001": b"\n0002 5\n" * 20, "0002": b""})
        requests = (
            protocol.opening(protocol.Program.SHELL)
            + b"a begin \n3\nme\n"
            + f"b store {arguments}\n".encode()
            + data
            + b"c list \nd sums 1 0001\n"
        )
        for at in range(0, len(requests), pieces):
            await probe.process.write(requests[at : at + pieces])
        told = b""
        while told.count(b" end ") < 4:
            told += await probe.process.read()
        assert [line.split()[0] for line in told.decode().splitlines() if " end " in line] == ["a", "b", "c", "d"]
        assert probe.stored("0001") == b"\n0002 5\n" * 20

    virtual_time.run(check())


def test_the_length_of_a_request_is_known_once_it_has_come_whole() -> None:
    arguments, data = protocol.write_request({"0001": b"x" * 100, "0002": b"\n"})
    for request in (b"n hello \n", b"n begin \n3\nabc", f"n store {arguments}\n".encode() + data, b"n list\n", b"\n"):
        assert length_of_request(request) == len(request)
        assert length_of_request(request + b"more") == len(request)
        assert all(length_of_request(request[:cut]) is None for cut in range(len(request)))


def test_a_request_cut_off_by_the_end_of_the_input_is_done_as_far_as_it_came() -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        await probe.process.write(b"nonce store 2 0 0\n0001 4096\n" + DATA[:4096] + b"0002 4096\n" + DATA[:100])
        await probe.process.close_stdin()
        assert (await probe.process.read()).startswith(b"stored 0001\n")
        assert (await probe.process.read(), probe.process.exit_status) == (b"", 0)
        assert probe.disk.files() == [".chaosd/RUN/0001", ".chaosd/identity"]

    _probing(check)


def test_it_ends_with_its_input_and_when_its_time_is_up() -> None:
    async def check(probe: Probe) -> None:
        await probe.process.close_stdin()
        assert (await probe.process.read(), probe.process.exit_status) == (b"", 0)
        with pytest.raises(SessionLostError, match="no longer reads"):
            await probe.process.write(b"x")
        other = await _opened(Timings())
        assert (await other.process.read(), other.process.exit_status) == (b"", 128 + 14)
        assert asyncio.get_running_loop().time() == pytest.approx(60)

    _probing(check)


def test_what_was_answered_can_be_read_after_the_container_stopped_and_no_more() -> None:
    async def check(probe: Probe) -> None:
        await probe.process.write(b"nonce hello \n")
        await asyncio.sleep(1)
        await probe.process.write(b"nonce list \n")
        probe.process.kill()
        assert (await probe.process.read()).endswith(b"\n")
        with pytest.raises(SessionLostError, match="the container was stopped"):
            await probe.process.read()

    _probing(check)


def test_a_process_that_is_killed_has_done_any_part_of_what_it_was_asked() -> None:
    done = set()

    async def check(seed: int) -> None:
        probe = await _opened(Timings(), seed)
        await probe.begin()
        request = protocol.write_request(dict.fromkeys("abc", DATA))
        await probe.process.write(f"nonce store {request[0]}\n".encode() + request[1])
        probe.process.kill()
        run = probe.disk.names(RUN)
        done.add(("".join(probe.disk.names(f"{RUN}/stage")), "".join(name for name in "abc" if name in run)))

    for seed in range(200):
        virtual_time.run(check(seed))
    assert {("", ""), ("abc", ""), ("bc", "a"), ("", "abc")} <= done, "nothing, all staged, one renamed, all"


@pytest.mark.parametrize(("linger", "lands_at"), [(0.0, 0.1), (5.0, 5.0)])
def test_a_request_lands_although_its_connection_is_gone(linger: float, lands_at: float) -> None:
    async def check(probe: Probe) -> None:
        await probe.begin()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await probe.process.write(b"nonce store 1 0 0\n0001 5\nlate!")
        await probe.process.end()
        assert loop.time() - began == pytest.approx(0.1 if not linger else 0.0)
        await asyncio.sleep(lands_at * 0.99 - (loop.time() - began))
        assert linger == 0 or f"{RUN}/0001" not in probe.disk.files()
        await asyncio.sleep(1)
        assert probe.stored("0001") == b"late!"
        assert probe.process.exited

    _probing(check, Timings(answer=0.1, linger=linger))


def test_there_is_no_other_program() -> None:
    async def check(probe: Probe) -> None:
        with pytest.raises(RefusedError, match="no program but the probe"):
            MemoryProcess.start(probe.files, ["sh", "-c", "echo"], Timings(), random.Random(1))

    _probing(check)
