"""Kubernetes' JSON becomes the values of the port, defaults included."""

from __future__ import annotations

from typing import Any

import pytest

from chaosd.cluster import objects
from chaosd.cluster.port import Autoscaler, Budget, Namespace
from tests import manifests

META = {"name": "x", "namespace": "shop", "uid": "u1"}


def _owned(**over: Any) -> dict[str, Any]:
    return {**META, "ownerReferences": [{"kind": "Thing", "name": "other", "uid": "o0"}, *over["owners"]]}


def test_a_pod_has_its_labels_and_says_whether_its_processes_are_shared() -> None:
    labels = {"app": "web", "controller-revision-hash": "web-1"}
    document = {"metadata": {**META, "labels": labels}, "spec": {"containers": [], "shareProcessNamespace": True}}
    found = objects.pod(document)
    assert (found.labels, found.revision, found.shared_processes) == (labels, "web-1", True)
    assert not objects.pod({"metadata": {**META, "labels": None}, "spec": {}}).shared_processes


def test_a_volume_names_the_nodes_that_may_have_it() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a", "b"]}
    fast = {"key": "fast", "operator": "Exists"}
    terms = [{"matchExpressions": [zone, fast]}, {"matchExpressions": [{**zone, "operator": "NotIn"}]}]
    spec = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}
    assert objects.volume({"metadata": META, "spec": spec}).node_terms == (
        (("zone", "In", ("a", "b")), ("fast", "Exists", ())),
        (("zone", "NotIn", ("a", "b")),),
    )
    assert objects.volume({"metadata": META, "spec": {"nodeAffinity": None}}).node_terms == ()


def test_a_statefulset_names_its_controller_and_how_it_is_updated() -> None:
    document = manifests.statefulset()
    found = objects.statefulset(document)
    assert (found.owner, found.update_strategy, found.partition) == ("", "RollingUpdate", 0)
    document["metadata"] |= _owned(owners=[{"kind": "Database", "name": "pg", "uid": "o1", "controller": True}])
    document["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    found = objects.statefulset(document)
    assert (found.owner, found.update_strategy, found.partition) == ("Database/pg", "RollingUpdate", 2)
    document["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert objects.statefulset(document).update_strategy == "OnDelete"


@pytest.mark.parametrize(
    ("taint", "tainted"),
    [
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, False),
        ({"key": "dedicated", "effect": "NoSchedule"}, True),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, True),
        ({"key": "tired", "effect": "PreferNoSchedule"}, False),
    ],
)
def test_a_node_is_tainted_where_pods_are_kept_off_it_by_more_than_a_cordon(taint: dict[str, str], tainted: bool) -> None:
    meta = {**META, "labels": {"zone": "a"}, "annotations": {"chaosd.io/cordoned-by": "run-1"}}
    found = objects.node({"metadata": meta, "spec": {"unschedulable": True, "taints": [taint]}})
    assert (found.unschedulable, found.tainted, found.cordoned_by, found.labels) == (True, tainted, "run-1", {"zone": "a"})


def test_a_namespace_terminates_once_it_is_deleted() -> None:
    meta = {"name": "shop", "uid": "u1", "annotations": {"a": "b"}}
    assert objects.namespace({"metadata": meta}) == Namespace("shop", "u1", {"a": "b"})
    assert objects.namespace({"metadata": {**meta, "deletionTimestamp": "2026-11-25T00:00:00Z"}}).terminating


def test_a_budget_says_how_many_it_allows_once_that_was_reckoned() -> None:
    spec = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    fresh = {"metadata": META, "spec": spec}
    assert objects.budget(fresh) == Budget("shop", "x", "u1", {"app": "web"}, 0, 0)
    status = {"disruptionsAllowed": 1, "desiredHealthy": 2}
    assert objects.budget({**fresh, "status": status}) == Budget("shop", "x", "u1", {"app": "web"}, 1, 2)


def test_autoscalers_of_both_kinds_name_what_they_scale() -> None:
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}
    horizontal = {"metadata": META, "spec": {"scaleTargetRef": ref, "maxReplicas": 3}}
    scaled = {"kind": "ScaledObject", "metadata": META, "spec": {"scaleTargetRef": {"name": "web"}}}
    assert [objects.autoscaler(one) for one in (horizontal, scaled)] == [
        Autoscaler("shop", "x", "u1", "HorizontalPodAutoscaler", "StatefulSet/web"),
        Autoscaler("shop", "x", "u1", "ScaledObject", "Deployment/web"),
    ]
