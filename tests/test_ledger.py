"""The ledger: what is appended is durable, in order, and comes back as it was."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chaosd.errors import LedgerError, UsageError
from chaosd.history import NEMESIS, Event, Kind, Op
from chaosd.ledger import _LONGEST, _PAGE, Journal, Ledger, Run
from tests.histories import WEB_0, WEB_1, written


def begin(ledger: Ledger, name: str = "RUN", target: str = "default/web") -> Run:
    return ledger.begin(name, experiment="{}", seed=7, target=target, cluster="sandbox v1", cluster_id="c", started_at=1.0)


@asynccontextmanager
async def journaling(ledger: Ledger, run: Run) -> AsyncIterator[Journal]:
    journal = ledger.journal(run)
    journal.clock = lambda: 5.0
    writer = asyncio.create_task(journal.write())
    try:
        yield journal
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


def url(path: Path) -> str:
    return f"sqlite:///{path / 'ledger.db'}"


async def test_ops_come_back_as_they_were(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        async with journaling(ledger, run) as journal:
            await journal.append([*written(WEB_0, 3), Event(NEMESIS, "scale", Kind.INVOKE, {"to": 1, "deletes": []})])
    with Ledger.open(url(tmp_path)) as ledger:
        found = ledger.run()
        assert found == run
        ops = list(ledger.history(run))
    assert [op.index for op in ops] == [0, 1, 2]
    assert ops[0] == Op(0, 5.0, WEB_0, "write", Kind.INVOKE, written(WEB_0, 3)[0].value)
    assert ops[2].value == {"to": 1, "deletes": []}


def test_the_last_run_that_has_ended_is_that_of_the_experiment_target_and_cluster(tmp_path: Path) -> None:
    def begun(name: str, experiment: str = "gate", target: str = "default/web", cluster_id: str = "c") -> Run:
        document = f'{{"name": "{experiment}"}}'
        where = {"target": target, "cluster": "sandbox v1", "cluster_id": cluster_id}
        return ledger.begin(name, experiment=document, seed=7, started_at=1.0, **where)

    with Ledger.open(url(tmp_path)) as ledger:
        assert ledger.last_ended("default/web", "c", "gate") is None
        first = begun("A")
        others = (begun("B", "soak"), begun("C", target="default/db"), begun("D", cluster_id="other"))
        for run in (first, *others):
            ledger.end(run, verdict=f'{{"run": "{run.run}"}}', ended_at=2.0)
        begun("E")  # and is under way
        found = ledger.last_ended("default/web", "c", "gate")
        assert found is not None
        assert (found.run, found.verdict, found.ended_at) == ("A", '{"run": "A"}', 2.0)
        of_any = ledger.last_ended("default/web", "", "gate")
        assert of_any is not None
        assert of_any.run == "D"


def many(count: int, time: Callable[[int], float] = float) -> list[Op]:
    """Writes, each at a time of its own where nothing else is said."""
    return [Op(i, time(i), WEB_0, "write", Kind.OK, {"sequence": i, "length": 1}) for i in range(count)]


@pytest.mark.parametrize("count", [_PAGE - 1, _PAGE, 2 * _PAGE, 2 * _PAGE + 1])
def test_a_history_of_several_pages_comes_back_whole(tmp_path: Path, count: int) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run, other = begin(ledger, "A"), begin(ledger, "B")
        ledger._write(run, many(count))
        ledger._write(other, many(3))
        assert list(ledger.history(run)) == many(count)


def test_what_is_journaled_together_and_names_one_file_after_the_other_stands_in_one_row(tmp_path: Path) -> None:
    ops = many(2 * _LONGEST + 1, lambda _: 1.0)
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        ledger._write(run, ops)
        last = ledger.append(run, Event(WEB_0, "a", Kind.OK), 2.0)
        assert last.index == len(ops)
        assert list(ledger.history(run)) == [*ops, last]
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        rows = connection.execute('SELECT "index", count FROM ops ORDER BY "index"').fetchall()
    connection.close()
    assert rows == [(0, _LONGEST), (_LONGEST, _LONGEST), (2 * _LONGEST, 1), (len(ops), 1)]


_OTHERS = {"sequence": 2, "length": 2, "digest": "b" * 65, "file": "r00", "how": "append", "more": 1}
_TOLD = {"sequence": 1, "length": 1, "digest": "b" * 64}


@pytest.mark.parametrize(
    "second",
    [
        Op(1, 0.0, WEB_0, "write", Kind.INVOKE, _TOLD),
        Op(2, 0.0, WEB_0, "write", Kind.INVOKE, _TOLD),
        Op(1, 1.0, WEB_0, "write", Kind.INVOKE, _TOLD),
        Op(1, 0.0, WEB_1, "write", Kind.INVOKE, _TOLD),
        Op(1, 0.0, WEB_0, "read", Kind.INVOKE, _TOLD),
        Op(1, 0.0, WEB_0, "write", Kind.OK, _TOLD),
        Op(1, 0.0, WEB_0, "write", Kind.INVOKE, {"error": "refused"}),
        *(Op(1, 0.0, WEB_0, "write", Kind.INVOKE, {**_TOLD, key: other}) for key, other in _OTHERS.items()),
        *(
            Op(1, 0.0, WEB_0, "write", Kind.INVOKE, {key: told for key, told in _TOLD.items() if key != missing})
            for missing in _TOLD
        ),
    ],
    ids=repr,
)
def test_an_op_comes_back_as_it_was_whatever_was_journaled_with_it(second: Op) -> None:
    first = Op(0, 0.0, WEB_0, "write", Kind.INVOKE, {"sequence": 0, "length": 1, "digest": "a" * 64})
    with Ledger.open("sqlite://") as ledger:
        run = begin(ledger)
        ledger._write(run, [first, second])
        assert list(ledger.history(run)) == [first, second]


def test_a_history_that_is_damaged_in_its_midst_says_so(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        ledger._write(run, many(_PAGE))
    path = tmp_path / "ledger.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) * 3 // 4 :])
    with Ledger.open(url(tmp_path)) as ledger, pytest.raises(LedgerError, match=r"malformed.*restore it from a copy"):
        list(ledger.history(run))


async def test_callers_at_the_same_time_share_a_commit_and_keep_their_order(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        told: list[Op] = []
        async with journaling(ledger, run) as journal:
            journal.listen(told.append)
            results = await asyncio.gather(*(journal.append([Event(WEB_0, f"f{i}", Kind.OK)]) for i in range(200)))
        assert [ops[0].f for ops in results] == [f"f{i}" for i in range(200)]
        assert told == list(ledger.history(run))
        assert [op.index for op in told] == list(range(200))


async def test_listeners_hear_only_of_what_is_durable(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        seen: list[int] = []
        async with journaling(ledger, run) as journal:
            journal.listen(lambda op: seen.append(sum(1 for _ in ledger.history(run))))
            await journal.append([Event(WEB_0, "a", Kind.OK), Event(WEB_0, "b", Kind.OK)])
        assert seen == [2, 2]


async def test_a_journal_goes_on_where_the_history_ends(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        for _ in range(2):
            async with journaling(ledger, run) as journal:
                await journal.append([Event(WEB_0, "a", Kind.OK)])
        assert [op.index for op in ledger.history(run)] == [0, 1]


def test_the_latest_run_is_found_and_any_by_name_or_target(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        assert ledger.run() is None
        first, second = begin(ledger, "A"), begin(ledger, "B", "default/db")
        assert ledger.run() == second
        assert ledger.run("A") == first
        assert ledger.run(target="default/web") == first
        assert ledger.run("C") is None


def test_an_undo_is_open_until_it_is_carried_out(tmp_path: Path) -> None:
    undo = {"kind": "scale", "restore": 2, "wrote": 1}
    with Ledger.open(url(tmp_path)) as ledger:
        run, other = begin(ledger, "A"), begin(ledger, "B")
        ledger.append(run, Event(NEMESIS, "undo", Kind.INVOKE, undo), 1.0)
        ledger.append(other, Event(NEMESIS, "undo", Kind.INVOKE, undo), 1.0)
        ledger.append(other, Event(NEMESIS, "undo", Kind.OK, undo), 2.0)
        assert ledger.open_undo() == [(run, undo)]


def test_disruptions_of_a_target_are_remembered_over_all_its_runs(tmp_path: Path) -> None:
    """Not those that were refused, nor what is no disruption, nor another target's."""
    with Ledger.open(url(tmp_path)) as ledger:
        first, second, other = begin(ledger, "A"), begin(ledger, "B"), begin(ledger, "C", target="default/other")
        acts = Event(NEMESIS, "scale", Kind.INVOKE, {"disrupts": True, "to": 1})
        for run, event, at in (
            (second, acts, 30.0),
            (first, acts, 10.0),
            (first, acts, 20.0),
            (first, Event(NEMESIS, "scale", Kind.INVOKE, {"to": 1}), 21.0),
            (first, Event(NEMESIS, "scale", Kind.OK, {"disrupts": True}), 22.0),
            (first, Event(NEMESIS, "undo", Kind.INVOKE, {"kind": "scale"}), 23.0),
            (other, acts, 24.0),
        ):
            ledger.append(run, event, at)
        assert ledger.disrupted_since(first, 10.0) == [20.0, 30.0]


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)):
        pass
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match=r"schema 99.*name another ledger"):
        Ledger.open(url(tmp_path))


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("something else " * 500)
    with pytest.raises(LedgerError, match="damaged or no ledger"):
        Ledger.open(url(tmp_path))
    assert (tmp_path / "ledger.db").read_text().startswith("something else")


def test_a_ledger_that_is_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosd.ledger._BUSY_SECONDS", 0)
    with Ledger.open(url(tmp_path)):
        pass
    holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with Ledger.open(url(tmp_path)) as ledger, pytest.raises(LedgerError, match="another process writes"):
            begin(ledger)
    finally:
        holder.close()


async def test_a_full_disk_fails_every_append_and_says_so(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)

        def full(*_: Any) -> None:
            raise LedgerError("disk is full")

        ledger._write = full  # type: ignore[method-assign]
        journal = ledger.journal(run)
        writer = asyncio.create_task(journal.write())
        for _ in range(2):
            with pytest.raises(LedgerError, match="full"):
                await journal.append([Event(WEB_0, "a", Kind.OK)])
        with pytest.raises(LedgerError, match="full"):
            await writer


def test_a_url_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="give a URL such as"):
        Ledger.open("nonsense")


async def test_a_ledger_has_a_name_of_its_own_that_stays(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        name = ledger.id
    with Ledger.open(url(tmp_path)) as again, Ledger.open("sqlite://") as other:
        assert (again.id, len(name)) == (name, 32)
        assert other.id != name


async def test_one_op_is_found_by_its_index(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        async with journaling(ledger, run) as journal:
            ops = await journal.append(written(WEB_0, 3))
            assert journal.last_durable == ops[-1]
        assert (ledger.op(run, 0), ledger.op(run, 2)) == (ops[0], None)


def test_a_look_says_whether_there_is_a_ledger_and_leaves_no_trace(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert not Ledger.look(url(folder))
    assert list(tmp_path.iterdir()) == []
    with Ledger.open(url(tmp_path)) as ledger:
        begin(ledger)
        there = _files(tmp_path)
        assert Ledger.look(url(tmp_path))
        assert _files(tmp_path) == there
    there = _files(tmp_path)
    assert Ledger.look(url(tmp_path))
    assert _files(tmp_path) == there == {"ledger.db": there["ledger.db"]}
    assert not Ledger.look("sqlite://")


def test_who_only_reads_makes_and_changes_nothing_and_can_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no ledger at"):
        Ledger.open_to_read(url(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
    there = _files(tmp_path)
    with Ledger.open_to_read(url(tmp_path)) as reading:
        assert reading.run() == run
        assert reading.id
        with pytest.raises(LedgerError, match="readonly"):
            begin(reading, "B")
    assert _files(tmp_path) == there


def test_the_latest_runs_and_a_part_of_a_history_are_found(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        runs = [begin(ledger, name) for name in "ABC"]
        assert ledger.latest_runs(2) == [runs[2], runs[1]]
        ops = many(3 * _LONGEST, time=lambda _: 1.0)  # in three rows
        ledger._write(runs[0], ops)
        assert ledger.ops(runs[0], _LONGEST - 1, _LONGEST + 1) == ops[_LONGEST - 1 : _LONGEST + 2]
        assert ledger.last_op(runs[0]) == ops[-1]
        assert ledger.last_op(runs[1]) is None


def test_a_look_refuses_what_could_not_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="its folder must exist and be writable"):
        Ledger.look(f"sqlite:///{tmp_path}/file/ledger.db")
    (tmp_path / "ledger.db").write_text("something else " * 500)
    with pytest.raises(LedgerError, match="damaged or no ledger"):
        Ledger.look(url(tmp_path))
    (tmp_path / "ledger.db").unlink()
    with Ledger.open(url(tmp_path)), sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE meta SET schema_version = 999")
    connection.close()
    with pytest.raises(LedgerError, match="has schema 999"):
        Ledger.look(url(tmp_path))
    with pytest.raises(UsageError, match="give a URL such as"):
        Ledger.look("nonsense")


def test_a_ledger_tells_how_much_it_takes_and_how_much_is_left_for_it(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        before = ledger.size_bytes()
        ledger._write(run, many(10_000))
        files = (path.stat().st_size for path in tmp_path.iterdir())
        assert ledger.size_bytes() == sum(files) > before + 100_000
        assert ledger.available_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    with Ledger.open("sqlite://") as ledger:
        assert ledger.available_bytes() is None


def test_whether_a_ledger_can_be_written_is_found_out_by_writing(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        ledger.check_writable()
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            first = connection.execute("SELECT at FROM writable").fetchall()
        ledger.check_writable()
        second = connection.execute("SELECT at FROM writable").fetchall()
        assert len(first) == len(second) == 1
        assert second > first
        connection.close()


def test_a_ledger_on_a_full_or_a_read_only_disk_says_so(tmp_path: Path) -> None:
    with Ledger.open(url(tmp_path)) as ledger:
        run = begin(ledger)
        with ledger._engine.begin() as connection:  # of its own limits SQLite says what it says of the disk's
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="its disk is full; make room"):
            ledger._write(run, many(10_000))
        with ledger._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        with pytest.raises(LedgerError, match="its folder must exist and be writable"):
            ledger.check_writable()


def test_a_ledger_that_is_locked_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosd.ledger._BUSY_SECONDS", 0)
    with Ledger.open(url(tmp_path)) as ledger:
        holder = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another process writes"):
            ledger.check_writable()
        holder.execute("ROLLBACK")
        holder.close()
        ledger.check_writable()


def _files(folder: Path) -> dict[str, bytes]:
    """But for who reads, which stands in the shared memory of a WAL."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


async def test_of_two_journals_of_a_run_the_earlier_can_write_no_more(tmp_path: Path) -> None:
    """Such as of a chaosd that was suspended while its Lease ended, and does not know yet."""
    with Ledger.open(f"sqlite:///{tmp_path / 'a.db'}") as ledger:
        run = begin(ledger)
        earlier, later = ledger.journal(run), ledger.journal(run)
        assert (earlier.epoch, later.epoch) == (1, 2)
        writers = [asyncio.create_task(journal.write()) for journal in (earlier, later)]
        with pytest.raises(LedgerError, match=r"another chaosd goes on with run .* \(epoch 2, and this one's is 1\)"):
            await earlier.append([Event("run", "warning", Kind.OK, {"warning": "earlier"})])
        await later.append([Event("run", "warning", Kind.OK, {"warning": "later"})])
        assert [op.value["warning"] for op in ledger.history(run)] == ["later"]
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)


def test_the_last_run_of_an_experiment_is_found_behind_those_of_others(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'a.db'}") as ledger:
        named = {"seed": 1, "target": "default/web", "cluster": "sandbox v1", "cluster_id": "c", "started_at": 1.0}
        soak = ledger.begin("A", experiment='{"name": "soak"}', **named)
        gate = ledger.begin("B", experiment='{"name": "gate"}', **named)
        assert ledger.run(target="default/web") == gate
        assert ledger.run(target="default/web", experiment="soak") == soak
        assert ledger.run(target="default/web", experiment="flap") is None
