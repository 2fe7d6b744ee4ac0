"""`container-kill`: end a container's first process with a signal, and let the kubelet start the container again.

The pod stays, and with it everything that lives as long as a pod does: its network, its emptyDirs, its mounts. Kubernetes
puts it right itself, so there is nothing to undo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from chaosd.cluster.inflight import unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Container
from chaosd.errors import NotReadyError
from chaosd.nemesis.base import Prepared, Scene, all_done, patiently, unless_refused
from chaosd.nemesis.pods import OfSeveralPods, names, picked


class ContainerKill(OfSeveralPods):
    """Kill a container of the pod; finds what was acknowledged before it was flushed out of the process, and programs that
    do not come back to their own files.

    A process that is PID 1 of its own namespace gets no signal from inside that it does not handle, and KILL never: with
    `shareProcessNamespace` it does. Where the signal would not arrive the disruption is blocked, for the reason
    `refused`."""

    kind: Literal["container-kill"]
    signal: Annotated[Literal["TERM", "KILL"], Field(description="Sent to the container's first process.")] = "TERM"
    container: Annotated[str, Field(description="Which; left out: the one that mounts the path.")] = ""

    @property
    def awaits_pods(self) -> bool:
        """Until their containers run again."""
        return True

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Pods, container and signal."""
        return {**super().draw(rng, ordinals, turn), "signal": self.signal, "container": self.container}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The containers as they are now."""
        name, kills, pods = parameters["container"] or scene.target.container, [], picked(scene, parameters)
        for pod in pods:
            container = next((one for one in pod.containers if one.name == name), None)
            if container is None or not container.running:
                raise NotReadyError(f"container {name} of {pod.name} cannot be killed: it is not running")
            was = {"id": container.id, "restarts": container.restarts}
            kills.append({"replica": scene.target.replica(pod.name), "uid": pod.uid, "was": was})
        more = {"container": name, "signal": parameters["signal"], "kills": kills}
        return Prepared((), None, more, names(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Signal them, and wait until each runs again."""
        more = prepared.more
        kills = await all_done(_killed(scene, kill, more["container"], more["signal"]) for kill in more["kills"])
        return {"containers": kills}


async def _killed(scene: Scene, kill: Mapping[str, Any], container: str, signal: str) -> dict[str, Any]:
    namespace, name = kill["replica"].split("/")
    was = kill["was"]

    def restarted(view: View) -> Container | None:
        pod = view.pods.get(name)
        found = next((c for c in pod.containers if c.name == container), None) if pod else None
        return found if found and found.running and found.id != was["id"] else None

    async for attempt in patiently(scene.timeout_seconds):
        with attempt:
            if not restarted(scene.observer.view):  # what was sent, though its answer was lost, is not sent again
                sending = scene.cluster.signal_container(namespace, name, container, signal, uid=kill["uid"])
                await unless_refused(unbroken(sending), f"{signal} would not end container {container} of {name}")
    now = await scene.observer.wait(restarted, scene.timeout_seconds, f"container {container} of {name} to run again")
    return {"replica": kill["replica"], "was": was, "is": {"id": now.id, "restarts": now.restarts}}
