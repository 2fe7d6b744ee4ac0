"""A session: one long-lived probe process in a pod's container, and the requests that it answers.

exec has no precondition on a UID, and a new web-1 has the old one's name. So the pod's UID and container id are read,
the process is started, and they are read again: only equal values bind the session to that pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chaosd.cluster.port import Cluster, ExecStream, Pod
from chaosd.cluster.target import Target
from chaosd.errors import NotReadyError, ProbeError, RefusedError, SessionLostError, TargetError
from chaosd.probe import protocol
from chaosd.probe.protocol import Facts, Stored, Sum

# The probe ends itself after this time; sessions are opened anew before it.
LIFETIME_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe works: the folder of one run on one target's volume. `epoch` is in every nonce, so that a reply to
    an earlier leader is never taken for one of ours."""

    target: Target
    folder: str
    run: str
    epoch: str

    def path(self, name: str) -> str:
        """A file of the run, relative to the volume's mount."""
        return f"{self.folder}/{self.run}/{name}"


class Session:
    """Requests to one probe, one at a time. Every method raises SessionLostError when the reply did not come whole, and
    ProbeError when the probe could not do it."""

    def __init__(self, stream: ExecStream, pod: Pod, place: Place, timeout_seconds: float) -> None:
        self.pod = pod
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

    async def put(self, files: Mapping[str, bytes]) -> Stored:
        """Store new files durably."""
        arguments, data = protocol.put_request(files)
        return protocol.read_stored(files, await self._ask("put", arguments, data))

    async def sums(self, names: Sequence[str], length: int) -> dict[str, Sum]:
        """Digests of the files, at most MAX_NAMES of them, each as far as just beyond `length` bytes; a file that the reply
        leaves out has an error."""
        told = protocol.read_sums(await self._ask("sums", f"{protocol.blocks(length)} {' '.join(names)}"))
        return {name: told.get(name, Sum(error="the probe said nothing of it")) for name in names}

    async def fetch(self, name: str, length: int) -> tuple[bytes, str]:
        """The bytes of a file, as far as just beyond `length`, and `cold` or `cached`."""
        return protocol.read_bytes(await self._ask("fetch", f"{protocol.blocks(length)} {name}"))

    async def names(self) -> list[str]:
        """Names in the run's folder."""
        return protocol.read_names(await self._ask("list"))

    async def drop(self, names: Sequence[str]) -> None:
        """Delete files durably."""
        protocol.refuse_failure(await self._ask("drop", " ".join(names)))

    async def hello(self) -> None:
        """Take in the facts."""
        self.facts = protocol.read_facts(await self._ask("hello"))

    async def _ask(self, verb: str, arguments: str = "", data: bytes = b"") -> list[str]:
        self._requests += 1
        nonce = f"{self.place.epoch}-{self._requests}"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._stream.write(f"{nonce} {verb} {arguments}\n".encode() + data)
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
    """A session with the pod that has this name now.

    Raises NotReadyError when the pod is not running or was replaced meanwhile, TargetError when its container cannot
    run the probe, SessionLostError, ClusterError.
    """
    target = place.target
    pod = await cluster.get(Pod, target.namespace, pod_name)
    if not _container_id(pod, target.container) or pod.deleting:
        raise NotReadyError(f"{target.namespace}/{pod_name}: container {target.container} is not running")
    argv = protocol.argv(target.path, place.folder, place.run, LIFETIME_SECONDS)
    try:
        async with cluster.exec(target.namespace, pod_name, target.container, argv) as stream:
            session = Session(stream, pod, place, timeout_seconds)
            await session.hello()
            again = await cluster.get(Pod, target.namespace, pod_name)
            if (again.uid, _container_id(again, target.container)) != (pod.uid, _container_id(pod, target.container)):
                raise NotReadyError(f"{target.namespace}/{pod_name} was replaced while a session was opened")
            if session.facts.lacks:
                raise TargetError(_lacking(target, pod_name, ", ".join(session.facts.lacks)))
            yield session
    except RefusedError as error:
        raise TargetError(_lacking(target, pod_name, f"sh: {error}")) from error


def _lacking(target: Target, pod: str, what: str) -> str:
    return (
        f"{target.namespace}/{pod}: container {target.container} cannot run the probe, it lacks {what}: "
        "name a container with a POSIX shell and coreutils or busybox that mounts the path"
    )


def _container_id(pod: Pod, container: str) -> str:
    return next((c.id for c in pod.containers if c.name == container), "")


def _checked(reply: bytes, last: bytes) -> list[str]:
    lines = reply.decode(errors="replace").splitlines()
    promised = int(last.split()[2])
    if len(lines) < promised:
        raise ProbeError(f"the probe's reply has {len(lines)} lines, it said {promised}")
    return lines
