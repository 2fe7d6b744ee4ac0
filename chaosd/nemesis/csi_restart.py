"""`csi-restart`: delete the CSI node plugin's pod on a replica's node, as an upgrade of the driver does.

Its DaemonSet brings it back, so there is nothing to undo. While it is away no volume can be mounted or unmounted on that
node; those that are mounted must go on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import ChangeKind, Pod
from chaosd.errors import BlockedError, ConflictError, DeadlineError, NotFoundError, NotReadyError
from chaosd.nemesis.base import NOT_READY, Prepared, Right, Scene
from chaosd.nemesis.pods import OfOnePod, picked


class CsiRestart(OfOnePod):
    """Delete the CSI driver's pod on the node of a replica; finds mounts that live in the driver and die with it, such as
    those of FUSE, and drivers that do not find their volumes again.

    It touches pods that are not the target's, so it is only in experiments that name it."""

    rights_elsewhere: ClassVar[tuple[Right, ...]] = tuple((verb, "pods") for verb in ("list", "watch", "delete"))

    kind: Literal["csi-restart"]
    namespace: Annotated[str, Field(min_length=1, description="Of the node plugin's pods, such as `kube-system`.")]
    selector: Annotated[dict[str, str], Field(min_length=1, description="Labels of these pods.")]

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica on whose node the plugin is restarted, and which pods the plugin's are."""
        return {**super().draw(rng, ordinals, turn), "namespace": self.namespace, "selector": self.selector}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The replica's node; the plugin's pods are not watched, so they are looked up when it comes to it."""
        (pod,) = picked(scene, parameters)
        if not pod.node:
            raise NotReadyError(f"{scene.target.namespace}/{pod.name} is on no node whose plugin could be restarted")
        return Prepared((), None, {"node": pod.node, **{k: parameters[k] for k in ("namespace", "selector")}})

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Delete the plugin's pod on that node, and wait until another is Ready there."""
        more = prepared.more
        plugin = await _plugin(scene, more)
        async for attempt in patiently(scene.timeout_seconds):
            with attempt, suppress(NotFoundError, ConflictError):
                await unbroken(scene.cluster.delete_pod(plugin.namespace, plugin.name, uid=plugin.uid))
        try:
            async with asyncio.timeout(scene.timeout_seconds):
                new = await _ready_again(scene, more, plugin)
        except TimeoutError as error:
            waited = f"waited {scene.timeout_seconds:.0f} s for a plugin's pod to be Ready on {more['node']} again"
            raise DeadlineError(waited) from error
        return {"gone": [plugin.uid], "plugin": {"was": plugin.name, "is": new.name}, "uid": new.uid, "node": new.node}

    def needs(self, namespace: str) -> Iterator[tuple[str, str, str]]:
        """In the plugin's namespace."""
        yield from super().needs(namespace)
        yield from ((verb, resource, self.namespace) for verb, resource in self.rights_elsewhere)


async def _plugin(scene: Scene, more: Mapping[str, Any]) -> Pod:
    async for attempt in patiently(scene.timeout_seconds):
        with attempt:
            pods = await scene.cluster.list(Pod, more["namespace"], more["selector"])
    found = [pod for pod in pods if pod.node == more["node"] and not pod.deleting]
    if len(found) != 1:
        which = f"{len(found)} pods in {more['namespace']} with {more['selector']} on {more['node']}, not one"
        raise BlockedError(
            f"the CSI node plugin is not found: there are {which}: correct namespace and selector", NOT_READY
        )
    return found[0]


async def _ready_again(scene: Scene, more: Mapping[str, Any], old: Pod) -> Pod:
    """The pod on that node that came after the old one, once the old one is gone and it is Ready."""
    there: dict[str, Pod] = {}
    async for change in scene.cluster.watch(Pod, more["namespace"]):
        pod = change.object
        if not isinstance(pod, Pod):
            continue
        if change.kind is ChangeKind.DELETED:
            there.pop(pod.uid, None)
        elif pod.node == more["node"] and more["selector"].items() <= pod.labels.items():
            there[pod.uid] = pod
        if ready := [new for new in there.values() if new.uid != old.uid and new.ready and old.uid not in there]:
            return ready[0]
    raise AssertionError("a watch has no end")
