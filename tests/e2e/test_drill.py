"""The drill on a real Kubernetes: every fault that the probe can plant is found, and nothing is left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from chaosd.checkers.verdict import Class
from chaosd.drill.plants import PLANTS
from tests.chaosd_process import Chaosd, chaosd
from tests.real import RealCluster


@pytest.fixture
def args(real: RealCluster) -> list[str | Path]:
    """A drill on this cluster."""
    options: list[str | Path] = ["--kubeconfig", real.path, "--image", real.image, "--storage-class", real.storage_class]
    return ["drill", "--cluster", "kubernetes", *options]


def _namespace(process: Chaosd) -> str:
    return process.until_line(lambda line: " namespace " in line).split()[-1]


def test_every_fault_is_found_under_its_own_name_and_nothing_is_left(real: RealCluster, args: list[str | Path]) -> None:
    with Chaosd(*args) as process:
        namespace = _namespace(process)
        assert process.wait() == 0, process.told
    print(process.told)
    table = [line.split() for line in process.stdout]
    assert {str(failure) for failure in Class} <= {row[0] for row in table if row}
    faults = sum(1 for plant in PLANTS if plant.found_as)
    assert f"{faults} of {faults} planted faults were found under their own name\n" in process.stdout
    assert "2 of 2 healthy runs raised nothing\n" in process.stdout
    real.until_gone(namespace)


def test_a_drill_that_is_ended_deletes_its_namespace(real: RealCluster, args: list[str | Path]) -> None:
    with Chaosd(*args, "--class", "lost") as process:
        namespace = _namespace(process)
        process.until_line(lambda line: " 1 of " in line)
        began = time.monotonic()
        process.send(signal.SIGINT)
        assert process.wait() == 4, process.told
    assert time.monotonic() - began < 60
    assert process.stderr[-1] == "chaosd: ended by SIGINT\n"
    real.until_gone(namespace)


def test_an_image_without_a_shell_is_told_and_nothing_is_left(real: RealCluster, args: list[str | Path]) -> None:
    with Chaosd(*args, "--image", real.bare_image) as process:
        namespace = _namespace(process)
        assert process.wait() == 3, process.told
    assert "name another --image" in process.stderr[-1]
    real.until_gone(namespace)


@pytest.mark.alone  # no other drill makes a namespace meanwhile
def test_without_rights_nothing_is_made_and_they_are_named(real: RealCluster, args: list[str | Path], nobody: Path) -> None:
    before = {n["metadata"]["name"] for n in real.get("namespaces")["items"]}
    done = chaosd(*args, "--kubeconfig", nobody)
    assert done.code == 2, done.told
    assert "create, delete on namespaces" in done.stderr[-1]
    after = {n["metadata"]["name"] for n in real.get("namespaces")["items"]}
    assert not [name for name in after - before if name.startswith("chaosd-drill-")]
