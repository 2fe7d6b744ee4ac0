"""The ledger: a journal of runs and their ops, in any database that SQLAlchemy speaks.

SQLite by default, PostgreSQL by URL. Ops are durable when `append` returns: those of many callers share one commit
(group commit). The keys of a written record have columns of their own; whatever else an op tells is JSON. Of files that are
written once, ops that were journaled together and name one after the other stand in one row: nearly all of a history does.
No op is ever changed; what is judged and old may be compacted (`chaosd.compaction`).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from chaosd import compaction
from chaosd.compaction import Checkpoint, Piece
from chaosd.errors import LedgerError, UsageError
from chaosd.history import COMPACTED, NEMESIS, RUN, Event, Kind, Op

# Raised with the format of blocks, too (payload): a log's are made again from what the ledger says of them.
SCHEMA_VERSION = 5
_BUSY_SECONDS = 5
_PAGE = 1_000  # rows of one query
_LONGEST = 100  # ops in a row
_DIGEST = 64  # characters

_metadata = sa.MetaData()
_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("id", sa.String(32), nullable=False),
)
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run", sa.String(26), nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("experiment", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("cluster_id", sa.Text, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("verdict", sa.Text),
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
)
_ops = sa.Table(
    "ops",
    _metadata,
    sa.Column("run_id", sa.Integer, primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("process", sa.Text, nullable=False),
    sa.Column("f", sa.Text, nullable=False),
    sa.Column("kind", sa.String(6), nullable=False),
    sa.Column("sequence", sa.BigInteger),
    sa.Column("length", sa.BigInteger),
    sa.Column("digest", sa.Text),
    sa.Column("file", sa.Text),
    sa.Column("how", sa.String(9)),
    sa.Column("value", sa.Text),
    sqlite_with_rowid=False,
)
# What the folds over a run's history knew after the op of that index, as JSON, deflated.
_checkpoints = sa.Table(
    "checkpoints",
    _metadata,
    sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("index", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
)
# When it was last seen that the ledger can be written: one row.
_writable = sa.Table("writable", _metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", sa.Double))
# Undo entries are looked for across all runs at every start.
sa.Index("ops_undo", _ops.c.run_id, sqlite_where=_ops.c.f == "undo", postgresql_where=_ops.c.f == "undo")
_RUN_COLUMNS = tuple(column for column in _runs.c if column.name != "epoch")
# So are rounds that ended, at every compaction; without parameters, so that the index is seen to fit.
_OF_ROUNDS = sa.text(f"process = '{RUN}' AND f IN ('round', '{COMPACTED}') AND kind = '{Kind.OK}'")
_ROUNDS_INDEX = sa.Index("ops_rounds", _ops.c.run_id, sqlite_where=_OF_ROUNDS, postgresql_where=_OF_ROUNDS)
_COLUMNS = ("sequence", "length", "digest", "file", "how")
_OP_COLUMNS = tuple(_ops.c[name] for name in ("index", "count", "time", "process", "f", "kind", *_COLUMNS, "value"))
_PAGE_OF_OPS = (
    sa.select(*_OP_COLUMNS)
    .where(_ops.c.run_id == sa.bindparam("run_id"), _ops.c.index >= sa.bindparam("first"))
    .order_by(_ops.c.index)
    .limit(_PAGE)
)
_KINDS = {str(kind): kind for kind in Kind}
_new_op = tuple.__new__  # what Op() itself calls, in a third of the time


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger knows it. `name` is its experiment's, `experiment` and `verdict` are JSON documents, `cluster` is
    its kind and version, `cluster_id` empty where it could not be seen; times in seconds since the epoch."""

    id: int
    run: str
    name: str
    experiment: str
    seed: int
    target: str
    cluster: str
    cluster_id: str
    started_at: float
    ended_at: float | None = None
    verdict: str | None = None


class RunLedger(Protocol):
    """What a run needs of a ledger."""

    @property
    def id(self) -> str:
        """What tells it from every other ledger, and not from a copy of it."""

    def run(
        self, name: str | None = None, target: str | None = None, cluster_id: str = "", experiment: str | None = None
    ) -> Run | None:
        """The run of that name; the latest (of that target, of the experiment of that name) where none is named; None where
        there is none."""

    def end(self, run: Run, *, verdict: str, ended_at: float) -> None:
        """Store what came of a run."""

    def history(self, run: Run, first: int = 0) -> Iterator[Op]:
        """Every op of a run from an index on, in order, but for what was compacted."""

    def checkpoint(self, run: Run) -> Checkpoint | None:
        """The latest of a run; None where there is none. Raises LedgerError."""

    async def compact(self, run: Run, checkpoint: Checkpoint, before: float, epoch: int) -> None:
        """Keep the checkpoint, and let go what it makes needless of rounds that ended before a time in seconds since the
        epoch and found nothing (`compaction.pieces`). Nothing goes once the run has had more journals than `epoch`: who
        holds the last one may be reading. Raises LedgerError."""

    def op(self, run: Run, index: int) -> Op | None:
        """The op of that index; None where there is none."""

    def open_undo(self) -> list[tuple[Run, Mapping[str, Any]]]:
        """What runs registered and never undid: the last entry of each run, if it is open."""

    def disrupted_since(self, run: Run, since: float) -> list[float]:
        """When disruptions of a run's target began, by any run, after `since`; in seconds since the epoch, oldest first."""

    def journal(self, run: Run) -> Journal:
        """The journal of a run, which continues where its history ends. An earlier one of it can write no more."""

    def append(self, run: Run, event: Event, now: float) -> Op:
        """One more op, at `now`, of a run that nobody journals."""


class Ledger:
    """An open ledger. Synchronous but for its journals; every method raises LedgerError."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self.id = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open or create. Raises UsageError for a URL that is none, LedgerError for a ledger that cannot be used."""
        engine = _engine(url)
        ledger = cls(engine, engine.url.render_as_string(hide_password=True))
        if ledger._is_sqlite:
            sa.event.listen(engine, "connect", _sqlite_pragmas)
        ledger._check_version()
        return ledger

    @classmethod
    def look(cls, url: str) -> bool:
        """Whether there is a ledger; nothing is made or changed. Raises as `open` does, also where none could be made."""
        if file := file_of(url):
            _refuse_unwritable(_shown(url), file)
            if not file.exists():
                return False
        with cls(_reading_engine(url), _shown(url)) as ledger:
            return ledger._is_one()

    @classmethod
    def open_to_read(cls, url: str) -> Ledger:
        """Open one that is there: nothing is made or changed, and nobody who writes to it is disturbed. Raises UsageError
        where there is none, LedgerError for one that cannot be used."""
        file = file_of(url)
        ledger = cls(_reading_engine(url), _shown(url))
        if (file and not file.exists()) or not ledger._is_one():
            raise UsageError(f"there is no ledger at {ledger._name}: name one with --ledger, or its folder with --out")
        return ledger

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    def begin(
        self, run: str, *, experiment: str, seed: int, target: str, cluster: str, cluster_id: str, started_at: float
    ) -> Run:
        """A new run."""
        values = {"run": run, "name": json.loads(experiment).get("name", ""), "experiment": experiment, "seed": seed}
        values |= {"target": target, "cluster": cluster, "cluster_id": cluster_id}
        with self._transaction() as connection:
            result = connection.execute(_runs.insert().values(**values, started_at=started_at))
            key = result.inserted_primary_key
        assert key is not None, "the table has a primary key"
        return Run(id=key[0], started_at=started_at, **values)

    def end(self, run: Run, *, verdict: str, ended_at: float) -> None:
        """Store what came of a run."""
        with self._transaction() as connection:
            connection.execute(_runs.update().where(_runs.c.id == run.id).values(verdict=verdict, ended_at=ended_at))

    def run(
        self, name: str | None = None, target: str | None = None, cluster_id: str = "", experiment: str | None = None
    ) -> Run | None:
        """The run of that name; the latest (of that target, of the experiment of that name) where none is named; None where
        there is none. Not those of another cluster, where it is told which."""
        query = sa.select(*_RUN_COLUMNS).order_by(_runs.c.id.desc()).limit(1)
        if name is not None:
            query = query.where(_runs.c.run == name)
        if target:
            query = query.where(_runs.c.target == target)
        if experiment:
            query = query.where(_runs.c.name == experiment)
        if cluster_id:
            query = query.where(_runs.c.cluster_id.in_(("", cluster_id)))
        with self._transaction() as connection:
            row = connection.execute(query).one_or_none()
        return Run(**row._mapping) if row else None

    def history(self, run: Run, first: int = 0) -> Iterator[Op]:
        """Every op of a run from an index on, in order, but for what was compacted."""
        with self._transaction() as connection:
            row = _row_of(connection, run, first)
            while rows := _page(connection, run, row):
                yield from dropwhile(lambda op: op.index < first, _ops_of(rows))
                row = rows[-1][0] + 1

    def latest_runs(self, limit: int) -> list[Run]:
        """So many runs, the newest first."""
        with self._transaction() as connection:
            rows = connection.execute(sa.select(*_RUN_COLUMNS).order_by(_runs.c.id.desc()).limit(limit)).all()
        return [Run(**row._mapping) for row in rows]

    def last_ended(self, target: str, cluster_id: str, experiment: str) -> Run | None:
        """The latest run of an experiment on a target (`NAMESPACE/STATEFULSET`) that has ended with a verdict; None where
        none has. Of this cluster, as far as that can be seen."""
        query = sa.select(*_RUN_COLUMNS).order_by(_runs.c.id.desc()).limit(1)
        query = query.where(_runs.c.target == target, _runs.c.name == experiment, _runs.c.verdict.is_not(None))
        if cluster_id:
            query = query.where(_runs.c.cluster_id.in_(("", cluster_id)))
        with self._transaction() as connection:
            row = connection.execute(query).one_or_none()
        return Run(**row._mapping) if row else None

    def ops(self, run: Run, first: int, last: int) -> list[Op]:
        """The ops from one index to another, both included, in order."""
        query = sa.select(*_OP_COLUMNS).where(_ops.c.run_id == run.id, _ops.c.index.between(first - _LONGEST, last))
        with self._transaction() as connection:
            found = list(_ops_of(connection.execute(query.order_by(_ops.c.index)).all()))
        return [op for op in found if first <= op.index <= last]

    def last_op(self, run: Run) -> Op | None:
        """What was journaled last; None where nothing was."""
        return self.op(run, self._next_index(run) - 1)

    def op(self, run: Run, index: int) -> Op | None:
        """The op of that index; None where there is none."""
        query = sa.select(*_OP_COLUMNS).where(_ops.c.run_id == run.id, _ops.c.index <= index)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(_ops.c.index.desc()).limit(1)).all()
        return next((op for op in _ops_of(rows) if op.index == index), None)

    def open_undo(self) -> list[tuple[Run, Mapping[str, Any]]]:
        """What runs registered and never undid: the last entry of each run, if it is open."""
        query = sa.select(_ops.c.run_id, *_OP_COLUMNS).where(_ops.c.f == "undo").order_by(_ops.c.run_id, _ops.c.index)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
            last = dict(zip((row[0] for row in rows), _ops_of(row[1:] for row in rows), strict=True))
            owing = [run_id for run_id, op in last.items() if op.kind is Kind.INVOKE]
            runs = connection.execute(sa.select(*_RUN_COLUMNS).where(_runs.c.id.in_(owing)).order_by(_runs.c.id)).all()
        return [(Run(**row._mapping), last[row.id].value) for row in runs]

    def disrupted_since(self, run: Run, since: float) -> list[float]:
        """When disruptions of a run's target began, by any run, after `since`; in seconds since the epoch, oldest first."""
        of_target = sa.select(_runs.c.id).where(_runs.c.target == run.target, _runs.c.cluster_id == run.cluster_id)
        query = sa.select(*_OP_COLUMNS).where(_ops.c.run_id.in_(of_target), _ops.c.time > since)
        query = query.where(_ops.c.process == NEMESIS, _ops.c.kind == str(Kind.INVOKE))
        with self._transaction() as connection:
            found = connection.execute(query).all()
        return sorted(op.time for op in _ops_of(found) if op.value.get("disrupts"))

    def journal(self, run: Run) -> Journal:
        """The journal of a run, which continues where its history ends. An earlier one of it can write no more: whoever
        still holds that has lost the target's Lease without having noticed."""
        with self._transaction() as connection:
            connection.execute(_runs.update().where(_runs.c.id == run.id).values(epoch=_runs.c.epoch + 1))
            epoch = _epoch(connection, run)

        def commit(ops: Sequence[Op]) -> asyncio.Future[None]:
            return asyncio.get_running_loop().run_in_executor(self._thread, self._write, run, ops, epoch)

        return Journal(run, self._next_index(run), time.time, commit, epoch)

    def append(self, run: Run, event: Event, now: float) -> Op:
        """One more op, at `now`, of a run that nobody journals."""
        op = Op(self._next_index(run), now, event.process, event.f, event.kind, event.value)
        self._write(run, [op])
        return op

    def checkpoint(self, run: Run) -> Checkpoint | None:
        """The latest of a run; None where there is none."""
        with self._transaction() as connection:
            query = sa.select(_checkpoints.c.index, _checkpoints.c.state).where(_checkpoints.c.run_id == run.id)
            row = connection.execute(query).one_or_none()
        return Checkpoint(row[0], json.loads(zlib.decompress(row[1]))) if row else None

    async def compact(self, run: Run, checkpoint: Checkpoint, before: float, epoch: int) -> None:
        """See RunLedger. Each piece is a transaction of its own, so that what is appended meanwhile waits for one at most.
        SQLite uses the room again, its file does not shrink; nor does PostgreSQL's, before it vacuums the table."""

        def piece_by_piece() -> Iterator[Callable[[], None]]:
            yield partial(self._keep, run, checkpoint, epoch)
            last_undo, last = self._last_undo(run), self._next_index(run) - 1
            for piece in compaction.pieces(self.milestones(run), min(checkpoint.index, last - 1), before):
                yield partial(self._let_go, run, piece, last_undo, epoch)

        loop, todo = asyncio.get_running_loop(), piece_by_piece()
        while step := await loop.run_in_executor(self._thread, next, todo, None):
            await loop.run_in_executor(self._thread, step)

    def epoch(self, run: Run) -> int:
        """How many journals a run has had."""
        with self._transaction() as connection:
            return _epoch(connection, run)

    def last_times(self) -> list[tuple[Run, float]]:
        """Those that have ops, oldest first, and when the last op of each was."""
        last = sa.select(_ops.c.time).where(_ops.c.run_id == _runs.c.id).order_by(_ops.c.index.desc()).limit(1)
        query = sa.select(*_RUN_COLUMNS, last.scalar_subquery().label("last_at")).order_by(_runs.c.id)
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [(Run(*row[:-1]), row.last_at) for row in rows if row.last_at is not None]

    def size_bytes(self) -> int:
        """What it takes: SQLite's file with its WAL and index of that, PostgreSQL's database. May wait for the server."""
        if self._is_sqlite:
            return sum(file.stat().st_size for file in self._files() if file.exists())
        with self._transaction() as connection:
            return int(connection.execute(sa.select(sa.func.pg_database_size(sa.func.current_database()))).scalar_one())

    def available_bytes(self) -> int | None:
        """What is free for it on its file system; None where it is in no file of this machine, as in PostgreSQL."""
        file = next(iter(self._files()), None)
        try:
            return shutil.disk_usage(file.parent).free if file else None
        except OSError as error:
            raise LedgerError(f"ledger {self._name}: {error}: {_mend('unable to open')}") from error

    def check_writable(self) -> None:
        """Write a few bytes, durably. May wait for the disk, a lock or the server, so not to be called in an event loop.
        Raises LedgerError, which names cause and mend, where that cannot be done."""
        with self._transaction() as connection:
            connection.execute(_writable.delete())
            connection.execute(_writable.insert().values(id=1, at=time.time()))

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _files(self) -> list[Path]:
        """The files that it consists of, there or not; none where it is in memory or on a server."""
        file = _file(self._engine)
        return [file.with_name(f"{file.name}{suffix}") for suffix in ("", "-wal", "-shm")] if file else []

    def _next_index(self, run: Run) -> int:
        with self._transaction() as connection:
            query = sa.select(_ops.c.index + _ops.c.count).where(_ops.c.run_id == run.id)
            return connection.execute(query.order_by(_ops.c.index.desc()).limit(1)).scalar() or 0

    def _write(self, run: Run, ops: Sequence[Op], epoch: int | None = None) -> None:
        """Store ops durably, in one transaction; of a journal, only while it is the run's last."""
        with self._transaction() as connection:
            connection.execute(_ops.insert(), _rows(run, ops))
            # After the insert, which keeps others from writing.
            if epoch is not None and (last := _epoch(connection, run)) != epoch:
                raise LedgerError(
                    f"ledger {self._name}: another chaosd goes on with run {run.run} (epoch {last}, and this one's is "
                    f"{epoch}): leave it to that one"
                )

    def _keep(self, run: Run, checkpoint: Checkpoint, epoch: int) -> None:
        state = zlib.compress(json.dumps(checkpoint.state, separators=(",", ":")).encode())
        known = sa.select(_checkpoints.c.index).where(_checkpoints.c.run_id == run.id)
        with self._transaction() as connection:
            if not _is_last_journal(connection, run, epoch):
                return
            if (at := connection.execute(known).scalar()) is not None and at >= checkpoint.index:
                return  # by a later one ops may have gone that an earlier one needs
            connection.execute(_checkpoints.delete().where(_checkpoints.c.run_id == run.id))
            connection.execute(_checkpoints.insert().values(run_id=run.id, index=checkpoint.index, state=state))

    def milestones(self, run: Run) -> list[Op]:
        """By which rounds ended, and what was left by compactions, in their order."""
        # Without the last condition, which tells nothing, SQLite does not see that the index is better than the whole run.
        query = sa.select(*_OP_COLUMNS).where(_ops.c.run_id == run.id, _OF_ROUNDS, _ops.c.index >= 0)
        with self._transaction() as connection:
            return list(_ops_of(connection.execute(query.order_by(_ops.c.index))))

    def _last_undo(self, run: Run) -> int:
        """The index of what a run undid last, or did not undo: `open_undo` must find it."""
        query = sa.select(sa.func.max(_ops.c.index)).where(_ops.c.run_id == run.id, _ops.c.f == "undo")
        with self._transaction() as connection:
            found = connection.execute(query).scalar()
        return -1 if found is None else int(found)

    def _let_go(self, run: Run, piece: Piece, kept: int, epoch: int) -> None:
        mark = piece.mark._replace(index=piece.first + 1) if piece.first == kept else piece.mark
        going = sa.and_(_ops.c.run_id == run.id, _ops.c.index.between(piece.first, piece.last), _ops.c.index != kept)
        with self._transaction() as connection:
            if _is_last_journal(connection, run, epoch):
                connection.execute(_ops.delete().where(going))
                connection.execute(_ops.insert(), _rows(run, [mark]))

    def _is_one(self) -> bool:
        """Whether it is a ledger, and not of another version (LedgerError)."""
        with self._transaction() as connection:
            if not sa.inspect(connection).has_table(_meta.name):
                return False
            self._refuse_other(connection.execute(sa.select(_meta.c.schema_version)).scalar())
            self.id = connection.execute(sa.select(_meta.c.id)).scalar_one()
        return True

    def _check_version(self) -> None:
        with self._transaction() as connection:
            _metadata.create_all(connection)
            _ROUNDS_INDEX.create(connection, checkfirst=True)  # which a ledger that was there has not
            found = connection.execute(sa.select(_meta.c.schema_version)).scalar()
            if found is None:
                connection.execute(_meta.insert().values(schema_version=SCHEMA_VERSION, id=secrets.token_hex(16)))
            else:
                self._refuse_other(found)
            self.id = connection.execute(sa.select(_meta.c.id)).scalar_one()

    def _refuse_other(self, version: int | None) -> None:
        if version != SCHEMA_VERSION:
            raise LedgerError(
                f"ledger {self._name} has schema {version}, this chaosd knows {SCHEMA_VERSION}: use the chaosd that "
                "wrote it, or name another ledger with --ledger"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, self._engine.dialect.loaded_dbapi.Error) as error:
            cause = str(getattr(error, "orig", None) or error)
            raise LedgerError(f"ledger {self._name}: {cause}: {_mend(cause)}") from error


class Journal:
    """Numbers events and makes them durable. Ops are told to listeners in order, once they are durable."""

    def __init__(
        self,
        run: Run,
        next_index: int,
        clock: Callable[[], float],
        commit: Callable[[Sequence[Op]], asyncio.Future[None]],
        epoch: int,
    ) -> None:
        """`epoch` counts the journals that the run has had."""
        self.run = run
        self.clock = clock
        self.epoch = epoch
        self.last_index = next_index - 1
        self.last_durable: Op | None = None  # of those that this journal wrote, or was told of
        self._commit = commit
        self._listeners: list[Callable[[Op], None]] = []
        self._waiting: list[tuple[list[Op], asyncio.Future[list[Op]]]] = []
        self._wake = asyncio.Event()
        self._failed: LedgerError | None = None

    def listen(self, listener: Callable[[Op], None]) -> None:
        """Tell `listener` of every op from now on."""
        self._listeners.append(listener)

    async def append(self, events: Sequence[Event]) -> list[Op]:
        """Number the events, before anything else can run, and return when they are durable. Raises LedgerError."""
        if self._failed:
            raise self._failed
        ops = self._number(events)
        if not ops:
            return ops
        durable: asyncio.Future[list[Op]] = asyncio.get_running_loop().create_future()
        self._waiting.append((ops, durable))
        self._wake.set()
        return await durable

    async def write(self) -> None:
        """Commit for ever what was appended meanwhile, all of it at once. Raises LedgerError when it cannot."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            await self._written(batch)

    async def _written(self, batch: list[tuple[list[Op], asyncio.Future[list[Op]]]]) -> None:
        rows = [op for ops, _ in batch for op in ops]
        try:
            # Shielded: what was handed to the database is told to the listeners, whoever is cancelled meanwhile.
            await asyncio.shield(self._commit(rows))
        except LedgerError as error:
            self._failed = error
            for _, durable in batch + self._waiting:
                if not durable.done():
                    durable.set_exception(error)
            raise
        self._tell(rows)
        for ops, durable in batch:
            if not durable.done():
                durable.set_result(ops)

    def _number(self, events: Sequence[Event]) -> list[Op]:
        now, first = self.clock(), self.last_index + 1
        ops = [Op(first + i, now, e.process, e.f, e.kind, e.value) for i, e in enumerate(events)]
        self.last_index += len(ops)
        return ops

    def _tell(self, ops: Sequence[Op]) -> None:
        self.last_durable = ops[-1] if ops else self.last_durable
        for op in ops:
            for listener in self._listeners:
                listener(op)


def _epoch(connection: sa.Connection, run: Run) -> int:
    """How many journals the run has had. PostgreSQL waits for whoever is about to have another."""
    found: int = connection.execute(
        sa.select(_runs.c.epoch).where(_runs.c.id == run.id).with_for_update(read=True)
    ).scalar_one()
    return found


def _is_last_journal(connection: sa.Connection, run: Run, epoch: int) -> bool:
    """Whether it is; nobody can have a later one before the transaction ends, since it writes that to the run's row."""
    same = _runs.update().where(_runs.c.id == run.id, _runs.c.epoch == epoch).values(epoch=epoch)
    return connection.execute(same).rowcount == 1


def _rows(run: Run, ops: Sequence[Op]) -> list[dict[str, Any]]:
    rows = [_row(run.id, ops[0])]
    for op in ops[1:]:
        before, row = rows[-1], _row(run.id, op)
        if _continues(before, row):
            before["count"] += 1
            if row["digest"]:
                before["digest"] += row["digest"]
        else:
            rows.append(row)
    return rows


def _continues(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row can hold another's op too: the same of the next file that is written once."""
    count = before["count"]
    return (
        count < _LONGEST
        and _is_plain(before)
        and _is_plain(row)
        and all(before[key] == row[key] for key in ("time", "process", "f", "kind", "length"))
        and all(before[key] + count == row[key] for key in ("index", "sequence"))
        and (before["digest"] is None) == (row["digest"] is None)
    )


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether it tells of a file that is written once, and no more of it than sequence, length and perhaps digest."""
    return (
        row["sequence"] is not None
        and row["length"] is not None
        and (row["digest"] is None or len(row["digest"]) == row["count"] * _DIGEST)
        and row["file"] is row["how"] is row["value"] is None
    )


def _row(run_id: int, op: Op) -> dict[str, Any]:
    rest = {key: value for key, value in op.value.items() if key not in _COLUMNS}
    return {
        "run_id": run_id,
        "index": op.index,
        "count": 1,
        "time": op.time,
        "process": op.process,
        "f": op.f,
        "kind": str(op.kind),
        **{column: op.value.get(column) for column in _COLUMNS},
        "value": json.dumps(rest, separators=(",", ":")) if rest else None,
    }


def _row_of(connection: sa.Connection, run: Run, index: int) -> int:
    """The index of the row that holds an op, or would."""
    query = sa.select(sa.func.max(_ops.c.index)).where(_ops.c.run_id == run.id, _ops.c.index <= index)
    return connection.execute(query).scalar() or 0


def _page(connection: sa.Connection, run: Run, first: int) -> Sequence[Sequence[Any]]:
    """Some rows of a run from an index on, as the driver makes them: SQLAlchemy's own take half as long again."""
    with connection.execute(_PAGE_OF_OPS, {"run_id": run.id, "first": first}) as result:
        return result.cursor.fetchall()


def _ops_of(rows: Iterable[Sequence[Any]]) -> Iterator[Op]:
    """From values of _OP_COLUMNS. Written out, since it is done a million times."""
    for index, count, at, process, f, kind, sequence, length, digest, file, how, rest in rows:
        kind = _KINDS[kind]
        if count == 1:
            value = json.loads(rest) if rest else {}
            columns = zip(_COLUMNS, (sequence, length, digest, file, how), strict=True)
            value |= {key: told for key, told in columns if told is not None}
            yield Op(index, at, process, f, kind, value)
            continue
        for i in range(count):
            value = {"sequence": sequence + i, "length": length}
            if digest is not None:
                value["digest"] = digest[i * _DIGEST : (i + 1) * _DIGEST]
            yield _new_op(Op, (index + i, at, process, f, kind, value))


def _engine(url: str) -> sa.Engine:
    try:
        return sa.create_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"--ledger {url}: {error}: give a URL such as sqlite:///chaosd.db") from error


def _reading_engine(url: str) -> sa.Engine:
    """For who only reads."""
    file = file_of(url)
    if file is None:
        return _engine(url).execution_options(postgresql_readonly=True)
    # A WAL that nobody has open is not needed, and reading it would make files.
    how = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "immutable=1"
    return sa.create_engine(f"sqlite:///file:{quote(str(file))}?{how}&uri=true")


def _shown(url: str) -> str:
    return _engine(url).url.render_as_string(hide_password=True)


def file_of(url: str) -> Path | None:
    """The file that a ledger is, whether it is there or not; None where it is none. Raises UsageError."""
    return _file(_engine(url))


def _file(engine: sa.Engine) -> Path | None:
    in_file = engine.dialect.name == "sqlite" and engine.url.database not in (None, "", ":memory:")
    return Path(str(engine.url.database)).absolute() if in_file else None


def _refuse_unwritable(name: str, file: Path) -> None:
    """Before it is made: its folder may be made, too."""
    there = next(parent for parent in file.parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK) or (file.exists() and not os.access(file, os.W_OK)):
        raise LedgerError(f"ledger {name}: {there} is no folder that can be written: {_mend('unable to open')}")


def _sqlite_pragmas(connection: Any, _: object) -> None:
    """WAL alone may lose the last commits at a power loss, synchronous=FULL does not (SQLite docs, "PRAGMA")."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _mend(cause: str) -> str:
    if "locked" in cause:
        return "another process writes to it; end that, or name another ledger with --ledger"
    if "malformed" in cause or "not a database" in cause:
        return "it is damaged or no ledger; restore it from a copy, or name another with --ledger"
    if "full" in cause:
        return "its disk is full; make room, or name a ledger elsewhere with --ledger"
    if "unable to open" in cause or "readonly" in cause:
        return "its folder must exist and be writable; or name another with --ledger"
    return "name another with --ledger"
