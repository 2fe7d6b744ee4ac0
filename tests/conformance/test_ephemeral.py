"""Ephemeral containers, and the agent that runs in one: for targets without a shell.

Source: Kubernetes docs, "Ephemeral Containers".
"""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from chaosd.cluster.port import EphemeralContainer, ExecStream, Mount, Pod
from chaosd.errors import ConflictError, NotFoundError, RefusedError, TargetError
from chaosd.probe.protocol import Program, Stored
from chaosd.probe.session import open_session
from tests.conformance.conftest import World

WAITS = ("python3", "-c", "import signal; signal.signal(signal.SIGTERM, lambda *_: None); signal.pause()")


def _container(world: World, name: str = "aside", sub_path: str = "") -> EphemeralContainer:
    return EphemeralContainer(name, world.harness.agent_image, WAITS, (Mount("disk", "/data", sub_path=sub_path),))


async def _pod(world: World) -> Pod:
    return await world.cluster.get(Pod, world.namespace, "web-0")


async def _add(world: World) -> Pod:
    """Add the container, and wait until it runs."""
    pod = await _pod(world)
    await world.cluster.add_ephemeral_container(world.namespace, "web-0", _container(world), uid=pod.uid)

    async def running() -> bool:
        return any(c.running for c in (await _pod(world)).ephemeral)

    await world.until(running)
    return await _pod(world)


async def _all(stream: ExecStream) -> bytes:
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_it_runs_in_the_same_pod_and_sees_the_files_of_its_volume(world: World) -> None:
    await world.start()
    async with world.cluster.exec(
        world.namespace, "web-0", "app", ["sh", "-c", 'echo hers >"$1"', "sh", "/data/x"]
    ) as made:
        await _all(made)
    before = await _pod(world)
    pod = await _add(world)
    assert (pod.uid, pod.containers, pod.ready) == (before.uid, before.containers, True)
    (added,) = pod.ephemeral
    assert (added.name, added.image, added.ended) == ("aside", world.harness.agent_image, "")
    assert added.mounts == (Mount("disk", "/data"),)
    argv = ["python3", "-c", "import sys; print(open(sys.argv[1]).read())", "/data/x"]
    async with world.cluster.exec(world.namespace, "web-0", "aside", argv) as stream:
        assert (await _all(stream)).strip() == b"hers"
        assert stream.exit_status == 0


async def test_it_is_bound_to_the_uid_of_the_pod(world: World) -> None:
    await world.start()
    pod = await _pod(world)
    other = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(ConflictError):
        await world.cluster.add_ephemeral_container(world.namespace, "web-0", _container(world), uid=other)
    with pytest.raises(NotFoundError):
        await world.cluster.add_ephemeral_container(world.namespace, "web-9", _container(world), uid=pod.uid)
    assert (await _pod(world)).ephemeral == ()


async def test_what_the_api_server_refuses(world: World) -> None:
    await world.start()
    pod = await _pod(world)
    part = _container(world, sub_path="part")
    with pytest.raises(RefusedError):
        await world.cluster.add_ephemeral_container(world.namespace, "web-0", part, uid=pod.uid)
    with pytest.raises(RefusedError):
        await world.cluster.add_ephemeral_container(world.namespace, "web-0", _container(world, name="app"), uid=pod.uid)
    assert (await _pod(world)).ephemeral == ()


async def test_the_agent_writes_and_reads_cold_beside_a_container_without_a_shell(world: World) -> None:
    await world.start(bare=True)
    place = await world.place(image=world.harness.agent_image)
    files = {f"{n:08d}": os.urandom(8192) for n in range(20)}
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.program is Program.AGENT
        assert (session.facts.hostname, session.facts.entries) == ("web-0", ("lost+found",))
        assert (session.facts.mounted, session.facts.fs_type, session.facts.node_disk) == (True, "ext4", False)
        await session.begin(b"{}")
        assert await session.store(files) == Stored(frozenset(files), {}, {})
        pod = session.pod
    await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid, grace_seconds=0)
    await world.replaced(pod)
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.pod.uid != pod.uid
        assert session.facts.identity == "{}"
        sums = await session.sums([*files], 8192)
        assert {n: (s.digest, s.cache) for n, s in sums.items()} == {
            n: (hashlib.sha256(data).hexdigest(), "cold") for n, data in files.items()
        }


async def test_the_agents_container_is_used_again(world: World) -> None:
    await world.start()
    place = await world.place(program=Program.AGENT, image=world.harness.agent_image)
    names = []
    for _ in range(3):
        async with open_session(world.cluster, place, "web-0", 180.0) as session:
            assert session.program is Program.AGENT
            names.append(session.container)
    assert len(set(names)) == 1
    assert names[0].startswith("chaosd-agent-")
    assert [c.name for c in (await _pod(world)).ephemeral] == names[:1]


async def test_a_shell_is_preferred_and_leaves_the_pod_as_it_is(world: World) -> None:
    await world.start()
    place = await world.place(image=world.harness.agent_image)
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        assert session.program is Program.SHELL
    assert (await _pod(world)).ephemeral == ()


async def test_without_an_image_a_container_without_a_shell_is_refused_with_the_mend(world: World) -> None:
    await world.start(bare=True)
    with pytest.raises(TargetError, match=r"set target.probeImage to an image with python3"):
        async with open_session(world.cluster, await world.place(), "web-0", 180.0):
            pass
    assert (await _pod(world)).ephemeral == ()


async def test_the_agent_does_not_hold_up_the_pods_deletion(world: World) -> None:
    await world.start()
    place = await world.place(program=Program.AGENT, image=world.harness.agent_image)
    async with open_session(world.cluster, place, "web-0", 180.0) as session:
        pod = session.pod
        began = time.monotonic()
        await world.cluster.delete_pod(world.namespace, "web-0", uid=pod.uid, grace_seconds=600)
        await world.replaced(pod)
    assert time.monotonic() - began < 400.0, "the grace period is 600 s"
