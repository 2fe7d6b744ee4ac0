"""What a checker says: a value of three, the violations with their evidence, and what could not be seen.

Pure. Kubernetes' words for the subject: a *replica* is `NAMESPACE/POD`, which outlives the pod.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from heapq import merge
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
    REFORMATTED = "reformatted"
    NOT_MOUNTED = "not_mounted"
    NOT_EXPANDED = "not_expanded"
    UNEXPECTED = "unexpected"
    DOUBLE_WRITER = "double_writer"
    CLAIM_REPLACED = "claim_replaced"
    CLAIM_MISSING = "claim_missing"
    CLAIM_LOST = "claim_lost"
    CLAIM_MISMATCH = "claim_mismatch"
    VOLUME_REBOUND = "volume_rebound"
    HANDLE_CHANGED = "handle_changed"
    DOUBLE_BOUND = "double_bound"
    ATTACHED_ELSEWHERE = "attached_elsewhere"
    HOSTNAME_CHANGED = "hostname_changed"
    ORDER_VIOLATED = "order_violated"
    NOT_RECOVERED = "not_recovered"


# How deep in the storage a class lies: claim, volume, handle, attachment, mount, file system, owner, second writer, the
# whole volume back in time, then files by how much of them is gone. A deeper fault explains the shallower ones. Classes
# that are not here lie in no volume, or, as `not_expanded`, harm no byte in it.
_DEPTHS = (
    (Class.CLAIM_MISMATCH, Class.CLAIM_MISSING, Class.CLAIM_REPLACED, Class.CLAIM_LOST),
    (Class.VOLUME_REBOUND, Class.DOUBLE_BOUND),
    (Class.HANDLE_CHANGED,),
    (Class.ATTACHED_ELSEWHERE,),
    (Class.NOT_MOUNTED,),
    (Class.REFORMATTED,),
    (Class.FOREIGN,),
    (Class.DOUBLE_WRITER,),
    (Class.STALE,),
    (Class.LOST,),
    (Class.TORN,),
    (Class.UNEXPECTED,),
    (Class.CORRUPT,),
    (Class.NOT_RECOVERED,),
)
_OF_FILES = frozenset({Class.LOST, Class.TORN, Class.UNEXPECTED, Class.CORRUPT})
_DEPTH: Mapping[Class, float] = {failure: depth for depth, failures in enumerate(_DEPTHS) for failure in failures}
# Evidence of a torn file: the file in which the bytes stand that it lacks. That one tells what happened.
STANDS_IN = "stands_in"


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

    `index` is the op that showed it, `until` the last one up to which it may have lasted; `since` the op that showed last
    that the promise was kept, such as the acknowledgement of a file that is lost, or its last intact reading. `file` and
    `block` name the first damaged place, where there is one. `shared_with` are other replicas that use the same volume
    because of it, and go on harming each other.
    """

    failure: Class
    replica: str
    index: int
    since: int
    binding: Binding = field(default_factory=Binding)
    file: str = ""
    block: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    until: int = -1
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be seen, of whom, and why."""

    subject: str
    missing: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one checker, or all of them, found.

    `by_policy` holds what the StatefulSet's own policies allow, `not_applicable` the checks that this target cannot
    have, `notes` what else a reader should know; none counts against a pass.
    """

    checker: str
    violations: tuple[Violation, ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    by_policy: tuple[str, ...] = ()
    not_applicable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> Value:
        """Fail where anything is violated, else unknown where anything was not seen, else pass."""
        if self.violations:
            return Value.FAIL
        return Value.UNKNOWN if self.unknowns else Value.PASS


class Checker(Protocol):
    """A fold over the history. Of the workers' ops (`history.DATA`) it is given those that it `follows`, and all others.
    `step` never raises for what a history may hold, and keeps no more than what is owed."""

    name: str
    follows: frozenset[str]

    def step(self, op: Op) -> None:
        """Take in the next op."""

    def verdict(self) -> Verdict:
        """What can be said so far. Changes nothing."""


def root_causes(violations: Iterable[Violation], ends: Sequence[int] = ()) -> tuple[Violation, ...]:
    """One violation for each volume and episode: the deepest; the others become its `consequences`. An episode is a round
    with what came before it, since the round before; `ends` are the indices at which rounds ended, in their order.

    A shallower fault is a consequence where the promise that it broke was kept still when the deeper one was shown, or
    before: a file acknowledged on a claim that was then made anew. Files written, or read intact, since are judged by
    themselves, and so is what was found in an earlier episode. Among classes of files only what was found in the same
    episode belongs together.
    """
    ordered = sorted(violations, key=lambda v: (_depth(v) or 0, v.index))
    roots: list[Violation] = []
    # Where they stand among them, by replica and, if they explain nothing beyond it, episode: there may be some in each.
    places: dict[tuple[str, int | None], list[int]] = {}
    consequences: dict[int, list[dict[str, Any]]] = {}
    for violation in ordered:
        episode = bisect_left(ends, violation.index)
        near = merge(*(places.get((violation.replica, within), ()) for within in (episode, None)))
        cause = next((place for place in near if _explains(roots[place], violation, ends)), None)
        if cause is None:
            within = episode if violation.failure in _OF_FILES or _depth(violation) is None else None
            for replica in {violation.replica, *violation.shared_with}:
                places.setdefault((replica, within), []).append(len(roots))
            roots.append(violation)
        else:
            consequences.setdefault(cause, []).append(_summary(violation))
    explained = [
        replace(root, evidence={**root.evidence, "consequences": consequences[i]}) if i in consequences else root
        for i, root in enumerate(roots)
    ]
    return tuple(sorted(explained, key=lambda v: v.index))


def _explains(root: Violation, other: Violation, ends: Sequence[int]) -> bool:
    """Of a replica that the root harms, too."""
    episode, others_episode = bisect_left(ends, root.index), bisect_left(ends, other.index)
    if root.failure is other.failure:  # seen by two checkers, or in two pods
        return episode == others_episode
    depth, others = _depth(root), _depth(other)
    if depth is None or others is None or depth > others or others_episode < episode:
        return False
    if other.failure is Class.NOT_RECOVERED:  # of what keeps a pod from its volume, the first may be long past
        return depth <= _DEPTH[Class.ATTACHED_ELSEWHERE]
    if root.failure in _OF_FILES:
        return episode == others_episode
    goes_on = bool(root.shared_with)
    return depth < others and (goes_on or max(root.index, root.until) > other.since)


def _depth(violation: Violation) -> float | None:
    if STANDS_IN in violation.evidence:
        return _DEPTH[Class.CORRUPT] + 0.5
    return _DEPTH.get(violation.failure)


def _summary(violation: Violation) -> dict[str, Any]:
    return {"class": str(violation.failure), "file": violation.file, **violation.evidence}
