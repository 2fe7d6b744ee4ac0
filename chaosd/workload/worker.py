"""The worker of one replica: writes files, registers and a log, reads them back after every disruption, and deletes files
when room is needed.

It keeps a probe session with whatever pod has the replica's name, and opens another when that pod is gone. Every act is
journaled before it and after it; a checksum is taken just before the write and just after the read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from chaosd import payload
from chaosd.checkers.integrity import MISSING, UNSETTLED, Integrity
from chaosd.checkers.records import (
    Document,
    How,
    Record,
    Replica,
    compress,
    how_many,
    is_document_name,
    log_name,
    name_of,
    register_name,
    sequence_of,
)
from chaosd.checkers.verdict import Binding
from chaosd.cluster.inflight import patiently
from chaosd.cluster.observer import Observer, View
from chaosd.cluster.port import Claim, Cluster, Pod, Volume
from chaosd.errors import (
    ChaosdError,
    ClusterError,
    DeadlineError,
    ForbiddenError,
    NoRoomError,
    NotFoundError,
    NotReadyError,
    ProbeError,
    SessionLostError,
    TargetError,
)
from chaosd.history import Event, Kind, Op
from chaosd.probe.protocol import Facts, Stored, Sum
from chaosd.probe.session import Place, Session, open_session
from chaosd.workload import document, in_flight
from chaosd.workload.spec import LOGS_AT_ONCE, Workload

Journal = Callable[[list[Event]], Awaitable[list[Op]]]
IDENTITY_FORMAT = 1
# What to do about a path that cannot be written.
MAKE_WRITABLE = "mount it writable, or name a container that does with target.container"
PREPARE_ATTEMPTS = 6
_STAGE = "stage"
# A ULID, as runs are named; other folders beside them are not chaosd's.
_RUN = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class Worker:
    """Writes, reads, lists and deletes the files of one replica. Each method returns how many of them it was sure of, and
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
        spec: Workload,
        timeout_seconds: float,
        note: Callable[[], Awaitable[None]],
    ) -> None:
        """`note` makes sure that a ledger which loses what is in it now will be known to have lost it. Raises
        ClusterError."""
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
        self._note = note
        self._session: Session | None = None
        self._begun = False
        self._told_at = -1
        self._made_folder = False
        self._fits = False
        self._known_before = self._process in integrity.replicas  # to a chaosd that died
        self._opened_before = False
        self._held = AsyncExitStack()

    async def close(self) -> None:
        """End the session."""
        self._session, self._begun = None, False
        await self._held.aclose()

    @property
    def older_runs(self) -> tuple[str, ...]:
        """Other runs whose folders stand on the volume, as the present session told."""
        return _other_runs(self._session.facts, self._place.run) if self._session else ()

    @property
    def space(self) -> tuple[int, int] | None:
        """Bytes that are free on the volume, and in all, as the present session told; None where it did not."""
        facts = self._session.facts if self._session else None
        if facts is None or facts.free_bytes is None or facts.total_bytes is None:
            return None
        return facts.free_bytes, facts.total_bytes

    async def prepare(self, *, writes: bool) -> None:
        """Open a session and, where there will be `writes`, check that the volume is the replica's own and has room for the
        share, and make the folders. A session that breaks meanwhile is opened again. Raises what stands in the
        way: NotReadyError, TargetError, ProbeError, ClusterError, DeadlineError."""
        async for attempt in patiently(self._timeout_seconds, PREPARE_ATTEMPTS, also=(SessionLostError,)):
            with attempt:
                await self.close()
                await self._prepare(writes)

    async def _prepare(self, writes: bool) -> None:
        session = await self._session_for(writes=False)
        if not writes:
            return
        where = f"{self._process}: {self._place.target.path}"
        try:
            # The run's folder has a name of its own: who finds it before having made it shares the volume.
            if self._known_before:
                await self.survey()  # nothing was written before the first round, as far as the ledger knows
            elif not self._made_folder and await session.names():
                raise TargetError(f"{where} is shared with another replica: name a path on a volume of the replica's own")
            self._made_folder = True
            await self._session_for(writes=True)
        except SessionLostError:
            raise
        except ProbeError as error:
            raise NotReadyError(f"{where} cannot be written: {error}: {MAKE_WRITABLE}") from error

    async def write(self, count: int) -> int:
        """Write `count` new files, a new value of every register, and an entry of the log; returns how many files were
        acknowledged."""
        await self._read_before_they_are_overwritten()
        session = await self._ready_session(writes=True)
        if session is None:
            return 0
        async with in_flight.WRITES.holding(self._spec.bytes_at_once(count)):
            return await self._write(session, count)

    async def _write(self, session: Session, count: int) -> int:
        records, contents = self._batch(count)
        if not records:
            return 0
        await self._journal([self._event("write", Kind.INVOKE, _invocation(record)) for record in records])
        try:
            stored = await session.store(*_taken(records, contents))
        except ProbeError as error:
            await self._lost(error)
            stored = Stored(frozenset(), {}, {record.file: str(error) for record in records})
        events = [self._write_outcome(record, stored) for record in records]
        await self._journal(events)
        if any(event.kind is not Kind.OK for event in events):
            await self.close()  # the next session tells what the path stands on now
        return sum(1 for record in records if record.how is How.CREATE and record.file in stored.durable)

    async def _read_before_they_are_overwritten(self) -> None:
        """Registers that something may have harmed, so that what they hold is seen before it is gone."""
        replica = self._integrity.replicas.get(self._process)
        if replica and (unseen := [r.sequence for known in replica.registers.values() for r in self._unseen(known)]):
            await self.read(unseen)

    def _unseen(self, known: Document) -> list[Record]:
        """Of a register, the values that were neither written nor read since something may have harmed them."""
        replica = self._replica
        records = document.records_in(replica, known)
        return [r for r in records if max(r.read_at, r.written_at) < replica.at_risk_since]

    def _may_not_be_overwritten(self, known: Document) -> bool:
        """A later value would hide an older one that came back, or an unanswered one could land over it."""
        return bool(self._unseen(known)) or document.is_in_doubt(known, self._pod_uid)

    def _batch(self, count: int) -> tuple[list[Record], dict[str, bytes]]:
        """The records to write, each in a file of its own, and their bytes, by file."""
        replica, spec = self._replica, self._spec
        origin, first = replica.origin, replica.next_sequence
        assert origin is not None, "journaled by _open"
        due = [(name_of(sequence), How.CREATE, spec.size) for sequence in range(first, first + count)]
        due += [(name, how, spec.registers.size) for name, how in self._registers_due()]
        due += [(log, How.APPEND, spec.log.size)] if (log := self._open_log()) else []
        records, contents = [], {}
        for sequence, (file, how, length) in enumerate(due, first):
            record = Record(origin, sequence, file, how, length, "", -1)
            contents[file] = data = payload.make_record(self._seed, record.label)
            record.digest = payload.digest(data)
            records.append(record)
        return records, contents

    def _registers_due(self) -> Iterator[tuple[str, How]]:
        """How each register is written next."""
        replica = self._replica
        for number in range(self._spec.registers.count):
            name = register_name(number)
            known = replica.registers.get(name)
            if name in replica.broken or (known and self._may_not_be_overwritten(known)):
                continue
            in_place = number % 2 and known and known.acknowledged_at >= 0
            yield name, How.OVERWRITE if in_place else How.REPLACE

    def _open_log(self) -> str:
        """The log to append to; empty where none may be begun before an older one was deleted."""
        replica, entries = self._replica, self._spec.log.entries
        for name, known in replica.logs.items():
            if not known.in_doubt and len(known.entries) < entries:
                return name
        return log_name(replica.logs_begun) if entries and len(replica.logs) < LOGS_AT_ONCE else ""

    @property
    def _replica(self) -> Replica:
        return self._integrity.replicas[self._process]

    @property
    def _pod_uid(self) -> str:
        origin = self._replica.origin
        return origin.pod_uid if origin else ""

    async def read(self, sequences: Iterable[int]) -> int:
        """Read back the files in which these records stand, and say what they are; returns how many records were read,
        intact or not."""
        session = await self._ready_session()
        if session is None:
            return 0
        find = self._replica.find
        wanted = [record for s in sequences if (record := find(s))]
        asked = compress(record.sequence for record in wanted)
        await self._journal([self._event("read", Kind.INVOKE, {"sequences": asked})])
        try:
            files = {record.file: record for record in wanted}
            outcomes = await self._findings(session, files, await session.sums([*files], self._spec.longest_file))
        except ProbeError as error:
            await self._lost(error)
            outcomes = [self._event("read", Kind.INFO, {"sequences": asked, "error": str(error)})]
        await self._journal(outcomes)
        if any(o.value.get("evidence") or o.value.get("finding") == MISSING for o in outcomes):
            await self.close()  # the next session tells what the path stands on now
        return sum(how_many(o.value["sequences"]) for o in outcomes if o.kind is Kind.OK)

    async def survey(self) -> int:
        """List the run's folder, and look at what the path stands on; returns 1 when it could be."""
        session = await self._ready_session(looks=True)
        if session is None:
            return 0
        await self._journal([self._event("list", Kind.INVOKE)])
        try:
            names = await session.names()
        except ProbeError as error:
            await self._lost(error)
            await self._journal([self._event("list", Kind.INFO, {"error": str(error)})])
            return 0
        await self._journal([self._event("list", Kind.OK, self._listed(session, names))])
        return 1

    def _listed(self, session: Session, names: Sequence[str]) -> dict[str, Any]:
        """What stands in the run's folder: what may be chaosd's own, by its name, and what surely is not."""
        sequences = {name: sequence for name in names if (sequence := sequence_of(name)) is not None}
        documents = sorted(name for name in names if name not in sequences and is_document_name(name))
        strangers = sorted({*names} - {*sequences} - {*documents} - {_STAGE})
        return {
            "folder": f"{self._place.folder}/{self._place.run}",
            "pod_uid": session.pod.uid,
            "present": compress(sequences.values()),
            "documents": documents,
            **({"strangers": strangers} if strangers else {}),
        }

    async def delete(self, sequences: Iterable[int]) -> int:
        """Delete files, with acknowledgement; returns how many are surely gone."""
        session = await self._ready_session()
        if session is None:
            return 0
        doomed = list(sequences)
        files = list(dict.fromkeys(self._file_of(s) for s in doomed))
        value = {"sequences": compress(doomed)}
        await self._journal([self._event("delete", Kind.INVOKE, value)])
        try:
            await self._note()  # a ledger that forgets a delete would call the files lost
            await session.drop(files)
        except (ClusterError, ProbeError) as error:
            await self._lost(error)
            await self._journal([self._event("delete", Kind.INFO, {**value, "error": str(error)})])
            return 0
        await self._journal([self._event("delete", Kind.OK, value)])
        return len(doomed)

    def _file_of(self, sequence: int) -> str:
        record = self._replica.find(sequence) or self._replica.dropping.get(sequence)
        return record.file if record else name_of(sequence)

    # Sessions.

    async def _ready_session(self, *, writes: bool = False, looks: bool = False) -> Session | None:
        """The session with the present pod, opened if need be; one that `looks` has told what the path stands on since the
        last thing that may have changed it. None, with the reason in the history, where none can be had by the deadline."""
        try:
            return await self._session_for(writes, looks)
        except (ClusterError, ProbeError, NotReadyError, DeadlineError) as error:
            await self.close()
            refuses = {"refuses_writes": True} if isinstance(error, NoRoomError) else {}
            await self._journal([self._event("open", Kind.FAIL, {"error": str(error), **refuses})])
            return None

    async def _session_for(self, writes: bool, looks: bool = False) -> Session:
        pod = await self._observer.wait(self._ready_pod, self._timeout_seconds, f"{self._pod} to be Ready")
        if self._session and (self._session.pod.uid != pod.uid or self._session.expired):
            await self.close()
        known = self._session
        session = known or await self._open()
        begins = writes and not self._begun  # what changed must be seen before anything is made anew
        if known and (begins or (looks and self._told_at < self._replica.at_risk_since)):
            await session.hello()
            await self._told(session)
        if begins:
            self._refuse_lack_of_room(session)
            await session.begin(self._identity())
            self._begun = True
            if session.facts.identity is None:  # it was written just now, and must go on saying that
                await session.hello()
                await self._told(session)
        return session

    def _refuse_lack_of_room(self, session: Session) -> None:
        """Before the first write, also of a run that goes on: somebody may have filled the volume while chaosd was dead."""
        facts, (held_bytes, held_files) = session.facts, self._held_by_the_run()
        free_bytes = None if facts.free_bytes is None else facts.free_bytes + held_bytes
        free_files = None if facts.free_files is None else facts.free_files + held_files
        if not self._fits and (lacks := self._spec.share.lacks(free_bytes, free_files)):
            raise NoRoomError(f"{self._process}: {self._place.target.path} has {lacks}")
        self._fits = True

    def _held_by_the_run(self) -> tuple[int, int]:
        """Bytes and files that the run's own files may take on the volume."""
        replica, spec = self._replica, self._spec
        entries = sum(len(log.entries) for log in replica.logs.values())
        held = replica.bytes_held + len(replica.registers) * spec.registers.size + entries * spec.log.size
        return held, replica.files_held + len(replica.registers) + len(replica.logs)

    def _ready_pod(self, view: View) -> Pod | None:
        pod = view.pods.get(self._pod)
        return pod if pod and pod.ready and not pod.deleting else None

    async def _open(self) -> Session:
        opening = open_session(self._cluster, self._place, self._pod, self._timeout_seconds)
        try:
            session = await self._held.enter_async_context(opening)
        except TargetError as error:
            if not self._opened_before:
                raise
            # What the API server tells of a container may lag behind it: one that has just ended refuses as one does that
            # lacks the program, and its status, which open_session read again, still says that it runs.
            raise NotReadyError(f"what could be probed before cannot be now: {error}") from error
        self._opened_before = True
        await self._told(session)
        self._session = session
        return session

    async def _told(self, session: Session) -> None:
        """Journal what a session told, and what its pod's path stands on."""
        binding = await self._binding(session.pod)
        (op,) = await self._journal([self._event("open", Kind.OK, self._opened(session, binding))])
        self._told_at = op.index

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
        facts, pod, target = session.facts, session.pod, self._place.target
        container = next((c for c in pod.containers if c.name == target.container), None)
        mount = next((m for m in container.mounts if m.path == target.path), None) if container else None
        return {
            "run": self._place.run,
            "pod_uid": pod.uid,
            "program": session.program,
            "application_seen": session.container == target.container,
            "restarts": container.restarts if container else None,
            "binding": asdict(binding),
            "hostname": facts.hostname,
            "boot_id": facts.boot_id,
            "path": target.path,
            "pod_volume": f"{mount.volume}/{mount.sub_path} {binding.claim}" if mount else "",
            "mounted": facts.mounted,
            "mountinfo": facts.mountinfo,
            "mount_root": facts.mount_root,
            "node_disk": facts.node_disk,
            "device": facts.device,
            "read_only": facts.read_only,
            "fs_type": facts.fs_type,
            "fs_uuid": facts.uuid,
            "fsid": facts.fsid,
            "total_bytes": facts.total_bytes,
            "entries": list(facts.entries[:20]),
            "runs": list(_other_runs(facts, self._place.run)),
            "strangers": sorted((*facts.strays, *(name for name in facts.folders if not _RUN.fullmatch(name)))),
            "identity": _parse_identity(facts.identity),
            "identity_error": facts.identity_error,
        }

    def _identity(self) -> bytes:
        replica = self._integrity.replicas[self._process]
        assert replica.origin is not None, "journaled by _open"
        named = {"format": IDENTITY_FORMAT, "replica": self._process, "run": self._place.run}
        named |= {"claim_uid": replica.origin.claim_uid, "handle": replica.origin.handle}
        return json.dumps(named, separators=(",", ":")).encode()

    async def _lost(self, error: ChaosdError) -> None:
        if isinstance(error, SessionLostError):
            await self.close()

    # What the history is told.

    def _event(self, f: str, kind: Kind, value: Mapping[str, Any] | None = None) -> Event:
        return Event(self._process, f, kind, value or {})

    def _write_outcome(self, record: Record, stored: Stored) -> Event:
        value: dict[str, Any] = {"sequence": record.sequence}
        if record.file in stored.durable:
            more = {} if record.how is How.CREATE else {"how": str(record.how)}
            return self._event("write", Kind.OK, {**value, "length": record.length, **more})
        if record.file in stored.failed:
            return self._event("write", Kind.FAIL, {**value, "error": stored.failed[record.file]})
        return self._event("write", Kind.INFO, {**value, "error": stored.unknown[record.file]})

    async def _findings(self, session: Session, files: Mapping[str, Record], sums: Mapping[str, Sum]) -> list[Event]:
        """One event for all that are intact and read alike, one for each file that is not. `files` has a record of each."""
        intact: dict[str, dict[int, int]] = {}
        events = []
        for file, asked in files.items():
            records = self._records_beside(asked)
            told = sums[file]
            if told.digest and told.digest in self._allowed(records):
                lengths = intact.setdefault(told.cache, {})
                for record in records:
                    lengths[record.sequence] = record.length
            else:
                events.append(await self._otherwise(session, file, records, told))
        for cache, lengths in intact.items():
            value = {"sequences": compress(lengths), "finding": "intact", "cache": cache, "bytes": sum(lengths.values())}
            events.append(self._event("read", Kind.OK, {**value, "pod_uid": session.pod.uid}))
        return events

    def _records_beside(self, record: Record) -> list[Record]:
        """All records that stand in a record's file."""
        replica = self._replica
        known = replica.document(record)
        return document.records_in(replica, known) if known else [record]

    def _allowed(self, records: Sequence[Record]) -> set[str]:
        """Checksums of what may stand in a file."""
        if records[0].how is How.CREATE:
            return {records[0].digest}
        return document.digests_of(self._replica, records, self._seed)

    async def _otherwise(self, session: Session, file: str, records: Sequence[Record], told: Sum) -> Event:
        """What is said of a file whose checksum is not one of those that it may have."""
        value: dict[str, Any] = {
            "sequences": compress(record.sequence for record in records),
            "file": self._place.path(file),
            "pod_uid": session.pod.uid,
        }
        if told.absent:
            return self._event("read", Kind.OK, {**value, "finding": MISSING, "cache": told.cache})
        if told.irregular:
            evidence = {"condition": "no regular file", "found": told.irregular}
            return self._event("read", Kind.OK, {**value, "finding": "corrupt", "cache": "", "evidence": evidence})
        if told.error:
            return self._event("read", Kind.FAIL, {**value, "error": told.error})
        try:
            found, cache = await session.fetch(file, self._spec.longest_file)
        except SessionLostError:
            raise
        except ProbeError as error:
            return self._event("read", Kind.FAIL, {**value, "error": str(error)})
        if found and payload.digest(found) != told.digest:
            differ = "two readings differ: the digest told, and the bytes fetched"
            return self._event("read", Kind.FAIL, {**value, "error": differ, "contradicted": True, "digest": told.digest})
        judged = self._examined(found, records)
        told_of: dict[str, Any] = {"finding": str(judged.finding), "cache": cache}
        if judged.finding in (payload.State.INTACT, UNSETTLED):
            told_of["bytes"] = len(found)
        else:
            told_of |= {"block": judged.block, "evidence": judged.evidence}
        return self._event("read", Kind.OK, {**value, **told_of})

    def _examined(self, found: bytes, records: Sequence[Record]) -> document.Found:
        known = self._replica.document(records[0])
        if known:
            return document.examine(found, self._replica, known, self._seed)
        finding = payload.classify(found, self._seed, records[0].label)
        return document.Found(finding.state, finding.block, finding.evidence)


def _taken(records: Sequence[Record], contents: dict[str, bytes]) -> tuple[dict[str, bytes], ...]:
    """What is put, what is written over and what is appended. It is taken out of `contents`, so that whoever waits for the
    reply holds none of it."""
    of = {how: {r.file: contents.pop(r.file) for r in records if r.how is how} for how in How}
    return of[How.CREATE] | of[How.REPLACE], of[How.OVERWRITE], of[How.APPEND]


def _invocation(record: Record) -> dict[str, Any]:
    value = {"sequence": record.sequence, "length": record.length, "digest": record.digest}
    return value if record.how is How.CREATE else {**value, "file": record.file, "how": str(record.how)}


def _other_runs(facts: Facts, own: str) -> tuple[str, ...]:
    return tuple(name for name in facts.folders if name != own and _RUN.fullmatch(name))


def _parse_identity(text: str | None) -> dict[str, Any] | None:
    """The identity file's content; what is no JSON object is kept as it is, for the evidence."""
    if text is None:
        return None
    try:
        named = json.loads(text)
    except ValueError:
        named = None
    return named if isinstance(named, dict) else {"unreadable": text[:200]}
