"""Hand-written histories: ops as short as they can be told, and the whole history of a target that keeps its word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chaosd.checkers import Judgement, Panel
from chaosd.history import NEMESIS, OBSERVER, RUN, Event, Kind, Op

WEB_0, WEB_1, WEB_2 = "default/web-0", "default/web-1", "default/web-2"
DIGEST = "d" * 64
LOG = "l000000"
KINDS = ("pod", "claim", "volume", "attachment", "statefulset", "node", "event")


def history(*events: Event) -> list[Op]:
    """Events, numbered, a second apart."""
    return [Op(index, float(index), e.process, e.f, e.kind, e.value) for index, e in enumerate(events)]


def panel(*events: Event) -> Panel:
    """Every checker, after these events."""
    made = Panel()
    for op in history(*events):
        made.step(op)
    return made


def judged(*events: Event) -> Judgement:
    """What all checkers say of these events."""
    return panel(*events).judge()


def classes(judgement: Judgement) -> list[str]:
    """The classes of its violations."""
    return [str(violation.failure) for violation in judgement.violations]


# What the workers did.


def opened(replica: str, pod_uid: str = "pod-1", **more: Any) -> Event:
    name = replica.split("/")[1]
    binding = {"claim": f"disk-ssd-{name}", "claim_uid": f"claim-{name}", "volume": f"pv-{name}", "handle": f"d-{name}"}
    value = {"run": "RUN", "pod_uid": pod_uid, "hostname": name, "mounted": True, "binding": {**binding, "node": "n"}}
    return Event(replica, "open", Kind.OK, {**value, **more})


def write(replica: str, sequence: int, kind: Kind, **more: Any) -> Event:
    value: dict[str, Any] = {"sequence": sequence}
    if kind in (Kind.INVOKE, Kind.OK):
        value["length"] = 4096
    if kind is Kind.INVOKE:
        value["digest"] = DIGEST
    return Event(replica, "write", kind, {**value, **more})


def written(replica: str, sequence: int, **more: Any) -> tuple[Event, Event]:
    return write(replica, sequence, Kind.INVOKE, **more), write(replica, sequence, Kind.OK, **more)


def unanswered(replica: str, sequence: int, **more: Any) -> tuple[Event, Event]:
    lost = "the probe ended with status 137"
    return write(replica, sequence, Kind.INVOKE, **more), write(replica, sequence, Kind.INFO, error=lost)


def read(replica: str, *sequences: int, finding: str = "intact", cache: str = "cold", **more: Any) -> Event:
    ranges = [[s, s] for s in sequences]
    value = {"sequences": ranges, "finding": finding, "cache": cache, "bytes": 4096 * len(sequences)}
    if finding != "intact":
        value["file"] = f".chaosd/RUN/{sequences[0]:08d}"
    return Event(replica, "read", Kind.OK, {**value, **more})


def not_read(replica: str, *sequences: int, kind: Kind = Kind.FAIL, **more: Any) -> Event:
    value = {"sequences": [[s, s] for s in sequences], "error": "Input/output error"}
    return Event(replica, "read", kind, {**value, **more})


def listed(replica: str, *sequences: int, documents: Iterable[str] = (), **more: Any) -> Event:
    value = {"present": [[s, s] for s in sequences], "folder": ".chaosd/RUN", "documents": list(documents)}
    return Event(replica, "list", Kind.OK, {**value, **more})


def deleted(replica: str, sequence: int, *kinds: Kind) -> list[Event]:
    return [Event(replica, "delete", kind, {"sequences": [[sequence, sequence]]}) for kind in kinds]


# What the nemesis did, and the run.


def disrupted(kind: str = "pod-delete", *deletes: tuple[str, str], **more: Any) -> Event:
    doomed = [{"replica": replica, "uid": uid, "node": "n"} for replica, uid in deletes]
    return Event(NEMESIS, kind, Kind.INVOKE, {"deletes": doomed, "disrupts": True, **more})


def disruption_done(kind: str = "pod-delete", **evidence: Any) -> Event:
    return Event(NEMESIS, kind, Kind.OK, {"evidence": evidence})


def converged(replicas: int = 2, seconds: float = 5.0) -> tuple[Event, Event]:
    awaited = Event(NEMESIS, "converge", Kind.INVOKE, {"replicas": replicas})
    return awaited, Event(NEMESIS, "converge", Kind.OK, {"seconds": seconds})


def not_converged(replica: str, state: str, replicas: int = 2) -> tuple[Event, Event]:
    awaited = Event(NEMESIS, "converge", Kind.INVOKE, {"replicas": replicas})
    value = {"seconds": 300.0, "late": [{"replica": replica, "state": state}]}
    return awaited, Event(NEMESIS, "converge", Kind.FAIL, value)


def round_began(number: int, *replicas: str, verify: bool = True, name: str = "round", files: int = 0) -> Event:
    """A round of these replicas, of web-0 and web-1 where none is named."""
    value = {"round": number, "name": name, "verify": verify, "files": files, "replicas": list(replicas or (WEB_0, WEB_1))}
    return Event(RUN, "round", Kind.INVOKE, value)


def round_ended(number: int = 1) -> Event:
    return Event(RUN, "round", Kind.OK, {"round": number, "violations": 0, "verdict": "pass"})


# What the observer saw.


def seen(f: str, change: str, **value: Any) -> Event:
    return Event(OBSERVER, f, Kind.OK, {"namespace": "default", **value, "change": change})


def statefulset(replicas: int = 2, change: str = "modified", **more: Any) -> Event:
    value = {
        "name": "web",
        "replicas": replicas,
        "pod_management": "OrderedReady",
        "template_claims": ["disk-ssd"],
        "retention_when_scaled": "Retain",
        "retention_when_deleted": "Retain",
    }
    return seen("statefulset", change, **{**value, **more})


def pod(ordinal: int, change: str, uid: str = "", *, ready: bool = False, **more: Any) -> Event:
    value: dict[str, Any] = {
        "name": f"web-{ordinal}",
        "ordinal": ordinal,
        "uid": uid or f"pod-{ordinal}",
        "created_at": 0.0,
        "claims": {"disk-ssd": f"disk-ssd-web-{ordinal}"},
    }
    if ready:
        value |= {"ready": True, "ready_at": 0.0}
    return seen("pod", change, **{**value, **more})


def claim(ordinal: int, change: str = "modified", **more: Any) -> Event:
    name = f"web-{ordinal}"
    value = {"name": f"disk-ssd-{name}", "pod": name, "ordinal": ordinal, "uid": f"claim-{name}", "phase": "Bound"}
    return seen("claim", change, **{**value, "volume": f"pv-{name}", **more})


def volume(ordinal: int, change: str = "modified", **more: Any) -> Event:
    name = f"web-{ordinal}"
    value = {"name": f"pv-{name}", "pod": name, "driver": "csi", "handle": f"d-{name}"}
    return Event(OBSERVER, "volume", Kind.OK, {**value, **more, "change": change})


def attachment(ordinal: int, on: str, change: str = "modified", **more: Any) -> Event:
    name = f"web-{ordinal}"
    value = {"name": f"csi-{name}-{on}", "volume": f"pv-{name}", "node": on, "attached": True, "pod": name}
    return seen("attachment", change, **{**value, **more})


def confirmed(ordinal: int, pod_uid: str, pod_node: str, *attached_to: str, ready: bool = True) -> Event:
    """What was read anew of a suspect's pod and attachments."""
    value = {"replica": f"default/web-{ordinal}", "volume": f"pv-web-{ordinal}", "pod_uid": pod_uid, "dead_nodes": []}
    value |= {"pod_node": pod_node, "attached_to": list(attached_to), "ready": ready}
    return Event(OBSERVER, "confirm", Kind.OK, value)


def node(name: str, *, ready: bool = True, change: str = "modified") -> Event:
    return Event(OBSERVER, "node", Kind.OK, {"name": name, "ready": ready, "change": change})


def warned(ordinal: int, uid: str, reason: str, message: str) -> Event:
    return seen("event", "added", pod=f"web-{ordinal}", pod_uid=uid, reason=reason, message=message, count=1)


def watch(change: str, kind: str = "pod") -> Event:
    return Event(OBSERVER, "watch", Kind.OK, {"kind": kind, "change": change})


# A target of two replicas on two nodes that keeps its word: web-0 on node one, web-1 on node two. Each replica has files 0
# to 2, register r00 with the values 3 and 6 (of which 3 is no longer owed), and a log with the entries 4 and 5.

FILES, VALUE_BEFORE, ENTRIES, VALUE = (0, 1, 2), 3, (4, 5), 6
OWED = (*FILES, *ENTRIES, VALUE)
NAMES = ("l000000", "r00")
REGISTER = {"file": "r00", "how": "replace"}
ENTRY = {"file": LOG, "how": "append"}
EXT4 = {
    "path": "/data",
    "mountinfo": "36 35 8:16 / /data rw - ext4 /dev/sdb rw",
    "mount_root": "/",
    "device": "8:16",
    "node_disk": False,
    "read_only": False,
    "fs_type": "ext4",
    "total_bytes": 1 << 30,
    "entries": ["lost+found"],
    "identity": None,
}


def sound(ordinal: int, pod_uid: str = "", *, again: bool = False, **more: Any) -> Event:
    """A session with a replica on its own disk; `again`: after chaosd wrote its identity there."""
    name = f"web-{ordinal}"
    told = {**EXT4, "fs_uuid": f"uuid-{name}", "fsid": f"fsid-{name}", "pod_volume": f"disk-ssd/ disk-ssd-{name}"}
    if again:
        told["identity"] = identity(ordinal)
    return opened(f"default/{name}", pod_uid or f"pod-{ordinal}", **{**told, **more})


def identity(ordinal: int) -> dict[str, Any]:
    """What the identity file on a replica's disk says."""
    name = f"web-{ordinal}"
    return {
        "format": 1,
        "run": "RUN",
        "replica": f"default/{name}",
        "claim_uid": f"claim-{name}",
        "handle": f"d-{name}",
    }


def stood_on(ordinal: int, claim_uid: str, volume_name: str, handle: str) -> dict[str, Any]:
    """A binding of the replica's claim that is not its first."""
    return {
        "claim": f"disk-ssd-web-{ordinal}",
        "claim_uid": claim_uid,
        "volume": volume_name,
        "handle": handle,
        "node": "one",
    }


def on(ordinal: int) -> str:
    """The node of a replica."""
    return "two" if ordinal else "one"


def objects(ordinal: int, change: str = "present", **more: Any) -> tuple[Event, ...]:
    """A replica's claim, volume, attachment and pod, all well; `more` is the claim's."""
    return (
        claim(ordinal, change, **{"capacity": "1Gi", **more}),
        volume(ordinal, change, claim_uid=f"claim-web-{ordinal}"),
        attachment(ordinal, on(ordinal), change),
        pod(ordinal, change, ready=True, node=on(ordinal)),
    )


def workload(replica: str) -> tuple[Event, ...]:
    """A batch on one replica: files, two values of a register, two entries of a log."""
    return (
        *(event for sequence in FILES for event in written(replica, sequence)),
        *written(replica, VALUE_BEFORE, **REGISTER),
        *(event for sequence in ENTRIES for event in written(replica, sequence, **ENTRY)),
        *written(replica, VALUE, **REGISTER),
    )


def observed(*, replicas: int = 2, **rules: Any) -> tuple[Event, ...]:
    """All that the observer tells when a run begins on a healthy target."""
    return (
        *(watch("began", kind) for kind in KINDS),
        statefulset(replicas, "present", **rules),
        *(node(name, change="present") for name in ("one", "two")),
        *(event for ordinal in range(replicas) for event in objects(ordinal)),
        *(watch("synced", kind) for kind in KINDS),
    )


def begun(**rules: Any) -> tuple[Event, ...]:
    """A healthy target on which a round began and wrote; `rules` are the StatefulSet's."""
    return (
        *observed(**rules),
        *(sound(ordinal) for ordinal in (0, 1)),
        round_began(1, files=3),
        *workload(WEB_0),
        *workload(WEB_1),
    )


def pod_replaced(ordinal: int = 1, new: str = "new-1", *, old: str = "", grace: str = "default") -> tuple[Event, ...]:
    """chaosd deletes a pod, and the next one is Ready on the same node."""
    doomed = old or f"pod-{ordinal}"
    return (
        disrupted("pod-delete", (f"default/web-{ordinal}", doomed), grace=grace),
        pod(ordinal, "modified", doomed, ready=True, deleting=True, node=on(ordinal)),
        pod(ordinal, "deleted", doomed),
        disruption_done(gone=[doomed]),
        pod(ordinal, "added", new),
        pod(ordinal, "modified", new, node=on(ordinal)),
        pod(ordinal, "modified", new, node=on(ordinal), ready=True),
        *converged(),
    )


def verified(replica: str) -> tuple[Event, ...]:
    """Everything that a replica holds is read back."""
    return listed(replica, *FILES, documents=NAMES), read(replica, *OWED)


def ended(number: int = 1, *intact: str) -> tuple[Event, ...]:
    """These replicas are read back intact, and the round is over."""
    return (*(event for replica in intact for event in verified(replica)), round_ended(number))


def all_gone(replica: str) -> tuple[Event, ...]:
    """The run's folder is empty."""
    files = [read(replica, sequence, finding="missing") for sequence in FILES]
    log = read(replica, *ENTRIES, finding="missing", file=f".chaosd/RUN/{LOG}")
    return listed(replica), *files, log, read(replica, VALUE, finding="missing", file=".chaosd/RUN/r00")


HEALTHY = (*begun(), *pod_replaced(), sound(1, "new-1", again=True), *ended(1, WEB_0, WEB_1))
