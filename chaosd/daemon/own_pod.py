"""The daemon's own pod, where it runs in one: what is told in Events about it, and what its ledger lies on."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from chaosd.cluster.inflight import patiently
from chaosd.cluster.port import Claim, Cluster, Pod, StatefulSet
from chaosd.errors import ClusterError, NotFoundError, TargetError
from chaosd.experiment import Experiment

_PATIENCE_SECONDS = 10.0


class OwnPod:
    """As the API server shows it. Where the daemon runs in none, nothing is told and nothing refused."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name

    async def tell(self, topic: str, reason: str, message: str) -> None:
        """Warn in an Event about the pod. Of the `topic`, what no name of an Event can have is dashes there. Raises
        ClusterError."""
        topic = re.sub(r"[^a-z0-9.-]", "-", topic.lower())
        if self._name:
            pod = await self._cluster.get(Pod, self._namespace, self._name)
            async for attempt in patiently(_PATIENCE_SECONDS):
                with attempt:
                    await self._cluster.post_event(pod, topic, reason=reason, message=message, warning=True, count=1)

    async def refuse_shared_storage(self, ledger: Path | None, experiment: Experiment) -> None:
        """What is tested must not hold what it is judged by: a fault would take the evidence along. Told by storage class.
        Raises TargetError, ClusterError."""
        claim = await self._claim_of(ledger) if ledger and self._name else None
        if claim is None:
            return
        namespace, name = experiment.target.namespace, experiment.target.statefulset
        try:
            target = await self._cluster.get(StatefulSet, namespace, name)
        except NotFoundError:
            return  # it is refused for that
        owned = {f"{template}-{pod}" for template in target.template_claims for pod in target.pod_names()}
        for tested in await self._cluster.list(Claim, namespace):
            if tested.name in owned and tested.storage_class == claim.storage_class:
                raise TargetError(
                    f"{namespace}/{name} is of storage class {tested.storage_class or 'none'}, as the ledger's claim "
                    f"{claim.name}: what befalls the one befalls the other; give the ledger another class, or PostgreSQL, "
                    "or set CHAOSD_LEDGER_ON_TESTED_STORAGE=allow"
                )

    async def _claim_of(self, file: Path) -> Claim | None:
        """The claim that is mounted where a file lies; None where none is."""
        pod = await self._cluster.get(Pod, self._namespace, self._name)
        mounts = {PurePosixPath(mount.path): mount.volume for container in pod.containers for mount in container.mounts}
        volume = next((mounts[above] for above in PurePosixPath(file).parents if above in mounts), "")
        if volume not in pod.claims:
            return None
        try:
            return await self._cluster.get(Claim, self._namespace, pod.claims[volume])
        except NotFoundError as error:
            raise ClusterError(f"the ledger's claim {pod.claims[volume]} is not there: {error}") from error
