"""The nemesis: everything that disturbs the target, one file a disruption, each with its undo.

A new disruption is a file in this package and an entry in DISRUPTIONS; where something must be put right after it, an
entry in HEALERS. The experiment's schema and the documentation follow from the registry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from chaosd.cluster.port import Cluster
from chaosd.nemesis.base import Disruption, Prepared, Scene
from chaosd.nemesis.external import External
from chaosd.nemesis.pod_delete import PodDelete
from chaosd.nemesis.scale import Scale, heal_scale

DISRUPTIONS: Mapping[str, type[Disruption]] = {"pod-delete": PodDelete, "scale": Scale, "external": External}

AnyDisruption = Annotated[PodDelete | Scale | External, Field(discriminator="kind")]

Healer = Callable[[Cluster, Mapping[str, Any], float], Awaitable[str]]

HEALERS: Mapping[str, Healer] = {"scale": heal_scale}


async def heal(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
    """Carry out a registered undo; says what was done. Raises ConflictError when the target is not as chaosd left it,
    ClusterError."""
    return await HEALERS[undo["kind"]](cluster, undo, timeout_seconds)


__all__ = ["DISRUPTIONS", "AnyDisruption", "Disruption", "Prepared", "Scene", "heal"]
