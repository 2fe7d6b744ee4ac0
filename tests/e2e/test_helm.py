"""The chart on a real cluster, by the real Helm: with the rights of its own ServiceAccount, in a namespace that enforces
restricted pods."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaosd_process import chaosd
from tests.e2e.helm import CHART, Release
from tests.manifests import Document
from tests.real import RealCluster, is_ready

DOWN = [{"kind": "scale", "to": 0}]
MIXED = [{"kind": "pod-delete"}, {"kind": "scale"}]
# kube-score would have them otherwise, for reasons that are not ours: a limit of CPU slows the reading of a probe's replies
# down to timeouts, and which image is pulled when is said by its tag or digest.
UNASKED = ("--ignore-container-cpu-limit", "--ignore-test=container-image-pull-policy")


@pytest.mark.timeout(1200)  # ten waits for pods one after the other
def test_installed_tested_upgraded_rolled_back_and_uninstalled(
    release: Release, values: Callable[..., Document], real: RealCluster, web: str
) -> None:
    told = release.install(values(MIXED), "--wait", "--timeout=400s")
    assert f"helm test soak --namespace {release.namespace}" in told
    assert "Phase:          Succeeded" in release("test", "soak", "--logs", "--timeout=300s").replace("\t", " ")
    _until(lambda: _rounds(release) >= 2, "two rounds")
    [run] = release.runs()
    first, claim = release.pod, _claim(release, real)

    release.install(values(MIXED, terminationGracePeriodSeconds=91), "--wait", "--timeout=400s")
    second = release.pod
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    _until(lambda: release.runs() == [run], "the same run goes on")

    release("rollback", "soak", "1", "--wait", "--timeout=400s")
    assert release.pod["spec"]["terminationGracePeriodSeconds"] == first["spec"]["terminationGracePeriodSeconds"]
    _until(lambda: release.runs() == [run], "the same run goes on")

    third = release.pod
    release.install(values(DOWN), "--wait", "--timeout=400s")
    _until(lambda: len(release.runs()) == 2, "a new run of the changed experiment")
    assert release.pod["metadata"]["uid"] == third["metadata"]["uid"]
    _intact(release)

    _until(lambda: _replicas(real, web) == 0, "the target is scaled down")
    release("uninstall", "soak", "--timeout=300s")
    assert _replicas(real, web) == 2
    real.wait_ready(web, "web")
    [lease] = real.get("leases", f"--namespace={web}")["items"]  # of a run that may go on: the ledger is kept, too
    assert not lease["spec"].get("holderIdentity")
    assert not lease["metadata"].get("annotations", {}).get("chaosd.io/undo")
    assert _claim(release, real) == claim
    _until(lambda: _left(release, real) == ["soak-chaosd-test"], "nothing is left but what told of the test")
    everywhere = real.get("clusterrole,clusterrolebinding,role,rolebinding", "--all-namespaces", _of(release))["items"]
    assert everywhere == []

    release.install(values(MIXED), "--wait", "--timeout=400s")
    assert _claim(release, real) == claim


def test_a_daemon_whose_pod_is_deleted_in_mid_round_loses_nothing_and_the_next_one_goes_on(
    release: Release, values: Callable[..., Document], real: RealCluster
) -> None:
    release.install(values(MIXED), "--wait", "--timeout=400s")
    for deleted in range(3):
        _another_round(release)
        old = release.pod["metadata"]
        grace = "--grace-period=0" if deleted % 2 else "--grace-period=90"
        force = ["--force"] if deleted % 2 else []
        real.kubectl("delete", "pod", old["name"], f"--namespace={release.namespace}", grace, *force)
        _followed(release, old["uid"])
        _intact(release)
    assert len(release.runs()) == 1


def test_a_daemon_whose_ledgers_disk_is_full_is_not_ready_and_disturbs_nothing_until_there_is_room(
    release: Release, values: Callable[..., Document], real: RealCluster, testbed: Any, web: str
) -> None:
    release.install(values(MIXED), "--wait", "--timeout=400s")
    _until(lambda: _rounds(release) >= 2, "two rounds")
    disk = real.handle(release.namespace, release.full_name)
    testbed.disks.fill(disk)
    try:
        _until(lambda: any("disk is full; make room" in line["event"] for line in release.logged()), "the fault is logged")
        _until(lambda: not is_ready(release.pod), "the daemon is not ready")
        _until(lambda: _is_whole(real, web), "it is healed")
        found, restarts = _uids(real, web), release.pod["status"]["containerStatuses"][0]["restartCount"]
        time.sleep(15)
        assert _uids(real, web) == found
        assert not is_ready(release.pod)
    finally:
        testbed.disks.unfill(disk)
    _until(lambda: is_ready(release.pod), "the daemon is ready")
    _another_round(release)
    _another_round(release)
    _intact(release)
    assert len(release.runs()) == 1
    assert release.pod["status"]["containerStatuses"][0]["restartCount"] == restarts


def test_the_demo_shows_something_at_once(
    real: RealCluster, tools: Path, tmp_path: Path, real_namespace: str, chaosd_image: str
) -> None:
    repository, _, tag = chaosd_image.rpartition(":")
    release = Release(tools / "helm", real, "demo", real_namespace, tmp_path)
    demo = {"enabled": True, "image": real.image, "storageClass": real.storage_class, "size": "1Gi"}
    told = release.install(
        {"image": {"repository": repository, "tag": tag}, "demo": demo, "daemon": {"drill": "never"}},
        "--wait",
        "--timeout=400s",
    )
    assert "proves nothing" in told
    release("test", "demo", "--timeout=300s")
    _until(lambda: _rounds(release) >= 1, "a round")
    release("uninstall", "demo", "--timeout=300s")


def test_a_second_release_leaves_a_target_alone_that_the_first_one_tests(
    release: Release, values: Callable[..., Document], real: RealCluster, tools: Path, tmp_path: Path
) -> None:
    release.install(values(MIXED), "--wait", "--timeout=400s")
    second = Release(tools / "helm", real, "other", release.namespace, tmp_path)
    second.install(values(MIXED))
    try:
        _until(lambda: any("is being tested by" in line["event"] for line in second.logged()), "the refusal is logged")
        _another_round(release)  # the first one goes on
        _until(lambda: second.measured("chaosd_targets") == {"": 0.0}, "the second one tests nothing")
    finally:
        second("uninstall", "other", "--timeout=300s")  # what the first one holds is left to that


def test_values_that_cannot_be_meant_are_refused_before_anything_is_made(release: Release, real: RealCluster) -> None:
    for wrong in ({"replicas": 2}, {"replica": 1}, {"daemon": {"leaseSeconds": "long"}}):
        with pytest.raises(RuntimeError, match="values don't meet the specifications of the schema"):
            release.install(wrong)
    with pytest.raises(RuntimeError, match="ServiceMonitor"):  # their definitions are not there
        release.install({"metrics": {"serviceMonitor": {"enabled": True}}})
    assert real.get("deployments", f"--namespace={release.namespace}")["items"] == []


def test_each_rule_less_and_preflight_says_so_by_name(
    release: Release, values: Callable[..., Document], real: RealCluster, testbed: Any, tmp_path: Path, web: str
) -> None:
    given = values([{"kind": "pod-evict"}, {"kind": "scale"}], replicas=0)
    release.install(given)
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump({"name": "soak", **given["experiments"]["soak"]}))
    kubeconfig = testbed.service_account_kubeconfig(release.full_name, release.namespace)
    _until(lambda: not _checks(path, kubeconfig, tmp_path), "all rights are in force")
    granted = [
        role
        for role in real.get("clusterrole,role", "--all-namespaces", _of(release))["items"]
        if role["metadata"]["name"] == f"{release.namespace}-{release.full_name}"  # others have releases of that name, too
    ]
    assert {role["metadata"].get("namespace", "") for role in granted} == {"", "kube-node-lease", web}
    for role in granted:
        for number in range(len(role["rules"])):
            less = copy.deepcopy(role)
            rule = less["rules"].pop(number)
            real.apply(_applicable(less))
            wished = rule["resources"][0] in ("events", "namespaces", "nodes", "volumeattachments")
            wished |= role["metadata"].get("namespace") == "kube-node-lease"
            _missed(path, kubeconfig, tmp_path, "wishes" if wished else "rights", rule)
        real.apply(_applicable(role))
    _until(lambda: not _checks(path, kubeconfig, tmp_path), "all rights are in force again")


def test_what_nobody_granted_the_api_server_refuses(
    release: Release, values: Callable[..., Document], real: RealCluster, testbed: Any, web: str
) -> None:
    kinds = ("pod-delete", "pod-evict", "scale", "scale-flap", "rollout-restart", "reschedule", "node-drain")
    release.install(values([{"kind": kind} for kind in kinds], replicas=0))
    real.kubectl("create", "secret", "generic", "precious", f"--namespace={web}", "--from-literal=a=b")
    real.kubectl("create", "configmap", "precious", f"--namespace={release.namespace}", "--from-literal=a=b")
    kubeconfig = testbed.service_account_kubeconfig(release.full_name, release.namespace)
    claims = {one["metadata"]["uid"] for one in real.get("pvc", f"--namespace={web}")["items"]}
    volume = real.get("pvc", "disk-ssd-web-0", f"--namespace={web}")["spec"]["volumeName"]
    own, target = f"--namespace={release.namespace}", f"--namespace={web}"
    attempts = (
        ("delete", "pvc", "disk-ssd-web-0", target),
        ("patch", "pvc", "disk-ssd-web-0", target, "--patch={}"),
        ("delete", "pv", volume),
        ("delete", "statefulset", "web", target),
        ("patch", "statefulset/web", "--namespace=kube-system", "--patch={}"),
        ("get", "secret", "precious", target),
        ("get", "secrets", own),
        ("create", "secret", "generic", "another", target),
        ("delete", "configmap", "precious", own),
        ("delete", "pods", "--all", own),
        ("delete", "pods", "--all", "--namespace=kube-system"),
        ("get", "pods", "--namespace=kube-system"),
        ("delete", "node", "node-1"),
        ("delete", "namespace", web),
        ("patch", "role", f"{release.namespace}-{release.full_name}", target, "--patch={}"),
        ("create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=me"),
        ("run", "mine", target, "--image=none"),
        ("get", "pods", target, "--as=system:admin"),
        ("create", "token", "default", target),
    )
    for attempt in attempts:
        done = subprocess.run(
            [real.kubectl_words[0], f"--kubeconfig={kubeconfig}", *attempt],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, attempt
        assert "orbidden" in done.stderr, (attempt, done.stderr)
    for verb, resource, where in (
        ("delete", "persistentvolumeclaims", target),
        ("deletecollection", "pods", target),
        ("delete", "persistentvolumes", own),
        ("*", "secrets", target),
        ("delete", "pods", own),
        ("create", "pods/exec", own),
        ("escalate", "roles.rbac.authorization.k8s.io", target),
    ):
        asked = subprocess.run(
            [*real.kubectl_words, "auth", "can-i", verb, resource, where, f"--as={release.account}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (asked.returncode, asked.stdout.strip()) == (1, "no"), (verb, resource, where)
    assert {one["metadata"]["uid"] for one in real.get("pvc", target)["items"]} == claims


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "monitored"])
def test_kube_score_has_nothing_against_it(tools: Path, name: str, tmp_path: Path) -> None:
    soak = {"target": {"namespace": "shop", "statefulset": "web"}, "disruptions": MIXED}
    sets: dict[str, Document] = {
        "sqlite": {"experiments": {"soak": soak}},
        "postgresql": {"replicas": 2, "ledger": {"postgresql": {"existingSecret": "db"}}},
        "monitored": {"metrics": {"serviceMonitor": {"enabled": True}, "dashboard": {"enabled": True}}},
    }
    (tmp_path / "values.json").write_text(json.dumps(sets[name]))
    rendered = subprocess.run(
        [tools / "helm", "template", "soak", CHART, f"--values={tmp_path / 'values.json'}"], capture_output=True, check=True
    )
    score = [tools / "kube-score", "score", "--output-format=ci", *UNASKED, "-"]
    scored = subprocess.run(score, input=rendered.stdout, capture_output=True, text=False, check=False)
    told = scored.stdout.decode()
    assert "[OK] soak-chaosd apps/v1/Deployment" in told
    assert "[CRITICAL]" not in told, told
    assert scored.returncode == 0, told


def _intact(release: Release) -> None:
    """A daemon that just began is ready before it has read what its run's ledger holds."""
    _until(lambda: set(release.measured("chaosd_violations_open").values()) == {0.0}, "no violation is open")


def _followed(release: Release, uid: str) -> None:
    """Wait until another pod is ready than the one with this UID."""
    _until(lambda: release.pod["metadata"]["uid"] != uid and is_ready(release.pod), "the next daemon is ready")


def _another_round(release: Release) -> None:
    """Wait until one more round has begun than now, or than when it first tells of one."""
    told: list[float] = []

    def one_more() -> bool:
        told.append(_rounds(release))
        return told[-1] > next(filter(None, told), math.inf)

    _until(one_more, "another round")


def _until(holds: Callable[[], bool], what: str, timeout_seconds: float = 300) -> None:
    """What the daemon serves may be asked for before it serves."""
    deadline, last = time.monotonic() + timeout_seconds, ""
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except (RuntimeError, ValueError) as error:  # there is no pod yet, or there are two
            last = str(error)
        time.sleep(0.5)
    raise AssertionError(f"in vain for {timeout_seconds} s: {what} {last}")


def _of(release: Release) -> str:
    """Everything of the release, and of no other in another namespace, since nobody else has one of its name."""
    return f"--selector=app.kubernetes.io/instance={release.name}"


def _rounds(release: Release) -> float:
    return max(release.measured("chaosd_round").values(), default=0)


def _uids(real: RealCluster, namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in real.get("pods", f"--namespace={namespace}")["items"]}


def _claim(release: Release, real: RealCluster) -> str:
    return str(real.get("pvc", release.full_name, f"--namespace={release.namespace}")["metadata"]["uid"])


def _is_whole(real: RealCluster, namespace: str) -> bool:
    """Whether both replicas are wanted and Ready, and none is going."""
    pods = real.get("pods", f"--namespace={namespace}")["items"]
    stand = [pod for pod in pods if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]
    return _replicas(real, namespace) == len(stand) == len(pods) == 2


def _left(release: Release, real: RealCluster) -> list[str]:
    """What of the release is in its namespace."""
    kinds = "all,configmap,serviceaccount,role,rolebinding,networkpolicy"
    found = (one["metadata"]["name"] for one in real.get(kinds, f"--namespace={release.namespace}")["items"])
    return [name for name in found if name.startswith("soak")]


def _replicas(real: RealCluster, namespace: str) -> int:
    return int(real.get("statefulset", "web", f"--namespace={namespace}")["spec"]["replicas"])


def _applicable(role: Document) -> Document:
    """Without what only the server writes."""
    kept = {key: value for key, value in role["metadata"].items() if key in ("name", "namespace", "labels", "annotations")}
    return {**role, "metadata": kept}


def _missed(experiment: Path, kubeconfig: Path, folder: Path, check: str, rule: Document) -> None:
    """Wait until the lack of a rule is in force, and this check tells of it."""
    _until(lambda: check in _checks(experiment, kubeconfig, folder), f"{check} without {rule}")


def _checks(experiment: Path, kubeconfig: Path, folder: Path) -> set[str]:
    """Those of `preflight` about rights that are not well."""
    done = chaosd("preflight", experiment, "--kubeconfig", kubeconfig, "--out", folder / "out", "--json")
    checks = json.loads("".join(done.stdout))["checks"]
    assert checks, done.told
    return {check["name"] for check in checks if check["status"] != "ok"} & {"rights", "wishes"}
