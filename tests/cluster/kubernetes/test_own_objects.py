"""What chaosd makes for itself on a cluster: a namespace, and a StatefulSet in it."""

from __future__ import annotations

import pytest

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.errors import ClusterError, ConflictError, DeniedError, ForbiddenError, NotFoundError, RefusedError
from tests.cluster.kubernetes.api_server import ApiServer, refuses, says

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mine"}}
STATEFULSET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": "mine"}}
STATEFULSETS = "/apis/apps/v1/namespaces/mine/statefulsets"


async def test_a_manifest_is_posted_where_objects_of_its_kind_are(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("POST", "/api/v1/namespaces", says(NAMESPACE))
    server.on("POST", STATEFULSETS, says(STATEFULSET))
    await cluster.create(NAMESPACE)
    await cluster.create(STATEFULSET)
    assert [(method, path, body) for method, path, _, body in server.requests] == [
        ("POST", "/api/v1/namespaces", NAMESPACE),
        ("POST", STATEFULSETS, STATEFULSET),
    ]


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (403, 'statefulsets.apps is forbidden: User "u" cannot create resource "statefulsets"', ForbiddenError),
        (403, 'admission webhook "policy" denied the request: not on Fridays', DeniedError),
        (403, "unable to create new content in namespace mine because it is being terminated", DeniedError),
        (404, 'namespaces "mine" not found', NotFoundError),
        (409, 'statefulsets.apps "web" already exists', ConflictError),
        (422, "spec.selector: Required value", RefusedError),
    ],
)
async def test_why_it_was_not_made(
    cluster: KubernetesCluster, server: ApiServer, code: int, message: str, error: type[ClusterError]
) -> None:
    server.on("POST", STATEFULSETS, refuses(code, message))
    with pytest.raises(error) as raised:
        await cluster.create(STATEFULSET)
    assert type(raised.value) is error
    assert message in str(raised.value)


async def test_other_kinds_are_not_made(cluster: KubernetesCluster, server: ApiServer) -> None:
    with pytest.raises(ValueError, match="Node is none of Namespace, StatefulSet, ConfigMap, Pod"):
        await cluster.create({"kind": "Node", "metadata": {"name": "n"}})
    assert server.requests == []


async def test_a_namespace_is_deleted_by_name(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("DELETE", "/api/v1/namespaces/mine", says(NAMESPACE), refuses(404, "not found"))
    await cluster.delete_namespace("mine")
    with pytest.raises(NotFoundError):
        await cluster.delete_namespace("mine")
    assert [(method, path) for method, path, *_ in server.requests] == [("DELETE", "/api/v1/namespaces/mine")] * 2
