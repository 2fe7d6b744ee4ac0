"""Requests: what is sent, and how what is answered becomes values and typed errors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster, client
from chaosd.cluster.port import ClusterEvent, Container, EphemeralContainer, Lease, Mount, Pod, StatefulSet
from chaosd.errors import (
    ClusterError,
    ConflictError,
    DeniedError,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    UnreachableError,
    UsageError,
)
from tests.cluster.kubernetes.api_server import ApiServer, page, pod, refuses, says

PODS = "/api/v1/namespaces/default/pods"
SCALE = "/apis/apps/v1/namespaces/default/statefulsets/web/scale"
SCALED = {"namespace": "default", "name": "web", "uid": "s1", "resourceVersion": "7"}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, RefusedError),
        (401, ForbiddenError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, ExpiredError),
        (422, RefusedError),
        (429, ThrottledError),
        (500, UnreachableError),
        (503, UnreachableError),
    ],
)
async def test_each_status_has_its_error_with_what_the_server_said(
    cluster: KubernetesCluster, server: ApiServer, code: int, error: type[ClusterError]
) -> None:
    server.on("GET", f"{PODS}/web-0", refuses(code, "the reason"))
    with pytest.raises(error) as raised:
        await cluster.get(Pod, "default", "web-0")
    assert type(raised.value) is error
    assert str(raised.value) == f"GET {PODS}/web-0: the reason ({code})"


async def test_an_answer_that_is_no_json_comes_from_something_in_between(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    async def portal(_: web.Request) -> web.Response:
        return web.Response(text="<html>log in")

    server.on("GET", "/version", portal)
    with pytest.raises(UnreachableError, match="is that an API server"):
        await cluster.version()

    async def gateway(_: web.Request) -> web.Response:
        return web.Response(text="<html>bad gateway", status=502)

    server.on("GET", "/version", gateway)
    with pytest.raises(UnreachableError, match="bad gateway"):
        await cluster.version()


async def test_a_server_that_does_not_answer_is_unreachable(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    server.on("GET", "/version", silent)
    with pytest.raises(UnreachableError, match="no answer in time"):
        await cluster._client.request("GET", ("version",), timeout_seconds=0.1)


async def test_a_connection_that_breaks_is_unreachable(cluster: KubernetesCluster, server: ApiServer) -> None:
    async def breaks(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.on("GET", "/version", breaks)
    with pytest.raises(UnreachableError, match="is the API server there"):
        await cluster.version()


async def test_lists_are_read_page_by_page(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", PODS, says(page(pod("web-0"), more="next")), says(page(pod("web-1"))))
    assert [p.name for p in await cluster.list(Pod, "default", {"app": "web", "tier": "db"})] == ["web-0", "web-1"]
    queries = [query for _, _, query, _ in server.requests]
    assert [q["labelSelector"] for q in queries] == ["app=web,tier=db"] * 2
    assert [q.get("continue") for q in queries] == [None, "next"]


async def test_a_list_without_a_namespace_is_of_all_namespaces(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", "/apis/apps/v1/statefulsets", says(page()))
    assert await cluster.list(StatefulSet, "") == []


async def test_a_deletion_names_the_uid_and_the_grace(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("DELETE", f"{PODS}/web-0", says({"kind": "Status"}))
    await cluster.delete_pod("default", "web-0", uid="u1")
    await cluster.delete_pod("default", "web-0", uid="u1", grace_seconds=0)
    bodies = [body for _, _, _, body in server.requests]
    assert [body["preconditions"] for body in bodies] == [{"uid": "u1"}] * 2
    assert "gracePeriodSeconds" not in bodies[0]
    assert bodies[1]["gracePeriodSeconds"] == 0


async def test_an_eviction_goes_through_its_subresource(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("POST", f"{PODS}/web-0/eviction", refuses(429, "disruption budget"))
    with pytest.raises(ThrottledError):
        await cluster.evict_pod("default", "web-0", uid="u1", grace_seconds=5)
    (_, _, _, body) = server.requests[0]
    assert (body["kind"], body["apiVersion"]) == ("Eviction", "policy/v1")
    assert body["deleteOptions"]["preconditions"] == {"uid": "u1"}


AGENT = EphemeralContainer("agent", "python:3", ("python3", "-V"), (Mount("disk", "/data", read_only=True),), like="app")
EPHEMERAL = f"{PODS}/web-0/ephemeralcontainers"


async def test_an_ephemeral_container_is_added_by_a_patch_that_names_the_uid(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    kinds: list[str] = []

    async def patched(request: web.Request) -> dict[str, object]:
        kinds.append(request.headers["Content-Type"])
        return {}

    user = {"runAsUser": 999, "capabilities": {"drop": ["ALL"]}}
    server.on("GET", f"{PODS}/web-0", says(pod("web-0", containers=[{"name": "app", "securityContext": user}])))
    server.on("PATCH", EPHEMERAL, patched)
    await cluster.add_ephemeral_container("default", "web-0", AGENT, uid="u1")
    assert kinds == ["application/strategic-merge-patch+json"]
    added = {
        "name": "agent",
        "image": "python:3",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-V"],
        "volumeMounts": [{"name": "disk", "mountPath": "/data", "readOnly": True}],
        "securityContext": user,
    }
    assert server.requests[-1][3] == {"metadata": {"uid": "u1"}, "spec": {"ephemeralContainers": [added]}}
    with pytest.raises(ConflictError, match="has the UID u1, not u2"):
        await cluster.add_ephemeral_container("default", "web-0", AGENT, uid="u2")
    assert [method for method, *_ in server.requests] == ["GET", "PATCH", "GET"]


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (422, 'Pod "web-0" is invalid: metadata.uid: Invalid value: "u1": field is immutable', ConflictError),
        (422, "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden", RefusedError),
        (403, 'pods "web-0" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true', DeniedError),
        (403, 'pods "web-0" is forbidden: User "u" cannot patch resource "pods/ephemeralcontainers"', ForbiddenError),
        (404, 'pods "web-0" not found', NotFoundError),
    ],
)
async def test_why_an_ephemeral_container_is_not_added(
    cluster: KubernetesCluster, server: ApiServer, code: int, message: str, error: type[ClusterError]
) -> None:
    server.on("GET", f"{PODS}/web-0", says(pod("web-0", containers=[{"name": "app"}])))
    server.on("PATCH", EPHEMERAL, refuses(code, message))
    with pytest.raises(error) as raised:
        await cluster.add_ephemeral_container("default", "web-0", AGENT, uid="u1")
    assert type(raised.value) is error
    assert message in str(raised.value)


async def test_ephemeral_containers_are_told_with_how_they_are(cluster: KubernetesCluster, server: ApiServer) -> None:
    document = pod("web-0", ephemeralContainers=[{"name": "one", "image": "i"}, {"name": "two"}, {"name": "three"}])
    document["status"]["ephemeralContainerStatuses"] = [
        {"name": "one", "containerID": "c://1", "state": {"running": {"startedAt": "2026-11-23T00:00:00Z"}}},
        {"name": "two", "containerID": "c://2", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
        {"name": "three", "state": {"waiting": {"reason": "ErrImagePull"}}},
    ]
    server.on("GET", f"{PODS}/web-0", says(document))
    found = (await cluster.get(Pod, "default", "web-0")).ephemeral
    assert found == (
        Container("one", image="i", id="c://1"),
        Container("two", id="c://2", ended="OOMKilled"),
        Container("three", waiting="ErrImagePull"),
    )
    assert [c.running for c in found] == [True, False, False]


async def test_events_are_read_however_they_were_written(cluster: KubernetesCluster, server: ApiServer) -> None:
    about = {"kind": "Pod", "namespace": "default", "name": "web-0", "uid": "u1"}
    common = {"involvedObject": about, "reason": "FailedMount", "message": "no disk", "type": "Warning"}
    meta = {"namespace": "default", "creationTimestamp": "2023-11-14T22:13:20Z"}
    # Of the kubelet, through core/v1; of the scheduler, through events.k8s.io, once and again.
    old = {**common, "metadata": {**meta, "name": "a", "uid": "e1"}, "count": 3, "lastTimestamp": "2023-11-14T22:13:25Z"}
    new = {**common, "metadata": {**meta, "name": "b", "uid": "e2"}, "eventTime": "2023-11-14T22:13:21.500000Z"}
    new |= {"count": None, "lastTimestamp": None, "type": "Normal"}
    again = {**new, "metadata": {**meta, "name": "c", "uid": "e3"}}
    again["series"] = {"count": 9, "lastObservedTime": "2023-11-14T22:13:30.000000Z"}
    server.on("GET", "/api/v1/namespaces/default/events", says(page(old, new, again)))
    pod_event = ("Pod", "web-0", "u1", "FailedMount", "no disk")
    assert await cluster.list(ClusterEvent, "default") == [
        ClusterEvent("default", "a", "e1", *pod_event, warning=True, count=3, last_seen=1_700_000_005.0),
        ClusterEvent("default", "b", "e2", *pod_event, warning=False, count=1, last_seen=1_700_000_001.5),
        ClusterEvent("default", "c", "e3", *pod_event, warning=False, count=9, last_seen=1_700_000_010.0),
    ]


async def test_a_scale_is_written_at_the_version_that_was_read(cluster: KubernetesCluster, server: ApiServer) -> None:
    found = {"metadata": SCALED, "spec": {"replicas": 2}}
    server.on("GET", SCALE, says(found))
    server.on("PUT", SCALE, says({}))
    await cluster.scale("default", "web", uid="s1", replicas=1, expected=2)
    (_, _, _, body) = server.requests[-1]
    assert body == {"metadata": SCALED, "spec": {"replicas": 1}}
    with pytest.raises(ConflictError, match="has 2 replicas, not 3"):
        await cluster.scale("default", "web", uid="s1", replicas=1, expected=3)
    with pytest.raises(ConflictError, match="has the UID s1, not s2"):
        await cluster.scale("default", "web", uid="s2", replicas=1, expected=2)
    assert [method for method, *_ in server.requests] == ["GET", "PUT", "GET", "GET"]


async def test_a_status_that_changes_meanwhile_does_not_stop_a_scale(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", SCALE, says({"metadata": SCALED, "spec": {"replicas": 2}}))
    modified = refuses(409, "the object has been modified; please apply your changes to the latest version")
    server.on("PUT", SCALE, modified, modified, says({}))
    await cluster.scale("default", "web", uid="s1", replicas=0, expected=2)
    assert [method for method, *_ in server.requests] == ["GET", "PUT"] * 3
    server.on("PUT", SCALE, modified)
    with pytest.raises(ThrottledError, match="changed 10 times"):
        await cluster.scale("default", "web", uid="s1", replicas=0, expected=2)


async def test_the_token_is_sent_with_each_request(cluster: KubernetesCluster, server: ApiServer) -> None:
    tokens: list[str] = []

    async def version(request: web.Request) -> dict[str, str]:
        tokens.append(request.headers["Authorization"])
        return {"gitVersion": "v1.37.2"}

    server.on("GET", "/version", version)
    assert await cluster.version() == "v1.37.2"
    assert tokens == ["Bearer secret"]


async def test_rights_are_reviewed_by_group_resource_and_subresource(cluster: KubernetesCluster, server: ApiServer) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    server.on("POST", path, says({"status": {"allowed": False}}))
    assert not await cluster.allowed("update", "statefulsets.apps/scale", "default")
    (_, _, _, body) = server.requests[0]
    assert body["spec"]["resourceAttributes"] == {
        "verb": "update",
        "group": "apps",
        "resource": "statefulsets",
        "subresource": "scale",
        "namespace": "default",
    }


async def test_a_lease_is_created_without_and_replaced_with_its_version(
    cluster: KubernetesCluster, server: ApiServer
) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

    async def echo(request: web.Request) -> dict[str, object]:
        document = await request.json()
        return {**document, "metadata": {**document["metadata"], "resourceVersion": "8"}}

    server.on("POST", path, echo)
    made = await cluster.put_lease(Lease("default", "chaosd-web", "me", 45, 1_700_000_000.5))
    assert (made.version, made.renewed_at, made.holder, made.duration_seconds) == ("8", 1_700_000_000.5, "me", 45)
    server.on("PUT", f"{path}/chaosd-web", refuses(409, "modified"))
    with pytest.raises(ConflictError):
        await cluster.put_lease(made)
    assert server.requests[-1][3]["metadata"]["resourceVersion"] == "8"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{broken", "cannot be read"),
        ("{}", "kubeconfig"),
        ("just words", "kubeconfig"),
    ],
)
async def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        await KubernetesCluster.open(kubeconfig=path, qps=1, burst=1)


async def test_in_a_pod_the_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ApiServer
) -> None:
    monkeypatch.setattr(client, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    with pytest.raises(UsageError, match="or try --cluster sandbox"):
        await KubernetesCluster.open(qps=1, burst=1)
