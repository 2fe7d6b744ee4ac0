"""Integrity: is every acknowledged byte still there, and nothing that was deleted back again?

Pure. A record is owed from the `ok` of its write until its delete is invoked or, of a register, until a later value is
acknowledged. A write that never answered (`info`) may be there or not; one that renames is whole either way, since the
probe renames only what it has fsynced. What is read or listed in a pod that was replaced meanwhile says nothing
(longhorn/longhorn#13841). Source of the idea: Jepsen's set and register checkers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chaosd.checkers.records import LOG_PREFIX, How, Record, Replica, expand, name_of, record_of, sequence_of
from chaosd.checkers.verdict import STANDS_IN, Binding, Class, Unknown, Verdict, Violation
from chaosd.history import LEDGER_LOST, NEMESIS, OBSERVER, RESTART, RUN, Kind, Op, disruptions_of
from chaosd.payload import Origin, State

# Evidence names this many files of a violation; the count says how many there are.
NAMED_FILES = 20

# What else a reading can find, beside the states of bytes.
MISSING = "missing"  # the file is not there
LOST = "lost"  # the file is there without what was acknowledged in it
UNSETTLED = "unsettled"  # what an unanswered write in place may have left

_INTO_OLD_FILES = frozenset({str(How.OVERWRITE), str(How.APPEND)})

_CLASS_OF: Mapping[str, Class] = {
    LOST: Class.LOST,
    State.TORN: Class.TORN,
    State.ZEROED: Class.TORN,
    State.TRUNCATED: Class.TORN,
    State.CORRUPT: Class.CORRUPT,
    State.UNKNOWN: Class.CORRUPT,
    State.MISDIRECTED: Class.CORRUPT,
    State.STALE: Class.STALE,
    State.FOREIGN: Class.FOREIGN,
}


# Replica, class, the pod in which it was seen, and how many rounds had ended then.
_Key = tuple[str, Class, str, int]


class Integrity:
    """Folds `open`, `write`, `read`, `list`, `delete` of every replica, disruptions, and which pods there are."""

    name = "integrity"
    follows = frozenset({"open", "write", "read", "list", "delete"})

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = defaultdict(Replica)
        self._found: dict[_Key, Violation] = {}
        self._rounds = 0  # that have ended
        self._forced: set[str] = set()
        self._present: dict[str, str] = {}  # the UID of each replica's pod as it was seen last, empty once that was gone
        self._by_policy: list[str] = []
        self._undecided: list[Unknown] = []
        self._restarted_at = -1
        # The op from which on nobody is accused, since what is missing or unexpected may be explained by lost history.
        self.lost_since: int | None = None

    def step(self, op: Op) -> None:
        """Take in the next op."""
        fold = _FOLDS.get((op.f, op.kind))
        if fold is not None:
            fold(self, self.replicas[op.process], op)
        elif op.process in (NEMESIS, RUN):
            self._of_the_run(op)
        elif op.process == OBSERVER and op.f == "pod":
            gone = op.value["change"] == "deleted"
            self._present[f"{op.value['namespace']}/{op.value['name']}"] = "" if gone else op.value["uid"]

    def release(self, claim_uid: str) -> None:
        """Nothing is owed any more that was written to this claim: its StatefulSet's own policy let it go."""
        for replica in self.replicas.values():
            replica.release(claim_uid)

    def verdict(self) -> Verdict:
        """Fail where a promise is broken, unknown where an owed record was not read after the last disruption."""
        return Verdict(
            self.name,
            violations=tuple(self._settled(key, found) for key, found in self._found.items()),
            unknowns=(*self._undecided, *self._unknowns()),
            by_policy=tuple(self._by_policy),
            notes=tuple(self._notes()),
            measured={
                "owed_records": sum(len(r.owed) for r in self.replicas.values()),
                "records_at_risk": sum(1 for r in self.replicas.values() for _ in r.at_risk()),
            },
        )

    def _settled(self, key: _Key, found: Violation) -> Violation:
        """Where another pod's unanswered value stands in the place of a later one, it either came after that, or was there
        before: where other files went back in time too, it was the volume that did. And what is missing from a file is not
        torn off or lost where it stands in another: it went astray."""
        replica, failure, pod_uid, rounds = key
        went_back = any((replica, other, pod_uid, rounds) in self._found for other in (Class.STALE, Class.LOST))
        if "overtaken" in found.evidence and went_back:
            return replace(found, failure=Class.STALE)
        misled = self._found.get((replica, Class.CORRUPT, pod_uid, rounds))
        may_be_astray = failure is Class.TORN or (failure is Class.LOST and found.evidence["file_count"] == 1)
        if may_be_astray and misled and _went_astray(misled.evidence, found.evidence["files"]):
            return replace(found, evidence={**found.evidence, STANDS_IN: misled.file})
        return found

    def _unknowns(self) -> Iterator[Unknown]:
        acknowledged = any(replica.acknowledged for replica in self.replicas.values())
        if not acknowledged:
            yield Unknown("target", "no write was acknowledged, so nothing was tested")
        for name, replica in self.replicas.items():
            yield from (Unknown(name, why) for why in _not_tested(replica, acknowledged))
            if count := sum(1 for _ in replica.at_risk()):
                why = replica.last_error or "the run ended before they were read"
                yield Unknown(name, f"{count} acknowledged records were not read back after the last disruption: {why}")

    def _notes(self) -> Iterator[str]:
        for name, replica in self.replicas.items():
            if strangers := (*replica.strangers_beside, *replica.strangers):
                listed = ", ".join(strangers)
                yield f"{name}: in chaosd's folder stands what chaosd did not write, and is left alone: {listed}"

    def _of_the_run(self, op: Op) -> None:
        if op.f == RESTART:
            self._restarted_at = op.index
            for replica in self.replicas.values():
                replica.recalled = True
        elif op.f == LEDGER_LOST:
            self._lose_history(op.index, op.value["why"])
        else:
            self._put_at_risk(op)

    def _lose_history(self, since: int, why: str) -> None:
        if self.lost_since is None:
            self.lost_since = since
            self._undecided.append(Unknown("ledger", why))

    def _is_ahead(self, op: Op, file: str) -> None:
        """A volume holds what the chaosd that died wrote after what the history tells last."""
        ahead = (
            f"{op.process} holds in {file} what was written later than the history says that chaosd wrote before it died"
        )
        self._lose_history(self._restarted_at, f"{ahead}: the ledger has lost its end, so it is not known what is owed")

    def _put_at_risk(self, op: Op) -> None:
        """A disruption may harm everything; a round that verifies owes a reading of everything."""
        if op.kind is not Kind.INVOKE:
            self._rounds += op.f == "round" and op.kind is Kind.OK
            return
        if op.f == "round":
            for name in op.value["replicas"]:
                replica = self.replicas[name]
                replica.writes_due |= bool(op.value.get("files")) and not replica.acknowledged
                replica.listing_due |= bool(op.value["verify"])
        for _, disruption in disruptions_of(op):
            if str(disruption.get("grace", "")) == "0":
                self._forced |= {pod["uid"] for pod in disruption.get("deletes", ())}
        if op.value.get("disrupts") or op.value.get("verify"):
            for name, replica in self.replicas.items():
                replica.at_risk_since = op.index
                if op.f == "round" and name not in op.value["replicas"]:
                    replica.last_error = "the replica is scaled away, and only its pod can read its volume"

    def _opened(self, replica: Replica, op: Op) -> None:
        value = op.value
        replica.binding = Binding(**value.get("binding", {}))
        origin = Origin(
            run=value["run"],
            replica=op.process,
            claim_uid=replica.binding.claim_uid,
            handle=replica.binding.handle,
            pod_uid=value["pod_uid"],
        )
        replica.strangers_beside = tuple(value.get("strangers", ()))
        if replica.origin != origin:
            replica.origin = origin
            replica.at_risk_since = op.index

    def _not_opened(self, replica: Replica, op: Op) -> None:
        replica.last_error = op.value["error"]
        if op.value.get("refuses_writes"):
            replica.refused = replica.last_error

    def _write_invoked(self, replica: Replica, op: Op) -> None:
        assert replica.origin is not None, "a write is invoked in a session, and a session was opened"
        replica.attempt(record_of(op.value, replica.origin, op.index))

    def _write_acknowledged(self, replica: Replica, op: Op) -> None:
        value = op.value
        replica.acknowledge(value["sequence"], op.index)
        replica.acknowledged, replica.writes_due = True, False
        # A full volume refuses new files, and lets old ones be written over.
        if value.get("how") not in _INTO_OLD_FILES:
            replica.refused = ""

    def _write_failed(self, replica: Replica, op: Op) -> None:
        replica.withdraw(op.value["sequence"])
        replica.refused = replica.last_error = op.value.get("error", "")

    def _write_unanswered(self, replica: Replica, op: Op) -> None:
        replica.leave_open(op.value["sequence"])
        replica.last_error = op.value.get("error", "")

    def _is_replaced(self, replica: Replica, op: Op) -> bool:
        """Whether a reading or a list is of a pod that is not there any more."""
        made_in, present = op.value.get("pod_uid"), self._present.get(op.process)
        if made_in is None or present is None or made_in == present:
            return False
        replica.last_error = f"it was read in pod {made_in}, which was replaced meanwhile"
        return True

    def _read_invoked(self, replica: Replica, op: Op) -> None:
        replica.asked_at = index = op.index
        for record in replica.find_all(op.value["sequences"]):
            record.asked_at = index

    def _read(self, replica: Replica, op: Op) -> None:
        if self._is_replaced(replica, op):
            return
        finding = op.value["finding"]
        if finding not in (State.INTACT, UNSETTLED):
            self._damaged(replica, op)
            return
        # What happened between question and answer may have come after the reading.
        index = replica.asked_at if replica.asked_at >= 0 else op.index
        for record in replica.find_all(op.value["sequences"]):  # others were reported or dropped meanwhile
            record.read_at = index
            record.reads += 1

    def _damaged(self, replica: Replica, op: Op) -> None:
        finding, evidence = op.value["finding"], op.value.get("evidence", {})
        for sequence in expand(op.value["sequences"]):
            record = replica.find(sequence)
            if record is None:
                continue
            if finding == MISSING:
                self._missing(replica, op, record)
            else:
                place = _Place(op.value["file"], op.value.get("block"), evidence)
                self._misread(replica, op, record, place)
            replica.forget_file(record)
            if record.how is How.REPLACE and record.file in replica.absent:
                replica.broken.discard(record.file)  # nothing was harmed: a register may be begun again

    def _misread(self, replica: Replica, op: Op, record: Record, place: _Place) -> None:
        failure = _CLASS_OF[op.value["finding"]]
        if replica.recalled and _is_later(place.evidence, record, replica):
            self._is_ahead(op, place.file)
        writer = _overtaken_writer(place.evidence, record, replica)
        if writer in self._forced:
            why = f"{place.file} was lost to an earlier write of pod {writer}, which was deleted by force and may write on"
            self._undecided.append(Unknown(op.process, why))
            return
        if failure in (Class.FOREIGN, Class.STALE) and (writer or _is_of_another_pod(place.evidence, record)):
            failure = Class.DOUBLE_WRITER
            place = replace(place, evidence={**place.evidence, "overtaken": writer} if writer else place.evidence)
        self._report(replica, op, failure, _kept_last(replica, record), place)

    def _missing(self, replica: Replica, op: Op, record: Record) -> None:
        document = replica.document(record)
        since = document.acknowledged_at if document else record.written_at if record.sequence in replica.owed else -1
        if since >= 0:
            evidence = {"acknowledged_at": since, "bytes": record.length}
            self._report(replica, op, Class.LOST, _kept_last(replica, record), _Place(op.value["file"], None, evidence))
        elif replica.origin:
            beside = [known for s in replica.sequences_beside(record) if (known := replica.find(s))]
            # What the present pod was asked to write may land as long as it lives.
            if all(known.origin.pod_uid != replica.origin.pod_uid for known in beside):
                replica.absent[record.file] = record

    def _read_failed(self, replica: Replica, op: Op) -> None:
        replica.last_error = op.value.get("error", "")
        replica.unstable += bool(op.value.get("contradicted"))

    def _listed(self, replica: Replica, op: Op) -> None:
        """Whatever stands there must have been attempted, and must not have been deleted with acknowledgement."""
        if self._is_replaced(replica, op):
            return
        replica.listing_due = False
        replica.strangers = tuple(op.value.get("strangers", ()))
        # Nearly everything is owed, and need not be looked at one by one.
        present = set(expand(op.value["present"]))
        suspects = present.difference(replica.owed) | (present & replica.sequences_in_documents())
        names = (*map(name_of, sorted(suspects)), *op.value.get("documents", ()))
        known = replica.may_be_there() | replica.broken if names else frozenset()
        for name in names:
            if record := replica.absent.pop(name, None):
                self._landed_late(replica, op, record)
            elif name not in known and (writer := replica.gone_in_doubt.get(name)) in self._forced:
                self._landed_by_force(replica, f"{op.value['folder']}/{name}", writer)
            elif name not in known and replica.recalled and _was_never_written(replica, name):
                self._is_ahead(op, name)
            elif name not in known:
                place = _Place(f"{op.value['folder']}/{name}", None, {"why": _why_unexpected(replica, name)})
                self._report(replica, op, Class.UNEXPECTED, replica.listed_at, place)
                replica.broken.add(name)
        replica.listed_at = op.index

    def _landed_late(self, replica: Replica, op: Op, record: Record) -> None:
        """A write from a pod that was replaced landed after the pod that came after it had seen that it was not there."""
        file = f"{op.value['folder']}/{record.file}"
        if record.origin.pod_uid in self._forced:
            self._landed_by_force(replica, file, record.origin.pod_uid)
            return
        replica.broken.add(record.file)
        evidence = {"written_by": record.origin.pod_uid, "why": "it came after another pod had seen that it was not there"}
        self._report(replica, op, Class.DOUBLE_WRITER, record.written_at, _Place(file, None, evidence))

    def _landed_by_force(self, replica: Replica, file: str, pod_uid: str) -> None:
        replica.broken.add(file.rpartition("/")[2])
        self._by_policy.append(f"{file}: written by pod {pod_uid} after it was deleted by force")

    def _delete_invoked(self, replica: Replica, op: Op) -> None:
        replica.drop(op.value["sequences"])

    def _delete_acknowledged(self, replica: Replica, op: Op) -> None:
        replica.dropped(op.value["sequences"])

    def _report(self, replica: Replica, op: Op, failure: Class, since: int, place: _Place) -> None:
        """One violation for each replica, class, round and pod in which it was seen; its evidence counts the files."""
        pod_uid = replica.origin.pod_uid if replica.origin else ""
        key = (op.process, failure, pod_uid, self._rounds)
        known = self._found.get(key)
        if known is None:
            evidence = {**place.evidence, "pod_uid": pod_uid, "files": [place.file], "file_count": 1}
            where = (replica.binding, place.file, place.block)
            self._found[key] = Violation(failure, op.process, op.index, since, *where, evidence)
        else:
            _add_file(known.evidence, place)
            self._found[key] = replace(known, since=min(known.since, since))


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    block: int | None
    evidence: Mapping[str, Any]


def _is_of_another_pod(evidence: Mapping[str, Any], record: Record) -> bool:
    """Whether another pod's bytes of this very record stand there."""
    named = evidence.get("names_itself", {})
    same = all(named.get(key) == getattr(record.origin, key) for key in ("run", "claim_uid"))
    return same and named["sequence"] == record.sequence and named["pod_uid"] != record.origin.pod_uid


def _is_later(evidence: Mapping[str, Any], record: Record, replica: Replica) -> bool:
    """Whether a value or an entry of this file stands there that was written after all that are known, by its own word or
    by the log's length."""
    named = evidence.get("names_itself", {})
    same = (named.get("run"), named.get("file")) == (record.origin.run, record.file)
    is_longer = record.how is How.APPEND and evidence.get("found_bytes", 0) > evidence.get("expected_bytes", 0)
    return is_longer or (same and named["sequence"] >= replica.next_sequence)


def _went_astray(evidence: Mapping[str, Any], files: Sequence[str]) -> bool:
    """Whether what stands in the wrong place, or in one of the wrong places, was meant for one of these files."""
    meant_for = {_meant_for(evidence), *evidence.get("others_meant_for", ())}
    return not meant_for.isdisjoint(file.rpartition("/")[2] for file in files)


def _meant_for(evidence: Mapping[str, Any]) -> str:
    """The name of the file whose block stands in another's place; empty where none does."""
    return str(evidence.get("names_itself", {}).get("file", "")) if evidence.get("state") == State.MISDIRECTED else ""


def _overtaken_writer(evidence: Mapping[str, Any], record: Record, replica: Replica) -> str:
    """The other pod of whose unanswered write, which a later value overtook, bytes stand there; empty where of none."""
    named, document = evidence.get("names_itself", {}), replica.document(record)
    if named and any(named.get(key) != getattr(record.origin, key) for key in ("run", "claim_uid")):
        return ""
    overtaken = document.overtaken if document else {}
    found = [overtaken[s] for s in evidence.get("mixed_with", [named.get("sequence")]) if s in overtaken]
    return next((label.origin.pod_uid for label in found if label.origin.pod_uid != record.origin.pod_uid), "")


def _kept_last(replica: Replica, record: Record) -> int:
    """The index at which it was seen last that a record is kept: acknowledged, or read intact with what stands beside it.
    That more was appended since shows nothing."""
    beside = (replica.find(sequence) for sequence in replica.sequences_beside(record))
    return max(record.written_at, *(known.read_at for known in (record, *beside) if known))


def _why_unexpected(replica: Replica, name: str) -> str:
    if name in replica.released:
        return "it was written to a claim that the StatefulSet's policy let go"
    if _was_never_written(replica, name):
        return "it was never written"
    return "its delete was acknowledged" + (", or it went with an earlier claim" if replica.released else "")


def _was_never_written(replica: Replica, name: str) -> bool:
    if (sequence := sequence_of(name)) is not None:
        return sequence >= replica.next_sequence
    return not name.startswith(LOG_PREFIX) or int(name.removeprefix(LOG_PREFIX)) >= replica.logs_begun


def _not_tested(replica: Replica, anything_acknowledged: bool) -> Iterator[str]:
    """Why nothing can be promised of a replica, beyond records that were not read."""
    if replica.writes_due and anything_acknowledged:
        yield f"none of its writes was acknowledged: {replica.last_error or 'it was never reached'}"
    elif replica.refused:
        yield f"its volume refused the last writes: {replica.refused}"
    if replica.unstable:
        yield f"{replica.unstable} readings of files gave two different answers in a row"
    if replica.listing_due:
        yield "its folder was not listed, so files that should not be there could not be seen"


def _add_file(evidence: Mapping[str, Any], place: _Place) -> None:
    assert isinstance(evidence, dict), "made in _report"
    if place.file in evidence["files"]:
        return
    evidence["file_count"] += 1
    if len(evidence["files"]) < NAMED_FILES:
        evidence["files"].append(place.file)
    others = evidence.get("others_meant_for", [])
    if (name := _meant_for(place.evidence)) and len(others) < NAMED_FILES:
        evidence["others_meant_for"] = [*others, name]


_FOLDS = {
    ("open", Kind.OK): Integrity._opened,
    ("open", Kind.FAIL): Integrity._not_opened,
    ("write", Kind.INVOKE): Integrity._write_invoked,
    ("write", Kind.OK): Integrity._write_acknowledged,
    ("write", Kind.FAIL): Integrity._write_failed,
    ("write", Kind.INFO): Integrity._write_unanswered,
    ("read", Kind.INVOKE): Integrity._read_invoked,
    ("read", Kind.OK): Integrity._read,
    ("read", Kind.FAIL): Integrity._read_failed,
    ("read", Kind.INFO): Integrity._read_failed,
    ("list", Kind.OK): Integrity._listed,
    ("delete", Kind.INVOKE): Integrity._delete_invoked,
    ("delete", Kind.OK): Integrity._delete_acknowledged,
}
