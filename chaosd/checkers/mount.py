"""Mount: is what the path stands on still the file system that it was?

Pure; judged from what each session tells when it is opened. What a claim's path stood on when it was first opened in this
run is the baseline: a disk may have served others before, and what its identity file said then is no fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chaosd.checkers.verdict import Binding, Class, Unknown, Verdict, Violation
from chaosd.history import OBSERVER, RUN, Kind, Op
from chaosd.quantities import parse_bytes

Opened = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Baseline:
    """How a claim's path was first opened, at op `index`, and how large the claim was then."""

    opened: Opened
    index: int
    capacity: str


class Mount:
    """Folds `open` of every replica, what was seen of the claims' capacity, and which older runs left files."""

    name = "mount"
    follows = frozenset({"open"})

    def __init__(self) -> None:
        self._baselines: dict[str, _Baseline] = {}
        self._capacity: dict[str, str] = {}
        self._unseen: dict[str, str] = {}
        self._identified: dict[str, tuple[str, Opened]] = {}  # by replica: its claim, and what its identity file says
        self._standing: dict[str, int] = {}  # what is wrong still: its place among what was found
        self._notes: dict[str, str] = {}
        self._found: list[Violation] = []

    def step(self, op: Op) -> None:
        """Take in the next op."""
        if op.process == OBSERVER and op.f == "claim":
            self._claim(op)
        elif op.process == RUN and op.f == "older-runs":
            for run, in_ledger in op.value["in_ledger"].items():
                todo = "chaosd verify reads them, too" if in_ledger else "not in this ledger, left alone"
                self._notes[run] = f"files of run {run} stand on the volumes, too: {todo}"
        elif op.f == "open" and op.kind is Kind.OK:
            self._opened(op)

    def verdict(self) -> Verdict:
        """Fail where the path is something else than it was, unknown where that could not be seen."""
        unknowns = tuple(Unknown(replica, why) for replica, why in self._unseen.items())
        return Verdict(self.name, tuple(self._found), unknowns, notes=tuple(self._notes.values()))

    def _claim(self, op: Op) -> None:
        if op.value["change"] == "deleted":
            self._capacity.pop(op.value["uid"], None)
        else:
            self._capacity[op.value["uid"]] = op.value.get("capacity", "")

    def _opened(self, op: Op) -> None:
        now = op.value
        baseline = self._baseline(op)
        self._unseen.pop(op.process, None)
        if now.get("mounted") is None:
            why = "the table of mounts could not be read, so whether the path is the volume is not known"
            self._unseen[op.process] = why
        if error := now.get("identity_error"):
            why = f"the identity file could not be read, so whether it is the same file system is not known: {error}"
            self._unseen[op.process] = why
        if now.get("application_seen") is False:
            self._notes[op.process] = (
                f"{op.process}: the agent sees a mount of its own: what the application's container has at "
                f"{now.get('path', 'the path')} was not seen"
            )
        found = next(self._judged(op, now, baseline), None)  # the first explains the others
        if found is None and (is_smaller := self._not_expanded(now, baseline)):
            found = Class.NOT_EXPANDED, is_smaller
        if found:
            self._report(op, baseline, *found)
        elif not now.get("identity_error") and (standing := self._standing.pop(op.process, None)) is not None:
            self._lasted(standing, op)

    def _baseline(self, op: Op) -> _Baseline:
        """Another claim has a baseline of its own; a path that has none behind it now is held against the claim's."""
        claim_uid = _claim_uid(op.value)
        known = self._baselines.get(op.process)
        if known is None or (claim_uid and claim_uid != _claim_uid(known.opened)):
            known = self._baselines[op.process] = _Baseline(op.value, op.index, self._capacity.get(claim_uid, ""))
        return known

    def _judged(self, op: Op, now: Opened, baseline: _Baseline) -> Iterator[tuple[Class, Mapping[str, Any]]]:
        first = baseline.opened
        where = {"path": now.get("path", ""), "mountinfo": now.get("mountinfo", "")}
        if now.get("mounted") is False and _claim_uid(first):
            yield Class.NOT_MOUNTED, where
        if now.get("node_disk") and first.get("node_disk") is False:
            yield Class.NOT_MOUNTED, {**where, "why": "the path is on the node's own disk"}
        for fact, why in (
            ("pod_volume", "the pod's spec has something else at the path"),
            ("mount_root", "another folder is mounted"),
        ):
            # An emptyDir has a folder of its own for each pod.
            if _claim_uid(first) and first.get(fact) and now.get(fact) != first[fact]:
                yield Class.NOT_MOUNTED, {**where, "why": why, fact: {"was": first[fact], "is": now.get(fact)}}
        if now.get("identity_error"):
            return
        changed = dict(_file_system_changes(first, now))
        if changed and not now.get("identity"):
            yield Class.REFORMATTED, {**where, **changed}
        yield from self._identity(op, now, baseline, where)
        if changed:
            self._notes[f"remade {op.process}"] = (
                f"{op.process}: another file system holds the same identity file: {changed}"
            )

    def _identity(
        self, op: Op, now: Opened, baseline: _Baseline, where: Opened
    ) -> Iterator[tuple[Class, Mapping[str, Any]]]:
        """The identity file names whose disk it was when it was written: what it said at first it must go on saying."""
        claim_uid, named = _claim_uid(now), now.get("identity")
        of_claim, known = self._identified.get(op.process, ("", None))
        if known is None or of_claim != claim_uid:
            if named:
                self._identified[op.process] = claim_uid, named
                if failure := _of_another(op, now, named, is_first=baseline.index == op.index):
                    yield failure, {"identity_names": named}
        elif not named:
            yield Class.LOST, {**where, "why": "the identity file is gone"}
        elif known.get("run") != now["run"] and not _of_another(op, now, named, is_first=False):
            self._identified[op.process] = claim_uid, named  # chaosd wrote it anew, where an older run's was
        elif named != known:
            yield _damage(named, known), {"identity_names": named, "identity_named": known}

    def _not_expanded(self, now: Opened, baseline: _Baseline) -> Mapping[str, Any]:
        """A claim's new capacity is told once its file system was made larger, too (kubernetes/kubernetes#84030). One that
        is larger anyhow, such as of a server that many claims share, was never made for the claim."""
        was, is_now = baseline.capacity, self._capacity.get(_claim_uid(now), "")
        bytes_then, bytes_now = baseline.opened.get("total_bytes"), now.get("total_bytes")
        grew = was and is_now and _quantity(is_now) > _quantity(was)
        if not grew or not bytes_then or not bytes_now or bytes_now > bytes_then or bytes_now >= _quantity(is_now):
            return {}
        return {"capacity": {"was": was, "is": is_now}, "total_bytes": {"was": bytes_then, "is": bytes_now}}

    def _report(self, op: Op, baseline: _Baseline, failure: Class, evidence: Mapping[str, Any]) -> None:
        """Once, however many pods see it, until one finds the path in order."""
        standing = self._standing.get(op.process)
        if standing is not None and self._found[standing].failure is failure:
            self._lasted(standing, op)
            return
        since = -1 if baseline.index == op.index else baseline.index
        evidence = {**evidence, "pod_uid": op.value["pod_uid"]}
        binding = Binding(**op.value.get("binding", {}))
        self._standing[op.process] = len(self._found)
        self._found.append(Violation(failure, op.process, op.index, since, binding, evidence=evidence))

    def _lasted(self, standing: int, op: Op) -> None:
        """What was promised since it was seen first was promised on what is wrong, until it is seen to be right again."""
        self._found[standing] = replace(self._found[standing], until=op.index)


def _claim_uid(opened: Opened) -> str:
    return str(opened.get("binding", {}).get("claim_uid", ""))


def _quantity(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError:
        return 0  # written in a way that says nothing to be compared


def _file_system_changes(first: Opened, now: Opened) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What tells one file system from another: its UUID; the id of statfs(2) only for ext4, which makes it from the UUID,
    while xfs makes it from the device; and its type."""
    facts = ["fs_type", "fs_uuid"]
    if str(first.get("fs_type", "")).startswith("ext"):
        facts.append("fsid")
    for fact in facts:
        was, is_now = first.get(fact), now.get(fact)
        if was and is_now and was != is_now:
            yield fact, {"was": was, "is": is_now}


def _of_another(op: Op, now: Opened, named: Opened, *, is_first: bool) -> Class | None:
    """What is wrong with an identity file that is seen for the first time. What stands on a disk when its claim is first
    opened is its past, and no fault, unless this very run wrote it elsewhere; later it is what this run wrote there."""
    if named.get("run") == now["run"]:
        is_ours = named.get("replica") == op.process and named.get("claim_uid", "") == _claim_uid(now)
        return None if is_ours else Class.FOREIGN
    if is_first:
        return None
    return _damage(named, {}) if "unreadable" in named else Class.FOREIGN


def _damage(named: Opened, known: Opened) -> Class:
    """What became of an identity file that says something else than it did."""
    if "unreadable" in named:
        left = named["unreadable"].rstrip("\0")
        return Class.TORN if json.dumps(known, separators=(",", ":")).startswith(left) else Class.CORRUPT
    is_ours = all(named.get(key) == known.get(key) for key in ("replica", "claim_uid"))
    return Class.CORRUPT if is_ours else Class.FOREIGN
