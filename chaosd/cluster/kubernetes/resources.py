"""Where the API server has each kind of object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chaosd.cluster.port import Attachment, Budget, Claim, ClusterEvent, Namespace, Node, Pod, StatefulSet, Volume


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind's place: the words before and its own."""

    prefix: tuple[str, ...]
    plural: str

    def path(self, namespace: str, *names: str) -> tuple[str, ...]:
        """Of all objects, or of the one of this name (and its subresource); `namespace` is empty where there is none."""
        scope = ("namespaces", namespace) if namespace else ()
        return (*self.prefix, *scope, self.plural, *names)


RESOURCES: Mapping[type, Resource] = {
    Pod: Resource(("api", "v1"), "pods"),
    Claim: Resource(("api", "v1"), "persistentvolumeclaims"),
    Volume: Resource(("api", "v1"), "persistentvolumes"),
    Node: Resource(("api", "v1"), "nodes"),
    Namespace: Resource(("api", "v1"), "namespaces"),
    ClusterEvent: Resource(("api", "v1"), "events"),
    StatefulSet: Resource(("apis", "apps", "v1"), "statefulsets"),
    Attachment: Resource(("apis", "storage.k8s.io", "v1"), "volumeattachments"),
    Budget: Resource(("apis", "policy", "v1"), "poddisruptionbudgets"),
}
CONFIGS = Resource(("api", "v1"), "configmaps")
DEPLOYMENTS = Resource(("apis", "apps", "v1"), "deployments")
LEASES = Resource(("apis", "coordination.k8s.io", "v1"), "leases")
# Autoscalers are of two kinds; of these KEDA's is not in every cluster.
HORIZONTAL_AUTOSCALERS = Resource(("apis", "autoscaling", "v2"), "horizontalpodautoscalers")
SCALED_OBJECTS = Resource(("apis", "keda.sh", "v1alpha1"), "scaledobjects")
# What may be made from a manifest, by its kind.
CREATED: Mapping[str, Resource] = {
    "Namespace": RESOURCES[Namespace],
    "StatefulSet": RESOURCES[StatefulSet],
    "ConfigMap": CONFIGS,
    "Pod": RESOURCES[Pod],
}
