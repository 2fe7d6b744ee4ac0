"""A session: one long-lived probe process beside the volume, and the requests that it answers.

exec has no precondition on a UID, and a new web-1 has the old one's name. So the pod's UID and container id are read,
the process is started, and they are read again: only equal values bind the session to that pod.

The shell program runs in the target's own container. The agent runs there too where no image is given for it, else in an
ephemeral container that mounts the same volume: what it then tells of mounts is of its own container, not of the target's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from chaosd.cluster.port import Cluster, ExecStream, Pod
from chaosd.cluster.target import Target
from chaosd.errors import DeniedError, NotReadyError, ProbeError, RefusedError, SessionLostError, TargetError
from chaosd.probe import protocol
from chaosd.probe.agent_container import agent_container
from chaosd.probe.protocol import Facts, Program, Stored, Sum

# The probe ends itself after this time; sessions are opened anew before it.
LIFETIME_SECONDS = 900
_NOTHING: Mapping[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe works: the folder of one run on one target's volume. `epoch` is in every nonce, so that a reply to
    an earlier leader is never taken for one of ours. `program` None is the shell where the container has one, else the
    agent; `image`, which has python3, is where the agent runs, in the target's own container where that is empty."""

    target: Target
    folder: str
    run: str
    epoch: str
    program: Program | None = None
    image: str = ""

    def path(self, name: str) -> str:
        """A file of the run, relative to the volume's mount."""
        return f"{self.folder}/{self.run}/{name}"


class Session:
    """Requests to one probe, one at a time. Every method raises SessionLostError when the reply did not come whole, and
    ProbeError when the probe could not do it."""

    def __init__(
        self, stream: ExecStream, pod: Pod, place: Place, program: Program, container: str, timeout_seconds: float
    ) -> None:
        self.pod = pod
        self.program = program
        self.container = container
        self.facts: Facts = protocol.read_facts(())
        self.place = place
        self.opened_at = asyncio.get_running_loop().time()
        self._stream = stream
        self._timeout_seconds = timeout_seconds
        self._requests = 0
        self._buffer = b""

    @property
    def expired(self) -> bool:
        """Whether it should be opened anew, with time to spare for a request under way."""
        return asyncio.get_running_loop().time() - self.opened_at > LIFETIME_SECONDS / 2

    async def begin(self, identity: bytes) -> None:
        """Make the folders, and write `identity` (one line) where no identity file is."""
        data = identity + b"\n"
        protocol.refuse_failure(await self._ask("begin", "", f"{len(data)}\n".encode() + data))

    async def store(
        self,
        put: Mapping[str, bytes] = _NOTHING,
        overwrite: Mapping[str, bytes] = _NOTHING,
        append: Mapping[str, bytes] = _NOTHING,
    ) -> Stored:
        """Durably: put new files or others in the place of old ones, then write over files in place, then write at the end
        of files. A file has one of them."""
        names = (*put, *overwrite, *append)
        asked = self._ask("store", *protocol.write_request(put, overwrite, append))
        del put, overwrite, append  # one copy waits for the reply
        return protocol.read_stored(names, await asked)

    async def sums(self, names: Sequence[str], length: int) -> dict[str, Sum]:
        """Digests of the files, at most MAX_NAMES of them, each as far as just beyond `length` bytes; a file that the reply
        leaves out has an error."""
        told = protocol.read_sums(await self._ask("sums", f"{protocol.blocks(length)} {' '.join(names)}"))
        sums = {name: told.get(name) or Sum(error="the probe said nothing of it") for name in names}
        if not self._reads_from_memory:
            return sums
        return {name: replace(found, cache=self._cache(found.cache)) for name, found in sums.items()}

    async def fetch(self, name: str, length: int) -> tuple[bytes, str]:
        """The bytes of a file, as far as just beyond `length`, and `cold` or `cached`."""
        data, cache = protocol.read_bytes(await self._ask("fetch", f"{protocol.blocks(length)} {name}"))
        return data, self._cache(cache)

    async def names(self) -> list[str]:
        """Names in the run's folder."""
        return protocol.read_names(await self._ask("list"))

    async def drop(self, names: Sequence[str]) -> None:
        """Delete files durably."""
        protocol.refuse_failure(await self._ask("drop", " ".join(names)))

    async def hello(self) -> None:
        """Take in the facts."""
        self.facts = protocol.read_facts(await self._ask("hello"))

    def _cache(self, told: str) -> str:
        return "cached" if told and self._reads_from_memory else told

    @property
    def _reads_from_memory(self) -> bool:
        """Whatever the program believes: the shell takes O_DIRECT at its word, the agent proves what it says."""
        return self.facts.in_memory or (self.program is Program.SHELL and self.facts.journals_data)

    async def _ask(self, verb: str, arguments: str = "", data: bytes = b"") -> list[str]:
        self._requests += 1
        nonce = f"{self.place.epoch}-{self._requests}"
        data = f"{nonce} {verb} {arguments}\n".encode() + data  # what was given goes: one copy waits for the reply
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._stream.write(data)
                return await self._reply(nonce)
        except TimeoutError as error:
            raise SessionLostError(f"{verb}: no whole reply within {self._timeout_seconds:.0f} s") from error

    async def _reply(self, nonce: str) -> list[str]:
        end = f"{nonce} end ".encode()
        while True:
            at = 0 if self._buffer.startswith(end) else self._buffer.find(b"\n" + end) + 1
            if (at or self._buffer.startswith(end)) and (stop := self._buffer.find(b"\n", at)) >= 0:
                reply, last = self._buffer[:at], self._buffer[at:stop]
                self._buffer = self._buffer[stop + 1 :]
                return _checked(reply, last)
            piece = await self._stream.read()
            if not piece:
                why = self._stream.stderr.decode(errors="replace").strip()[-200:]
                raise SessionLostError(f"the probe ended with status {self._stream.exit_status} {why}".strip())
            self._buffer += piece


@asynccontextmanager
async def open_session(cluster: Cluster, place: Place, pod_name: str, timeout_seconds: float) -> AsyncIterator[Session]:
    """A session with the pod that has this name now. An ephemeral container for the agent is added where none is there
    yet; it stays, since Kubernetes takes none away before the pod goes.

    Raises NotReadyError when the pod or the agent's container is not running or the pod was replaced meanwhile,
    TargetError when no container can run the probe, RightsError, SessionLostError, ClusterError.
    """
    async with AsyncExitStack() as held:
        yield await _opened(cluster, place, pod_name, timeout_seconds, held)


async def _opened(cluster: Cluster, place: Place, pod_name: str, timeout_seconds: float, held: AsyncExitStack) -> Session:
    if place.program is not Program.AGENT:
        try:
            return await _started(cluster, place, pod_name, Program.SHELL, timeout_seconds, held)
        except TargetError:
            if place.program is Program.SHELL or not place.image:
                raise
    return await _started(cluster, place, pod_name, Program.AGENT, timeout_seconds, held)


async def _started(
    cluster: Cluster, place: Place, pod_name: str, program: Program, timeout_seconds: float, held: AsyncExitStack
) -> Session:
    """A session whose process `held` ends."""
    target = place.target
    pod = await cluster.get(Pod, target.namespace, pod_name)
    if not _container_id(pod, target.container) or pod.deleting:
        raise NotReadyError(f"{target.namespace}/{pod_name}: container {target.container} is not running")
    container = target.container
    if program is Program.AGENT and place.image:
        pod, container = await agent_container(cluster, target, pod, place.image, place.epoch, timeout_seconds)
    argv = protocol.argv(program, target.path, place.folder, place.run, LIFETIME_SECONDS)
    try:
        async with AsyncExitStack() as opening:
            stream = await opening.enter_async_context(cluster.exec(target.namespace, pod_name, container, argv))
            session = Session(stream, pod, place, program, container, timeout_seconds)
            await stream.write(protocol.opening(program))
            await session.hello()
            again = await cluster.get(Pod, target.namespace, pod_name)
            if (again.uid, _container_id(again, container)) != (pod.uid, _container_id(pod, container)):
                raise NotReadyError(f"{target.namespace}/{pod_name} was replaced while a session was opened")
            if session.facts.lacks:
                raise TargetError(_lacking(place, pod_name, program, ", ".join(session.facts.lacks)))
            held.push_async_exit(opening.pop_all())
            return session
    except DeniedError as error:
        mend = "ask who set that rule to let chaosd open one"
        raise NotReadyError(f"{target.namespace}/{pod_name}: no session may be opened in it: {error}: {mend}") from error
    except RefusedError as error:
        again = await cluster.get(Pod, target.namespace, pod_name)
        if (again.uid, _running_id(again, container)) != (pod.uid, _running_id(pod, container)):
            stopped = f"container {container} stopped while a session was opened"
            raise NotReadyError(f"{target.namespace}/{pod_name}: {stopped}: {error}") from error
        raise TargetError(_lacking(place, pod_name, program, f"{argv[0]}: {error}")) from error


def _lacking(place: Place, pod: str, program: Program, what: str) -> str:
    target = place.target
    if program is Program.AGENT and place.image:
        return (
            f"{target.namespace}/{pod}: image {place.image} cannot run the probe: {what}: set target.probeImage to another"
        )
    shell = "name a container with a POSIX shell and coreutils or busybox that mounts the path, or "
    return (
        f"{target.namespace}/{pod}: container {target.container} cannot run the probe, it lacks {what}: "
        f"{shell if program is Program.SHELL else ''}set target.probeImage to an image with python3"
    )


def _running_id(pod: Pod, container: str) -> str:
    """Empty where it does not run."""
    return next((c.id for c in (*pod.containers, *pod.ephemeral) if c.name == container and c.running), "")


def _container_id(pod: Pod, container: str) -> str:
    return next((c.id for c in (*pod.containers, *pod.ephemeral) if c.name == container), "")


def _checked(reply: bytes, last: bytes) -> list[str]:
    lines = reply.decode(errors="replace").splitlines()
    promised = int(last.split()[2])
    if len(lines) < promised:
        raise ProbeError(f"the probe's reply has {len(lines)} lines, it said {promised}")
    return lines
