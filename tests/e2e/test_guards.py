"""Guards, and foreign hands, on a real Kubernetes: nothing is disturbed that must not be, and nobody is accused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]


def test_what_guards_refuse_is_not_done(web: str, run: Run, experiment: Write, real: RealCluster) -> None:
    """An autoscaler owns the count; a rollout waits for pods to be deleted; and no more may be unavailable than one."""
    autoscaler = manifests.autoscaler(namespace=web)
    autoscaler["spec"] |= {"minReplicas": 2, "maxReplicas": 2}  # the real one acts
    real.apply(autoscaler)
    before = real.get("pods", f"--namespace={web}")["items"]
    steps = [
        {"name": "scale", "write": 2, "disrupt": {"kind": "scale-flap", "to": 0}},
        {"name": "all", "write": 2, "disrupt": {"kind": "pod-delete", "count": "all"}, "verify": True},
    ]
    done = run("run", experiment(rounds=None, disruptions=[], steps=steps, guards={"maxUnavailable": "50%"}), "-n", web)
    assert done.verdict["coverage"]["disruptions_blocked"] == {"autoscaler": 1, "unavailable": 1}, done.told
    assert (done.code, done.verdict["violations"]) == (3, [])
    on_delete = {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}
    patch = {"spec": {**on_delete, "template": {"metadata": {"labels": {"version": "2"}}}}}
    real.kubectl("patch", "statefulset", "web", f"--namespace={web}", f"--patch={json.dumps(patch)}")
    done = run("run", experiment(rounds=1, disruptions=[{"kind": "pod-delete"}]), "-n", web)
    assert done.verdict["coverage"]["disruptions_blocked"] == {"rollout": 1}, done.told
    after = real.get("pods", f"--namespace={web}")["items"]
    assert [pod["metadata"]["uid"] for pod in after] == [pod["metadata"]["uid"] for pod in before]


def test_more_replicas_than_a_quota_allows_are_told_and_taken_back(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": web}}
    real.apply({**quota, "spec": {"hard": {"persistentvolumeclaims": "2"}}})
    in_force = "--for=jsonpath={.status.hard.persistentvolumeclaims}=2"
    real.kubectl("wait", "quota/few", f"--namespace={web}", in_force, "--timeout=180s")
    steps = [{"name": "write", "write": 2}, {"name": "up", "disrupt": {"kind": "scale", "to": 3}, "verify": True}]
    timeouts = {"disrupt": "15s", "converge": "15s", "probe": "15s", "read": "15s"}
    done = run("run", experiment(rounds=None, disruptions=[], steps=steps, timeouts=timeouts), "-n", web)
    assert done.code == 3, done.told
    assert done.verdict["violations"] == [], done.told
    assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2


def test_what_goes_with_its_namespace_is_no_fault(web: str, start: Run, experiment: Write, real: RealCluster) -> None:
    with start("run", experiment(rounds=50, disruptions=[{"kind": "pod-delete"}]), "-n", web) as process:
        process.until_line(lambda line: "round 2 of" in line)
        real.remove_namespaces([web])
        process.wait()
    assert process.verdict["violations"] == [], process.told
    assert process.code in (3, 4), process.told
    assert "being deleted" in process.told
