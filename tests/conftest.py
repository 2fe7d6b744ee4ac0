"""Fixtures of the tests that need a real cluster, shared by tests/conformance and tests/e2e."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.real import RealCluster


@pytest.fixture(scope="session")
def real() -> RealCluster:
    """The real cluster."""
    return RealCluster.of_environment() if os.environ.get("KUBECONFIG") else RealCluster.of_testbed()


@pytest.fixture
def real_namespace(real: RealCluster) -> Iterator[str]:
    """A namespace of the test's own on the real cluster."""
    name = real.make_namespace()
    yield name
    real.remove_namespaces([name])
