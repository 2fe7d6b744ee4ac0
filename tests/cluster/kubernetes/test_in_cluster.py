"""Credentials of a pod: a service account's token that is rotated while chaosd runs."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

from chaosd.cluster.kubernetes import KubernetesCluster
from chaosd.cluster.port import Pod
from chaosd.errors import UnreachableError
from tests.cluster.kubernetes.api_server import Answer, ApiServer, pod

WEB_0 = "/api/v1/namespaces/default/pods/web-0"


class Rotating:
    """What the kubelet does to the token's file, and the minute after which the client looks at it again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "token"
        self.file.write_text("first")
        certificate = folder / "ca.crt"
        certificate.write_text("-----BEGIN CERTIFICATE-----")
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
        self._loader = InClusterConfigLoader(str(self.file), str(certificate), environ=environment)
        self.configuration = Configuration()
        self._loader.load_and_set(self.configuration)

    def rotate(self, token: str) -> None:
        self.file.write_text(token)
        self._loader.token_expires_at = datetime.datetime.min  # noqa: DTZ901 - as the client keeps it


async def test_a_token_that_is_rotated_is_read_again_and_one_that_is_not_there_is_waited_for(
    cluster: KubernetesCluster, server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def authorized(request: web.Request) -> Answer:
        told.append(request.headers["authorization"])
        return pod("web-0")

    server.on("GET", WEB_0, authorized)
    rotating, host = Rotating(tmp_path), cluster._client._configuration.host
    monkeypatch.setattr(cluster._client, "_configuration", rotating.configuration)
    monkeypatch.setattr(InClusterConfigLoader, "host", property(lambda _: host, lambda *_: None), raising=False)
    await cluster.get(Pod, "default", "web-0")
    rotating.rotate("second")
    await cluster.get(Pod, "default", "web-0")
    rotating.rotate("")
    with pytest.raises(UnreachableError, match="Token file exists but empty"):
        await cluster.get(Pod, "default", "web-0")
    rotating.rotate("third")
    await cluster.get(Pod, "default", "web-0")
    assert told == ["bearer first", "bearer second", "bearer third"]
