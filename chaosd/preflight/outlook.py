"""What `chaosd plan` tells: what a run would touch and decide, by which rights and under which guards. It only reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chaosd.cluster.lock import holder_of
from chaosd.cluster.port import PAUSED_ANNOTATION, TARGET_LABEL, Claim, Cluster, Pod, Room, Volume
from chaosd.cluster.target import Target
from chaosd.errors import ClusterError, ForbiddenError, NotFoundError
from chaosd.experiment import Experiment
from chaosd.generator import Plan
from chaosd.guards import Guards
from chaosd.preflight import rights
from chaosd.preflight.finding import find_target
from chaosd.preflight.rights import Placed

_DECISIONS = 10
NOT_MEASURED = "unknown: preflight looks with the probe"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outlook:
    """Plain JSON values only. `rights` are those that the experiment needs (`needed`), and those without which something is
    unknown; `share` is what chaosd's files may take of each volume."""

    experiment: str
    target: str
    cluster: str
    container: str
    path: str
    seed: int
    replicas: tuple[Json, ...]
    decisions: tuple[Json, ...]
    share: Json
    guards: Mapping[str, str]
    rights: tuple[Json, ...]
    missing_rights: tuple[str, ...]
    missing_wishes: tuple[str, ...]


async def look_out(cluster: Cluster, experiment: Experiment, drawn: int) -> Outlook:
    """What a run would do now; with the seed `drawn` where the experiment has none. Raises what `find_target` does,
    ClusterError."""
    target = await find_target(cluster, experiment)
    seed = experiment.seed if experiment.seed is not None else drawn
    plans = experiment.plans(seed, target.replicas, target.first_ordinal)
    needs, wishes = rights.needed(experiment), rights.wished(experiment)
    lacking = await rights.missing(cluster, (*needs, *wishes))
    return Outlook(
        experiment=experiment.name,
        target=target.key,
        cluster=f"{cluster.kind} {await cluster.version()}",
        container=target.container,
        path=target.path,
        seed=seed,
        replicas=tuple([await _replica(cluster, target, pod) for pod in target.pods]),
        decisions=tuple(_decision(plan) for plan in itertools.islice(plans, _DECISIONS)),
        share=experiment.workload.share.model_dump(),
        guards=await _guards(cluster, experiment, target),
        rights=(*_granted(needs, lacking, needed=True), *_granted(wishes, lacking, needed=False)),
        missing_rights=tuple(rights.told(right, target.namespace) for right in needs if right in lacking),
        missing_wishes=tuple(rights.told(right, target.namespace) for right in wishes if right in lacking),
    )


async def room_on(cluster: Cluster, target: Target, node: str, pod: str) -> Room | None:
    """What is free on a replica's volume as its kubelet tells; None where that may not be asked, or tells nothing."""
    try:
        told = await cluster.volume_room(node) if node else {}
    except ClusterError:
        return None
    return told.get(f"{target.namespace}/{target.claim(pod)}")


async def _replica(cluster: Cluster, target: Target, name: str) -> Json:
    told = {"pod": name, "claim": target.claim(name), "volume": "", "handle": "", "node": "", "capacity": ""}
    with suppress(NotFoundError, ForbiddenError):
        told["node"] = (await cluster.get(Pod, target.namespace, name)).node
        claim = await cluster.get(Claim, target.namespace, told["claim"])
        told |= {"volume": claim.volume, "capacity": claim.capacity}
        told["handle"] = (await cluster.get(Volume, "", claim.volume)).handle
    room = await room_on(cluster, target, told["node"], name)
    free = {"free_bytes": room and room.bytes, "free_files": room and room.files}
    return {**told, **free, "room_told_by": "kubelet" if room else NOT_MEASURED}


async def _guards(cluster: Cluster, experiment: Experiment, target: Target) -> Mapping[str, str]:
    """Every guard that is in force: those that always are, then those of the experiment, with their defaults."""
    always = {
        "label": f"{TARGET_LABEL}=true is set on {target.key}",
        "lock": await _lock(cluster, target),
        "kill switch": f"{PAUSED_ANNOTATION}=true on the StatefulSet or its namespace ends the run; it is not set",
        "convergence": "nothing is disrupted while a replica is not Ready, or the target is rolled out or deleted",
    }
    own = {field.alias or name: getattr(experiment.guards, name) for name, field in Guards.model_fields.items()}
    return {**always, **{name: _value(value) for name, value in own.items()}}


async def _lock(cluster: Cluster, target: Target) -> str:
    try:
        holder = await holder_of(cluster, target.key)
    except ForbiddenError:
        return "one chaosd works the target; its Lease may not be seen"
    return f"one chaosd works the target; its Lease is {f'held by {holder}' if holder else 'free'}"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:g} s"
    return "no limit" if value is None else str(value)


def _decision(plan: Plan) -> Json:
    decision = plan.decision
    return {"round": plan.number, "name": plan.name, **({"kind": decision.kind, **decision.parameters} if decision else {})}


def _granted(asked: Sequence[Placed], lacking: Sequence[Placed], *, needed: bool) -> list[Json]:
    return [
        {"verb": right[0], "resource": right[1], "namespace": right[2], "needed": needed, "granted": right not in lacking}
        for right in asked
    ]
