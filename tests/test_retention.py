"""Retention in the ledger: old ops go, the room is used again, and whoever comes later finds all that is needed."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chaosd import compaction
from chaosd.checkers import Panel
from chaosd.compaction import Checkpoint
from chaosd.coverage import Coverage
from chaosd.errors import LedgerError
from chaosd.history import COMPACTED, NEMESIS, RESTART, RUN, Event, Kind, Op
from chaosd.ledger import Ledger, Run
from chaosd.retention import compact_idle, recalled
from chaosd.simulation.plants import PLANTS
from chaosd.simulation.world import Scenario, simulate
from tests.histories import WEB_0
from tests.test_checkpoint import found_in, known_after, round_ends
from tests.test_ledger import begin, journaling, url

DAY = 86400.0
NOTHING = Checkpoint(10**9, {"nothing": "of note"})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(url(tmp_path)) as opened:
        yield opened


def rounds(first: int, last: int, *, begin: int = 0, files: int = 20, violations: int = 0) -> list[Op]:
    """Of a day each; every file is written, acknowledged, and deleted in its round."""
    ops: list[Op] = []

    def tell(at: float, process: str, f: str, kind: Kind, value: dict[str, Any]) -> None:
        ops.append(Op(begin + len(ops), at, process, f, kind, value))

    for number in range(first, last + 1):
        at = number * DAY
        tell(at, RUN, "round", Kind.INVOKE, {"round": number, "replicas": [WEB_0], "verify": True})
        for sequence in range(number * files, (number + 1) * files):
            tell(at, WEB_0, "write", Kind.INVOKE, {"sequence": sequence, "length": 1, "digest": "d" * 64})
        tell(at, NEMESIS, "undo", Kind.INVOKE, {"kind": "scale"})
        tell(at, NEMESIS, "undo", Kind.OK, {"kind": "scale", "done": "scaled"})
        told = {"round": number, "violations": violations, "unknowns": 0, "verdict": "pass"}
        tell(at, RUN, "round", Kind.OK, told)
    return ops


async def compacted(ledger: Ledger, run: Run, days: float, checkpoint: Checkpoint = NOTHING) -> list[Op]:
    await ledger.compact(run, checkpoint, days * DAY, ledger.epoch(run))
    return list(ledger.history(run))


async def test_old_rounds_go_and_the_rest_is_as_it_was(ledger: Ledger) -> None:
    run, other = begin(ledger, "A"), begin(ledger, "B")
    ops = rounds(1, 10)
    for name in (run, other):
        ledger._write(name, ops)
    left = await compacted(ledger, run, 7)
    kept = [op for op in ops if op.time >= 7 * DAY]
    told = {"rounds": [1, 6], "last": kept[0].index - 1, "violations": 0, "unknowns": 0}
    assert left == [Op(0, 6 * DAY, RUN, COMPACTED, Kind.OK, told), *kept]
    assert list(ledger.history(other)) == ops
    assert list(ledger.history(run, kept[5].index)) == kept[5:]
    assert ledger.op(run, kept[3].index) == kept[3]
    assert ledger.op(run, 7) is None
    assert await compacted(ledger, run, 7) == left


async def test_a_round_in_which_something_was_found_stays_whole(ledger: Ledger) -> None:
    run = begin(ledger)
    sound = rounds(1, 3)
    found = rounds(4, 4, begin=len(sound), violations=1)
    rest = rounds(5, 9, begin=len(sound) + len(found), violations=1)
    ledger._write(run, [*sound, *found, *rest])
    for days in (2, 5, 8):
        left = await compacted(ledger, run, days)
    assert left[1 : 1 + len(found)] == found
    assert [op.value["rounds"] for op in left if op.f == COMPACTED] == [[1, 3], [5, 7]]


async def test_the_last_op_stays_so_that_no_index_is_given_twice(ledger: Ledger) -> None:
    run = begin(ledger)
    ops = rounds(1, 3)
    ledger._write(run, ops)
    left = await compacted(ledger, run, 100)
    assert left[-1] == ops[-1]
    assert ledger.append(run, Event(WEB_0, "a", Kind.OK), 1.0).index == ops[-1].index + 1


async def test_an_undo_that_is_open_stays_however_old_it_is(ledger: Ledger) -> None:
    run, closed = begin(ledger, "A"), begin(ledger, "B")
    ops = [op for op in rounds(1, 6) if (op.f, op.kind, op.time) not in [("undo", Kind.OK, 2 * DAY)]]
    opened = [op for op in ops if not (op.f == "undo" and op.time > 2 * DAY)]
    ledger._write(run, opened)
    ledger._write(closed, ops)
    for days in (3, 4, 100):
        await compacted(ledger, run, days)
        await compacted(ledger, closed, days)
        assert [(found.run, undo) for found, undo in ledger.open_undo()] == [("A", {"kind": "scale"})]


async def test_an_undo_that_is_the_first_of_what_goes_stays_beside_the_mark(ledger: Ledger) -> None:
    run = begin(ledger)
    ops = rounds(1, 3)
    first = Op(0, 1.0, NEMESIS, "undo", Kind.INVOKE, {"kind": "cordon"})
    ledger._write(run, [first, *(op for op in ops[1:] if op.f != "undo")])
    for days in (2, 3):
        left = await compacted(ledger, run, days)
        assert left[0] == first
        assert [(op.index, op.f) for op in left[1:2]] == [(1, COMPACTED)]


async def test_what_no_checkpoint_holds_stays(ledger: Ledger) -> None:
    run = begin(ledger)
    ops = rounds(1, 4)
    ledger._write(run, ops)
    second = next(op.index for op in ops if op.f == "round" and op.kind is Kind.OK and op.value["round"] == 2)
    left = await compacted(ledger, run, 100, Checkpoint(second, {}))
    assert left[1:] == [op for op in ops if op.index > second]


async def test_a_checkpoint_takes_the_place_of_the_one_before(ledger: Ledger) -> None:
    run, other = begin(ledger, "A"), begin(ledger, "B")
    ledger._write(run, rounds(1, 2))
    assert ledger.checkpoint(run) is None
    for index in (1, 2, 2):
        await ledger.compact(run, Checkpoint(index, {"at": index}), 0.0, 0)
        assert ledger.checkpoint(run) == Checkpoint(index, {"at": index})
    await ledger.compact(run, Checkpoint(1, {"late": "from a thread that began before"}), 0.0, 0)
    assert ledger.checkpoint(run) == Checkpoint(2, {"at": 2})
    assert ledger.checkpoint(other) is None


async def test_a_compaction_that_was_cut_off_is_ended_by_the_next(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PIECE", 60)
    run, whole = begin(ledger, "A"), begin(ledger, "B")
    for name in (run, whole):
        ledger._write(name, rounds(1, 9))
    let_go, cut = Ledger._let_go, 2

    def interrupted(*args: Any) -> None:
        nonlocal cut
        if not (cut := cut - 1):
            raise RuntimeError("killed")
        let_go(*args)

    monkeypatch.setattr(Ledger, "_let_go", interrupted)
    with pytest.raises(RuntimeError, match="killed"):
        await compacted(ledger, run, 8)
    monkeypatch.setattr(Ledger, "_let_go", let_go)
    cut_off = list(ledger.history(run))
    assert [op.value.get("rounds") for op in cut_off[:1]] == [[1, 2]]
    assert await compacted(ledger, run, 8) == await compacted(ledger, whole, 8)


async def test_who_has_lost_a_run_lets_nothing_of_it_go(ledger: Ledger) -> None:
    run = begin(ledger)
    ops = rounds(1, 9)
    ledger._write(run, ops)
    lost = ledger.journal(run).epoch
    held = ledger.journal(run).epoch
    await ledger.compact(run, NOTHING, 8 * DAY, lost)
    assert ledger.checkpoint(run) is None
    assert list(ledger.history(run)) == ops
    await ledger.compact(run, NOTHING, 8 * DAY, held)
    assert ledger.checkpoint(run) == NOTHING
    assert len(list(ledger.history(run))) < len(ops)


async def test_who_loses_a_run_while_it_compacts_lets_no_more_go(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PIECE", 60)
    run = begin(ledger)
    ledger._write(run, rounds(1, 9))
    let_go, after_the_first = Ledger._let_go, []

    def lost_then(*args: Any) -> None:
        let_go(*args)
        if not after_the_first:
            after_the_first.extend(ledger.history(run))
            ledger.journal(run)

    monkeypatch.setattr(Ledger, "_let_go", lost_then)
    left = await compacted(ledger, run, 8)
    assert left == after_the_first
    assert left[0].value["rounds"] == [1, 2]


async def test_a_history_that_is_compacted_while_it_is_read_is_not_judged_by(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(ledger)
    ledger._write(run, rounds(1, 4))
    await compacted(ledger, run, 3)
    monkeypatch.setattr(Ledger, "checkpoint", lambda *_: None)  # as it was just before
    with pytest.raises(LedgerError, match=r"ops 1 to 47 of run .* are not in the ledger"):
        recalled(ledger, run, Panel(), Coverage())


async def test_appends_wait_for_one_piece_at_most(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "PIECE", 10)
    run = begin(ledger)
    ledger._write(run, rounds(1, 30))
    let_go, pieces_gone, may_go = Ledger._let_go, 0, threading.Semaphore(3)

    def step_by_step(*args: Any) -> None:
        nonlocal pieces_gone
        assert may_go.acquire(timeout=120)
        let_go(*args)
        pieces_gone += 1

    monkeypatch.setattr(Ledger, "_let_go", step_by_step)
    async with journaling(ledger, run) as journal:
        going = asyncio.create_task(ledger.compact(run, NOTHING, 29 * DAY, journal.epoch))
        while pieces_gone < 2:  # noqa: ASYNC110 - a thread tells
            await asyncio.sleep(0.001)
        await journal.append([Event(WEB_0, "a", Kind.OK)])
        assert pieces_gone <= 4 < 28
        may_go.release(100)
        await going
    assert [op.f for op in list(ledger.history(run))[-2:]] == ["round", "a"]


async def test_the_room_of_what_went_is_used_again(tmp_path: Path, ledger: Ledger) -> None:
    run = begin(ledger)
    sizes, index = [], 0
    for day in range(1, 60):
        ops = rounds(day, day, begin=index, files=200)
        index += len(ops)
        ledger._write(run, [op._replace(time=op.time + place / 1e3) for place, op in enumerate(ops)])  # one a row
        await compacted(ledger, run, day - 5)
        sizes.append(ledger.size_bytes())
    assert max(sizes[45:]) <= 1.02 * max(sizes[:45])
    connection = sqlite3.connect(tmp_path / "ledger.db")
    assert connection.execute("SELECT count(*) FROM ops").fetchone()[0] < 8 * 204
    connection.close()


def test_the_rounds_of_a_long_history_are_found_without_reading_it(tmp_path: Path, ledger: Ledger) -> None:
    run = begin(ledger)
    seen: list[str] = []
    with ledger._engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.set_trace_callback(seen.append)
    ledger.milestones(run)
    (query,) = [statement for statement in seen if "compacted" in statement]
    plan = sqlite3.connect(tmp_path / "ledger.db")
    assert "USING INDEX ops_rounds" in str(plan.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    plan.close()


# Runs that nobody journals.


async def happened(*told: Any) -> tuple[Op, ...]:
    """In a run that is simulated, in a loop of its own."""
    return (await asyncio.to_thread(simulate, *told)).ops


def stored(ledger: Ledger, ops: Sequence[Op], *, name: str = "RUN", ended: bool = True) -> Run:
    run = begin(ledger, name)
    ledger._write(run, json_of(ops))
    if ended:
        ledger.end(run, verdict='{"verdict": "fail"}', ended_at=ops[-1].time)
    found = ledger.run(name)
    assert found
    return found


def json_of(ops: Sequence[Op]) -> list[Op]:
    return [op._replace(value=json.loads(json.dumps(op.value))) for op in ops]


def known(ledger: Ledger, run: Run) -> dict[str, Any]:
    panel, coverage = Panel(), Coverage()
    recalled(ledger, run, panel, coverage)
    return found_in(panel, coverage)


@pytest.mark.parametrize("ended", [True, False])
async def test_of_a_run_that_is_over_what_is_owed_and_what_was_found_outlive_its_ops(ledger: Ledger, ended: bool) -> None:
    plant = next(plant for plant in PLANTS if "bit" in plant.what)
    ops = await happened(Scenario(5, rounds=6, files=8, **plant.scenario), plant.hook())
    run, before = stored(ledger, ops, ended=ended), found_in(*known_after(ops)[:2])
    (index,) = {found[2] for found in before["classes"]}
    began = max(op.index for op in ops if op.f == "round" and op.kind is Kind.INVOKE and op.index < index)
    assert known(ledger, run) == before
    keep = 0.0 if ended else 1.0
    for _ in range(2):
        await compact_idle(ledger, keep, ops[-1].time + 1)
        left = list(ledger.history(run))
        assert len(left) < len(ops) * 0.8
        assert {op.index for op in left if op.f != COMPACTED} >= set(range(began, index + 1))
        assert left[-1] == json_of(ops)[-1]
        assert known(ledger, run) == before
    assert (found := ledger.run(run.run))
    assert found.verdict == ('{"verdict": "fail"}' if ended else None)
    verified = [Event(RUN, RESTART, Kind.OK, {"round": 6})]
    ledger.append(run, verified[0], ops[-1].time + 2)
    assert known(ledger, run)["coverage"]["chaosd_restarts"] == 1


async def test_what_happened_after_a_checkpoint_of_an_idle_run_is_in_the_next(ledger: Ledger) -> None:
    ops = await happened(Scenario(2, rounds=6, files=4))
    half = round_ends(ops)[2] + 1
    run = stored(ledger, ops[:half])
    await compact_idle(ledger, 0.0, ops[-1].time + 1)
    taken = ledger.checkpoint(run)
    ledger._write(run, json_of(ops[half:]))
    await compact_idle(ledger, 0.0, ops[-1].time + 1)
    again = ledger.checkpoint(run)
    assert taken
    assert again
    assert (taken.index, again.index) == (half - 1, len(ops) - 1)
    assert known(ledger, run) == found_in(*known_after(ops)[:2])
    assert len(list(ledger.history(run))) < 0.4 * len(ops)


async def test_a_run_of_which_nothing_more_may_go_costs_no_more_than_a_look(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = await happened(Scenario(2, rounds=6, files=4))
    run = stored(ledger, ops)
    await compact_idle(ledger, 0.0, ops[-1].time + 1)
    left = list(ledger.history(run))
    assert len(left) < len(ops)
    monkeypatch.setattr(Ledger, "checkpoint", None)  # whoever asks for it breaks
    await compact_idle(ledger, 0.0, ops[-1].time + 1)
    assert list(ledger.history(run)) == left


async def test_a_run_that_goes_on_while_idle_ones_are_compacted_is_let_be(ledger: Ledger) -> None:
    ops = await happened(Scenario(2, rounds=6, files=4))
    run = stored(ledger, ops)

    def busy() -> set[int]:
        ledger.journal(run)  # just after it was asked
        return set()

    await compact_idle(ledger, 0.0, ops[-1].time + 1, busy)
    assert ledger.checkpoint(run) is None
    assert list(ledger.history(run)) == json_of(ops)


async def test_young_runs_and_busy_ones_are_let_be(ledger: Ledger) -> None:
    ops = await happened(Scenario(2, rounds=2, files=4))
    young, busy = stored(ledger, ops, name="YOUNG"), stored(ledger, ops, name="BUSY")
    begin(ledger, "NO OPS")
    await compact_idle(ledger, 0.0, ops[0].time, lambda: {busy.id})
    await compact_idle(ledger, DAY, ops[-1].time + 10, lambda: {young.id})
    for run in (young, busy):
        assert ledger.checkpoint(run) is None
        assert list(ledger.history(run)) == json_of(ops)
