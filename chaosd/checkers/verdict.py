"""What a checker says: a value of three, the violations with their evidence, and what could not be seen.

Pure. Kubernetes' words for the subject: a *replica* is `NAMESPACE/POD`, which outlives the pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from chaosd.history import Op


class Value(StrEnum):
    """Three values; where several hold, fail > unknown > pass (Jepsen, `checker.clj`)."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Class(StrEnum):
    """The named ways in which a promise is broken."""

    LOST = "lost"
    TORN = "torn"
    CORRUPT = "corrupt"
    STALE = "stale"
    FOREIGN = "foreign"
    UNEXPECTED = "unexpected"
    NOT_MOUNTED = "not_mounted"
    CLAIM_REPLACED = "claim_replaced"
    CLAIM_MISSING = "claim_missing"
    CLAIM_LOST = "claim_lost"
    CLAIM_MISMATCH = "claim_mismatch"
    VOLUME_REBOUND = "volume_rebound"
    HANDLE_CHANGED = "handle_changed"
    HOSTNAME_CHANGED = "hostname_changed"
    ORDER_VIOLATED = "order_violated"
    NOT_RECOVERED = "not_recovered"


# How deep in the storage a class lies: claim, volume, handle, mount, file. A deeper fault explains the shallower ones.
_DEPTH = {
    Class.CLAIM_MISMATCH: 0,
    Class.CLAIM_MISSING: 0,
    Class.CLAIM_REPLACED: 0,
    Class.CLAIM_LOST: 0,
    Class.VOLUME_REBOUND: 1,
    Class.HANDLE_CHANGED: 2,
    Class.NOT_MOUNTED: 3,
    Class.FOREIGN: 4,
    Class.STALE: 5,
    Class.LOST: 5,
    Class.TORN: 5,
    Class.CORRUPT: 5,
    Class.UNEXPECTED: 5,
}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a replica's path stands on; empty strings where it has no such thing or it was not seen."""

    claim: str = ""
    claim_uid: str = ""
    volume: str = ""
    handle: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    `index` is the op that showed it; `since` the op from which on the promise stood, such as the acknowledgement of the
    oldest file that is lost. `file` and `block` name the first damaged place, where there is one.
    """

    failure: Class
    replica: str
    index: int
    since: int
    binding: Binding = field(default_factory=Binding)
    file: str = ""
    block: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be seen, of whom, and why."""

    subject: str
    missing: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one checker, or all of them, found.

    `by_policy` holds what the StatefulSet's own policies allow, `not_applicable` the checks that this target cannot
    have; neither counts against a pass.
    """

    checker: str
    violations: tuple[Violation, ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    by_policy: tuple[str, ...] = ()
    not_applicable: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> Value:
        """Fail where anything is violated, else unknown where anything was not seen, else pass."""
        if self.violations:
            return Value.FAIL
        return Value.UNKNOWN if self.unknowns else Value.PASS


class Checker(Protocol):
    """A fold over the history. `step` never raises for what a history may hold; it keeps no more than what is owed."""

    name: str

    def step(self, op: Op) -> None:
        """Take in the next op."""

    def verdict(self) -> Verdict:
        """What can be said so far. Changes nothing."""


def root_causes(violations: Iterable[Violation]) -> tuple[Violation, ...]:
    """One violation for each volume and episode: the deepest; the others become its `consequences`.

    A shallower fault is a consequence where the deeper one was shown after the promise that the shallower broke had
    begun: a file acknowledged on a claim that was then made anew. Files written since are judged by themselves.
    """
    ordered = sorted(violations, key=lambda v: (_DEPTH.get(v.failure, 0), v.index))
    roots: list[Violation] = []
    consequences: dict[int, list[dict[str, Any]]] = {}
    for violation in ordered:
        cause = next((i for i, root in enumerate(roots) if _explains(root, violation)), None)
        if cause is None:
            roots.append(violation)
        else:
            consequences.setdefault(cause, []).append(_summary(violation))
    explained = [
        replace(root, evidence={**root.evidence, "consequences": consequences[i]}) if i in consequences else root
        for i, root in enumerate(roots)
    ]
    return tuple(sorted(explained, key=lambda v: v.index))


def _explains(root: Violation, other: Violation) -> bool:
    if root.replica != other.replica or root.failure not in _DEPTH or other.failure not in _DEPTH:
        return False
    return _DEPTH[root.failure] < _DEPTH[other.failure] and root.index >= other.since


def _summary(violation: Violation) -> dict[str, Any]:
    return {"class": str(violation.failure), "file": violation.file, **violation.evidence}
