"""The gate on a real Kubernetes: yes, no, nobody knows, each with a report that says why; and on a target of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tests.chaosd_process import Chaosd, chaosd
from tests.e2e.conftest import EXPERIMENTS
from tests.real import RealCluster
from tests.waiting import until

Run = Callable[..., Chaosd]
Write = Callable[..., Path]

# Every file stays owed, so that the one that is damaged is.
GATE: dict[str, Any] = {
    "workload": {"files": 8, "keep": 1.0},
    "disruptions": [{"kind": "pod-delete"}],
    "require": {"rounds": 3, "disruptions": {"pod-delete": 3}, "records": 24},
    "rounds": None,
    "duration": "8m",
}


class _Words(HTMLParser):
    """What a page says."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self._said: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self._said.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self._said).split())


def _page(out: Path) -> str:
    """What the HTML report of the latest run says."""
    made = chaosd("report", "latest", "--format", "html", "--out", out)
    assert made.code == 0, made.told
    return str(_Words((out / "report.html").read_text()))


@contextmanager
def _exec_denied(real: RealCluster, namespace: str) -> Iterator[None]:
    """Admission says no to whoever opens a session in the namespace, as a policy of the cluster's owner may."""
    api = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"], "scope": "*"}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": here},
        "validations": [{"expression": "false", "message": "nobody opens a shell here"}],
    }
    bound = {"policyName": namespace, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}}
    kinds = {"ValidatingAdmissionPolicy": spec, "ValidatingAdmissionPolicyBinding": bound}
    documents = [{"apiVersion": api, "kind": kind, "metadata": {"name": namespace}, "spec": s} for kind, s in kinds.items()]
    real.apply(*documents)
    try:
        until(lambda: _is_denied(real, namespace), "the policy to be in force")
        yield
    finally:
        for kind in kinds:
            real.kubectl("delete", kind.lower(), namespace)


def _is_denied(real: RealCluster, namespace: str) -> bool:
    try:
        real.kubectl("exec", "web-0", f"--namespace={namespace}", "--", "true")
    except RuntimeError as error:
        return "nobody opens a shell here" in str(error)
    return False


def test_a_healthy_driver_may_ship_and_the_page_says_what_that_does_not_say(web: str, run: Run, tmp_path: Path) -> None:
    held = run("gate", EXPERIMENTS / "gate.yaml", "-n", web)
    assert held.code == 0, held.told
    assert held.stdout[-1].startswith("verdict: pass")
    page = _page(tmp_path / "out")
    assert f"Everything that the storage of {web}/web acknowledged was still there" in page
    assert "No node and no disk lost power" in page


def test_a_planted_fault_may_not_ship_and_the_page_names_it(
    web: str, start: Run, experiment: Write, real: RealCluster, testbed: Any, tmp_path: Path
) -> None:
    handle = real.handle(web, "disk-ssd-web-1")
    with start("gate", experiment(**GATE), "-n", web, "--fail-fast") as held:
        held.until_line(lambda line: "round 1 done" in line)
        name = next(line.split("run ")[1].split(",")[0] for line in held.stderr if " run " in line)
        testbed.disks.flip_bit(handle, f".chaosd/{name}/00000000", 3 * 4096 + 1000, bit=5)
        assert held.wait() == 1, held.told
    assert held.verdict["violations_by_class"] == {"corrupt": 1}
    assert any(" violation corrupt web-1: 00000000, block 3" in line for line in held.stderr)
    page = _page(tmp_path / "out")
    assert f"{web}/web broke 1 promise: 1 corrupt" in page
    assert handle in page


def test_where_exec_is_denied_nobody_knows_and_the_page_says_what_was_not_seen(
    web: str, start: Run, experiment: Write, real: RealCluster, tmp_path: Path
) -> None:
    timeouts = {"probe": "10s", "write": "20s", "read": "20s"}
    with start("gate", experiment(**GATE, timeouts=timeouts), "-n", web) as held:
        held.until_line(lambda line: "round 1 done" in line)
        with _exec_denied(real, web):
            assert held.wait() == 3, held.told
    assert held.verdict["violations"] == []
    assert held.verdict["unknown"]
    page = _page(tmp_path / "out")
    assert f"Nothing was seen broken on {web}/web" in page
    assert "nothing is promised" in page
    assert "nobody opens a shell here" in page


def test_where_exec_is_denied_from_the_start_the_gate_says_why_and_disrupts_nothing(
    web: str, run: Run, experiment: Write, real: RealCluster
) -> None:
    before = {pod["metadata"]["uid"] for pod in real.get("pods", f"--namespace={web}")["items"]}
    with _exec_denied(real, web):
        held = run("gate", experiment(**GATE, timeouts={"probe": "10s"}), "-n", web)
    assert held.code == 3, held.told
    assert "nobody opens a shell here" in held.stderr[-1]
    assert {pod["metadata"]["uid"] for pod in real.get("pods", f"--namespace={web}")["items"]} == before


def test_a_storage_class_is_judged_on_a_target_that_is_made_for_it_and_goes(
    real: RealCluster, experiment: Write, run: Run, tmp_path: Path
) -> None:
    require = {"rounds": 2, "replicas": "100%", "records": 24, "drill": True}
    path = experiment(**{**GATE, "disruptions": [{"kind": "pod-delete", "count": "all"}], "require": require})
    held = run("gate", path, "--storage-class", real.storage_class, "--image", real.image)
    assert held.code == 0, held.told
    assert f"storage class {real.storage_class}:\n" in held.stdout
    namespace = next(line.split("namespace ")[1].split()[0] for line in held.stderr if " namespace " in line)
    page = _page(tmp_path / "out" / real.storage_class)
    assert f"Everything that the storage of {namespace}/gate acknowledged was still there" in page
    real.until_gone(namespace)


def test_a_storage_class_that_does_not_exist_is_named_and_nothing_is_left(
    real: RealCluster, experiment: Write, run: Run
) -> None:
    began = time.monotonic()
    held = run("gate", experiment(**GATE), "--storage-class", "no-such-class", "--image", real.image)
    assert held.code == 3, held.told
    assert '"no-such-class" not found' in held.stderr[-1]
    assert time.monotonic() - began < 200, "nobody waits the 300 s that a target has to become ready"
    real.until_gone(next(line.split("namespace ")[1].split()[0] for line in held.stderr if " namespace " in line))
