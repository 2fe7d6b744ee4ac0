"""The generator: what to do next. Pure: it decides from the seed and from what it is told, and touches nothing.

A *plan* says what one round (or one scripted step) consists of; the *generator* turns plans into tasks, one at a time,
for the processes that are free. Random decisions come from a stream for each (seed, purpose, round), so that timing
never shifts what is drawn: the same seed gives the same sequence of decisions.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

from chaosd.checkers.integrity import Integrity
from chaosd.checkers.records import Document, How, Replica, compress
from chaosd.history import NEMESIS, RUN

# Files to each replica before the disruption, so that there is something to lose; the rest is written during it.
FIRST_FILES = 16
RETRY_SECONDS = 0.2
TRICKLE_SECONDS = 1.0
_NOT_SEEN_YET = Replica()


def stream(seed: int, purpose: str, *parts: object) -> random.Random:
    """An independent random stream for a purpose. The same arguments give the same stream on every machine."""
    return random.Random("/".join(map(str, (seed, purpose, *parts))))  # noqa: S311 - repeatable, not secret


@lru_cache(maxsize=10_000)  # it is asked again in each round for the files that stay
def fraction(seed: int, purpose: str, *parts: object) -> float:
    """A number from 0 up to 1 for a purpose, the same for the same arguments: as the first of a stream, without making one
    for each of thousands of files."""
    drawn = hashlib.blake2b("/".join(map(str, (seed, purpose, *parts))).encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") / (1 << 64)


class Move(Protocol):
    """A disruption that can be drawn: what the generator needs to know of one."""

    @property
    def kind(self) -> str:
        """Its name."""

    @property
    def weight(self) -> int:
        """How often it is drawn, against the others."""

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Its parameters, as plain JSON, for the round in which it is drawn for the `turn`th time, from 0."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A disruption with its parameters drawn, and which `move` of the experiment it is: there may be several of a kind."""

    kind: str
    parameters: Mapping[str, Any]
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One round, or one step of a script: write `files` to each of the replicas, disrupt meanwhile, heal where `heal`,
    wait until the target has converged, read everything owed where `verify`, evaluate what is expected."""

    number: int
    name: str
    replicas: int
    files: int
    decision: Decision | None
    heal: bool
    verify: bool
    expect: tuple[tuple[str, Mapping[str, str]], ...] = ()


def random_rounds(
    seed: int, moves: Sequence[Move], ordinals: Sequence[int], files: int, rounds: int | None
) -> Iterator[Plan]:
    """`rounds` rounds (for ever where None), each with a disruption drawn by weight."""
    number, turns = 0, [0] * len(moves)
    while rounds is None or number < rounds:
        number += 1
        rng = stream(seed, "nemesis", number)
        chosen = rng.choices(range(len(moves)), [m.weight for m in moves])[0]
        move = moves[chosen]
        decision = Decision(move.kind, move.draw(rng, ordinals, turns[chosen]), move)
        turns[chosen] += 1
        yield Plan(number, decision.kind, len(ordinals), files, decision, heal=True, verify=True)


class Phase(StrEnum):
    """Where a round is."""

    BEGIN = "begin"
    WRITE = "write"
    DISRUPT = "disrupt"
    READ = "read"
    RETIRE = "retire"
    EXPECT = "expect"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Task:
    """Something for a process to do now; `value` is plain JSON, `move` the disruption that is to be done."""

    process: str
    f: str
    value: Mapping[str, Any] = field(default_factory=dict)
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """Nothing to do until a task is done, or `seconds` have passed."""

    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the generator keeps to. Batches are in files; the room is a replica's for files that are written once, in bytes
    and in files; a file retires after `retire_after` intact readings, but for the fraction `keep` that stays as long as
    there is room for a round beside it, and a log that has `log_entries`. Writing and reading go on for so many seconds at
    most once nothing else is awaited."""

    write_batch: int
    read_batch: int
    room_bytes: int
    room_files: int
    file_bytes: int
    log_entries: int
    retire_after: int
    keep: float
    write_seconds: float
    read_seconds: float


class Generator:
    """Turns plans into tasks. `next` is asked again after each task that it gave, and told of each that ended."""

    def __init__(
        self,
        seed: int,
        plans: Iterator[Plan],
        integrity: Integrity,
        replicas_of: Callable[[int], Sequence[str]],
        limits: Limits,
    ) -> None:
        self._seed = seed
        self._plans = plans
        self._integrity = integrity
        self._replicas_of = replicas_of
        self._limits = limits
        self._busy: set[str] = set()
        self._not_before: dict[str, float] = {}
        self._trickle_at: dict[str, float] = {}
        self._round: _Round | None = None
        self._upcoming: Plan | None = None

    @property
    def plan(self) -> Plan | None:
        """The round under way."""
        return self._round.plan if self._round else None

    @property
    def phase(self) -> Phase:
        """Where that round is."""
        return self._round.phase if self._round else Phase.DONE

    def next(self, now: float, last_index: int) -> Task | Pending | None:
        """The next task; Pending where none can begin, and once between two rounds; None when everything is done.

        `now` is in seconds on any steady clock, `last_index` the index of the last op of the history.
        """
        if self._round is None:
            plan, self._upcoming = self.upcoming(), None
            if plan is None:
                return None
            self._round = _Round(plan, [*self._replicas_of(plan.replicas)], _nemesis_tasks(plan))
            return self._give(Task(RUN, "round", _round_value(plan, self._round.replicas)))
        task = self._within(self._round, now, last_index)
        if task is None:
            self._round = None
            return Pending(0.0)  # between rounds, where whoever asks may have a reason to wait
        return self._give(task) if isinstance(task, Task) else task

    def upcoming(self) -> Plan | None:
        """The round that would begin next; None while one is under way, and when there are no more."""
        if self._round is None and self._upcoming is None:
            self._upcoming = next(self._plans, None)
        return self._upcoming

    def refused(self) -> None:
        """Tell that the disruption of this round was not done. What a script's step was to bring about for good is what the
        steps after it are about, so there are none; nor is awaited what will not come."""
        if self._round and not self._round.plan.heal:
            self._round.nemesis_tasks.clear()
            self.finish()

    def finish(self) -> None:
        """Begin no further round."""
        self._plans, self._upcoming = iter(()), None

    def ended(self, task: Task, *, done: int, now: float) -> None:
        """Tell that a task ended: how many files it wrote or read with a certain outcome, 0 where it failed."""
        self._busy.discard(task.process)
        if self._round is None:
            return
        if task.f == "write":
            self._round.written[task.process] = self._round.written.get(task.process, 0) + done
        elif task.f == "list" and done:
            self._round.listed.add(task.process)
        elif task.f == "delete":
            self._round.retired.add(task.process)
        elif task.f == "converge" and not done:
            self.finish()  # nothing is disrupted again before the target has converged
        if not done and task.process not in (RUN, NEMESIS):
            self._not_before[task.process] = now + RETRY_SECONDS

    def _give(self, task: Task) -> Task:
        self._busy.add(task.process)
        return task

    def _within(self, current: _Round, now: float, last_index: int) -> Task | Pending | None:
        """The next task of this round; None when the round is over."""
        while current.phase is not Phase.DONE:
            task, over = _PHASES[current.phase](self, current, now)
            if task is not None:
                return task
            if not over or self._busy:
                return Pending(self._earliest(now))
            current.advance(now, last_index)
        return None

    def _earliest(self, now: float) -> float | None:
        timers = (*self._not_before.items(), *self._trickle_at.items())
        return min((at - now for process, at in timers if at > now and process not in self._busy), default=None)

    def _free(self, current: _Round, now: float) -> Iterator[str]:
        for replica in current.replicas:
            if replica not in self._busy and self._not_before.get(replica, 0.0) <= now:
                yield replica

    # Each phase gives a task that can begin now, or None, and says whether it would be over with nothing in flight.

    def _begin(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        return None, True

    def _write(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        """A first batch on every replica, so that there is something to lose."""
        if now > current.entered_at + self._limits.write_seconds:
            return None, True
        return self._write_up_to(current, min(FIRST_FILES, current.plan.files), now)

    def _disrupt(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        """The nemesis acts, heals and awaits convergence, one after the other; the writers go on meanwhile."""
        if current.nemesis_tasks and NEMESIS not in self._busy:
            return current.nemesis_tasks.pop(0), False
        if NEMESIS in self._busy or current.nemesis_tasks:
            current.disturbed_until = now
        elif now > current.disturbed_until + self._limits.write_seconds:
            return None, True
        task, over = self._write_up_to(current, current.plan.files, now)
        if task is None and over and NEMESIS in self._busy and current.plan.files:
            task = self._trickle(current, now)
        return task, over and not current.nemesis_tasks

    def _write_up_to(self, current: _Round, files: int, now: float) -> tuple[Task | None, bool]:
        for replica in self._free(current, now):
            if count := self._wanting(current, replica, files):
                return self._write_task(replica, min(self._limits.write_batch, count)), False
        return None, not any(self._wanting(current, replica, files) for replica in current.replicas)

    def _wanting(self, current: _Round, replica: str, files: int) -> int:
        """How many of so many files a replica still wants and has room for."""
        wanted = files - current.written.get(replica, 0)
        return min(wanted, self._room(replica)) if wanted > 0 else 0

    def _trickle(self, current: _Round, now: float) -> Task | None:
        """Beyond the quota a file a second goes to each replica, so that none is idle while the target is disturbed; where
        there is no room for one, its registers and log are written all the same."""
        for replica in self._free(current, now):
            if self._trickle_at.get(replica, 0.0) <= now:
                self._trickle_at[replica] = now + TRICKLE_SECONDS
                return self._write_task(replica, min(1, self._room(replica)))
        return None

    def _write_task(self, replica: str, count: int) -> Task:
        return Task(replica, "write", {"count": count})

    def _room(self, name: str) -> int:
        """Files that the replica's share still has room for."""
        known = self._integrity.replicas.get(name, _NOT_SEEN_YET)
        by_bytes = (self._limits.room_bytes - known.bytes_held) // self._limits.file_bytes
        return max(0, min(by_bytes, self._limits.room_files - known.files_held))

    def _read(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        """List and read back everything that may be there, until all was read or the deadline has passed."""
        if not current.plan.verify or now > current.entered_at + self._limits.read_seconds:
            return None, True
        for replica in self._free(current, now):
            if replica not in current.listed:
                return Task(replica, "list"), False
            # Those that were asked for longest ago first, so that files that cannot be read do not stand before the others.
            if unread := sorted(self._unread(replica, current.entered_index))[: self._limits.read_batch]:
                return Task(replica, "read", {"sequences": compress(sequence for _, sequence in unread)}), False
        over = all(r in current.listed and not any(self._unread(r, current.entered_index)) for r in current.replicas)
        return None, over

    def _unread(self, name: str, since: int) -> Iterator[tuple[int, int]]:
        """Of each record that is to be read, when it was last asked for, and its sequence."""
        known = self._integrity.replicas.get(name)
        if known:
            due = max(since, known.at_risk_since)
            for held in (known.maybe, known.owed):
                yield from ((r.asked_at, s) for s, r in held.items() if r.read_at < due)

    def _retire(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        """What was read often enough makes room, oldest first, where the next round's files would not fit."""
        for replica in self._free(current, now):
            if replica not in current.retired and (sequences := self._retirable(current, replica)):
                return Task(replica, "delete", {"sequences": compress(sequences)}), False
            current.retired.add(replica)
        return None, True

    def _retirable(self, current: _Round, name: str) -> list[int]:
        known = self._integrity.replicas.get(name)
        if known is None or not current.plan.verify:
            return []
        logs = [s for log in known.logs.values() if self._is_done_with(known, log) for s in log.entries]
        return logs + self._retirable_files(current, name, known)[: self._limits.read_batch]

    def _is_done_with(self, replica: Replica, log: Document) -> bool:
        """A log that gets no more entries and was read often enough, and into which nothing can land late."""
        if log.in_doubt:
            full = replica.origin is not None and replica.origin.pod_uid != log.in_doubt
        else:
            full = len(log.entries) >= self._limits.log_entries
        return full and all(r.reads >= self._limits.retire_after for s in log.entries if (r := replica.find(s)))

    def _retirable_files(self, current: _Round, name: str, known: Replica) -> list[int]:
        short = current.plan.files - self._room(name)
        if short <= 0:
            return []
        # An unanswered write that was never read may yet land, after a delete.
        leftovers = [*known.dropping, *(s for s, r in known.maybe.items() if r.how is How.CREATE and r.reads)]
        short = max(0, short - len(leftovers))
        read = [s for s, r in known.owed.items() if r.how is How.CREATE and r.reads >= self._limits.retire_after]
        chosen = list(islice((s for s in read if not self._is_kept(name, s)), short))
        if len(chosen) < short:  # the sample has grown into the room that a round needs: its latest go
            chosen += islice((s for s in reversed(read) if self._is_kept(name, s)), short - len(chosen))
        return leftovers + chosen

    def _is_kept(self, name: str, sequence: int) -> bool:
        keep = self._limits.keep
        return keep > 0 and fraction(self._seed, "keep", name, sequence) < keep

    def _expect(self, current: _Round, now: float) -> tuple[Task | None, bool]:
        if current.expect:
            name, parameters = current.expect.pop(0)
            value = {"step": current.plan.name, "expectation": name, "parameters": parameters}
            return Task(RUN, "expect", value), False
        if not current.closed:
            current.closed = True
            return Task(RUN, "round-end", {"round": current.plan.number}), False
        return None, True


@dataclass(slots=True)
class _Round:
    """How far a round has come."""

    plan: Plan
    replicas: list[str]
    nemesis_tasks: list[Task]
    phase: Phase = Phase.BEGIN
    entered_at: float = 0.0
    entered_index: int = -1
    disturbed_until: float = 0.0
    written: dict[str, int] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)
    expect: list[tuple[str, Mapping[str, str]]] = field(init=False)
    closed: bool = False

    def __post_init__(self) -> None:
        self.expect = list(self.plan.expect)

    def advance(self, now: float, last_index: int) -> None:
        """To the next phase, remembering when and after which op it began."""
        order = list(Phase)
        self.phase = order[order.index(self.phase) + 1]
        self.entered_at, self.entered_index = now, last_index
        self.disturbed_until = now


def _nemesis_tasks(plan: Plan) -> list[Task]:
    tasks = []
    if plan.decision:
        tasks.append(Task(NEMESIS, plan.decision.kind, plan.decision.parameters, plan.decision.move))
    if plan.heal:
        tasks.append(Task(NEMESIS, "heal"))
    return [*tasks, Task(NEMESIS, "converge", {"replicas": plan.replicas})] if tasks else []


def _round_value(plan: Plan, replicas: Sequence[str]) -> dict[str, Any]:
    decision = plan.decision
    return {
        "round": plan.number,
        "name": plan.name,
        "replicas": list(replicas),
        "files": plan.files,
        "verify": plan.verify,
        "disruption": {"kind": decision.kind, **decision.parameters} if decision else None,
    }


_PHASES: Mapping[Phase, Callable[[Generator, _Round, float], tuple[Task | None, bool]]] = {
    Phase.BEGIN: Generator._begin,
    Phase.WRITE: Generator._write,
    Phase.DISRUPT: Generator._disrupt,
    Phase.READ: Generator._read,
    Phase.RETIRE: Generator._retire,
    Phase.EXPECT: Generator._expect,
}
