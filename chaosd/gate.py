"""A composition root: the gate. May this ship? What an experiment must say for that, and its run on a target of the gate's
own for each storage class; on a target of the user's it is a run like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chaosd import experiment as experiments
from chaosd.commands import run_experiment
from chaosd.errors import ExperimentError
from chaosd.experiment import Experiment
from chaosd.history import Event
from chaosd.own_target import Wanted, own_target
from chaosd.preflight import rights
from chaosd.run import Ending, Finished
from chaosd.settings import Settings
from chaosd.taking import Watch

NAME = "gate"
REPLICAS = 3


def fit(experiment: Experiment, *, fail_fast: bool) -> Experiment:
    """The experiment as a gate holds it. Raises ExperimentError for one that does not say what it requires: whatever it
    passed would be worth nothing."""
    if experiment.require is None:
        raise ExperimentError(
            f"the experiment {experiment.name} requires nothing, so passing it would say nothing: give it `require`, or "
            "use chaosd run"
        )
    if not fail_fast:
        return experiment
    guards = experiment.guards.model_dump(by_alias=True, exclude_unset=True) | {"stopAfter": 1}
    return experiments.overlay(experiment, {"guards": guards})


async def hold_each(
    settings: Settings,
    experiment: Experiment,
    wanted: Sequence[Wanted],
    ending: Ending,
    told: Sequence[Event],
    watch: Watch,
    tell: Callable[[str], None],
) -> list[tuple[Wanted, Finished]]:
    """On a target of its own for each that is wanted, one after the other; reports and ledger are in a folder named by the
    storage class. Raises what keeps a target from being made, AbortedError."""
    held = []
    for one in wanted:
        own = settings.model_copy(update={"out": settings.out / one.storage_class, "ledger": ""})
        needed = partial(_needed, experiment, one)
        async with own_target(settings, one, needed, ending, tell) as namespace:
            chosen = _in(experiment, namespace, one)
            held.append((one, await run_experiment(own, chosen, None, ending, watch=watch, told=told)))
        if ending.stop.is_set():
            break
    return held


def _needed(experiment: Experiment, wanted: Wanted, namespace: str) -> list[rights.Placed]:
    return rights.needed(_in(experiment, namespace, wanted))


def _in(experiment: Experiment, namespace: str, wanted: Wanted) -> Experiment:
    """The experiment on a target of its own: of the target that it names, only what is said of the probe stays."""
    probe = {
        key: value for key, value in experiment.target.model_dump(by_alias=True).items() if key in ("probe", "probeImage")
    }
    return experiments.overlay(experiment, {"target": {**probe, "namespace": namespace, "statefulset": wanted.name}})
