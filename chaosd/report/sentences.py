"""What a verdict says, what it rests on, and what it does not say, in words, whichever format they are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaosd.report.runs import State
from chaosd.report.verdict import Verdict

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def verdict(told: Verdict, state: State) -> str:
    """The verdict in one sentence."""
    if told.verdict == "fail":
        found = ", ".join(f"{count} {name}" for name, count in sorted(told.violations_by_class.items()))
        said = f"{told.target} broke {_many(len(told.violations), 'promise')}: {found}."
    elif told.verdict == "unknown":
        unseen = _many(len(told.unknown), "thing")
        said = f"Nothing was seen broken on {told.target}, and {unseen} could not be seen, so nothing is promised."
    else:
        disruptions = _many(sum(told.coverage["disruptions"].values()), "disruption")
        said = (
            f"Everything that the storage of {told.target} acknowledged was still there, unchanged and on the same disks, "
            f"after {disruptions}."
        )
    return said if state is State.FINISHED else f"So far: {said}"


def rests_on(told: Verdict) -> Iterator[str]:
    """What was done, so that the verdict can be weighed."""
    coverage = told.coverage
    kinds = _counted(coverage["disruptions"])
    yield f"{_many(coverage['rounds'], 'round')}, {_many(sum(coverage['disruptions'].values()), 'disruption')}" + (
        f" ({kinds})" if kinds else ""
    )
    hit = ", ".join(name.partition("/")[2] for name in coverage["replicas_hit"][:10])
    more = f" and {len(coverage['replicas_hit']) - 10} more" if len(coverage["replicas_hit"]) > 10 else ""
    yield f"{_many(len(coverage['replicas_hit']), 'replica')} hit" + (f" ({hit}{more})" if hit else "")
    records = coverage["files_acknowledged"] + coverage["overwrites_acknowledged"] + coverage["log_entries_acknowledged"]
    yield f"{_many(records, 'acknowledged write')}, {size(coverage['bytes_acknowledged'])}"
    cold, cached = coverage["records_verified_cold"], coverage["records_verified_cached"]
    yield (
        f"{_many(cold + cached, 'record')} read back, {cold:,} of them cold, that is past the node's page cache; "
        f"{size(coverage['bytes_verified'])}"
    )
    yield f"{_many(coverage['crashes'], 'crash', 'crashes')} of a node or a disk"


def does_not_say(told: Verdict, state: State, compacted: int) -> Iterator[str]:
    """What cannot be concluded, where so many rounds were compacted."""
    coverage = told.coverage
    if told.cluster.kind == "sandbox":
        yield "The cluster was simulated: this says nothing of any real storage."
    if state is not State.FINISHED:
        yield "The run has no end yet: whatever comes later may break what held so far."
    if told.aborted:
        yield f"The run was ended before its end: {told.aborted}."
    if not coverage["crashes"]:
        yield "No node and no disk lost power. Deleting a pod flushes its volume, so nothing is said of fsync."
    if not sum(coverage["disruptions"].values()):
        yield "No disruption happened: this says only that undisturbed data stays."
    if cached := coverage["records_verified_cached"]:
        yield f"{_many(cached, 'reading')} may have come from the node's page cache, not from the disk."
    if not_done := _counted(coverage["disruptions_not_done"]):
        yield f"Not done, or nobody knows: {not_done}."
    if unread := coverage["records_at_risk"]:
        yield f"{_many(unread, 'acknowledged record')} not read back since the last disruption."
    if gaps := coverage["watch_gaps"]:
        yield f"The watches had {_many(gaps, 'gap')}: what happened in them was not seen."
    if compacted:
        yield (
            f"The ops of {_many(compacted, 'round')} are old and were let go: verdict and counts hold them, what is told "
            "of single ops, disruptions and recoveries does not."
        )
    yield from (f"Not applicable to this target: {check}." for check in told.not_applicable)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _counted(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
