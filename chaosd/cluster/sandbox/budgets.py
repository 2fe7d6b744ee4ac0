"""The disruption controller, and what it lets an eviction do. Source: Kubernetes docs, "Disruptions" and "Specifying a
Disruption Budget"; and its code, pkg/controller/disruption/disruption.go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chaosd.cluster.port import Budget, Pod, StatefulSet
from chaosd.cluster.sandbox.store import Limit, Store
from chaosd.errors import ThrottledError


def apply(store: Store, document: Mapping[str, Any]) -> None:
    """Create or replace a budget."""
    meta, spec = document["metadata"], document["spec"]
    namespace, name = meta.get("namespace", "default"), meta["name"]
    known = store.limits.get(f"{namespace}/{name}")
    limit = store.limits[f"{namespace}/{name}"] = Limit(
        namespace=namespace,
        name=name,
        selector=dict(spec["selector"]["matchLabels"]),
        min_available=str(spec.get("minAvailable", "")),
        max_unavailable=str(spec.get("maxUnavailable", "")),
        uid=known.uid if known else store.uid(),
    )
    store.touch()
    store.put(_budget(store, limit))


def reconcile(store: Store) -> None:
    """Reckon anew what every budget allows."""
    for limit in store.limits.values():
        store.put(_budget(store, limit))


def refuse_beyond(store: Store, pod: Pod) -> None:
    """Raises ThrottledError where a budget does not allow the eviction of a pod."""
    for limit in store.limits.values():
        if limit.namespace != pod.namespace or not limit.selector.items() <= pod.labels.items():
            continue
        budget = _budget(store, limit)
        if not budget.allowed:
            raise ThrottledError(
                "Cannot evict pod as it would violate the pod's disruption budget: "
                f"{budget.name} needs {budget.wanted} healthy pods and has {_healthy(_covered(store, limit))} currently"
            )


def _budget(store: Store, limit: Limit) -> Budget:
    pods = _covered(store, limit)
    wanted = _wanted(store, limit, pods)
    allowed = max(0, _healthy(pods) - wanted)
    return Budget(limit.namespace, limit.name, limit.uid, limit.selector, allowed, wanted)


def _wanted(store: Store, limit: Limit, pods: list[Pod]) -> int:
    """How many must be healthy. Shares are of the pods that their StatefulSets want, and rounded up."""
    controllers = {pod.controller_uid for pod in pods}
    statefulsets = [one for one in store.all(StatefulSet, limit.namespace) if one.uid in controllers]
    alone = sum(1 for pod in pods if not pod.controller_uid)
    expected = sum(one.replicas for one in statefulsets) + alone
    if limit.min_available:
        return _share(limit.min_available, expected)
    return max(0, expected - _share(limit.max_unavailable or "100%", expected))


def _covered(store: Store, limit: Limit) -> list[Pod]:
    return [pod for pod in store.all(Pod, limit.namespace) if limit.selector.items() <= pod.labels.items()]


def _healthy(pods: list[Pod]) -> int:
    return sum(1 for pod in pods if pod.ready and not pod.deleting)


def _share(limit: str, of: int) -> int:
    return math.ceil(int(limit[:-1]) * of / 100) if limit.endswith("%") else int(limit)
