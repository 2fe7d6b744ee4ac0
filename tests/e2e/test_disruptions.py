"""Every disruption on a real Kubernetes of two nodes: it happens, nobody is accused, and the target is left as it was."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaosd.cluster.port import OWN_LABEL
from tests import manifests
from tests.chaosd_process import Chaosd
from tests.manifests import Document
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]

DISRUPTIONS: tuple[Mapping[str, Any], ...] = (
    {"kind": "pod-delete", "when": "writing", "pick": "round-robin"},
    {"kind": "pod-delete", "when": "mounting", "pick": "highest"},
    {"kind": "pod-delete", "when": "another-starting", "pick": "lowest"},
    {"kind": "pod-delete", "grace": 0, "count": "all"},
    {"kind": "pod-evict", "count": "all"},
    {"kind": "container-kill"},
    {"kind": "scale-flap", "to": 1, "times": 2},
    {"kind": "rollout-restart"},
    {"kind": "node-drain"},
    {"kind": "reschedule"},
    {"kind": "recreate", "deletion": "orphan", "mayDelete": True},
    {"kind": "recreate", "deletion": "foreground", "mayDelete": True},
    {
        "kind": "together",
        "disruptions": [{"kind": "pod-delete", "pick": "lowest"}, {"kind": "container-kill", "pick": "highest"}],
    },
)


def _steps(*disruptions: Mapping[str, Any]) -> list[Document]:
    return [{"name": f"{n} {d['kind']}", "write": 5, "disrupt": dict(d), "verify": True} for n, d in enumerate(disruptions)]


def _left(real: RealCluster, namespace: str) -> dict[str, Any]:
    """What a disruption might have left."""
    nodes = real.get("nodes")["items"]
    configs = [config["metadata"]["name"] for config in real.get("configmaps", f"--namespace={namespace}")["items"]]
    return {
        "replicas": real.get("statefulset", "web", f"--namespace={namespace}")["spec"]["replicas"],
        "cordoned": [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")],
        "marked": [node["metadata"]["name"] for node in nodes if "chaosd.io" in str(node["metadata"].get("annotations"))],
        "configs": [name for name in configs if name.startswith("chaosd")],
    }


CORDONS = pytest.param({"kind": "node-drain"}, marks=pytest.mark.alone)
AS_FOUND = {"replicas": 2, "cordoned": [], "marked": [], "configs": []}


@pytest.mark.alone
def test_every_disruption_happens_and_the_target_is_left_as_it_was(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    script = experiment(rounds=None, disruptions=[], steps=_steps(*DISRUPTIONS))
    done = run("run", script, "-n", web)
    assert done.code == 0, done.told
    coverage = done.verdict["coverage"]
    assert (sum(coverage["disruptions"].values()), coverage["disruptions_not_done"]) == (len(DISRUPTIONS), {}), done.told
    assert set(coverage["disruptions"]) == {str(one["kind"]) for one in DISRUPTIONS}
    assert _left(real, web) == AS_FOUND


def test_a_first_process_that_handles_no_signal_is_killed_from_its_node(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    kill = {"kind": "container-kill", "signal": "KILL", "ordinals": [0]}
    refused = run("run", experiment(rounds=None, disruptions=[], steps=_steps(kill)), "-n", web)
    assert "gets no SIGKILL from inside it" in refused.told
    kill |= {"hostHelper": {"image": real.image}}
    done = run("run", experiment(rounds=None, disruptions=[], steps=_steps(kill)), "-n", web)
    assert done.code == 0, done.told
    assert done.verdict["coverage"]["disruptions"] == {"container-kill": 1}
    (container,) = real.get("pod", "web-0", f"--namespace={web}")["status"]["containerStatuses"]
    assert (container["restartCount"], container["lastState"]["terminated"]["exitCode"]) == (1, 137)
    pods = real.get("pods", f"--namespace={web}")["items"]
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["web-0", "web-1"]


def test_the_csi_plugins_pod_on_the_replicas_node_is_replaced(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    real.apply(_plugin(web, real.image))
    real.kubectl("rollout", "status", "daemonset/plugin", f"--namespace={web}", "--timeout=300s")
    before = _plugins(real, web)
    node = real.get("pod", "web-1", f"--namespace={web}")["spec"]["nodeName"]
    restart = {"kind": "csi-restart", "namespace": web, "selector": {"app": "plugin"}, "ordinal": 1}
    done = run("run", experiment(rounds=None, disruptions=[], steps=_steps(restart)), "-n", web)
    assert done.code == 0, done.told
    after = _plugins(real, web)
    assert [name for name in after if after[name] != before[name]] == [node]


def test_a_volume_grows_under_its_writers(
    real_namespace: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    target = manifests.statefulset(
        namespace=real_namespace, image=real.image, storage_class=testbed.xfs_storage_class, pod_management="Parallel"
    )
    target["metadata"]["labels"][OWN_LABEL] = "true"
    real.apply(target)
    real.wait_ready(real_namespace, "web")
    expand = {"kind": "volume-expand", "by": "1Gi", "ordinal": 1}
    done = run("run", experiment(rounds=2, disruptions=[expand]), "-n", real_namespace)
    assert done.code == 0, done.told
    assert done.verdict["coverage"]["disruptions"] == {"volume-expand": 2}
    claims = real.get("pvc", f"--namespace={real_namespace}")["items"]
    sizes = {claim["metadata"]["name"]: claim["status"]["capacity"]["storage"] for claim in claims}
    assert sizes == {"disk-web-0": "1Gi", "disk-web-1": "3Gi"}
    told = real.kubectl("exec", "web-1", f"--namespace={real_namespace}", "--", "stat", "-fc", "%b %S", "/data")
    blocks, block_bytes = map(int, told.split())
    assert 2.8 * (1 << 30) < blocks * block_bytes < 3 * (1 << 30)


def test_a_volume_of_a_class_that_does_not_expand_is_said(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    expand = experiment(rounds=None, disruptions=[], steps=_steps({"kind": "volume-expand", "by": "1Gi"}))
    assert "is not chaosd's own" in run("run", expand, "-n", web).told
    real.kubectl("label", "statefulset", "web", f"--namespace={web}", "chaosd.io/own=true")
    done = run("run", expand, "-n", web)
    assert done.verdict["coverage"]["disruptions_not_done"] == {"volume-expand": 1}
    assert "the pvc must support resize" in done.told


@pytest.mark.parametrize(
    "disruption",
    [{"kind": "pod-evict", "count": "all"}, CORDONS],
    ids=["pod-evict", "node-drain"],
)
def test_a_budget_holds_whatever_is_evicted(
    web: str, run: Run, experiment: Write, real: RealCluster, disruption: Document
) -> None:
    """minAvailable: N-1, watched from outside."""
    real.apply(manifests.budget(namespace=web, name="nginx", min_available=1))
    real.kubectl(
        "wait", "pdb/nginx", f"--namespace={web}", "--for=jsonpath={.status.disruptionsAllowed}=1", "--timeout=180s"
    )
    with _available(real, web) as seen:
        done = run("run", experiment(rounds=3, disruptions=[disruption]), "-n", web)
    assert done.code == 0, done.told
    assert done.verdict["coverage"]["disruptions"] == {disruption["kind"]: 3}
    assert (min(seen), max(seen)) == (1, 2)


@pytest.mark.parametrize(
    "disruption",
    [CORDONS, {"kind": "recreate", "deletion": "foreground", "mayDelete": True}, {"kind": "scale-flap"}],
    ids=["node-drain", "recreate", "scale-flap"],
)
def test_what_a_killed_chaosd_left_is_undone(
    web: str, start: Run, run: Run, experiment: Write, real: RealCluster, disruption: Document
) -> None:
    with start("run", experiment(rounds=50, disruptions=[disruption]), "-n", web) as process:
        # In the second round: of a run whose only disruption was interrupted nobody knows whether it had one.
        process.until_line(lambda _: sum(f" {disruption['kind']} " in line for line in process.stderr) >= 2)
        subprocess.run(["kill", "-9", str(process.pid)], check=True)
    undone = run("undo")
    assert undone.code == 0, undone.told
    real.wait_ready(web, "web")
    assert _left(real, web) == AS_FOUND
    assert run("verify").code == 0


def _plugin(namespace: str, image: str) -> Document:
    labels = {"app": "plugin"}
    pod = {"containers": [{"name": "plugin", "image": image, "imagePullPolicy": "IfNotPresent"}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    metadata = {"name": "plugin", "namespace": namespace}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def _plugins(real: RealCluster, namespace: str) -> dict[str, str]:
    """UIDs, by node."""
    pods = real.get("pods", f"--namespace={namespace}", "--selector=app=plugin")["items"]
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in pods}


@contextmanager
def _available(real: RealCluster, namespace: str) -> Iterator[list[int]]:
    """How many replicas were available, each time that this changed; filled when the context ends."""
    told = "{.status.availableReplicas}{'\\n'}"
    argv = [*real.kubectl_command.split(), "get", "statefulset", "web", f"--namespace={namespace}", "--watch"]
    seen: list[int] = []
    with subprocess.Popen([*argv, f"--output=jsonpath={told}"], stdout=subprocess.PIPE, text=True) as watching:
        try:
            yield seen
        finally:
            watching.terminate()
            lines, _ = watching.communicate()
            seen += [int(line or 0) for line in lines.splitlines()]
