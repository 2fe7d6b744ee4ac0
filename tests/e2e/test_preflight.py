"""`preflight` and `plan` on a real cluster: what they find, with which rights, and that they leave no trace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import manifests
from tests.chaosd_process import Chaosd, chaosd
from tests.e2e.conftest import EXPERIMENTS
from tests.manifests import Document
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]
DISRUPTIONS = [{"kind": kind} for kind in ("pod-delete", "pod-evict", "scale", "rollout-restart", "node-drain")]
RBAC = {"apiVersion": "rbac.authorization.k8s.io/v1"}


@pytest.fixture
def grant(real: RealCluster, web: str, nobody: Path) -> Iterator[Callable[..., None]]:
    """Applies roles and binds them to the user who has no rights; what is outside of the test's namespace goes with it."""
    made: list[tuple[str, ...]] = []

    def granted(*roles: Document) -> None:
        for role in roles:
            name, namespace = role["metadata"]["name"], role["metadata"].get("namespace", "")
            meta = {"name": name, **({"namespace": namespace} if namespace else {})}
            if namespace != web:
                kinds = f"{role['kind']},{role['kind']}Binding".lower()
                made.append((kinds, name, *(("-n", namespace) if namespace else ())))
            subjects = [{"kind": "User", "name": "nobody", "apiGroup": "rbac.authorization.k8s.io"}]
            ref = {"kind": role["kind"], "name": name, "apiGroup": "rbac.authorization.k8s.io"}
            binding = {**RBAC, "kind": f"{role['kind']}Binding", "metadata": meta, "subjects": subjects, "roleRef": ref}
            real.apply(role, binding)

    yield granted
    for named in made:
        real.kubectl("delete", *named)


def test_a_healthy_target_is_ready_and_nothing_is_left_on_it(web: str, run: Run, real: RealCluster, tmp_path: Path) -> None:
    before = _settled(real, web)
    done = run("preflight", EXPERIMENTS / "drain.yaml", "-n", web)
    assert done.code == 0, done.told
    assert done.stdout[-1] == "preflight: ready (10 ok)\n", done.told
    assert "shell in container nginx; /data is a mount (ext4" in done.told
    assert _state(real, web) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.alone  # it may drain a node
def test_who_has_no_rights_is_told_the_roles_and_these_are_enough_to_run(
    web: str, grant: Callable[..., None], experiment: Write, real: RealCluster, tmp_path: Path, nobody: Path
) -> None:
    path = experiment(disruptions=DISRUPTIONS, rounds=3, seed=3)
    options = (path, "-n", web, "--kubeconfig", nobody, "--out", tmp_path / "out")
    before = _settled(real, web)
    refused = chaosd("preflight", *options)
    assert refused.code == 2, refused.told
    assert _state(real, web) == before
    for right in ("create on pods/exec", "create on pods/eviction", "update on statefulsets.apps/scale", "patch on nodes"):
        assert right in " ".join(refused.told.split())
    grant(*_printed(refused))
    ready = chaosd("preflight", *options, "--json")
    assert ready.code == 0, ready.told
    told = json.loads("".join(ready.stdout))
    assert {check["name"] for check in told["checks"] if check["status"] != "ok"} == set()
    assert told["roles"] == []
    done = chaosd("run", *options)
    assert done.code == 0, done.told


def test_a_right_less_than_that_and_it_is_named(
    web: str, grant: Callable[..., None], experiment: Write, tmp_path: Path, nobody: Path
) -> None:
    path = experiment(disruptions=[{"kind": "pod-evict"}])
    options = (path, "-n", web, "--kubeconfig", nobody, "--out", tmp_path / "out", "--json")
    roles = json.loads("".join(chaosd("preflight", *options).stdout))["roles"]
    role = next(role for role in roles if role["metadata"].get("namespace") == web)
    role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["pods/eviction"]]
    grant(role)
    lacking = chaosd("preflight", *options)
    assert lacking.code == 2, lacking.told
    told = json.loads("".join(lacking.stdout))
    found = {check["name"]: check for check in told["checks"] if check["name"] in ("rights", "wishes")}
    assert found["rights"]["found"] == "missing: create on pods/eviction"
    assert found["wishes"]["status"] == "warning"
    assert told["roles"][0]["rules"] == [{"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]}]


def test_a_plan_takes_no_more_than_to_look(
    web: str, grant: Callable[..., None], real: RealCluster, tmp_path: Path, nobody: Path
) -> None:
    looks = {
        "": ["pods", "persistentvolumeclaims", "persistentvolumes", "nodes", "nodes/proxy", "namespaces", "events"],
        "apps": ["statefulsets"],
        "coordination.k8s.io": ["leases"],
    }
    rules = [{"apiGroups": [g], "resources": r, "verbs": ["get", "list", "watch"]} for g, r in looks.items()]
    grant({**RBAC, "kind": "ClusterRole", "metadata": {"name": f"looker-of-{web}"}, "rules": rules})
    _await_kubelets(real, web)
    before = _settled(real, web)
    options = ("-n", web, "--kubeconfig", nobody, "--out", tmp_path / "out")
    done = chaosd("plan", EXPERIMENTS / "soak.yaml", *options, "--json")
    assert done.code == 0, done.told
    told = json.loads("".join(done.stdout))
    assert [replica["handle"] for replica in told["replicas"]] == [real.handle(web, f"disk-ssd-web-{n}") for n in range(2)]
    assert all(replica["free_bytes"] > 1 << 20 and replica["room_told_by"] == "kubelet" for replica in told["replicas"])
    assert "create on pods/exec" in told["missing_rights"]
    assert "get on pods" not in told["missing_rights"]
    assert _state(real, web) == before
    assert not (tmp_path / "out").exists()


def test_what_stands_in_the_way_is_found_on_the_real_volume(
    web: str, run: Run, experiment: Write, real: RealCluster, testbed: Any
) -> None:
    handle = real.handle(web, "disk-ssd-web-1")
    budget = manifests.budget(namespace=web, min_available=2)
    budget["spec"]["selector"] = real.get("statefulset", "web", f"--namespace={web}")["spec"]["selector"]
    real.apply(budget)
    real.kubectl("wait", "pdb/web", f"--namespace={web}", "--for=jsonpath={.status.desiredHealthy}=2", "--timeout=180s")
    path = experiment(disruptions=[{"kind": "pod-evict"}])
    ledger = f"sqlite:///{testbed.disks.mounts(handle)[0]}/ledger.db"
    testbed.disks.fill(handle)
    try:
        done = run("preflight", path, "-n", web, "--ledger", ledger, "--json")
    finally:
        testbed.disks.unfill(handle)
    assert done.code == 2, done.told
    checks = {check["name"]: check for check in json.loads("".join(done.stdout))["checks"] if check["status"] != "ok"}
    assert {name: check["status"] for name, check in checks.items()} == {
        "room": "failed",
        "budgets": "warning",
        "ledger": "warning",
    }
    assert checks["room"]["found"].startswith("web-1 has ")
    assert "the volume of web-1" in checks["ledger"]["found"]


def _printed(told: Chaosd) -> list[Document]:
    """The manifests that it printed."""
    lines = told.stdout
    return list(yaml.safe_load_all("".join(lines[lines.index("---\n") : -1])))


def _await_kubelets(real: RealCluster, namespace: str, timeout_seconds: float = 400) -> None:
    """Until they have measured the volumes of both replicas, as they do every minute."""
    ends = time.monotonic() + timeout_seconds
    wanted = {f"disk-ssd-web-{n}" for n in range(2)}
    while wanted:
        assert time.monotonic() < ends, f"no kubelet told of {wanted}"
        for node in real.get("nodes")["items"]:
            summary = json.loads(
                real.kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
            )
            volumes = (volume for pod in summary["pods"] for volume in pod.get("volume", ()))
            refs = (volume["pvcRef"] for volume in volumes if "pvcRef" in volume and "availableBytes" in volume)
            wanted -= {ref["name"] for ref in refs if ref["namespace"] == namespace}
        time.sleep(2)


def _settled(real: RealCluster, namespace: str) -> Any:
    """The state once nothing moves."""
    return real.settled(lambda: _state(real, namespace))


def _state(real: RealCluster, namespace: str) -> Any:
    """Everything that could have been touched: objects, and what lies in the volumes."""
    objects = real.get("all,pvc,lease,configmap", f"--namespace={namespace}")
    files = [real.kubectl("exec", f"--namespace={namespace}", f"web-{n}", "--", "ls", "-laR", "/data") for n in range(2)]
    return objects, files
