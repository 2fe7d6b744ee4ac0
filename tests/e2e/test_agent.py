"""The agent: targets without a shell are tested by a container that mounts their volume beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.conformance.conftest import agent_image
from tests.manifests import Document
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]


@pytest.fixture
def bare(real: RealCluster, real_namespace: str) -> Callable[..., str]:
    """Starts a StatefulSet of two replicas whose container has no shell; returns its namespace."""

    def started(*, container: Document | None = None, **options: Any) -> str:
        common = {"namespace": real_namespace, "image": real.bare_image, "storage_class": real.storage_class}
        document = manifests.statefulset(**common, **options)
        document["spec"]["template"]["spec"]["containers"][0] |= container or {}
        real.apply(document)
        real.wait_ready(real_namespace, "web")
        return real_namespace

    return started


def _agents(real: RealCluster, namespace: str) -> dict[str, list[str]]:
    """Names of the ephemeral containers of each pod."""
    pods = real.get("pods", f"--namespace={namespace}")["items"]
    return {p["metadata"]["name"]: [c["name"] for c in p["spec"].get("ephemeralContainers", ())] for p in pods}


def _refusal(done: Chaosd) -> str:
    """The one line of a refusal."""
    assert done.code == 2, done.told
    (line,) = [line for line in done.stderr if line.startswith("chaosd: ")]
    return line


def _passed_cold(done: Chaosd) -> None:
    assert done.code == 0, done.told
    assert (done.verdict["violations"], done.verdict["unknown"]) == ([], [])
    coverage = done.verdict["coverage"]
    assert coverage["records_verified_cold"] >= coverage["files_acknowledged"] > 0
    assert coverage["records_verified_cached"] == 0


def test_without_an_image_for_the_agent_a_target_without_a_shell_is_refused_with_the_mend(
    bare: Callable[..., str], run: Run, experiment: Write, real: RealCluster
) -> None:
    namespace = bare()
    refusal = _refusal(run("run", experiment(), "-n", namespace))
    assert "name a container with a POSIX shell" in refusal
    assert "set target.probeImage to an image with python3" in refusal
    assert _agents(real, namespace) == {"web-0": [], "web-1": []}


def test_with_an_image_a_target_without_a_shell_passes_and_is_read_cold(
    bare: Callable[..., str], run: Run, experiment: Write, real: RealCluster
) -> None:
    namespace = bare()
    path = experiment(target={"probeImage": agent_image()}, rounds=2)
    _passed_cold(run("run", path, "-n", namespace, "--seed", "7"))
    before = _agents(real, namespace)
    assert {pod: len(names) for pod, names in before.items()} == {"web-0": 1, "web-1": 1}
    verified = run("verify")
    assert verified.code == 0, verified.told
    assert _agents(real, namespace) == before, "a later run uses the containers that are there"


def test_a_target_with_a_shell_may_be_probed_by_the_agent(web: str, run: Run, experiment: Write, real: RealCluster) -> None:
    path = experiment(target={"probe": "agent", "probeImage": agent_image()}, rounds=2)
    _passed_cold(run("run", path, "-n", web, "--seed", "7"))
    assert {pod: len(names) for pod, names in _agents(real, web).items()} == {"web-0": 1, "web-1": 1}


def test_an_agent_does_not_hold_up_the_deletion_of_its_pod(
    bare: Callable[..., str], run: Run, experiment: Write, real: RealCluster
) -> None:
    namespace = bare(pod={"terminationGracePeriodSeconds": 300})
    path = experiment(target={"probeImage": agent_image()}, rounds=1, disruptions=[{"kind": "pod-delete"}])
    _passed_cold(run("run", path, "-n", namespace))
    assert all(_agents(real, namespace).values())
    began = time.monotonic()
    real.kubectl("delete", "pod", "web-0", f"--namespace={namespace}", "--wait")
    assert time.monotonic() - began < 200, "the grace period is 300 s"


@pytest.fixture
def restricted(real: RealCluster, real_namespace: str) -> Iterator[Callable[[], None]]:
    """Has Pod Security allow only what is restricted, from then on."""
    label = "pod-security.kubernetes.io/enforce"
    yield lambda: real.kubectl("label", "namespace", real_namespace, f"{label}=restricted")
    real.kubectl("label", "namespace", real_namespace, f"{label}-")


def test_the_agent_has_the_user_and_the_limits_of_the_container_beside_it(
    bare: Callable[..., str], run: Run, experiment: Write, restricted: Callable[[], None]
) -> None:
    restricted()
    limits = {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    namespace = bare(container={"securityContext": limits}, pod={"securityContext": {"fsGroup": 2000}})
    _passed_cold(run("run", experiment(target={"probeImage": agent_image()}, rounds=1), "-n", namespace))


def test_an_agent_that_pod_security_does_not_allow_is_refused_with_what_it_said(
    bare: Callable[..., str], run: Run, experiment: Write, restricted: Callable[[], None], real: RealCluster
) -> None:
    namespace = bare()
    restricted()
    refusal = _refusal(run("run", experiment(target={"probeImage": agent_image()}), "-n", namespace))
    assert "cannot have an agent" in refusal
    assert "violates PodSecurity" in refusal
    assert _agents(real, namespace) == {"web-0": [], "web-1": []}


def test_a_part_of_a_volume_cannot_be_mounted_by_the_agent(
    bare: Callable[..., str], run: Run, experiment: Write, real: RealCluster
) -> None:
    part = {"name": "disk", "mountPath": "/data", "subPath": "part"}
    namespace = bare(container={"volumeMounts": [part]})
    refusal = _refusal(run("run", experiment(target={"probeImage": agent_image()}), "-n", namespace))
    assert "/data is the subPath part of its volume, which an ephemeral container cannot mount" in refusal
    assert _agents(real, namespace) == {"web-0": [], "web-1": []}


def test_an_image_without_python_is_refused_and_tried_once(
    bare: Callable[..., str], run: Run, experiment: Write, real: RealCluster
) -> None:
    namespace = bare()
    path = experiment(target={"probeImage": real.image})
    for _ in range(2):
        refusal = _refusal(run("run", path, "-n", namespace))
        assert f"image {real.image} cannot run the agent, its container says" in refusal
    assert {pod: len(names) for pod, names in _agents(real, namespace).items()} == {"web-0": 1, "web-1": 0}
