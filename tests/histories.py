"""Hand-written histories: ops as short as they can be told."""

from __future__ import annotations

from typing import Any

from chaosd.history import NEMESIS, OBSERVER, RUN, Event, Kind, Op

WEB_0, WEB_1, WEB_2 = "default/web-0", "default/web-1", "default/web-2"
DIGEST = "d" * 64


def history(*events: Event) -> list[Op]:
    """Events, numbered, a second apart."""
    return [Op(index, float(index), e.process, e.f, e.kind, e.value) for index, e in enumerate(events)]


def opened(replica: str, pod_uid: str = "pod-1", **more: Any) -> Event:
    name = replica.split("/")[1]
    binding = {"claim": f"disk-ssd-{name}", "claim_uid": f"claim-{name}", "volume": f"pv-{name}", "handle": f"d-{name}"}
    value = {"run": "RUN", "pod_uid": pod_uid, "hostname": name, "mounted": True, "binding": {**binding, "node": "n"}}
    return Event(replica, "open", Kind.OK, {**value, **more})


def write(replica: str, sequence: int, kind: Kind) -> Event:
    value: dict[str, Any] = {"sequence": sequence}
    if kind in (Kind.INVOKE, Kind.OK):
        value["length"] = 4096
    if kind is Kind.INVOKE:
        value["digest"] = DIGEST
    return Event(replica, "write", kind, value)


def written(replica: str, sequence: int) -> tuple[Event, Event]:
    return write(replica, sequence, Kind.INVOKE), write(replica, sequence, Kind.OK)


def read(replica: str, *sequences: int, finding: str = "intact", cache: str = "cold", **more: Any) -> Event:
    ranges = [[s, s] for s in sequences]
    value = {"sequences": ranges, "finding": finding, "cache": cache, "bytes": 4096 * len(sequences)}
    if finding != "intact":
        value["file"] = f".chaosd/RUN/{sequences[0]:08d}"
    return Event(replica, "read", Kind.OK, {**value, **more})


def listed(replica: str, *sequences: int) -> Event:
    return Event(replica, "list", Kind.OK, {"present": [[s, s] for s in sequences], "folder": ".chaosd/RUN"})


def deleted(replica: str, sequence: int, *kinds: Kind) -> list[Event]:
    return [Event(replica, "delete", kind, {"sequences": [[sequence, sequence]]}) for kind in kinds]


def disrupted(kind: str = "pod-delete", *deletes: tuple[str, str], **more: Any) -> Event:
    doomed = [{"replica": replica, "uid": uid, "node": "n"} for replica, uid in deletes]
    return Event(NEMESIS, kind, Kind.INVOKE, {"deletes": doomed, "disrupts": True, **more})


def round_began(number: int, *replicas: str, verify: bool = True, name: str = "round", files: int = 0) -> Event:
    """A round of these replicas, of web-0 and web-1 where none is named."""
    value = {"round": number, "name": name, "verify": verify, "files": files, "replicas": list(replicas or (WEB_0, WEB_1))}
    return Event(RUN, "round", Kind.INVOKE, value)


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


def watch(change: str, kind: str = "pod") -> Event:
    return Event(OBSERVER, "watch", Kind.OK, {"kind": kind, "change": change})
