"""Processes in containers: what the port's exec promises, and what the probe sees through it."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from chaosd.cluster.port import ExecStream, Pod
from chaosd.errors import ClusterError, NotFoundError, RefusedError, SessionLostError, TargetError
from chaosd.probe.protocol import Program, Stored
from chaosd.probe.session import open_session
from tests.conformance.conftest import World


async def _all(stream: ExecStream) -> bytes:
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_standard_input_comes_back_and_the_exit_status_is_known(world: World) -> None:
    await world.start()
    data = os.urandom(300_000)
    async with world.cluster.exec(world.namespace, "web-0", "app", ["sh", "-c", "cat; echo lost >&2; exit 7"]) as stream:
        assert stream.exit_status is None
        await stream.write(data)
        await stream.close_stdin()
        assert await _all(stream) == data
        assert (stream.exit_status, stream.stderr.strip()) == (7, b"lost")


async def test_success_is_status_0(world: World) -> None:
    await world.start()
    async with world.cluster.exec(world.namespace, "web-0", "app", ["sh", "-c", "echo there"]) as stream:
        assert await _all(stream) == b"there\n"
        assert stream.exit_status == 0


async def test_a_killed_process_tells_its_signal(world: World) -> None:
    await world.start()
    async with world.cluster.exec(world.namespace, "web-0", "app", ["sh", "-c", "kill -9 $$"]) as stream:
        assert await _all(stream) == b""
        assert stream.exit_status == 137


async def test_no_such_program_is_refused(world: World) -> None:
    await world.start()
    with pytest.raises(RefusedError):
        async with world.cluster.exec(world.namespace, "web-0", "app", ["no-such-program"]) as stream:
            await _all(stream)


async def test_no_such_pod_and_no_such_container(world: World) -> None:
    await world.start()
    with pytest.raises(NotFoundError):
        async with world.cluster.exec(world.namespace, "web-9", "app", ["sh"]):
            pass
    with pytest.raises(ClusterError):
        async with world.cluster.exec(world.namespace, "web-0", "absent", ["sh"]) as stream:
            await _all(stream)


async def test_a_session_that_is_left_ends_a_process_that_reads(world: World) -> None:
    await world.start()
    argv = ["sh", "-c", 'echo >"$1"; cat; rm "$1"', "sh", "/data/running"]
    async with world.cluster.exec(world.namespace, "web-0", "app", argv) as stream:
        await stream.write(b"half a line")
        assert await stream.read() == b"half a line"
        assert await _run(world, 'ls "$1"', "/data/running")

    async def ended() -> bool:
        return await _run(world, '[ -e "$1" ] || echo gone', "/data/running") == b"gone\n"

    await world.until(ended)


async def test_a_pod_that_vanishes_in_mid_write_never_looks_like_success(world: World) -> None:
    await world.start()
    pod = await world.cluster.get(Pod, world.namespace, "web-0")
    status: int | None = None
    argv = ["sh", "-c", ': >"$1"; echo begun; cat >"$1"; echo whole', "sh", "/data/half"]
    async with world.cluster.exec(world.namespace, "web-0", "app", argv) as stream:
        assert await stream.read() == b"begun\n"
        await stream.write(b"x" * 65536)
        await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid, grace_seconds=0)
        async with asyncio.timeout(world.harness.patience_seconds):
            try:
                while True:
                    await stream.write(b"x" * 4096)
                    await asyncio.sleep(0.02)
            except SessionLostError:
                pass
            try:
                assert await _all(stream) == b""
                status = stream.exit_status
            except SessionLostError:
                status = None
    assert status in (None, 137)
    await world.replaced(pod)
    assert await _run(world, 'ls "$1"', "/data/half")


async def test_the_probe_sees_the_pod_that_it_is_in(world: World) -> None:
    await world.start()
    place = await world.place()
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.program is Program.SHELL
        assert session.facts.hostname == "web-0"
        assert session.facts.boot_id
        assert " - ext4 " in session.facts.mountinfo
        assert session.facts.entries == ("lost+found",)
        assert session.facts.free_bytes
        await session.begin(b'{"format": 1}')
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.facts.identity == '{"format": 1}'


async def test_what_the_probe_stored_is_there_after_the_pod_was_replaced(world: World) -> None:
    await world.start()
    place = await world.place()
    files = {f"{n:08d}": os.urandom(8192) for n in range(20)}
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        await session.begin(b"{}")
        stored = await session.store(files)
        assert stored == Stored(frozenset(files), {}, {})
        pod = session.pod
    await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid, grace_seconds=0)
    await world.replaced(pod)
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.pod.uid != pod.uid
        sums = await session.sums([*files, "00000099"], 8192)
        assert {n: s.digest for n, s in sums.items() if s.digest} == {
            n: hashlib.sha256(data).hexdigest() for n, data in files.items()
        }
        assert {s.cache for n, s in sums.items() if n in files} == {"cold"}
        assert sums["00000099"].absent
        await session.drop(["00000003"])
        assert sorted(set(files) - {"00000003"}) == sorted(name for name in await session.names() if name != "stage")


async def test_a_container_without_a_shell_cannot_run_the_probe(world: World) -> None:
    await world.start(bare=True)
    with pytest.raises(TargetError, match="name a container with a POSIX shell"):
        async with open_session(world.cluster, await world.place(), "web-0", 180.0):
            pass


async def test_what_a_path_stands_on_is_told(world: World) -> None:
    await world.start()
    async with open_session(world.cluster, await world.place(), "web-0", 180.0) as session:
        facts = session.facts
    assert (facts.mounted, facts.fs_type, facts.read_only, facts.node_disk) == (True, "ext4", False, False)
    assert facts.mount_root == "/"
    assert facts.device == facts.mountinfo.split()[2]


async def test_an_empty_dir_is_on_the_nodes_own_disk(world: World) -> None:
    await world.start(claim=False)
    place = await world.place(path="/data")
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert (session.facts.mounted, session.facts.node_disk) == (True, True)


async def _run(world: World, script: str, path: str) -> bytes:
    """Paths are arguments of their own, since the sandbox leads those into its folders."""
    async with world.cluster.exec(world.namespace, "web-0", "app", ["sh", "-c", script, "sh", path]) as stream:
        return await _all(stream)
