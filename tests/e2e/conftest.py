"""The target of each test, in a namespace of its own; and the disks behind it, where the testbed has them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaosd_process import Chaosd
from tests.e2e.helm import Release, soak_values
from tests.manifests import Document
from tests.real import RealCluster

_AXE = "axe-core@4.14.1"
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the real cluster, and the time that it takes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that looks at pages as people with disabilities have them, from the registry that npm is set up for."""
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", _AXE], cwd=folder, check=True, timeout=400)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        program = packed.extractfile("package/axe.min.js")
        assert program is not None
        return program.read().decode()


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


@pytest.fixture(scope="session")
def chaosd_image(real: RealCluster) -> str:
    """The name of the image of these sources, which the cluster's nodes have."""
    if named := os.environ.get("CHAOSD_E2E_CHAOSD_IMAGE"):
        return named
    if os.environ.get("KUBECONFIG"):
        pytest.skip("CHAOSD_E2E_CHAOSD_IMAGE does not name an image of these sources that the cluster can pull")
    from testbed import chaosd_image

    return chaosd_image.give_to_nodes()


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of helm and kube-score."""
    from testbed import build
    from testbed.layout import TOOLS
    from testbed.lock import one_at_a_time

    with one_at_a_time():
        build.build_tools()
    return TOOLS


@pytest.fixture
def lab(real: RealCluster) -> Iterator[str]:
    """A namespace for the daemon, not the target's, which takes restricted pods alone."""
    name = real.make_namespace()
    real.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    real.remove_namespaces([name])


@pytest.fixture
def release(real: RealCluster, tools: Path, tmp_path: Path, lab: str) -> Iterator[Release]:
    """Not installed yet. What is left of it at the end goes, the cluster's part of it too."""
    made = Release(tools / "helm", real, "soak", lab, tmp_path)
    yield made
    if made("list", "--short").strip():
        made("uninstall", made.name, "--no-hooks")


@pytest.fixture
def values(chaosd_image: str, web: str, testbed: Any) -> Callable[..., Document]:
    """Values for a soak of the example target, with the ledger on storage that is not tested."""

    def made(disruptions: list[Document], **over: Any) -> Document:
        return {**soak_values(chaosd_image, web, testbed.power_storage_class, disruptions), **over}

    return made
