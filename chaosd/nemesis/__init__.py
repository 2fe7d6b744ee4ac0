"""The nemesis: everything that disturbs the target, one file a disruption, each with its undo.

A new disruption is a file in this package and an entry in SINGLE and AnySingle (`single.py`). The experiment's schema,
`chaosd disruptions` and docs/disruptions.md follow from the registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from chaosd.cluster.port import Cluster
from chaosd.nemesis.base import Disruption, Prepared, Scene
from chaosd.nemesis.single import SINGLE, AnySingle
from chaosd.nemesis.together import Together, combined

DISRUPTIONS: Mapping[str, type[Disruption]] = {**SINGLE, "together": Together}

AnyDisruption = Annotated[AnySingle | Together, Field(discriminator="kind")]


async def heal(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
    """Carry out a registered undo; says what was done. Raises ConflictError when the target is not as chaosd left it,
    ClusterError, DeadlineError, DisruptionError: then it stays to be undone."""
    return await DISRUPTIONS[undo["kind"]].heal(cluster, undo, timeout_seconds)


__all__ = ["DISRUPTIONS", "AnyDisruption", "Disruption", "Prepared", "Scene", "Together", "combined", "heal"]
