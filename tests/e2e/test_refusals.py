"""What cannot be tested is refused with one clear line, and left as it was."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaosd.nemesis.pod_delete import PodDelete
from chaosd.nemesis.scale import Scale
from chaosd.preflight.rights import RIGHTS
from tests import manifests
from tests.chaosd_process import Chaosd, chaosd
from tests.e2e.conftest import EXPERIMENTS
from tests.real import RealCluster

Run = Callable[..., Chaosd]
Write = Callable[..., Path]


def _line(process: Chaosd) -> str:
    """The one line of the error."""
    lines = [line for line in process.stderr if line.startswith("chaosd: ")]
    assert len(lines) == 1, process.told
    return lines[0]


def test_a_target_without_a_shell(run: Run, experiment: Write, real: RealCluster, real_namespace: str) -> None:
    real.apply(
        manifests.statefulset(namespace=real_namespace, image=real.bare_image, storage_class=real.storage_class, replicas=1)
    )
    real.wait_ready(real_namespace, "web")
    before = _pods(real, real_namespace)
    done = run("run", EXPERIMENTS / "soak.yaml", "-n", real_namespace)
    assert done.code == 2, done.told
    assert "name a container with a POSIX shell" in _line(done)
    assert _pods(real, real_namespace) == before
    assert real.get("leases", f"--namespace={real_namespace}")["items"] == []


def test_no_rights_are_named_by_verb_and_resource(web: str, tmp_path: Path, nobody: Path) -> None:
    done = chaosd(*("run", EXPERIMENTS / "soak.yaml", "-n", web, "--kubeconfig", nobody, "--out", tmp_path / "out"))
    assert done.code == 2, done.told
    assert re.search(r"\bget\b[a-z, ]* on statefulsets\.apps", _line(done))


def test_rights_that_are_lacking_are_listed_before_anything_is_touched(
    web: str, tmp_path: Path, real: RealCluster, nobody: Path
) -> None:
    real.kubectl("create", "role", "looker", f"--namespace={web}", "--verb=get,list,watch", "--resource=statefulsets.apps")
    real.kubectl("create", "rolebinding", "looker", f"--namespace={web}", "--role=looker", "--user=nobody")
    before = _pods(real, web)
    done = chaosd(*("run", EXPERIMENTS / "soak.yaml", "-n", web, "--kubeconfig", nobody, "--out", tmp_path / "out"))
    assert done.code == 2, done.told
    assert "create on pods/exec" in _line(done)
    assert "delete on pods" in _line(done)
    assert _pods(real, web) == before


def test_without_rights_on_volumes_the_bindings_are_unknown_and_nothing_is_accused(
    web: str, tmp_path: Path, real: RealCluster, nobody: Path
) -> None:
    rules = [
        {"apiGroups": [group], "resources": [f"{resource}{'/' * bool(sub)}{sub}"], "verbs": [verb]}
        for verb, (resource, group, sub) in (
            (verb, _resource(name)) for verb, name in (*RIGHTS, *PodDelete.rights, *Scale.rights)
        )
    ]
    metadata = {"name": "tester", "namespace": web}
    real.apply({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules})
    real.kubectl("create", "rolebinding", "tester", f"--namespace={web}", "--role=tester", "--user=nobody")
    options = ("-n", web, "--rounds", "1", "--kubeconfig", nobody, "--out", tmp_path / "out")
    planned = chaosd("plan", EXPERIMENTS / "soak.yaml", *options, "--json")
    assert json.loads("".join(planned.stdout))["missing_rights"] == []
    assert "list on persistentvolumes cluster-wide" in json.loads("".join(planned.stdout))["missing_wishes"]
    done = chaosd("run", EXPERIMENTS / "soak.yaml", *options)
    assert done.code == 3, done.told
    assert done.verdict["violations"] == []
    assert {u["subject"] for u in done.verdict["unknown"]} == {"volume", "attachment", "node"}


def _resource(name: str) -> tuple[str, str, str]:
    """`statefulsets.apps/scale` as resource, group and subresource."""
    resource, _, sub = name.partition("/")
    plural, _, group = resource.partition(".")
    return plural, group, sub


def test_two_runs_on_one_target(web: str, start: Run, run: Run, experiment: Write, tmp_path: Path) -> None:
    with start("run", experiment(rounds=100), "-n", web) as first:
        first.until_line(lambda line: "round 1" in line)
        second = run("run", EXPERIMENTS / "soak.yaml", "-n", web, "--ledger", f"sqlite:///{tmp_path}/second.db")
        assert second.code == 2, second.told
        assert "is being tested by" in _line(second)


def test_a_disk_that_is_read_only_or_full(web: str, run: Run, real: RealCluster, testbed: Any) -> None:
    handle = real.handle(web, "disk-ssd-web-1")
    before = _pods(real, web)
    testbed.disks.remount_read_only(handle)
    done = run("run", EXPERIMENTS / "soak.yaml", "-n", web)
    assert done.code == 3, done.told
    assert "/data cannot be written" in _line(done)
    assert "Read-only file system" in _line(done)
    testbed.disks.remount_read_write(handle)
    testbed.disks.fill(handle)
    done = run("run", EXPERIMENTS / "soak.yaml", "-n", web)
    assert done.code == 3, done.told
    assert "make room" in _line(done)
    testbed.disks.unfill(handle)
    assert _pods(real, web) == before
    assert run("run", EXPERIMENTS / "soak.yaml", "-n", web, "--rounds", "1").code == 0


def test_a_ledger_on_a_full_disk(web: str, run: Run, real: RealCluster, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        before = _pods(real, web)
        done = run("run", EXPERIMENTS / "soak.yaml", "-n", web, "--ledger", f"sqlite:///{disk}/ledger.db")
        assert done.code == 3, done.told
        assert "its disk is full; make room, or name a ledger elsewhere with --ledger" in _line(done)
        assert _pods(real, web) == before
        assert real.get("leases", f"--namespace={web}")["items"] == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_claim_that_is_pending(run: Run, experiment: Write, real: RealCluster, real_namespace: str) -> None:
    real.apply(manifests.statefulset(namespace=real_namespace, image=real.image, storage_class="none", replicas=1))
    real.kubectl("wait", "pvc/disk-web-0", f"--namespace={real_namespace}", "--for=create", "--timeout=180s")
    path = experiment(timeouts={"probe": "5s"})
    done = run("run", path, "-n", real_namespace)
    assert done.code == 3, done.told
    assert "disk-web-0" in _line(done)
    assert "Pending" in _line(done)


def test_a_container_that_is_not_root_may_write_by_its_fs_group(run: Run, real: RealCluster, real_namespace: str) -> None:
    user = {"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True, "fsGroup": 2000}}
    command = {"command": ["/sbin/catatonit", "--", "sleep", "inf"]}
    document = manifests.statefulset(
        namespace=real_namespace, image=real.image, storage_class=real.storage_class, pod=user, size="1Gi"
    )
    document["spec"]["template"]["spec"]["containers"][0] |= command
    real.apply(document)
    real.wait_ready(real_namespace, "web")
    done = run("run", EXPERIMENTS / "soak.yaml", "-n", real_namespace, "--rounds", "2")
    assert done.code == 0, done.told


def _pods(real: RealCluster, namespace: str) -> dict[str, str]:
    return {p["metadata"]["name"]: p["metadata"]["uid"] for p in real.get("pods", f"--namespace={namespace}")["items"]}
