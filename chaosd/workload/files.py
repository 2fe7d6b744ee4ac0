"""`files`: checksummed files, written once, read back after every disruption, and deleted when room is needed.

One worker serves one replica. It keeps a probe session with whatever pod has the replica's name, and opens another when
that pod is gone. Every act is journaled before it and after it; a checksum is taken just before the write and just
after the read.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Annotated, Any, Literal

import stamina
from pydantic import BaseModel, ConfigDict, Field, model_validator

from chaosd import payload
from chaosd.checkers.integrity import Integrity, Record, compress, expand
from chaosd.checkers.verdict import Binding
from chaosd.cluster.observer import Observer, View
from chaosd.cluster.port import Claim, Cluster, Pod, Volume
from chaosd.errors import (
    ClusterError,
    DeadlineError,
    ForbiddenError,
    NotFoundError,
    NotReadyError,
    ProbeError,
    SessionLostError,
    TargetError,
)
from chaosd.history import Event, Kind, Op
from chaosd.probe.protocol import Sum
from chaosd.probe.session import Place, Session, open_session
from chaosd.quantities import Bytes

Journal = Callable[[list[Event]], Awaitable[list[Op]]]
IDENTITY_FORMAT = 1
PREPARE_ATTEMPTS = 3


class Share(BaseModel):
    """What the files of one replica may take of its volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: Annotated[Bytes, Field(ge=payload.BLOCK_BYTES, description="Bytes on each volume, such as 256Mi.")] = 256 << 20
    files: Annotated[int, Field(ge=1, le=100_000, description="Files on each volume.")] = 2_000


class Files(BaseModel):
    """Write-once files."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: Literal["files"] = "files"
    files: Annotated[int, Field(ge=0, le=10_000, description="Files to each replica in each round, at least.")] = 20
    size: Annotated[
        Bytes, Field(ge=payload.BLOCK_BYTES, le=16 << 20, description="Bytes of a file, a multiple of 4Ki.")
    ] = 64 << 10
    share: Share = Share()
    retire_after: Annotated[
        int, Field(alias="retireAfter", ge=1, description="Intact readings after which a file may make room.")
    ] = 2
    keep: Annotated[float, Field(ge=0, le=1, description="Fraction of the files that stays for the whole run.")] = 0.05

    @model_validator(mode="after")
    def _whole_blocks(self) -> Files:
        if self.size % payload.BLOCK_BYTES:
            raise ValueError(f"size must be a multiple of 4Ki ({payload.BLOCK_BYTES} bytes), not {self.size}")
        if self.files > self.share.files or self.files * self.size > self.share.bytes:
            raise ValueError("the files of one round do not fit into the share: raise share, or lower files or size")
        return self


class Worker:
    """Writes, reads, lists and deletes the files of one replica. Each method returns how many files it was sure of, and
    raises nothing that the cluster or the probe can cause: that is in the history."""

    def __init__(
        self,
        cluster: Cluster,
        observer: Observer,
        place: Place,
        pod: str,
        journal: Journal,
        integrity: Integrity,
        *,
        seed: int,
        spec: Files,
        timeout_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._observer = observer
        self._place = place
        self._pod = pod
        self._process = place.target.replica(pod)
        self._journal = journal
        self._integrity = integrity
        self._seed = seed
        self._spec = spec
        self._timeout_seconds = timeout_seconds
        self._session: Session | None = None
        self._begun = False
        self._made_folder = False
        self._held = AsyncExitStack()

    async def close(self) -> None:
        """End the session."""
        self._session, self._begun = None, False
        await self._held.aclose()

    async def prepare(self, *, writes: bool) -> None:
        """Open a session and, where there will be `writes`, check that there is room for the share and that the volume is
        the replica's own, and make the folders. A session that breaks meanwhile is opened again. Raises what stands in the
        way: NotReadyError, TargetError, ProbeError, ClusterError, DeadlineError."""
        async for attempt in stamina.retry_context(on=SessionLostError, attempts=PREPARE_ATTEMPTS, wait_initial=0.2):
            with attempt:
                await self.close()
                await self._prepare(writes)

    async def _prepare(self, writes: bool) -> None:
        session = await self._session_for(writes=False)
        if not writes:
            return
        facts, share = session.facts, self._spec.share
        where = f"{self._process}: {self._place.target.path}"
        if facts.free_bytes is not None and facts.free_bytes < share.bytes:
            raise NotReadyError(
                f"{where} has {facts.free_bytes} bytes free, the share is {share.bytes}: make room, or lower "
                "workload.share.bytes"
            )
        if facts.free_files is not None and facts.free_files < share.files:
            raise NotReadyError(
                f"{where} has {facts.free_files} inodes free, the share is {share.files} files: make room, or lower "
                "workload.share.files"
            )
        try:
            # The run's folder has a name of its own: who finds it before having made it shares the volume.
            if not self._made_folder and await session.names():
                raise TargetError(f"{where} is shared with another replica: name a path on a volume of the replica's own")
            self._made_folder = True
            await self._session_for(writes=True)
        except SessionLostError:
            raise
        except ProbeError as error:
            raise NotReadyError(f"{where} cannot be written: {error}") from error

    async def write(self, first: int, count: int) -> int:
        """Write `count` new files from sequence `first` on; returns how many were acknowledged."""
        session = await self._ready_session(writes=True)
        if session is None:
            return 0
        origin = self._integrity.replicas[self._process].origin
        assert origin is not None, "journaled by _open"
        files: dict[int, bytes] = {}
        for sequence in range(first, first + count):
            label = payload.Label(origin, sequence, payload.blocks_in(self._spec.size))
            files[sequence] = payload.make_file(self._seed, label)
        await self._journal([self._event("write", Kind.INVOKE, _invocation(s, data)) for s, data in files.items()])
        try:
            stored = await session.put({_name(s): data for s, data in files.items()})
        except ProbeError as error:
            await self._lost(error)
            await self._journal([self._event("write", Kind.INFO, {"sequence": s, "error": str(error)}) for s in files])
            return 0
        outcomes = [self._write_outcome(s, stored.durable, stored.failed, stored.unknown) for s in files]
        await self._journal(outcomes)
        return sum(1 for o in outcomes if o.kind is Kind.OK)

    async def read(self, sequences: Iterable[int]) -> int:
        """Read files back and say what they are; returns how many were read, intact or not."""
        session = await self._ready_session()
        if session is None:
            return 0
        wanted = [s for s in sequences if self._record(s)]
        await self._journal([self._event("read", Kind.INVOKE, {"sequences": compress(wanted)})])
        try:
            sums = await session.sums([_name(s) for s in wanted], self._spec.size)
            outcomes = await self._findings(session, wanted, sums)
        except ProbeError as error:
            await self._lost(error)
            outcomes = [self._event("read", Kind.INFO, {"sequences": compress(wanted), "error": str(error)})]
        await self._journal(outcomes)
        return sum(len(list(expand(o.value["sequences"]))) for o in outcomes if o.kind is Kind.OK)

    async def survey(self) -> int:
        """List the run's folder; returns 1 when it could be."""
        session = await self._ready_session()
        if session is None:
            return 0
        await self._journal([self._event("list", Kind.INVOKE)])
        try:
            names = await session.names()
        except ProbeError as error:
            await self._lost(error)
            await self._journal([self._event("list", Kind.INFO, {"error": str(error)})])
            return 0
        present = compress(int(name) for name in names if name.isdigit())
        folder = f"{self._place.folder}/{self._place.run}"
        await self._journal([self._event("list", Kind.OK, {"present": present, "folder": folder})])
        return 1

    async def delete(self, sequences: Iterable[int]) -> int:
        """Delete files, with acknowledgement; returns how many are surely gone."""
        session = await self._ready_session()
        if session is None:
            return 0
        doomed = list(sequences)
        value = {"sequences": compress(doomed)}
        await self._journal([self._event("delete", Kind.INVOKE, value)])
        try:
            await session.drop([_name(s) for s in doomed])
        except ProbeError as error:
            await self._lost(error)
            await self._journal([self._event("delete", Kind.INFO, {**value, "error": str(error)})])
            return 0
        await self._journal([self._event("delete", Kind.OK, value)])
        return len(doomed)

    # Sessions.

    async def _ready_session(self, *, writes: bool = False) -> Session | None:
        """The session with the present pod, opened if need be; None, with the reason in the history, where none can be
        had by the deadline."""
        try:
            return await self._session_for(writes)
        except (ClusterError, ProbeError, NotReadyError, DeadlineError) as error:
            await self.close()
            await self._journal([self._event("open", Kind.FAIL, {"error": str(error)})])
            return None

    async def _session_for(self, writes: bool) -> Session:
        pod = await self._observer.wait(self._ready_pod, self._timeout_seconds, f"{self._pod} to be Ready")
        if self._session and (self._session.pod.uid != pod.uid or self._session.expired):
            await self.close()
        session = self._session or await self._open()
        if writes and not self._begun:
            await session.begin(self._identity())
            self._begun = True
        return session

    def _ready_pod(self, view: View) -> Pod | None:
        pod = view.pods.get(self._pod)
        return pod if pod and pod.ready and not pod.deleting else None

    async def _open(self) -> Session:
        opening = open_session(self._cluster, self._place, self._pod, self._timeout_seconds)
        session = await self._held.enter_async_context(opening)
        binding = await self._binding(session.pod)
        await self._journal([self._event("open", Kind.OK, self._opened(session, binding))])
        self._session = session
        return session

    async def _binding(self, pod: Pod) -> Binding:
        """What the pod's path stands on, read anew."""
        name = pod.claims.get(self._place.target.template, "")
        if not name:
            return Binding(node=pod.node)
        claim = await self._cluster.get(Claim, pod.namespace, name)
        handle = ""
        try:
            handle = (await self._cluster.get(Volume, "", claim.volume)).handle if claim.volume else ""
        except (ForbiddenError, NotFoundError):
            handle = ""  # the binding checker says that volumes cannot be seen
        return Binding(name, claim.uid, claim.volume, handle, pod.node)

    def _opened(self, session: Session, binding: Binding) -> dict[str, Any]:
        facts, pod = session.facts, session.pod
        return {
            "run": self._place.run,
            "pod_uid": pod.uid,
            "binding": asdict(binding),
            "hostname": facts.hostname,
            "boot_id": facts.boot_id,
            "path": self._place.target.path,
            "mounted": facts.mounted,
            "mountinfo": facts.mountinfo,
            "entries": list(facts.entries[:20]),
            "identity": _parse_identity(facts.identity),
        }

    def _identity(self) -> bytes:
        replica = self._integrity.replicas[self._process]
        assert replica.origin is not None, "journaled by _open"
        named = {"format": IDENTITY_FORMAT, "replica": self._process, "run": self._place.run}
        named |= {"claim_uid": replica.origin.claim_uid, "handle": replica.origin.handle}
        return json.dumps(named, separators=(",", ":")).encode()

    async def _lost(self, error: ProbeError) -> None:
        if isinstance(error, SessionLostError):
            await self.close()

    # What the history is told.

    def _event(self, f: str, kind: Kind, value: Mapping[str, Any] | None = None) -> Event:
        return Event(self._process, f, kind, value or {})

    def _record(self, sequence: int) -> Record | None:
        replica = self._integrity.replicas[self._process]
        return replica.owed.get(sequence) or replica.maybe.get(sequence)

    def _write_outcome(self, sequence: int, durable: frozenset[str], failed: Mapping[str, str], unknown: str) -> Event:
        name = _name(sequence)
        if name in durable:
            return self._event("write", Kind.OK, {"sequence": sequence, "length": self._spec.size})
        if name in failed:
            return self._event("write", Kind.FAIL, {"sequence": sequence, "error": failed[name]})
        return self._event("write", Kind.INFO, {"sequence": sequence, "error": unknown})

    async def _findings(self, session: Session, wanted: list[int], sums: Mapping[str, Sum]) -> list[Event]:
        """One event for all that are intact and read alike, one for each that is not."""
        intact: dict[str, list[int]] = {}
        events = []
        for sequence in wanted:
            told, record = sums[_name(sequence)], self._record(sequence)
            assert record is not None, "wanted are records"
            if told.digest == record.digest:
                intact.setdefault(told.cache, []).append(sequence)
            else:
                events.append(await self._damaged(session, sequence, record, told))
        for cache, read in intact.items():
            length = sum(r.length for s in read if (r := self._record(s)))
            value = {"sequences": compress(read), "finding": "intact", "cache": cache, "bytes": length}
            events.append(self._event("read", Kind.OK, value))
        return events

    async def _damaged(self, session: Session, sequence: int, record: Record, told: Sum) -> Event:
        value: dict[str, Any] = {
            "sequences": [[sequence, sequence]],
            "file": self._place.path(_name(sequence)),
            "pod_uid": session.pod.uid,
        }
        if told.absent:
            return self._event("read", Kind.OK, {**value, "finding": "missing", "cache": told.cache})
        if told.irregular:
            evidence = {"condition": "no regular file", "found": told.irregular}
            return self._event("read", Kind.OK, {**value, "finding": "corrupt", "cache": "", "evidence": evidence})
        if told.error:
            return self._event("read", Kind.FAIL, {**value, "error": told.error})
        try:
            found, cache = await session.fetch(_name(sequence), record.length)
        except SessionLostError:
            raise
        except ProbeError as error:
            return self._event("read", Kind.FAIL, {**value, "error": str(error)})
        finding = payload.examine(found, self._seed, record.label(sequence))
        if finding.state is payload.State.INTACT or (found and payload.digest(found) != told.digest):
            differ = "two readings differ: the digest told, and the bytes fetched"
            return self._event("read", Kind.FAIL, {**value, "error": differ, "contradicted": True, "digest": told.digest})
        told_of = {"finding": str(finding.state), "cache": cache, "block": finding.block, "evidence": finding.evidence}
        return self._event("read", Kind.OK, {**value, **told_of})


def _name(sequence: int) -> str:
    return f"{sequence:08d}"


def _invocation(sequence: int, data: bytes) -> dict[str, Any]:
    return {"sequence": sequence, "length": len(data), "digest": payload.digest(data)}


def _parse_identity(text: str) -> dict[str, Any] | None:
    """The identity file's content; what is no JSON object is kept as it is, for the evidence."""
    if not text:
        return None
    try:
        named = json.loads(text)
    except ValueError:
        named = None
    return named if isinstance(named, dict) else {"unreadable": text[:200]}
