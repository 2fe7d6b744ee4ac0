"""`node-crash`: a node of the simulated cluster loses its power in the middle of whatever goes on.

On a real cluster the disruption `external` does it, by a command.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from chaosd.cluster.observer import View
from chaosd.errors import NotReadyError
from chaosd.nemesis.base import Disruption, Prepared, Scene


class NodeCrash(Disruption):
    """Cut the power of the node that a replica runs on; `crash` does it, given the node's name."""

    kind: Literal["node-crash"] = "node-crash"
    crash: Callable[[str], None]

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica whose node crashes."""
        return {"ordinal": rng.choice(list(ordinals))}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The node as it is now."""
        name = f"{scene.target.statefulset}-{parameters['ordinal']}"
        pod = scene.observer.view.pods.get(name)
        node = scene.observer.view.nodes.get(pod.node) if pod else None
        if node is None:
            raise NotReadyError(f"{scene.target.namespace}/{name} is on no node that could crash")
        more = {"node": node.name, "boot_id": node.boot_id}
        pods = (pod.name for pod in scene.observer.view.pods.values() if pod.node == node.name)
        return Prepared((), None, more, frozenset(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Cut the power, and wait until the node has come up again."""
        name, was = prepared.more["node"], prepared.more["boot_id"]
        self.crash(name)

        def booted(view: View) -> str | None:
            node = view.nodes.get(name)
            return node.boot_id if node and node.ready and node.boot_id != was else None

        boot_id = await scene.observer.wait(booted, scene.timeout_seconds, f"{name} to come up again")
        return {"node": name, "boot_id": {"was": was, "is": boot_id}, "crash": True}
