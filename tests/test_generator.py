"""The generator: what comes next, decided by the seed and by what it is told."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from chaosd.checkers.integrity import Integrity
from chaosd.generator import Decision, Generator, Limits, Pending, Plan, Task, random_rounds, stream
from chaosd.history import NEMESIS, RUN, Event, Kind, Op
from tests.histories import WEB_0, WEB_1, opened, write

LIMITS = Limits(
    write_batch=4,
    read_batch=8,
    room_bytes=1 << 20,
    room_files=100,
    file_bytes=4096,
    log_entries=4,
    retire_after=1,
    keep=0.0,
    write_seconds=60,
    read_seconds=60,
)


@dataclass(frozen=True)
class Move:
    kind: str
    weight: int

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        return {"ordinals": [rng.choice(ordinals)]}


MOVES = (Move("pod-delete", 3), Move("scale", 1))


class World:
    """Carries out every task at once, as a cluster without faults."""

    def __init__(self, plans: Iterator[Plan], limits: Limits = LIMITS) -> None:
        self.integrity = Integrity()
        self.index = 0
        self.tasks: list[Task] = []
        self.generator = Generator(1, plans, self.integrity, lambda n: (WEB_0, WEB_1)[:n], limits)
        for replica in (WEB_0, WEB_1):
            self.tell(opened(replica))

    def tell(self, event: Event) -> None:
        self.integrity.step(Op(self.index, 0.0, event.process, event.f, event.kind, event.value))
        self.index += 1

    def run(self) -> list[Task]:
        now = 0.0
        while True:
            task = self.generator.next(now, self.index - 1)
            now += 0.01
            if task is None:
                return self.tasks
            if isinstance(task, Pending):
                now += task.seconds or 0
                continue
            self.tasks.append(task)
            self.generator.ended(task, done=self.done(task), now=now)

    def done(self, task: Task) -> int:
        if task.f == "write":
            first = self.integrity.replicas[task.process].next_sequence
            for sequence in range(first, first + task.value["count"]):
                self.tell(write(task.process, sequence, Kind.INVOKE))
                self.tell(write(task.process, sequence, Kind.OK))
            return int(task.value["count"])
        if task.f == "read":
            value = {"sequences": task.value["sequences"], "finding": "intact", "cache": "cold"}
            self.tell(Event(task.process, "read", Kind.OK, value))
        elif task.f == "delete":
            for kind in (Kind.INVOKE, Kind.OK):
                self.tell(Event(task.process, "delete", kind, task.value))
        return 1


def rounds(count: int, files: int = 10) -> Iterator[Plan]:
    return random_rounds(1, MOVES, (0, 1), files, count)


def test_the_same_seed_gives_the_same_decisions() -> None:
    def drawn(seed: int) -> list[Decision | None]:
        return [p.decision for p in random_rounds(seed, MOVES, (0, 1, 2), 10, 50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_a_stream_is_its_own_for_each_purpose_and_round() -> None:
    assert stream(1, "nemesis", 2).random() == stream(1, "nemesis", 2).random()
    assert stream(1, "nemesis", 2).random() != stream(1, "nemesis", 3).random()
    assert stream(1, "nemesis", 2).random() != stream(1, "keep", 2).random()


def test_a_round_writes_disrupts_heals_converges_reads_and_ends() -> None:
    tasks = World(rounds(1)).run()
    order = list(dict.fromkeys(t.f for t in tasks))
    assert order == ["round", "write", order[2], "heal", "converge", "list", "read", "round-end"]
    assert order[2] in ("pod-delete", "scale")


def test_each_replica_gets_its_files_with_sequences_without_holes() -> None:
    world = World(rounds(3))
    world.run()
    for replica in (WEB_0, WEB_1):
        assert sorted(world.integrity.replicas[replica].owed) == list(range(30))


def test_everything_owed_is_read_in_every_round() -> None:
    world = World(rounds(2))
    world.run()
    assert all(record.reads >= 1 for r in world.integrity.replicas.values() for record in r.owed.values())
    assert world.integrity.verdict().unknowns == ()


def test_what_was_verified_makes_room_oldest_first_and_the_share_holds() -> None:
    world = World(rounds(10), Limits(**{**_fields(LIMITS), "room_files": 25}))
    world.run()
    for replica in world.integrity.replicas.values():
        assert len(replica.owed) <= 25
        assert min(replica.owed) > 50


def test_a_sample_stays_for_the_whole_run() -> None:
    world = World(rounds(10), Limits(**{**_fields(LIMITS), "room_files": 60, "keep": 0.2}))
    world.run()
    assert any(sequence < 20 for sequence in world.integrity.replicas[WEB_0].owed)


@pytest.mark.parametrize("keep", [0.2, 1.0])
def test_the_sample_never_takes_the_room_that_a_round_needs(keep: float) -> None:
    """Its oldest stay; a soak of months writes as much in its last round as in its first."""
    unsampled, world = (
        World(rounds(30), Limits(**{**_fields(LIMITS), "room_files": 60, "keep": share})) for share in (0.0, keep)
    )
    unsampled.run()
    world.run()
    for name, replica in world.integrity.replicas.items():
        assert replica.next_sequence == unsampled.integrity.replicas[name].next_sequence
        assert len(replica.owed) <= 60
        assert min(replica.owed) < 20


def test_nothing_is_disrupted_again_before_the_target_has_converged() -> None:
    class Stuck(World):
        def done(self, task: Task) -> int:
            return 0 if task.f == "converge" else super().done(task)

    tasks = Stuck(rounds(5)).run()
    assert [t.f for t in tasks if t.process == NEMESIS][1:] == ["heal", "converge"]


def test_a_replica_that_cannot_be_written_does_not_stop_the_others() -> None:
    class Broken(World):
        def done(self, task: Task) -> int:
            return 0 if task.process == WEB_1 else super().done(task)

    world = Broken(rounds(1), Limits(**{**_fields(LIMITS), "write_seconds": 2, "read_seconds": 2}))
    tasks = world.run()
    assert tasks[-1] == Task(RUN, "round-end", {"round": 1})
    assert len(world.integrity.replicas[WEB_0].owed) >= 10


def test_writers_trickle_while_the_target_is_disturbed_and_reading_does_not_wait_for_them() -> None:
    world = World(rounds(1, files=4))
    now, converging = 0.0, None
    given: list[tuple[float, Task]] = []
    while (task := world.generator.next(now, world.index - 1)) is not None:
        if converging and now >= 2.5:
            world.generator.ended(converging, done=1, now=now)
            converging = None
        elif isinstance(task, Pending):
            now = min(now + (task.seconds or 0.1), 2.5) if converging else now + (task.seconds or 0)
        else:
            given.append((now, task))
            if task.f == "converge":
                converging = task
            else:
                world.generator.ended(task, done=world.done(task), now=now)
    trickled = [at for at, task in given if task.f == "write" and task.value["count"] == 1 and task.process == WEB_0]
    assert trickled == [0.0, 1.0, 2.0]
    assert {at for at, task in given if task.f in ("list", "read", "round-end")} == {2.5}


def test_files_that_cannot_be_read_do_not_stand_before_the_others() -> None:
    class Unreadable(World):
        def done(self, task: Task) -> int:
            if task.f != "read":
                return super().done(task)
            asked = [s for first, last in task.value["sequences"] for s in range(first, last + 1)]
            self.tell(Event(task.process, "read", Kind.INVOKE, task.value))
            good = [s for s in asked if s >= 20]
            if good:
                value = {"sequences": [[s, s] for s in good], "finding": "intact", "cache": "cold"}
                self.tell(Event(task.process, "read", Kind.OK, value))
            return len(good)

    world = Unreadable(rounds(1, files=30), Limits(**{**_fields(LIMITS), "read_seconds": 5}))
    world.run()
    for replica in (WEB_0, WEB_1):
        owed = world.integrity.replicas[replica].owed
        assert {s for s, r in owed.items() if r.reads} >= set(range(20, 30))


def _fields(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
