"""The testbed itself: Services work, and when it goes down nothing is left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real import RealCluster


def _pod_says(real: RealCluster, namespace: str, pod: str, *argv: str) -> str:
    return real.kubectl("exec", pod, f"--namespace={namespace}", "--", *argv)


def test_a_headless_service_names_each_pod(web: str, real: RealCluster, testbed: Any) -> None:
    address = real.get("pod", "web-1", f"--namespace={web}")["status"]["podIP"]
    assert address in _pod_says(real, web, "web-0", "nslookup", f"web-1.nginx.{web}.svc.cluster.local")


def test_a_service_with_an_address_reaches_its_pods(web: str, real: RealCluster, testbed: Any) -> None:
    real.kubectl("create", "service", "clusterip", "front", f"--namespace={web}", "--tcp=80:80")
    real.kubectl("set", "selector", "service/front", f"--namespace={web}", "app=nginx")
    address = real.get("service", "front", f"--namespace={web}")["spec"]["clusterIP"]
    assert address in _pod_says(real, web, "web-0", "nslookup", f"front.{web}.svc.cluster.local")
    # With nc: the wget of Debian's static busybox crashes.
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | grep testbed"
    script = f"for i in 1 2 3 4 5 6 7 8 9 10; do {ask} && exit; sleep 0.5; done; exit 1"
    assert "chaosd testbed" in _pod_says(real, web, "web-0", "sh", "-c", script)


def test_down_leaves_nothing_behind(real: RealCluster, testbed: Any) -> None:
    if not os.environ.get("CHAOSD_TESTBED_OURS"):
        pytest.skip("somebody plays with this testbed: it was up before tests/e2e/run, so it is not taken down")
    from testbed.layout import CACHE, NODES, RUN, STATE

    testbed.down()
    try:
        assert not STATE.exists()
        assert not RUN.exists()
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(STATE) not in mounts
        assert str(RUN) not in mounts
        assert not [node for node in NODES if Path(f"/run/netns/{node.network}").exists()]
        loops = subprocess.run(["losetup", "--list", "--output", "BACK-FILE"], capture_output=True, text=True, check=True)
        assert str(STATE) not in loops.stdout
        assert [line for line in _command_lines() if str(CACHE / "bin") in line] == []
    finally:
        testbed.up()
    assert real.get("nodes")["items"]


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found
