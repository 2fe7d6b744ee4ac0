"""The experiment's target, as it is now."""

from __future__ import annotations

from chaosd.cluster import target as targets
from chaosd.cluster.port import Cluster, StatefulSet
from chaosd.cluster.target import Target
from chaosd.errors import ForbiddenError, NotFoundError, RightsError, TargetError
from chaosd.experiment import Experiment
from chaosd.guards import namespace_of, refuse_untouchable


async def find_target(cluster: Cluster, experiment: Experiment) -> Target:
    """The experiment's target as it is now. Raises TargetError, RightsError, AbortedError, ClusterError."""
    spec = experiment.target
    if why := experiment.guards.denies(spec.namespace):
        raise TargetError(f"nothing in namespace {spec.namespace} may be tested: {why}")
    try:
        statefulset = await cluster.get(StatefulSet, spec.namespace, spec.statefulset)
    except NotFoundError as error:
        there = "name one that is there (kubectl get statefulsets -A)"
        if cluster.kind == "sandbox":
            there = "an empty sandbox is given the target.manifest of the experiment file that is run on it"
        raise TargetError(f"no StatefulSet {spec.namespace}/{spec.statefulset}: {there}") from error
    except ForbiddenError as error:
        raise RightsError(f"get on statefulsets.apps in {spec.namespace} is not allowed: grant it ({error})") from error
    found = targets.resolve(statefulset, path=spec.path, container=spec.container, require_claim=spec.require_claim)
    refuse_untouchable(statefulset, await namespace_of(cluster, spec.namespace))
    return found
