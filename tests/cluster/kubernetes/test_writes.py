"""Writes that are bound to a UID or to the version that was read, and what becomes of their refusals."""

from __future__ import annotations

from typing import Any

import pytest

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import CORDONED_ANNOTATION, Autoscaler, Namespace, StatefulSet
from chaosd.errors import (
    ClusterError,
    ConflictError,
    DeniedError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ThrottledError,
)
from tests import manifests
from tests.cluster.kubernetes.api_server import ApiServer, page, refuses, says

NODE = "/api/v1/nodes/node-1"
WEB = "/apis/apps/v1/namespaces/default/statefulsets/web"
CLAIM = "/api/v1/namespaces/default/persistentvolumeclaims/disk-web-0"
HORIZONTAL = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
SCALED = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"
MODIFIED = refuses(409, "the object has been modified; please apply your changes to the latest version")


def _node(*, by: str = "", cordoned: bool = False, version: str = "7") -> dict[str, Any]:
    annotations = {CORDONED_ANNOTATION: by} if by else {}
    meta = {"name": "node-1", "uid": "n1", "resourceVersion": version, "annotations": annotations}
    return {"metadata": meta, "spec": {"unschedulable": cordoned} if cordoned else {}}


def _writes(server: ApiServer) -> list[Any]:
    return [body for method, _, _, body in server.requests if method != "GET"]


async def test_a_cordon_is_written_at_the_version_that_was_read(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", NODE, says(_node()), says(_node(version="8")))
    server.on("PATCH", NODE, MODIFIED, says({}))
    await cluster.cordon("node-1", uid="n1", by="run-1")
    assert _writes(server) == [
        {
            "metadata": {"resourceVersion": version, "annotations": {CORDONED_ANNOTATION: "run-1"}},
            "spec": {"unschedulable": True},
        }
        for version in ("7", "8")
    ]
    server.on("PATCH", NODE, MODIFIED)
    with pytest.raises(ThrottledError, match="changed 10 times"):
        await cluster.cordon("node-1", uid="n1", by="run-1")


@pytest.mark.parametrize(
    ("node", "uid", "words"),
    [
        (_node(), "n2", "has the UID n1, not n2"),
        (_node(cordoned=True), "n1", "cordoned already, by somebody else"),
        (_node(cordoned=True, by="run-2"), "n1", "cordoned already, by run-2"),
    ],
)
async def test_a_node_that_somebody_else_has_is_not_cordoned(
    cluster: KubernetesCluster, server: ApiServer, node: dict[str, Any], uid: str, words: str
) -> None:
    server.on("GET", NODE, says(node))
    with pytest.raises(ConflictError, match=words):
        await cluster.cordon("node-1", uid=uid, by="run-1")
    assert _writes(server) == []


async def test_a_cordon_of_ones_own_is_lifted_with_its_mark(cluster: KubernetesCluster, server: ApiServer) -> None:
    lifted = {
        "metadata": {"resourceVersion": "7", "annotations": {CORDONED_ANNOTATION: None}},
        "spec": {"unschedulable": None},
    }
    server.on("GET", NODE, says(_node(cordoned=True, by="run-1")), says(_node(by="run-1")), says(_node()))
    server.on("PATCH", NODE, says({}))
    await cluster.uncordon("node-1", uid="n1", by="run-1")
    assert _writes(server) == [lifted]
    await cluster.uncordon("node-1", uid="n1", by="run-1")  # somebody lifted it, and left the mark
    assert _writes(server) == [lifted, lifted]
    await cluster.uncordon("node-1", uid="n1", by="run-1")
    assert _writes(server) == [lifted, lifted]


@pytest.mark.parametrize("by", ["", "run-2"])
async def test_a_cordon_of_somebody_elses_stays(cluster: KubernetesCluster, server: ApiServer, by: str) -> None:
    server.on("GET", NODE, says(_node(cordoned=True, by=by)))
    with pytest.raises(ConflictError, match=f"was cordoned by {by or 'somebody else'}, not by run-1"):
        await cluster.uncordon("node-1", uid="n1", by="run-1")
    assert _writes(server) == []


async def test_a_rollout_is_restarted_by_an_annotation_of_the_template(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    server.on("PATCH", WEB, says({}))
    await cluster.restart_rollout("default", "web", uid="s1", at="2026-11-25T00:00:00Z")
    annotations = {"kubectl.kubernetes.io/restartedAt": "2026-11-25T00:00:00Z"}
    assert _writes(server) == [
        {"metadata": {"uid": "s1"}, "spec": {"template": {"metadata": {"annotations": annotations}}}}
    ]


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (422, 'StatefulSet "web" is invalid: metadata.uid: Invalid value: "s1": field is immutable', ConflictError),
        (409, "Precondition failed: UID in precondition: s1, UID in object meta: s2", ConflictError),
        (403, 'admission webhook "policy" denied the request: not on Fridays', DeniedError),
        (403, 'statefulsets.apps "web" is forbidden: User "u" cannot patch resource "statefulsets"', ForbiddenError),
        (404, 'statefulsets.apps "web" not found', NotFoundError),
    ],
)
async def test_why_a_rollout_is_not_restarted(
    cluster: KubernetesCluster, server: ApiServer, code: int, message: str, error: type[ClusterError]
) -> None:
    server.on("PATCH", WEB, refuses(code, message))
    with pytest.raises(error) as raised:
        await cluster.restart_rollout("default", "web", uid="s1", at="now")
    assert type(raised.value) is error
    assert message in str(raised.value)


async def test_annotations_are_merged(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("PATCH", WEB, says({}))
    server.on("PATCH", "/api/v1/namespaces/shop", says({}))
    await cluster.annotate(StatefulSet, "default", "web", {"a": "b", "c": None})
    await cluster.annotate(Namespace, "", "shop", {"a": None})
    assert [(path, body) for _, path, _, body in server.requests] == [
        (WEB, {"metadata": {"annotations": {"a": "b", "c": None}}}),
        ("/api/v1/namespaces/shop", {"metadata": {"annotations": {"a": None}}}),
    ]


async def test_a_claim_grows_or_is_refused(cluster: KubernetesCluster, server: ApiServer) -> None:
    requests = {"spec": {"resources": {"requests": {"storage": "1.5Gi"}}}}
    meta = {"name": "disk-web-0", "namespace": "default", "uid": "c1", "resourceVersion": "7"}
    server.on("GET", CLAIM, says({"metadata": meta, **requests}))
    server.on("PATCH", CLAIM, says({}), refuses(403, "only dynamically provisioned pvc can be resized"))
    await cluster.expand_claim("default", "disk-web-0", uid="c1", storage="2Gi")
    assert _writes(server) == [
        {"metadata": {"resourceVersion": "7"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}},
    ]
    with pytest.raises(ConflictError, match="has the UID c1, not c2"):
        await cluster.expand_claim("default", "disk-web-0", uid="c2", storage="2Gi")
    with pytest.raises(RefusedError, match="only dynamically provisioned"):
        await cluster.expand_claim("default", "disk-web-0", uid="c1", storage="2Gi")
    for storage in ("1536Mi", "1Gi"):
        with pytest.raises(RefusedError, match=rf"has asked for 1\.5Gi, and {storage} is no more"):
            await cluster.expand_claim("default", "disk-web-0", uid="c1", storage=storage)
    assert len(_writes(server)) == 2


@pytest.mark.parametrize(("orphan", "propagation"), [(True, "Orphan"), (False, "Foreground")])
async def test_a_statefulset_is_deleted_with_or_without_its_pods(
    cluster: KubernetesCluster, server: ApiServer, orphan: bool, propagation: str
) -> None:
    server.on("GET", WEB, says(_web("7")))
    server.on("DELETE", WEB, says({}))
    await cluster.delete_statefulset("default", "web", uid="s1", orphan=orphan)
    (body,) = _writes(server)
    assert (body["preconditions"], body["propagationPolicy"]) == ({"uid": "s1", "resourceVersion": "7"}, propagation)
    with pytest.raises(ConflictError, match="has the UID s1, not s2"):
        await cluster.delete_statefulset("default", "web", uid="s2", orphan=orphan)


async def test_a_statefulset_that_somebody_changed_is_not_deleted(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", WEB, says(_web("7")))
    manifest = await cluster.manifest("default", "web")
    # Its status changed between reading and deleting, then somebody gave it another count.
    server.on("GET", WEB, says(_web("7")), says(_web("8")), says(_web("9", replicas=5)))
    server.on("DELETE", WEB, MODIFIED, says({}))
    await cluster.delete_statefulset("default", "web", uid="s1", orphan=True, expected=manifest)
    assert [body["preconditions"]["resourceVersion"] for body in _writes(server)] == ["7", "8"]
    with pytest.raises(ConflictError, match="not any more what it was"):
        await cluster.delete_statefulset("default", "web", uid="s1", orphan=True, expected=manifest)
    assert len(_writes(server)) == 2


def _web(version: str, replicas: int = 2) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "default", "uid": "s1", "resourceVersion": version}
    return {"metadata": meta, "spec": {"replicas": replicas}, "status": {"readyReplicas": int(version)}}


async def test_a_manifest_is_what_was_given_to_the_server(cluster: KubernetesCluster, server: ApiServer) -> None:
    given = manifests.statefulset()
    stored = {**given, "status": {"replicas": 2}}
    stored["metadata"] = {
        **given["metadata"],
        "uid": "s1",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2026-11-25T00:00:00Z",
        "managedFields": [{}],
        "deletionTimestamp": "2026-11-25T00:00:00Z",
        "finalizers": ["foregroundDeletion", "example.com/mine"],
    }
    claims = [{**one, "status": {"phase": "Pending"}} for one in given["spec"]["volumeClaimTemplates"]]
    stored["spec"] = {**given["spec"], "volumeClaimTemplates": claims}
    server.on("GET", WEB, says(stored))
    assert await cluster.manifest("default", "web") == {
        **given,
        "metadata": {**given["metadata"], "finalizers": ["example.com/mine"]},
    }


async def test_the_data_of_a_config_map_is_read_and_deleted(cluster: KubernetesCluster, server: ApiServer) -> None:
    config = "/api/v1/namespaces/default/configmaps/mine"
    meta = {"name": "mine", "namespace": "default", "uid": "m1", "resourceVersion": "7"}
    server.on("GET", config, says({"metadata": meta, "data": {"a": "b"}}), says({"metadata": meta}))
    server.on("DELETE", config, says({}))
    assert await cluster.get_config("default", "mine") == {"a": "b"}
    assert await cluster.get_config("default", "mine") == {}
    with pytest.raises(ConflictError, match="are not the expected ones"):
        await cluster.delete_config("default", "mine", expected={"a": "b"})
    await cluster.delete_config("default", "mine", expected={})
    assert [body["preconditions"] for body in _writes(server)] == [{"uid": "m1", "resourceVersion": "7"}]


async def test_autoscalers_of_both_kinds_are_listed_together(cluster: KubernetesCluster, server: ApiServer) -> None:
    spec = {"scaleTargetRef": {"kind": "StatefulSet", "name": "web"}}
    horizontal = {"metadata": {"name": "h", "namespace": "default", "uid": "h1"}, "spec": spec}
    scaled = {"kind": "ScaledObject", "metadata": {"name": "s", "namespace": "default", "uid": "s1"}, "spec": spec}
    server.on("GET", HORIZONTAL, says(page(horizontal)))
    server.on("GET", SCALED, refuses(404, "page not found"), says(page(scaled)), refuses(403, "cannot list"))
    first = Autoscaler("default", "h", "h1", "HorizontalPodAutoscaler", "StatefulSet/web")
    assert await cluster.list(Autoscaler, "default") == [first]
    second = Autoscaler("default", "s", "s1", "ScaledObject", "StatefulSet/web")
    assert await cluster.list(Autoscaler, "default") == [first, second]
    assert await cluster.list(Autoscaler, "default") == [first]
    with pytest.raises(ValueError, match="can only be listed"):
        await cluster.get(Autoscaler, "default", "h")
