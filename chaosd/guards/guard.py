"""The guard of one target: it looks at what guards must know, and remembers when the target was disrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from chaosd.cluster.inflight import patiently
from chaosd.cluster.port import PAUSED_ANNOTATION, TARGET_LABEL, Autoscaler, Cluster, Namespace, StatefulSet
from chaosd.errors import AbortedError, ClusterError, DeadlineError, ForbiddenError, NotFoundError
from chaosd.guards.refusal import TERMINATING, UNSEEN, Refusal
from chaosd.guards.safety import Situation, unsafe
from chaosd.guards.spec import Guards
from chaosd.guards.windows import HOUR_SECONDS, too_early
from chaosd.nemesis.base import Disruption, Prepared, Scene

_LOOK_SECONDS = 10.0


class Guard:
    """Asked before a round, and once more when its disruption is about to begin."""

    def __init__(
        self,
        guards: Guards,
        scene: Scene,
        disrupted_at: Iterable[float],
        space: Callable[[], Mapping[str, tuple[int, int]]],
    ) -> None:
        """`disrupted_at` are the earlier disruptions of the target that matter (`remembered_seconds`), oldest first;
        `space` tells of each volume that is seen the bytes that are free, and in all."""
        self._guards = guards
        self._scene = scene
        self._disrupted_at = list(disrupted_at)
        self._space = space

    def too_early(self) -> Refusal | None:
        """Why no disruption may begin yet."""
        return too_early(self._guards, self._scene.clock(), self._disrupted_at)

    async def refusal(self, disruption: Disruption, prepared: Prepared) -> Refusal | None:
        """Why a disruption that was prepared may not begin now. Raises AbortedError where the kill switch was thrown."""
        if early := self.too_early():
            return early
        try:
            async for attempt in patiently(_LOOK_SECONDS):
                with attempt:
                    situation = await self._situation(disruption, prepared)
        except NotFoundError:
            return Refusal(TERMINATING, f"{self._scene.target.key} is gone")
        except (ClusterError, DeadlineError) as error:
            return Refusal(UNSEEN, str(error))
        return unsafe(self._guards, situation)

    def disrupts(self) -> None:
        """A disruption begins now."""
        now = self._scene.clock()
        self._disrupted_at = [*(at for at in self._disrupted_at if at > now - remembered_seconds(self._guards)), now]

    async def _situation(self, disruption: Disruption, prepared: Prepared) -> Situation:
        """Read anew, since watches may lag behind; and the watch is waited for, since what follows is judged by what it
        told before. Raises ClusterError, DeadlineError, AbortedError."""
        scene, target = self._scene, self._scene.target
        statefulset = await scene.cluster.get(StatefulSet, target.namespace, target.statefulset)
        await scene.observer.wait(
            lambda view: _is_as_new(view.statefulset, statefulset) or None, _LOOK_SECONDS, "the watch of the StatefulSet"
        )
        namespace = await namespace_of(scene.cluster, target.namespace)
        refuse_untouchable(statefulset, namespace)
        return Situation(
            statefulset=statefulset,
            found=target.replicas,
            terminating=namespace is not None and namespace.terminating,
            late=scene.observer.view.late(target, statefulset.replicas),
            takes=prepared.takes,
            scales=disruption.scales,
            autoscalers=await scene.cluster.list(Autoscaler, target.namespace) if disruption.scales else (),
            space=self._space(),
        )


def _is_as_new(seen: StatefulSet | None, read: StatefulSet) -> bool:
    return seen is not None and (seen.uid != read.uid or seen.generation >= read.generation)


def refuse_untouchable(statefulset: StatefulSet | None, namespace: Namespace | None) -> None:
    """Raises AbortedError where the kill switch was thrown, on the StatefulSet or on its namespace, or where the label is
    gone that allows to touch it."""
    if statefulset and statefulset.labels.get(TARGET_LABEL) != "true":
        raise AbortedError(f"{statefulset.key} is not labelled {TARGET_LABEL}=true any more, so nothing more is done to it")
    for found in (statefulset, namespace):
        if found and found.annotations.get(PAUSED_ANNOTATION) == "true":
            named = f"namespace/{found.name}"
            if isinstance(found, StatefulSet):
                named = f"statefulset/{found.name} -n {found.namespace}"
            raise AbortedError(f"the kill switch is thrown ({PAUSED_ANNOTATION}=true): chaosd resume {named}")


async def namespace_of(cluster: Cluster, name: str) -> Namespace | None:
    """A namespace, None where it may not be seen. Raises ClusterError."""
    try:
        return await cluster.get(Namespace, "", name)
    except ForbiddenError:
        return None


def remembered_seconds(guards: Guards) -> float:
    """How long a disruption matters to later ones."""
    return max(guards.min_interval, HOUR_SECONDS if guards.max_per_hour is not None else 0.0)
