"""Every disruption in virtual time: storage that keeps its word is never accused, and whatever happens to chaosd, the
target is left as it was found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from chaosd.checkers.verdict import Value
from chaosd.cluster.port import Node, StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.generator import Plan
from chaosd.history import NEMESIS, Kind
from chaosd.nemesis import DISRUPTIONS
from chaosd.simulation.ledger import canonical
from chaosd.simulation.world import Kill, Outcome, Scenario, World, simulate
from tests.seeds import FRESH
from tests.simulation.test_world import FAULTS, reported

SEEDS = (*range(8), FRESH)
# All but those that need more than a target: a plugin, a command, and a target of chaosd's own.
NOT_HERE = {"csi-restart", "external", "volume-expand"}
EVERYTHING: tuple[Mapping[str, Any], ...] = (
    {"kind": "pod-delete", "pick": "round-robin"},
    {"kind": "pod-delete", "when": "writing", "grace": 0},
    {"kind": "pod-delete", "when": "mounting"},
    {"kind": "pod-delete", "when": "another-starting"},
    {"kind": "pod-evict", "count": "all", "patience": "10s"},
    {"kind": "container-kill"},
    {"kind": "scale"},
    {"kind": "scale-flap"},
    {"kind": "rollout-restart"},
    {"kind": "node-drain", "patience": "10s"},
    {"kind": "reschedule"},
    {"kind": "recreate", "deletion": "orphan", "mayDelete": True},
    {"kind": "recreate", "deletion": "foreground", "mayDelete": True},
    {"kind": "together", "disruptions": [{"kind": "pod-delete"}, {"kind": "container-kill"}]},
    {"kind": "together", "disruptions": [{"kind": "scale"}, {"kind": "node-drain", "patience": "5s"}]},
)


class _Watched:
    """Keeps the cluster of a simulation, to look at it afterwards."""

    def __init__(self) -> None:
        self.cluster: SandboxCluster | None = None

    def __call__(self, world: World, _: Plan) -> None:
        self.cluster = world.cluster

    def left(self) -> dict[str, Any]:
        """What a disruption might have left."""
        assert self.cluster is not None, "a round began"
        store = self.cluster.store
        return {
            "replicas": store.get(StatefulSet, "default", "web").replicas,
            "cordoned": [node.name for node in store.all(Node) if node.unschedulable or node.cordoned_by],
            "configs": list(store.configs),
        }


AS_FOUND = {"replicas": 3, "cordoned": [], "configs": []}


def _done(outcome: Outcome, kind: Kind = Kind.OK) -> Counter[str]:
    ends = (op for op in outcome.ops if op.process == NEMESIS and op.kind is kind and op.f in DISRUPTIONS)
    return Counter(op.f for op in ends)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_disruption_happens_and_a_healthy_target_passes_and_is_left_as_it_was(seed: int) -> None:
    print(f"seed {seed}")
    watched = _Watched()
    outcome = simulate(Scenario(seed, rounds=12, files=8, disruptions=EVERYTHING), watched)
    assert reported(outcome) == []
    assert (outcome.judgement.value, outcome.rounds_decided) == (Value.PASS, 12), outcome.judgement.unknowns
    assert _done(outcome).total() == 12
    assert watched.left() == AS_FOUND


def test_the_seeds_have_every_disruption_among_them() -> None:
    done = sum(
        (_done(simulate(Scenario(seed, rounds=20, files=4, disruptions=EVERYTHING))) for seed in (2, 8, 11)), Counter()
    )
    assert set(done) == set(DISRUPTIONS) - NOT_HERE


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unreliable_observer_accuses_nobody_and_leaves_the_target_as_it_was(seed: int) -> None:
    print(f"seed {seed}")
    watched = _Watched()
    outcome = simulate(Scenario(seed, rounds=12, files=8, disruptions=EVERYTHING, rates=FAULTS), watched)
    assert reported(outcome) == []
    assert outcome.finished.error is None
    assert watched.left() == AS_FOUND


@pytest.mark.parametrize("seed", SEEDS)
def test_a_daemon_killed_between_any_two_ops_leaves_what_another_puts_right(seed: int) -> None:
    killed_at = random.Random(seed).randrange(20, 900)
    print(f"seed {seed}, killed at op {killed_at}")
    watched = _Watched()
    scenario = Scenario(seed, rounds=12, files=8, disruptions=EVERYTHING, rates=FAULTS)
    outcome = simulate(scenario, watched, kills=[Kill(killed_at)])
    assert reported(outcome) == []
    assert outcome.finished.error is None
    assert watched.left() == AS_FOUND


def test_what_earlier_steps_of_a_script_left_is_put_right_with_what_the_last_one_did() -> None:
    """The daemon is killed while a node is drained, after a step that scaled."""
    steps = [
        {"name": "fewer", "disrupt": {"kind": "scale", "to": 2}},
        {"name": "drain", "write": 2, "disrupt": {"kind": "node-drain"}},
    ]
    scenario = Scenario(1, disruptions=(), experiment={"steps": steps, "rounds": None})
    whole = simulate(scenario)
    drained = next(op.index for op in whole.ops if op.f == "node-drain" and op.kind is Kind.INVOKE)
    for killed_at in range(drained - 1, drained + 25):
        watched = _Watched()
        simulate(scenario, watched, kills=[Kill(killed_at)])
        assert watched.left() == AS_FOUND, killed_at


def test_a_script_heals_each_step_but_its_scaling() -> None:
    steps = [
        {"name": "fewer", "disrupt": {"kind": "scale", "to": 2}},
        {"name": "drain", "disrupt": {"kind": "node-drain"}},
        {"name": "again", "disrupt": {"kind": "reschedule"}},
    ]
    watched = _Watched()
    outcome = simulate(Scenario(1, disruptions=(), experiment={"steps": steps, "rounds": None}), watched)
    undone = [op.value["kind"] for op in outcome.ops if op.f == "undo" and op.kind is Kind.OK]
    assert (undone, watched.left()) == (["node-drain", "reschedule", "scale"], AS_FOUND)


def test_the_same_seed_gives_the_same_ledger_to_the_last_byte() -> None:
    scenario = Scenario(3, rounds=8, files=4, disruptions=EVERYTHING, rates=FAULTS)
    assert canonical(simulate(scenario).ops) == canonical(simulate(scenario).ops)
