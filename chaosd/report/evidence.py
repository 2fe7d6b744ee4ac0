"""What shows that a violation is one: the bytes beside those that were expected, whose they are, and what happened to the
replica before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from chaosd import payload
from chaosd.checkers import Panel
from chaosd.checkers import Violation as Found
from chaosd.checkers.integrity import MISSING, UNSETTLED
from chaosd.checkers.records import Record
from chaosd.history import Kind, Op
from chaosd.ledger import Ledger, Run
from chaosd.payload import State
from chaosd.report import words
from chaosd.report.document import Dump, Moment, Proof, Row
from chaosd.report.verdict import Verdict, Violation

# Violations that are shown with all this; of others the verdict says what there is.
SHOWN = 50
_WINDOW, _AFTER = 5_000, 50  # ops before and after the one that showed it, in which its replica's life is looked for
_MOMENTS, _MOMENTS_AFTER = 24, 4
_ROW = 8  # bytes
_ROWS_BEFORE = 2
_RECORDS_KEPT = 1_000
_KEPT = frozenset({str(State.INTACT), UNSETTLED})


class Records:
    """Folds readings that found damage, before the checkers let go of the record that was to be there."""

    def __init__(self) -> None:
        self.damaged: dict[int, Record] = {}  # by the op's index

    def step(self, op: Op, panel: Panel) -> None:
        """Take in the next op, before the checkers do."""
        if op.f != "read" or op.kind is not Kind.OK or op.value["finding"] in _KEPT:
            return
        replica = panel.integrity.replicas.get(op.process)
        record = next(replica.find_all(op.value["sequences"]), None) if replica else None
        if record is None or len(self.damaged) >= _RECORDS_KEPT:
            return
        # What was never acknowledged may be missing, and often is.
        if op.value["finding"] != MISSING or (replica and record.sequence in replica.owed):
            self.damaged[op.index] = record


def proofs(ledger: Ledger, run: Run, verdict: Verdict, judged: Sequence[Found], records: Records) -> Iterator[Proof]:
    """One for each of the verdict's violations, up to SHOWN, in its order."""
    found = {_key(one.failure, one.replica, one.file, one.block): one for one in reversed(judged)}
    for violation in verdict.violations[:SHOWN]:
        replica = f"{violation.namespace}/{violation.pod}"
        one = found.get(_key(violation.failure, replica, violation.file, violation.block))
        yield _proof(ledger, run, violation, one, records) if one else Proof(evidence=_plain(violation.evidence))


def _key(*parts: object) -> tuple[str, ...]:
    return tuple(map(str, parts))


def _proof(ledger: Ledger, run: Run, violation: Violation, found: Found, records: Records) -> Proof:
    record = records.damaged.get(found.index)
    sequence = record.sequence if record else None
    shown_by, kept = ledger.op(run, found.index), ledger.op(run, found.since) if found.since >= 0 else None
    moments, left_out = _moments(ledger, run, found, sequence)
    return Proof(
        shown_by=_moment(shown_by) if shown_by else None,
        kept_until=_moment(kept) if kept else None,
        expected=_names(record) if record else None,
        found=_named(violation.evidence.get("names_itself")),
        dump=_dump(run.seed, record, violation),
        moments=tuple(moments),
        moments_left_out=left_out,
        evidence=_plain(violation.evidence),
    )


def _moments(ledger: Ledger, run: Run, found: Found, sequence: int | None) -> tuple[list[Moment], int]:
    """Of the replica's life: the last before the violation was seen, and the first after; how many were left out of those
    in the window."""
    window = ledger.ops(run, max(0, found.index - _WINDOW), found.index + _AFTER)
    life = [op for op in window if op.index == found.index or words.concerns(op, found.replica, sequence)]
    until = [op for op in life if op.index <= found.index]
    after = [op for op in life if op.index > found.index]
    shown = [*until[-_MOMENTS:], *after[:_MOMENTS_AFTER]]
    return [_moment(op) for op in shown], max(0, len(until) - _MOMENTS)


def _moment(op: Op) -> Moment:
    return Moment(index=op.index, at=op.time, process=op.process, told=words.tell(op))


def _names(record: Record) -> dict[str, str]:
    """What the record's blocks say of themselves, as evidence names it."""
    origin = asdict(record.origin)
    origin["volume_handle"] = origin.pop("handle")
    return {**_named(origin), "file": record.file, "sequence": str(record.sequence)}


def _named(names: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (names or {}).items()}


def _plain(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """What is not shown in a better way."""
    elsewhere = ("names_itself", "found_hex", "expected_hex", "consequences")
    return {key: value for key, value in evidence.items() if key not in elsewhere}


def _dump(seed: int, record: Record | None, violation: Violation) -> Dump | None:
    """The bytes around the first that differs. What is before it is as expected; the rest of the expected block is made
    again from the seed, where that gives what the evidence says."""
    told = violation.evidence
    if not told.get("expected_hex") or "first_difference" not in told:
        return None
    found, expected = bytes.fromhex(told.get("found_hex", "")), bytes.fromhex(told["expected_hex"])
    at = told["first_difference"]
    block, inside = divmod(at, payload.BLOCK_BYTES)
    made = payload.make_record(seed, record.label)[block * payload.BLOCK_BYTES :][: payload.BLOCK_BYTES] if record else b""
    made_again = made[inside : inside + len(expected)] == expected and bool(made)
    first = max(0, inside - inside % _ROW - _ROWS_BEFORE * _ROW) if made_again else inside
    want = made[first : inside + len(expected)] if made_again else expected
    got = (made[first:inside] if made_again else b"") + found
    return Dump(
        block=violation.block if violation.block is not None else block,
        offset=at,
        part=_part(made, inside) if made_again else "",
        made_again=made_again,
        rows=tuple(_rows(want, got, at - inside + first)),
    )


def _rows(want: bytes, got: bytes, offset: int) -> Iterator[Row]:
    for at in range(0, max(len(want), len(got)), _ROW):
        yield Row(offset=offset + at, expected=want[at : at + _ROW].hex(), found=got[at : at + _ROW].hex())


def _part(block: bytes, at: int) -> str:
    """In which part of a block a byte lies; `payload` has the table."""
    text = int.from_bytes(block[56:58], "big")
    parts = ((8, "the magic"), (40, "the checksum"), (58, "the numbers of its label"), (58 + text, "the text of its label"))
    return next((name for end, name in parts if at < end), "the filler")


def consequences(violation: Violation) -> list[str]:
    """What follows from a violation, in a line each."""
    return [
        f"{one['class']}{' of ' + one['file'] if one.get('file') else ''}{_why(one)}"
        for one in violation.evidence.get("consequences", ())
    ]


def _why(one: Mapping[str, Any]) -> str:
    for key in ("why", "problem", "state", "condition"):
        if key in one:
            return f": {one[key]}"
    return f": {one['file_count']} files" if one.get("file_count", 1) > 1 else ""
