"""The end of a daemon that is uninstalled: it lets go of its targets, and they are healed, before its rights go."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.lock import holder_of
from chaosd.cluster.port import Cluster
from chaosd.daemon.folder import ExperimentFolder
from chaosd.errors import NotFoundError, TargetError
from chaosd.run import Ending
from chaosd.settings import Settings
from chaosd.taking import heal_from_lease, hold_lock

# As long as a daemon has to end (the chart's terminationGracePeriodSeconds), and then its Lease.
_PATIENCE_SECONDS = 180.0
_AGAIN_SECONDS = 1.0


async def shut_down(settings: Settings, path: Path, deployment: str | None, namespace: str, ending: Ending) -> list[str]:
    """Scale the daemon's `deployment` to nothing, and heal the targets of its experiments, a file or a folder, once it has
    let go of them. Tells what was undone. Raises TargetError for a target that somebody holds on to, UsageError,
    ClusterError."""
    reading = ExperimentFolder(path).read()
    specs = [one.experiment.target for one in reading.loaded.values()] if reading else []
    cluster = await KubernetesCluster.open(
        kubeconfig=settings.kubeconfig, context=settings.context, qps=settings.qps, burst=settings.burst
    )
    try:
        if deployment:
            try:
                await cluster.stop_deployment(namespace, deployment)
            except NotFoundError as error:
                raise TargetError(f"there is no Deployment {namespace}/{deployment}: name the daemon's") from error
        keys = dict.fromkeys(f"{spec.namespace}/{spec.statefulset}" for spec in specs)
        return [done for key in keys for done in await _healed(cluster, settings, key, deployment, ending)]
    finally:
        await cluster.close()


async def _healed(cluster: Cluster, settings: Settings, key: str, deployment: str | None, ending: Ending) -> list[str]:
    """What another than the daemon holds is that one's to heal."""
    holder = await holder_of(cluster, key)
    if holder and deployment and not holder.startswith(f"{deployment}-"):
        return [f"left as it is: {key} is held by {holder}"]
    now = asyncio.get_running_loop().time
    deadline = now() + _PATIENCE_SECONDS
    while True:
        try:
            async with hold_lock(cluster, settings, key, ending) as (lock, undo):
                return await heal_from_lease(cluster, lock, undo)
        except TargetError:  # its holder lives
            if now() > deadline:
                raise
        await asyncio.sleep(_AGAIN_SECONDS)
