"""Runs whose daemon is killed between two ops, held against the same runs when it lives: nothing may come of that but an
`unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaosd import payload
from chaosd.checkers import Panel, Value
from chaosd.checkers.records import How, Record, expand
from chaosd.cluster.port import Node, StatefulSet
from chaosd.generator import Plan, stream
from chaosd.history import RUN, Kind, Op
from chaosd.simulation.healthy import FAULTS
from chaosd.simulation.plants import PLANTS
from chaosd.simulation.world import NAME, NAMESPACE, Hook, Kill, Outcome, Scenario, World, simulate

# Those that leave something to be undone, beside those that do not.
DISRUPTIONS: tuple[Mapping[str, Any], ...] = (
    {"kind": "pod-delete", "weight": 3},
    {"kind": "scale", "weight": 3},
    {"kind": "scale-flap"},
    {"kind": "node-drain", "patience": "10s"},
    {"kind": "reschedule"},
    {"kind": "recreate", "deletion": "orphan", "mayDelete": True},
    {"kind": "recreate", "deletion": "foreground", "mayDelete": True},
    {"kind": "together", "disruptions": [{"kind": "scale"}, {"kind": "node-drain", "patience": "5s"}]},
)
# Files and disks that are harmed where they lie, and stay so, whatever chaosd does.
_LASTING = (
    "a file is removed",
    "a block is zeros",
    "a file ends early",
    "a bit is flipped",
    "a file holds other bytes",
    "two disks are swapped",
    "a file is another replica's",
    "the disk has a new file system",
    "the claim is made anew",
)
_ROUNDS, _FILES = 7, 8
_OPS_OF_A_START = 60
_AS_FOUND = {"replicas": 3, "cordoned": [], "configs": []}


@dataclass(frozen=True, slots=True)
class Survived:
    """What came of one such run; `wrong` names everything that should not have."""

    seed: int
    kills: tuple[int, ...]  # after which ops
    verdict: Value
    acknowledged: int  # records, before it was killed
    wrong: tuple[str, ...]


def survive(seed: int) -> Survived:
    """Kill the daemon of a run after an op, half of the time one after which an undo is open, and every third time the next
    one, too, while it starts. Of four seeds one has disruptions alone, one every fault of the observer, one crashes of
    nodes, and one a fault that must be found all the same."""
    scenario, plant = _scenario(seed)
    unharmed = simulate(scenario, plant())
    rng = stream(seed, "kill")
    first = rng.choice(_open_at(unharmed.ops) if rng.randrange(2) else range(len(unharmed.ops)))
    kills = (first, first + rng.randint(1, _OPS_OF_A_START)) if rng.randrange(3) == 0 else (first,)
    watched = _Watched(plant())
    outcome = simulate(scenario, watched, kills=[Kill(at) for at in kills])
    before = [op for op in outcome.ops if op.index <= first and op.f == "write" and op.kind is Kind.OK]
    wrong = [*watched.wrong, *watched.not_as_found(), *_misjudged(outcome, unharmed, first)]
    if unharmed.judgement.value is not Value.FAIL:
        wrong += watched.gone(outcome.ops, before)
    return Survived(seed, kills, outcome.judgement.value, len(before), tuple(wrong))


def _open_at(ops: Sequence[Op]) -> Sequence[int]:
    """The indices of ops after which something is to be undone; of all, where there is none."""
    found, is_open = [], False
    for op in ops:
        if op.f == "undo":
            is_open = op.kind is Kind.INVOKE
        if is_open:
            found.append(op.index)
    return found or range(len(ops))


def _scenario(seed: int) -> tuple[Scenario, Callable[[], Hook]]:
    match seed % 4:
        case 1:
            return Scenario(seed, rounds=_ROUNDS, files=_FILES, rates=FAULTS), _nothing
        case 2:
            return Scenario(seed, rounds=_ROUNDS, files=_FILES, disruptions=DISRUPTIONS, crashes=4), _nothing
        case 3:
            plants = [plant for plant in PLANTS if plant.what in _LASTING]
            plant = plants[seed // 4 % len(plants)]
            return Scenario(seed, rounds=_ROUNDS, files=_FILES, **plant.scenario), plant.hook
        case _:
            return Scenario(seed, rounds=_ROUNDS, files=_FILES, disruptions=DISRUPTIONS), _nothing


def _nothing() -> Hook:
    return lambda *_: None


class _Watched:
    """Looks at the target before each round, and at its disks in the end."""

    def __init__(self, plant: Hook) -> None:
        self.wrong: list[str] = []
        self._plant = plant
        self._world: World | None = None

    def __call__(self, world: World, plan: Plan) -> None:
        self._world = world
        self.wrong += self.not_as_found()
        self._plant(world, plan)

    def not_as_found(self) -> Iterator[str]:
        """What was left on the target that was not there before."""
        assert self._world is not None, "a round began"
        store = self._world.cluster.store
        found = {
            "replicas": store.get(StatefulSet, NAMESPACE, NAME).replicas,
            "cordoned": [node.name for node in store.all(Node) if node.unschedulable or node.cordoned_by],
            "configs": list(store.configs),
        }
        if found != _AS_FOUND:
            yield f"the target was left with {found}"

    def gone(self, ops: Iterable[Op], acknowledged: Iterable[Op]) -> Iterator[str]:
        """Of the acknowledged records, those that chaosd has forgotten, and the files that are not on the disk as owed."""
        panel, deleted = Panel(), set()
        for op in ops:
            panel.step(op)
            if op.f == "delete":
                deleted |= {(op.process, sequence) for sequence in expand(op.value["sequences"])}
        for op in acknowledged:
            sequence, replica = op.value["sequence"], panel.integrity.replicas[op.process]
            record = replica.owed.get(sequence)
            if record is None and "how" not in op.value and (op.process, sequence) not in deleted:
                yield f"{op.process} {sequence} was acknowledged, and is not owed any more"
            elif record and record.how is How.CREATE and not self._is_there(op.process, record):
                yield f"{op.process} {sequence} is owed, and is not there as it was written"

    def _is_there(self, process: str, record: Record) -> bool:
        assert self._world is not None, "a round began"
        disk = self._world.disk(int(process.rpartition("-")[2]))
        try:
            found, _ = disk.read(self._world.path(record.file), record.length + 1)
        except OSError:
            return False
        return payload.digest(found) == record.digest


def _misjudged(outcome: Outcome, unharmed: Outcome, killed_at: int) -> Iterator[str]:
    """What is not as it would have been without the crash, but for what is unknown. What befalls the observer is drawn anew
    from the kill on, so only what was unknown before must stay so."""
    expected = {unharmed.judgement.value, Value.UNKNOWN}
    if unharmed.judgement.value is Value.UNKNOWN and not any(_is_unknown(op) for op in unharmed.ops[: killed_at + 1]):
        expected.add(Value.PASS)
    if outcome.finished.error:
        yield f"it ended with {outcome.finished.error}"
    if outcome.judgement.value not in expected:
        yield f"it is {outcome.judgement.value}, and would have been {unharmed.judgement.value}"
    if new := set(outcome.classes) - set(unharmed.classes):
        yield f"it is accused of {', '.join(sorted(new))}"
    drawn = [op.value["round"] for op in outcome.ops if _begins(op) and op.value["disruption"]]
    if drawn != sorted({*drawn}):
        yield f"rounds were done again: {drawn}"
    if outcome.rounds != unharmed.rounds or not outcome.finished.verdict.coverage["chaosd_restarts"]:
        yield f"{outcome.rounds} of {unharmed.rounds} rounds were done, by one chaosd"


def _begins(op: Op) -> bool:
    return op.process == RUN and op.f == "round" and op.kind is Kind.INVOKE


def _is_unknown(op: Op) -> bool:
    """Whether a round ended with something unknown."""
    return op.process == RUN and op.f == "round" and op.kind is Kind.OK and op.value["verdict"] == Value.UNKNOWN
