"""Sessions: which program is started where, what binds it to a pod, and what stands in the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from chaosd.cluster.port import Cluster, Container, EphemeralContainer, Mount, Pod
from chaosd.cluster.sandbox.process import LocalProcess
from chaosd.cluster.target import Target
from chaosd.errors import (
    ChaosdError,
    ConflictError,
    ForbiddenError,
    NotReadyError,
    RefusedError,
    RightsError,
    SessionLostError,
    TargetError,
)
from chaosd.probe.protocol import Program
from chaosd.probe.session import Place, Session, open_session

AGENT, OLDER = "chaosd-agent-e00001-7", "chaosd-agent-older"


class OnePod:
    """A cluster of one pod, whose processes are local ones. What an ephemeral container becomes is up to the test."""

    def __init__(self, mount: Mount, *, shell: bool = True) -> None:
        app = Container("app", image="nginx", id="c://app", ready=True, mounts=(mount,))
        self.pod = Pod("default", "web-0", "u1", "Running", ready=True, containers=(app,))
        self.shell = shell
        self.becomes: dict[str, Any] = {"id": "c://agent"}
        self.refusal: ChaosdError | None = None
        self.replaced_on_exec = False
        self.restarts_on_exec = False
        self.started: list[tuple[str, str]] = []
        self.added: list[EphemeralContainer] = []

    async def get(self, kind: type, namespace: str, name: str) -> Pod:
        return self.pod

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        assert uid == self.pod.uid
        if self.refusal:
            raise self.refusal
        self.added.append(container)
        made = Container(container.name, container.image, mounts=container.mounts, **self.becomes)
        self.pod = replace(self.pod, ephemeral=(*self.pod.ephemeral, made))

    @asynccontextmanager
    async def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str]) -> AsyncIterator[LocalProcess]:
        self.started.append((container, argv[0]))
        if self.restarts_on_exec:
            (app,) = self.pod.containers
            self.pod = replace(self.pod, containers=(replace(app, waiting="CrashLoopBackOff"),))
            raise RefusedError("container app is not running")
        if argv[0] == "sh" and not self.shell:
            raise RefusedError('exec: "sh": executable file not found in $PATH')
        words = [sys.executable if argv[0] == "python3" else argv[0], *argv[1:]]
        process = await LocalProcess.start(words, dict(os.environ), Path("/"))
        if self.replaced_on_exec:
            self.pod = replace(self.pod, uid="u2")
        try:
            yield process
        finally:
            await process.end()


@asynccontextmanager
async def _session(
    cluster: OnePod, program: Program | None = None, image: str = "", seconds: float = 60.0
) -> AsyncIterator[Session]:
    mount = cluster.pod.containers[0].mounts[0]
    target = Target("default", "web", "s1", "app", mount.path, "disk", 1, 0)
    place = Place(target, ".chaosd", "RUN", "E00001.7", program, image)
    async with open_session(cast(Cluster, cluster), place, "web-0", seconds) as session:
        yield session


async def _error(cluster: OnePod, program: Program | None = None, image: str = "", seconds: float = 60.0) -> ChaosdError:
    try:
        async with _session(cluster, program, image, seconds):
            raise AssertionError("it was opened")
    except ChaosdError as error:
        return error


@pytest.fixture
def cluster(tmp_path: Path) -> OnePod:
    return OnePod(Mount("disk", str(tmp_path)))


async def test_the_shell_is_taken_where_there_is_one(cluster: OnePod) -> None:
    async with _session(cluster, image="python:3") as session:
        assert (session.program, session.container) == (Program.SHELL, "app")
    assert (cluster.started, cluster.added) == ([("app", "sh")], [])


async def test_else_the_agent_is_in_a_container_that_mounts_the_same_and_is_used_again(cluster: OnePod) -> None:
    cluster.shell = False
    async with _session(cluster, image="python:3") as session:
        assert (session.program, session.container, session.facts.hostname) == (Program.AGENT, AGENT, os.uname().nodename)
    async with _session(cluster, image="python:3") as session:
        assert session.container == AGENT
    (added,) = cluster.added
    assert (added.name, added.image, added.like) == (AGENT, "python:3", "app")
    assert added.mounts == cluster.pod.containers[0].mounts
    assert cluster.started == [("app", "sh"), (AGENT, "python3")] * 2


async def test_a_container_of_another_image_or_one_that_ended_is_not_used_again(cluster: OnePod) -> None:
    mounts = cluster.pod.containers[0].mounts
    ended = Container(AGENT, "python:3", id="c://1", ended="Completed", mounts=mounts)
    other = Container(OLDER, "python:2", id="c://2", mounts=mounts)
    strange = Container("debugger", "python:3", id="c://3", mounts=mounts)
    cluster.pod = replace(cluster.pod, ephemeral=(ended, other, strange))
    async with _session(cluster, Program.AGENT, "python:3") as session:
        assert session.container == f"{AGENT}-2"


async def test_one_of_an_earlier_run_is_used_again(cluster: OnePod) -> None:
    older = Container(OLDER, "python:3", id="c://1", mounts=cluster.pod.containers[0].mounts)
    cluster.pod = replace(cluster.pod, ephemeral=(older,))
    async with _session(cluster, Program.AGENT, "python:3") as session:
        assert session.container == OLDER
    assert cluster.added == []


async def test_without_an_image_the_agent_runs_in_the_targets_own_container(cluster: OnePod) -> None:
    async with _session(cluster, Program.AGENT) as session:
        assert (session.program, session.container) == (Program.AGENT, "app")
    assert cluster.started == [("app", "python3")]


async def test_a_target_that_can_have_no_probe_is_told_the_mend(cluster: OnePod) -> None:
    cluster.shell = False
    error = await _error(cluster)
    assert isinstance(error, TargetError)
    assert "name a container with a POSIX shell" in str(error)
    assert "set target.probeImage to an image with python3" in str(error)
    assert isinstance(await _error(cluster, Program.SHELL), TargetError)


async def test_a_part_of_a_volume_cannot_be_mounted_by_the_agent(tmp_path: Path) -> None:
    cluster = OnePod(Mount("disk", str(tmp_path), sub_path="db"))
    error = await _error(cluster, Program.AGENT, "python:3")
    assert isinstance(error, TargetError)
    assert "is the subPath db of its volume, which an ephemeral container cannot mount" in str(error)
    assert cluster.added == []


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (RefusedError("violates PodSecurity"), TargetError, "violates PodSecurity"),
        (ForbiddenError("cannot patch"), RightsError, "patch on pods/ephemeralcontainers in default is not allowed"),
        (ConflictError("other uid"), NotReadyError, "was replaced"),
    ],
)
async def test_why_an_agent_cannot_be_added(
    cluster: OnePod, refusal: ChaosdError, kind: type[ChaosdError], words: str
) -> None:
    cluster.refusal = refusal
    error = await _error(cluster, Program.AGENT, "python:3")
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    ("becomes", "kind", "words"),
    [
        ({"waiting": "ErrImagePull"}, NotReadyError, "does not run after 1 s: ErrImagePull"),
        ({}, NotReadyError, "does not run after 1 s: it was not started"),
        ({"id": "c://1", "ended": "Error"}, TargetError, "its container says Error: set target.probeImage"),
        ({"waiting": "RunContainerError"}, TargetError, "its container says RunContainerError: set target.probeImage"),
    ],
)
async def test_an_agent_that_does_not_run(
    cluster: OnePod, becomes: dict[str, str], kind: type[ChaosdError], words: str
) -> None:
    cluster.becomes = becomes
    error = await _error(cluster, Program.AGENT, "python:3", 1.0)
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize("state", [{"waiting": "RunContainerError"}, {"id": "c://1", "ended": "StartError"}])
async def test_an_image_that_cannot_run_it_is_not_tried_in_container_after_container(
    cluster: OnePod, state: dict[str, str]
) -> None:
    cluster.becomes = state
    for _ in range(3):
        assert "its container says" in str(await _error(cluster, Program.AGENT, "nginx"))
    assert len(cluster.added) == 1


@pytest.mark.parametrize("program", list(Program))
async def test_a_pod_that_is_replaced_meanwhile_has_no_session(cluster: OnePod, program: Program) -> None:
    cluster.replaced_on_exec = True
    error = await _error(cluster, program, "python:3" if program is Program.AGENT else "")
    assert isinstance(error, NotReadyError)
    assert "was replaced while a session was opened" in str(error)


async def test_a_container_that_stops_meanwhile_is_not_ready_and_lacks_nothing(cluster: OnePod) -> None:
    cluster.restarts_on_exec = True
    error = await _error(cluster)
    assert isinstance(error, NotReadyError)
    assert "container app stopped while a session was opened" in str(error)


async def test_a_session_ends_its_process(cluster: OnePod) -> None:
    async with _session(cluster) as session:
        pass
    with pytest.raises(SessionLostError):
        await session.names()


@pytest.fixture
def in_memory() -> Iterator[str]:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("program", list(Program))
async def test_nothing_in_memory_is_cold(in_memory: str, program: Program) -> None:
    """Linux 6.6 and later open files on tmpfs with O_DIRECT, and read what they have."""
    data = os.urandom(5000)
    async with _session(OnePod(Mount("disk", in_memory)), program) as session:
        assert session.facts.in_memory
        await session.begin(b"{}")
        await session.store({"1": data})
        sums = await session.sums(["1", "2"], len(data))
        assert (sums["1"].digest, sums["1"].cache) == (hashlib.sha256(data).hexdigest(), "cached")
        assert (sums["2"].absent, sums["2"].cache) == (True, "")
        assert await session.fetch("1", len(data)) == (data, "cached")


async def test_two_sessions_may_be_open_at_once(cluster: OnePod) -> None:
    async with _session(cluster) as one, _session(cluster, Program.AGENT) as other:
        await one.begin(b"{}")
        await asyncio.gather(one.store({"1": b"one"}), other.store({"2": b"two"}))
        assert {*await one.names()} == {*await other.names()} == {"1", "2", "stage"}
