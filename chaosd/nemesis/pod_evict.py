"""`pod-evict`: evict pods through the Eviction API, as a drain or a cluster autoscaler does.

Kubernetes puts it right itself, so there is nothing to undo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from chaosd.nemesis import eviction
from chaosd.nemesis.base import Prepared, Right, Scene
from chaosd.nemesis.eviction import evict
from chaosd.nemesis.pods import OfSeveralPods, doomed, names, picked


class PodEvict(OfSeveralPods):
    """Evict pods, one after the other, as far as PodDisruptionBudgets allow; finds what does not survive a restart of the
    pod, and budgets that are not what they seem.

    An eviction that a budget refuses is tried again until `patience` ends. A budget that wants as many healthy pods as
    there are is not waited for: the disruption is blocked, for the reason `budget`."""

    rights: ClassVar[tuple[Right, ...]] = eviction.RIGHTS

    kind: Literal["pod-evict"]
    patience: eviction.Patience = eviction.PATIENCE_SECONDS

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Pods and patience."""
        return {**super().draw(rng, ordinals, turn), "patience": self.patience}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The pods as they are now."""
        pods = picked(scene, parameters)
        return Prepared(doomed(scene, pods), None, {"patience": parameters["patience"]}, names(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Evict them, each once the one before is gone."""
        evictions = await evict(scene, prepared.deletes, prepared.more["patience"])
        return {"gone": sorted(one["uid"] for one in prepared.deletes), "evictions": evictions}
