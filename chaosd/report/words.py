"""Ops in words, a line each, for people who never saw a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from chaosd.checkers.records import expand, how_many
from chaosd.history import NEMESIS, OBSERVER, RUN, Kind, Op, in_words, replicas_hit
from chaosd.nemesis import DISRUPTIONS

_LONGEST = 400
_ANSWER = {Kind.INVOKE: "begins", Kind.OK: "done", Kind.FAIL: "failed", Kind.INFO: "never answered"}


def tell(op: Op) -> str:
    """What an op says, in one line of bounded length."""
    told = _TELL.get(op.f, _plain)(op)
    if op.process == NEMESIS and op.f in DISRUPTIONS:
        told = in_words(op) if op.kind is Kind.INVOKE else f"{op.f} {_ANSWER[op.kind]}"
    error = op.value.get("error")
    told = f"{told}: {error}" if error else told
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"


def concerns(op: Op, replica: str, sequence: int | None) -> bool:
    """Whether an op is of the life of a replica, or of a record that it wrote; not what all its files have in common."""
    if op.process == replica:
        if op.f in ("open", "list"):
            return op.kind is not Kind.INVOKE
        if op.f == "write":
            return bool(op.value["sequence"] == sequence)
        if op.f == "read" and op.kind is Kind.INVOKE:
            return False
        of_it = sequence is not None and sequence in expand(op.value.get("sequences", ()))
        return of_it or (op.kind is not Kind.OK and op.kind is not Kind.INVOKE) or op.value.get("evidence") is not None
    if op.process == OBSERVER:
        return _observed(op) == replica.partition("/")[2] or (op.f == "watch" and op.value["change"] == "gap")
    if op.process == NEMESIS:
        return op.f not in DISRUPTIONS or (op.kind is Kind.INVOKE and _hits(op, replica))
    return op.process == RUN


def _hits(op: Op, replica: str) -> bool:
    """Whether a disruption is of this replica; one that names none is of all."""
    named = replicas_hit(op)
    return replica in named or not named


def _observed(op: Op) -> str:
    return str(op.value.get("pod", "") or (op.value.get("name", "") if op.f == "pod" else ""))


def _open(op: Op) -> str:
    if op.kind is not Kind.OK:
        return f"probe session {_ANSWER[op.kind]}"
    binding = op.value.get("binding", {})
    stands = " → ".join(binding[key] for key in ("claim", "volume", "handle", "node") if binding.get(key))
    return f"probe session opened in pod {op.value['pod_uid']}; its path stands on {stands or 'no claim'}"


def _write(op: Op) -> str:
    size = f" of {op.value['length']} bytes" if "length" in op.value else ""
    return f"write {op.value['sequence']}{size} {'acknowledged' if op.kind is Kind.OK else _ANSWER[op.kind]}"


def _read(op: Op) -> str:
    if op.kind is not Kind.OK:
        return f"reading of {_records(op)} {_ANSWER[op.kind]}"
    where = f" in {op.value['file']}" if "file" in op.value else ""
    block = f", block {op.value['block']}" if op.value.get("block") is not None else ""
    cache = f", {op.value['cache']}" if op.value.get("cache") else ""
    return f"read {_records(op)}{where}: {op.value['finding']}{block}{cache}"


def _list(op: Op) -> str:
    return f"folder listed: {how_many(op.value.get('present', ()))} files" if op.kind is Kind.OK else "folder not listed"


def _delete(op: Op) -> str:
    return f"delete of {_records(op)} {_ANSWER[op.kind]}"


def _records(op: Op) -> str:
    count = how_many(op.value.get("sequences", ()))
    return f"{count} record{'s' if count != 1 else ''}"


def _pod(op: Op) -> str:
    value = op.value
    if value["change"] == "deleted":
        return f"pod {value['uid']} is gone"
    state = "terminating" if value.get("deleting") else "Ready" if value.get("ready") else "not Ready"
    return f"pod {value['uid']} {state} on {value.get('node') or 'no node yet'}"


def _claim(op: Op) -> str:
    return _named(op, f"claim {op.value['name']} {op.value.get('phase', '')} to {op.value.get('volume') or 'no volume'}")


def _volume(op: Op) -> str:
    return _named(op, f"volume {op.value['name']} is disk {op.value.get('handle') or 'without a handle'}")


def _attachment(op: Op) -> str:
    attached = "attached to" if op.value.get("attached") else "not attached yet to"
    return _named(op, f"volume {op.value['volume']} {attached} {op.value['node']}")


def _named(op: Op, told: str) -> str:
    return f"{told}, and now gone" if op.value["change"] == "deleted" else told


def _event(op: Op) -> str:
    return f"Warning {op.value['reason']}: {op.value['message']}"


def _watch(op: Op) -> str:
    return f"watch of {op.value['kind']}: {op.value['change']}"


def _round(op: Op) -> str:
    return f"round {op.value['round']} {'begins: ' + op.value['name'] if op.kind is Kind.INVOKE else 'ends'}"


def _converge(op: Op) -> str:
    if op.kind is Kind.OK:
        return f"the target has converged, after {op.value['seconds']:.1f} s"
    if op.kind is Kind.FAIL:
        late = "; ".join(f"{late['replica']}: {late['state']}" for late in op.value.get("late", ()))
        return f"the target has not converged: {late}"
    return "waits until the target has converged"


def _confirm(op: Op) -> str:
    return f"attachment read anew: pod on {op.value.get('pod_node')}, attached to {op.value.get('attached_to')}"


def _plain(op: Op) -> str:
    rest: Mapping[str, Any] = {key: value for key, value in op.value.items() if key != "error"}
    return f"{op.f} {_ANSWER[op.kind]}" + (f" {json.dumps(rest)}" if rest else "")


_TELL: Mapping[str, Callable[[Op], str]] = {
    "open": _open,
    "write": _write,
    "read": _read,
    "list": _list,
    "delete": _delete,
    "pod": _pod,
    "claim": _claim,
    "volume": _volume,
    "attachment": _attachment,
    "event": _event,
    "watch": _watch,
    "round": _round,
    "converge": _converge,
    "confirm": _confirm,
    "restart": lambda op: f"chaosd died, and another goes on after round {op.value['round']}",
    "compacted": lambda op: f"here the ops of rounds {op.value['rounds'][0]} to {op.value['rounds'][1]} were let go",
    "ledger-lost": lambda op: f"the ledger has lost something: {op.value['why']}",
}
