"""Checkpoints: what was known when one was taken is known again, and whatever comes later is judged as if it never was."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chaosd import checkpoint
from chaosd.checkers import Panel
from chaosd.compaction import Checkpoint
from chaosd.coverage import Coverage
from chaosd.errors import LedgerError
from chaosd.history import RUN, Kind, Op
from chaosd.resumption import Unanswered
from chaosd.simulation.healthy import healthy
from chaosd.simulation.killed import DISRUPTIONS
from chaosd.simulation.plants import CONTROLS, PLANTS
from chaosd.simulation.world import Kill, Scenario, simulate
from tests.seeds import FRESH

FOLDER = Path(__file__).parent / "checkpoints"
Folds = tuple[Panel, Coverage, Unanswered]


def known_after(ops: Iterable[Op], folds: Folds | None = None) -> Folds:
    folds = folds or (Panel(), Coverage(), Unanswered())
    for op in ops:
        for fold in folds:
            fold.step(op)
    return folds


def known_again(taken: Checkpoint) -> Folds:
    """By another chaosd, from what the ledger holds."""
    folds = Panel(), Coverage(), Unanswered()
    checkpoint.restore(Checkpoint(taken.index, json.loads(json.dumps(taken.state))), *folds)
    return folds


def found_in(panel: Panel, coverage: Coverage) -> dict[str, Any]:
    judgement = panel.judge()
    owed = {name: sorted(replica.owed) for name, replica in panel.integrity.replicas.items()}
    classes = [[str(v.failure), v.replica, v.index, v.since, v.file] for v in judgement.violations]
    return {"classes": classes, "unknowns": len(judgement.unknowns), "owed": owed, "coverage": coverage.as_json()}


def run_with_findings() -> tuple[Op, ...]:
    plant = next(plant for plant in PLANTS if "bit" in plant.what)
    scenario = Scenario(5, rounds=4, files=4, **plant.scenario)
    return simulate(scenario, plant.hook()).ops


def round_ends(ops: Sequence[Op]) -> list[int]:
    return [place for place, op in enumerate(ops) if op.process == RUN and op.f == "round" and op.kind is Kind.OK]


def holds(ops: Sequence[Op], rng: random.Random, samples: int = 2) -> None:
    """That nothing is known otherwise where, of some rounds' ends, each was followed by another chaosd."""
    whole = known_after(ops)
    ends = round_ends(ops)
    folds: Folds | None = None
    begin = 0
    for end in sorted(rng.sample(ends, min(samples, len(ends)))):
        folds = known_after(ops[begin : end + 1], folds)
        assert vars(Unanswered.after(ops[end])) == vars(folds[2])
        folds, begin = known_again(checkpoint.taken(ops[end].index, *folds)), end + 1
    folds = known_after(ops[begin:], folds)
    assert folds[0].judge() == whole[0].judge()
    assert folds[1].as_json() == whole[1].as_json()
    assert checkpoint.taken(0, *folds) == checkpoint.taken(0, *whole)


@pytest.mark.parametrize("seed", [*range(4), FRESH])
def test_a_run_that_was_taken_up_from_checkpoints_is_judged_as_one_that_was_not(seed: int) -> None:
    print(f"seed {seed}")
    holds(healthy(seed, rounds=4).simulate().ops, random.Random(seed))


@pytest.mark.parametrize("seed", [*range(4), FRESH])
def test_so_is_one_whose_chaosd_died(seed: int) -> None:
    print(f"seed {seed}")
    scenario = Scenario(seed, rounds=4, files=8, disruptions=DISRUPTIONS)
    rng = random.Random(seed)
    at = rng.randrange(len(simulate(scenario).ops))
    holds(simulate(scenario, kills=[Kill(at)]).ops, rng)


@pytest.mark.parametrize("plant", [*PLANTS[::4], *CONTROLS], ids=lambda plant: plant.what)
def test_so_is_one_in_which_something_is_wrong(plant: Any) -> None:
    ops = simulate(Scenario(3, rounds=4, files=8, **plant.scenario), plant.hook()).ops
    holds(ops, random.Random(3))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_chaosd_of_any_version_knew_is_known_still(path: Path) -> None:
    written = json.loads(path.read_text())
    panel, coverage, _ = known_again(Checkpoint(written["index"], written["state"]))
    assert json.loads(json.dumps(found_in(panel, coverage))) == written["found"]
    assert written["found"]["classes"]
    assert all(written["found"]["owed"].values())


def test_who_changes_what_a_fold_knows_must_say_how_what_older_ones_wrote_is_read() -> None:
    written = json.loads((FOLDER / f"{checkpoint.VERSION}.json").read_text())
    assert checkpoint.shape() == written["shape"], (
        "what folds know has changed: where version "
        f"{checkpoint.VERSION} was released, raise checkpoint.VERSION and translate it; then python -m tests.checkpoints"
    )


def test_a_checkpoint_of_another_version_is_refused() -> None:
    taken = checkpoint.taken(0, *known_after(()))
    newer = Checkpoint(0, {**taken.state, "version": checkpoint.VERSION + 1})
    with pytest.raises(LedgerError, match="use the chaosd that wrote it"):
        checkpoint.restore(newer, Panel(), Coverage(), Unanswered())


def test_what_has_no_json_is_a_mistake_in_a_fold() -> None:
    folds = known_after(())
    folds[1].warnings.append(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot hold object"):
        checkpoint.taken(0, *folds)


def test_what_is_known_does_not_grow_with_the_rounds_of_a_run() -> None:
    """Also where a policy lets claims go, and each has a new one, with another volume, in nearly every round."""
    lets_go = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}}
    recreate = {"kind": "recreate", "deletion": "foreground", "mayDelete": True}
    kinds = ({"kind": "scale", "weight": 3}, {"kind": "pod-delete"}, recreate)
    ops = simulate(Scenario(5, rounds=48, files=8, spec=lets_go, disruptions=kinds)).ops
    early, late = _most_known(ops, 1, 24), _most_known(ops, 25, 48)
    assert {name: (early[name], length) for name, length in late.items() if length > 1.5 * early[name] + 100} == {}


def _most_known(ops: Sequence[Op], first: int, last: int) -> dict[str, int]:
    """Of each attribute of each fold the length of its JSON, at most, at the ends of these rounds."""
    panel, coverage, unanswered = folds = Panel(), Coverage(), Unanswered()
    most: dict[str, int] = {}
    for op in ops:
        for fold in folds:
            fold.step(op)
        if op.process == RUN and op.f == "round" and op.kind is Kind.OK and first <= op.value["round"] <= last:
            told = checkpoint.taken(op.index, panel, coverage, unanswered).state["folds"]
            for name, value in ((f"{fold}.{name}", value) for fold, known in told.items() for name, value in known.items()):
                most[name] = max(most.get(name, 0), len(json.dumps(value)))
    return most


def test_a_checker_that_crashed_is_crashed_still() -> None:
    folds = known_after([Op(0, 0.0, "default/web-0", "open", Kind.OK, {})])
    assert folds[0].crashed
    again = known_again(checkpoint.taken(0, *folds))
    assert again[0].judge() == folds[0].judge()
    assert again[0]._following == {
        f: [again[0].checkers[checker.name] for checker in known] for f, known in folds[0]._following.items()
    }


def test_who_wrote_many_records_is_held_once() -> None:
    folds = known_again(checkpoint.taken(0, *known_after(simulate(Scenario(1, rounds=1, files=8)).ops)))
    for replica in folds[0].integrity.replicas.values():
        origins = [record.origin for record in replica.owed.values()]
        assert len({id(origin) for origin in origins}) == len(set(origins)) < len(origins)
