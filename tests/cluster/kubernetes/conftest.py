from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaosd.cluster.kubernetes import KubernetesCluster, pace
from tests.cluster.kubernetes.api_server import ApiServer, serving


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_LEAST_SECONDS", 0.001)


@pytest.fixture
def server() -> ApiServer:
    """An API server that knows nothing yet."""
    return ApiServer()


@pytest.fixture
async def cluster(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesCluster]:
    """The adapter on it."""
    async with serving(server, tmp_path) as connected:
        yield connected
