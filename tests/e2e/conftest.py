"""The target of each test, in a namespace of its own; and the disks behind it, where the testbed has them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaosd_process import Chaosd
from tests.manifests import Document
from tests.real import RealCluster

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the real cluster, and the time that it takes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def web(real: RealCluster, real_namespace: str) -> str:
    """The namespace in which the example target is ready."""
    real.start_web(real_namespace)
    return real_namespace


@pytest.fixture
def start(real: RealCluster, tmp_path: Path) -> Callable[..., Chaosd]:
    """Starts chaosd on the real cluster; `--out` is the test's own folder."""

    def started(command: str, *args: str | Path, env: dict[str, str] | None = None) -> Chaosd:
        return Chaosd(command, *args, "--kubeconfig", real.path, "--out", tmp_path / "out", env=env)

    return started


@pytest.fixture
def run(start: Callable[..., Chaosd]) -> Callable[..., Chaosd]:
    """Runs chaosd on the real cluster to its end."""

    def ran(command: str, *args: str | Path, env: dict[str, str] | None = None) -> Chaosd:
        with start(command, *args, env=env) as process:
            process.wait()
        return process

    return ran


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """Writes an experiment to a file: the soak, with fields replaced."""

    def written(*, target: Document | None = None, workload: Document | None = None, **over: Any) -> Path:
        document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
        document["target"] |= target or {}
        document.setdefault("workload", {}).update(workload or {})
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**document, **over}))
        return path

    return written


@pytest.fixture
def testbed(real: RealCluster) -> Any:
    """The testbed, for what no other cluster lets one do: breaking disks, stopping the API server."""
    if os.environ.get("KUBECONFIG"):
        pytest.skip("breaks disks and the control plane: needs the cluster of tests/testbed, so unset KUBECONFIG")
    from testbed.fixture import Testbed

    return Testbed.up()


@pytest.fixture
def nobody(testbed: Any) -> Iterator[Path]:
    """The kubeconfig of a user who has no rights but those that the test grants: one test at a time has it."""
    from testbed.layout import STATE

    with (STATE / "nobody.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield testbed.nobody_kubeconfig
