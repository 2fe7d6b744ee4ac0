"""The history: what was attempted, what came of it, and what was observed, in one order.

Pure. The nouns are Jepsen's: a *process* does one thing at a time; an *op* is one event of it. An `invoke` is journaled
before the act; `ok` means it happened, `fail` that it did not, `info` that nobody knows. Observations have no
invocation: they are `ok` from the start.

Processes
    `NAMESPACE/POD`   the writer and reader of one replica; it outlives the pod, as the pod's name does
    `nemesis`         what disturbs the target
    `observer`        what was seen of the cluster
    `run`             the run itself: rounds and steps, and what they were expected to show

The values of each `f` are listed in ARCHITECTURE.md, "The history".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What an op says about its act. Source: Jepsen, "History" (jepsen.history)."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


NEMESIS = "nemesis"
OBSERVER = "observer"
RUN = "run"

# What the run itself tells of chaosd: that it died and was started again, that its ledger lost a part of the history, and
# whether it found what was planted in simulated runs just before.
RESTART, LEDGER_LOST, DRILL = "restart", "ledger-lost", "drill"

# What stands in the place of ops that were judged and are old.
COMPACTED = "compacted"

# What the writers and readers of replicas do; nearly all ops of a history.
DATA = frozenset({"open", "write", "read", "list", "delete"})


@dataclass(frozen=True, slots=True)
class Event:
    """An op that the ledger has not numbered yet."""

    process: str
    f: str
    kind: Kind
    value: Mapping[str, Any] = field(default_factory=dict)


class Op(NamedTuple):
    """One event of the history.

    `index` counts from 0 within a run, without holes but where ops were compacted; `time` is in seconds since the epoch, by
    the daemon's clock, and is evidence, never order: the order is the index. A tuple, since histories of a million are
    judged in seconds.
    """

    index: int  # type: ignore[assignment]  # what a tuple has of that name, nobody asks an op for
    time: float
    process: str
    f: str
    kind: Kind
    value: Mapping[str, Any] = {}


def disruptions_of(op: Op) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """What the nemesis is about to do: kind and value of a disruption, or of each of several that it does together."""
    together = op.value.get("disruptions", ())
    return [(part["kind"], part) for part in together] if op.f == "together" else [(op.f, op.value)]


def replicas_hit(op: Op) -> set[str]:
    """The replicas that a disruption, about to begin, deletes or takes away for a while."""
    return {pod["replica"] for pod in op.value.get("deletes", ())} | {*op.value.get("takes", ())}


def in_words(op: Op) -> str:
    """What the nemesis is about to do, in a few words: which disruption, and to whom."""
    kinds = " and ".join(kind for kind, _ in disruptions_of(op))
    if op.f in ("scale", "scale-flap") and "from" in op.value:
        return f"{kinds} {op.value['from']} to {op.value['to']} replicas"
    return f"{kinds} {', '.join(op.value.get('takes', ()))}".strip()
