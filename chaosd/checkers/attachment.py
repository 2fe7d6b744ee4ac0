"""Attachment: is each volume attached to the node that its pod runs on?

Pure; judged at the end of each round, when nothing moves any more. Watches may lag behind each other, so what the
informers saw only makes a volume suspect (`suspects`); what accuses it is a fresh reading of pod and attachments, which the
interpreter takes then (`confirm`). Drivers that attach nothing have no attachments and are not judged. Source: Kubernetes
docs, "VolumeAttachment" (storage.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import OBSERVER, RUN, Kind, Op

Seen = Mapping[str, Any]


class Attachment:
    """Folds pods, attachments, and what was read anew."""

    name = "attachment"
    follows: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._pods: dict[str, Seen] = {}
        self._attachments: dict[str, dict[str, Seen]] = {}  # by volume, then by name
        self._replicas: dict[str, str] = {}  # by volume
        self._volumes: dict[str, str] = {}  # that claims are bound to, by claim
        self._unwatched = False
        self._since: dict[str, int] = {}  # by volume: when its attachment was seen first
        self._found: dict[tuple[str, str], Violation] = {}
        self._unconfirmed: dict[str, Unknown] = {}

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == OBSERVER and op.f in _FOLDS:
            _FOLDS[op.f](self, op)
        elif op.process == OBSERVER and op.f == "confirm":
            self._confirmed(op)
        elif op.process == RUN and op.f == "round" and op.kind is Kind.OK:
            self._forget_volumes()

    def verdict(self) -> Verdict:
        """Fail where a volume was attached elsewhere than its pod was."""
        attached = self._replicas or self._unwatched  # the binding checker says what may not be watched
        nothing = () if attached else ("no volume has an attachment: its driver attaches nothing",)
        return Verdict(self.name, tuple(self._found.values()), tuple(self._unconfirmed.values()), not_applicable=nothing)

    def suspects(self) -> list[tuple[str, str]]:
        """Replicas and their volumes that seem to be attached elsewhere, and were not found so in this pod."""
        found = []
        for volume, replica in self._replicas.items():
            pod = self._pods.get(replica)
            if pod is None or pod.get("deleting") or (volume, pod["uid"]) in self._found or not self._mounts(pod, volume):
                continue
            attached = [a["node"] for a in self._attachments[volume].values() if a.get("attached")]
            if _is_elsewhere(pod.get("node", ""), attached, bool(pod.get("ready"))):
                found.append((replica, volume))
        return found

    def _mounts(self, pod: Seen, volume: str) -> bool:
        """Whether a claim of the pod's may be on this volume: one that its policy let go is on another now."""
        return any(self._volumes.get(claim, volume) == volume for claim in pod.get("claims", {}).values())

    def _confirmed(self, op: Op) -> None:
        replica, volume, value = op.value["replica"], op.value["volume"], op.value
        self._unconfirmed.pop(volume, None)
        if op.kind is not Kind.OK:
            why = f"whether {volume} is attached to its pod's node could not be confirmed: {value['error']}"
            self._unconfirmed[volume] = Unknown(replica, why)
        elif value["dead_nodes"]:
            return  # its attachment stays until Kubernetes is sure of it, after six minutes by design
        elif _is_elsewhere(value["pod_node"], value["attached_to"], value["ready"]):
            evidence = {"volume": volume, **{key: value[key] for key in ("pod_node", "attached_to", "pod_uid")}}
            binding = Binding(volume=volume, node=value["pod_node"])
            violation = Violation(
                Class.ATTACHED_ELSEWHERE, replica, op.index, self._since[volume], binding, evidence=evidence
            )
            self._found.setdefault((volume, value["pod_uid"]), violation)

    def _watch(self, op: Op) -> None:
        """What was there when an earlier watch ended may have gone since, untold."""
        value = op.value
        if value["change"] == "began" and value["kind"] == "attachment":
            self._attachments = {volume: {} for volume in self._attachments}
        if value["change"] == "began" and value["kind"] == "pod":
            self._pods.clear()

    def _pod(self, op: Op) -> None:
        value = op.value
        replica = f"{value['namespace']}/{value['name']}"
        if value["change"] == "deleted":
            self._pods.pop(replica, None)
        else:
            self._pods[replica] = value

    def _attachment(self, op: Op) -> None:
        value = op.value
        self._replicas[value["volume"]] = f"{value['namespace']}/{value['pod']}"
        self._since.setdefault(value["volume"], op.index)
        held = self._attachments.setdefault(value["volume"], {})
        if value["change"] == "deleted":
            held.pop(value["name"], None)
        else:
            held[value["name"]] = value

    def _claim(self, op: Op) -> None:
        value = op.value
        if value["change"] == "deleted":
            self._volumes.pop(value["name"], None)
        else:
            self._volumes[value["name"]] = value.get("volume", "")

    def _volume(self, op: Op) -> None:
        value = op.value
        if value["change"] == "deleted":
            self._replicas.pop(value["name"], None)

    def _forget_volumes(self) -> None:
        """Those that are gone, and of which no attachment is left: nothing can be confirmed of them any more."""
        for volume in self._since.keys() - self._replicas.keys():
            if not self._attachments[volume]:
                del self._attachments[volume], self._since[volume]

    def _unobservable(self, op: Op) -> None:
        value = op.value
        self._unwatched |= value["kind"] == "attachment"


def _is_elsewhere(pod_node: str, attached_to: Collection[str], ready: bool) -> bool:
    """A pod that is not Ready may wait for its first attachment."""
    return bool(pod_node) and pod_node not in attached_to and (bool(attached_to) or ready)


_FOLDS: Mapping[str, Callable[[Attachment, Op], None]] = {
    "watch": Attachment._watch,
    "pod": Attachment._pod,
    "attachment": Attachment._attachment,
    "claim": Attachment._claim,
    "volume": Attachment._volume,
    "unobservable": Attachment._unobservable,
}
