"""What is told of clocks, and of room on volumes, by an API server and by kubelets."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import Room
from chaosd.errors import ForbiddenError, NotFoundError, UnreachableError
from tests.cluster.kubernetes.api_server import ApiServer, refuses, says

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"
SUMMARY = "/api/v1/nodes/node-1/proxy/stats/summary"


def _dated(date: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"gitVersion": "v1.37.2"}, headers={"Date": date})

    return answer


async def test_the_servers_clock_is_the_date_of_its_answer(cluster: KubernetesCluster, server: ApiServer) -> None:
    server.on("GET", "/version", _dated("Thu, 26 Nov 2026 00:21:40 GMT"), _dated("soon"))
    assert await cluster.clock() == 1_795_652_500
    with pytest.raises(UnreachableError, match="Date 'soon'"):
        await cluster.clock()


def _lease(renewed: str | None, *stored: str) -> dict[str, Any]:
    fields = [{"manager": "kubelet", "time": time} for time in stored]
    spec = {"renewTime": renewed} if renewed else {}
    return {"metadata": {"name": "node-1", "namespace": "kube-node-lease", "managedFields": fields}, "spec": spec}


@pytest.mark.parametrize(
    ("renewed", "ahead"),
    [
        ("2026-11-26T00:21:40.900000Z", 0.0),  # within the second that the server cut off
        ("2026-11-26T00:21:43.500000Z", 2.5),
        ("2026-11-26T00:21:35.000000Z", -5.0),
    ],
)
async def test_a_nodes_clock_is_told_by_the_lease_that_its_kubelet_renews(
    cluster: KubernetesCluster, server: ApiServer, renewed: str, ahead: float
) -> None:
    server.on("GET", LEASE, says(_lease(renewed, "2026-11-25T00:00:00Z", "2026-11-26T00:21:40Z")))
    assert await cluster.node_clock("node-1") == pytest.approx(ahead)


@pytest.mark.parametrize("lease", [_lease(None, "2026-11-26T00:21:40Z"), _lease("2026-11-26T00:21:40.000000Z")])
async def test_a_lease_that_does_not_tell_it(cluster: KubernetesCluster, server: ApiServer, lease: dict[str, Any]) -> None:
    server.on("GET", LEASE, says(lease))
    with pytest.raises(NotFoundError, match="does not tell when it was renewed"):
        await cluster.node_clock("node-1")


async def test_room_is_told_by_claim(cluster: KubernetesCluster, server: ApiServer) -> None:
    volumes = [
        {"name": "token", "availableBytes": 1},
        {
            "name": "disk",
            "pvcRef": {"namespace": "shop", "name": "disk-db-0"},
            "availableBytes": 5,
            "inodes": 9,
            "inodesFree": 7,
        },
        {"name": "btrfs", "pvcRef": {"namespace": "shop", "name": "disk-db-1"}, "availableBytes": 6, "inodes": 0},
        {"name": "new", "pvcRef": {"namespace": "shop", "name": "disk-db-2"}},
    ]
    summary = {"pods": [{"podRef": {"name": "db-0"}, "volume": volumes}, {"podRef": {"name": "other"}}]}
    server.on("GET", SUMMARY, says(summary), refuses(403, "no"))
    assert await cluster.volume_room("node-1") == {"shop/disk-db-0": Room(5, 7), "shop/disk-db-1": Room(6, None)}
    with pytest.raises(ForbiddenError):
        await cluster.volume_room("node-1")
