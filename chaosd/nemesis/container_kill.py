"""`container-kill`: end a container's first process with a signal, and let the kubelet start the container again.

The pod stays, and with it everything that lives as long as a pod does: its network, its emptyDirs, its mounts. Kubernetes
puts it right itself; only a helper on the node, where one was switched on, must be taken away.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster, Container, Pod
from chaosd.errors import BlockedError, ConflictError, NotReadyError
from chaosd.nemesis import host_signal
from chaosd.nemesis.base import Prepared, Right, Scene, all_done, unless_refused
from chaosd.nemesis.pods import OfSeveralPods, names, picked


class ContainerKill(OfSeveralPods):
    """Kill a container of the pod; finds what was acknowledged before it was flushed out of the process, and programs that
    do not come back to their own files.

    A process that is PID 1 of its own namespace gets no signal from inside that it does not handle, and KILL never: with
    `shareProcessNamespace` it does, and from its node, where `hostHelper` starts a pod with the node's processes for it.
    Where the signal would not arrive the disruption is blocked, for the reason `refused`."""

    rights_elsewhere: ClassVar[tuple[Right, ...]] = host_signal.RIGHTS
    undone: ClassVar[str] = "The helper's pod, where there is one. Kubernetes puts the rest right itself."

    kind: Literal["container-kill"]
    signal: Annotated[Literal["TERM", "KILL"], Field(description="Sent to the container's first process.")] = "TERM"
    container: Annotated[str, Field(description="Which; left out: the one that mounts the path.")] = ""
    host_helper: Annotated[
        host_signal.HostHelper | None,
        Field(alias="hostHelper", description="Signal from the node, where PID 1 gets what it does not handle; opt-in."),
    ] = None

    @property
    def awaits_pods(self) -> bool:
        """Until their containers run again."""
        return True

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Pods, container, signal and helper."""
        helper = {"helper": self.host_helper.model_dump()} if self.host_helper else {}
        return {**super().draw(rng, ordinals, turn), "signal": self.signal, "container": self.container, **helper}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The containers as they are now."""
        name, kills, pods = parameters["container"] or scene.target.container, [], picked(scene, parameters)
        for pod in pods:
            container = next((one for one in pod.containers if one.name == name), None)
            if container is None or not container.running:
                raise NotReadyError(f"container {name} of {pod.name} cannot be killed: it is not running")
            was = {"id": container.id, "restarts": container.restarts}
            kills.append({"replica": scene.target.replica(pod.name), "uid": pod.uid, "node": pod.node, "was": was})
        more, undo = {"container": name, "signal": parameters["signal"], "kills": kills}, None
        if helper := parameters.get("helper"):
            more["helper"] = {**helper, "namespace": helper["namespace"] or scene.target.namespace}
            helpers = [host_signal.name_of(kill) for kill in kills]
            undo = {"kind": self.kind, "namespace": more["helper"]["namespace"], "helpers": helpers}
        return Prepared((), undo, more, names(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Signal them, and wait until each runs again."""
        kills = await all_done(_killed(scene, kill, prepared.more) for kill in prepared.more["kills"])
        return {"containers": kills}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Take the helpers away."""
        namespace = undo["namespace"]
        removed = [await host_signal.remove(cluster, namespace, name, timeout_seconds) for name in undo["helpers"]]
        return "; ".join(removed)

    def needs(self, namespace: str) -> Iterator[tuple[str, str, str]]:
        """The helper's, where it is switched on."""
        yield from super().needs(namespace)
        if self.host_helper:
            where = self.host_helper.namespace or namespace
            yield from ((verb, resource, where) for verb, resource in self.rights_elsewhere)


async def _killed(scene: Scene, kill: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    name, was, container = kill["replica"].split("/")[1], kill["was"], more["container"]

    def restarted(view: View) -> Container | None:
        pod = view.pods.get(name)
        found = next((c for c in pod.containers if c.name == container), None) if pod else None
        return found if found and found.running and found.id != was["id"] else None

    async for attempt in patiently(scene.timeout_seconds):
        with attempt:
            try:
                await _signalled(scene, kill, more)
            except (BlockedError, ConflictError):
                # An attempt whose answer was lost may be why the container is another, or has ended.
                if attempt.number == 1 or await _runs_as_before(scene, kill):
                    raise
    now = await scene.observer.wait(restarted, scene.timeout_seconds, f"container {container} of {name} to run again")
    return {"replica": kill["replica"], "was": was, "is": {"id": now.id, "restarts": now.restarts}}


async def _runs_as_before(scene: Scene, kill: Mapping[str, Any]) -> bool:
    """Whether the container that was to be killed still runs."""
    pod = await scene.cluster.get(Pod, *kill["replica"].split("/"))
    return any(one.id == kill["was"]["id"] and one.running for one in pod.containers)


async def _signalled(scene: Scene, kill: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """From its node where that was switched on, else from inside."""
    if helper := more.get("helper"):
        await host_signal.signal(scene, helper, kill, more["signal"])
        return
    namespace, name = kill["replica"].split("/")
    meant = {"uid": kill["uid"], "container_id": kill["was"]["id"]}
    sending = scene.cluster.signal_container(namespace, name, more["container"], more["signal"], **meant)
    await unless_refused(unbroken(sending), f"{more['signal']} would not end container {more['container']} of {name}")
