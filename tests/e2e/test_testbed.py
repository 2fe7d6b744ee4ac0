"""The testbed itself: Services work, disks lose their power, and when it goes down nothing is left behind."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import manifests
from tests.real import RealCluster
from tests.seeds import FRESH
from tests.waiting import until

A_SEED = pytest.mark.parametrize("seed", [FRESH])

# What each mode of a disk does to files that were acknowledged, as `_damage` tells it.
DAMAGE = {"drop": {"zeros"}, "tear": {"torn"}, "misdirect": {"another's", "zeros"}}

# Writes files until a disk fails, or there are enough. Each is named, with its checksum, once it and its folder are synced.
_BURST = """
mkdir /data/{folder} && sync /data && cd /data/{folder} || exit
for i in $(seq {most}); do
  head -c 65536 /dev/urandom >/tmp/next && cp /tmp/next $i && sync $i && sync . || exit 0
  echo $(sha256sum </tmp/next) $i
done
"""


def _until_named(real: RealCluster, namespace: str, name: str, address: str) -> None:
    """A name is known a moment after what it names."""

    def known() -> bool:
        try:
            return address in _pod_says(real, namespace, "web-0", "nslookup", name)
        except RuntimeError:
            return False

    until(known, f"{name} to be {address}")


def _pod_says(real: RealCluster, namespace: str, pod: str, *argv: str) -> str:
    return real.kubectl("exec", pod, f"--namespace={namespace}", "--", *argv)


def test_a_headless_service_names_each_pod(web: str, real: RealCluster, testbed: Any) -> None:
    address = real.get("pod", "web-1", f"--namespace={web}")["status"]["podIP"]
    _until_named(real, web, f"web-1.nginx.{web}.svc.cluster.local", address)


def test_a_service_with_an_address_reaches_its_pods(web: str, real: RealCluster, testbed: Any) -> None:
    real.kubectl("create", "service", "clusterip", "front", f"--namespace={web}", "--tcp=80:80")
    real.kubectl("set", "selector", "service/front", f"--namespace={web}", "app=nginx")
    address = real.get("service", "front", f"--namespace={web}")["spec"]["clusterIP"]
    _until_named(real, web, f"front.{web}.svc.cluster.local", address)
    # With nc: the wget of Debian's static busybox crashes.
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | grep testbed"
    script = f"for i in $(seq 60); do {ask} && exit; sleep 0.5; done; exit 1"
    assert "chaosd testbed" in _pod_says(real, web, "web-0", "sh", "-c", script)


@A_SEED
@pytest.mark.parametrize("powered", ["ext4", "xfs"], indirect=True)
@pytest.mark.parametrize("how", [(), ("--force", "--grace-period=0")], ids=["deleted", "force-deleted"])
def test_no_acknowledged_file_is_lost_when_the_power_goes(
    powered: str, real: RealCluster, real_namespace: str, testbed: Any, how: tuple[str, ...], seed: int
) -> None:
    after_writes = random.Random(seed).randrange(100, 600)

    def cut() -> None:
        assert testbed.disks.cut_power_in_burst(powered, after_writes).lost_bytes > 0

    acknowledged = _cut_in_a_burst(real, real_namespace, cut)
    _replace_pod(real, real_namespace, *how)
    found = _checksums(real, real_namespace, "burst")
    assert {name: found.get(name) for name in acknowledged} == acknowledged
    assert _burst(real, real_namespace, "after", most=3) == _checksums(real, real_namespace, "after")


@A_SEED
@pytest.mark.parametrize("powered", ["ext4", "xfs"], indirect=True)
def test_a_disk_that_lies_about_flushes_loses_acknowledged_files(
    powered: str, real: RealCluster, real_namespace: str, testbed: Any, seed: int
) -> None:
    from testbed.shell import wait_until

    before = _burst(real, real_namespace, "before", most=3)
    unflushed = random.Random(seed).randrange(2 << 20, 24 << 20)
    testbed.disks.set_mode(powered, "lying")
    argv = [sys.executable, "tests/testbed/power.py", "cut", powered]  # the command, as an experiment runs it

    def cut() -> None:
        wait_until("enough waits", lambda: testbed.disks.power_status(powered).waiting_bytes > unflushed, 240)
        subprocess.run(argv, check=True)

    acknowledged = _cut_in_a_burst(real, real_namespace, cut)
    _replace_pod(real, real_namespace)
    assert _checksums(real, real_namespace, "burst").items().isdisjoint(acknowledged.items())
    assert _checksums(real, real_namespace, "before") == before


@A_SEED
@pytest.mark.parametrize("mode", DAMAGE)
def test_a_faulty_disk_spoils_acknowledged_files_in_its_own_way(
    powered: str, real: RealCluster, real_namespace: str, testbed: Any, mode: str, seed: int
) -> None:
    testbed.disks.set_mode(powered, mode, seed)
    acknowledged = _burst(real, real_namespace, "burst", most=100)
    real.kubectl("scale", "statefulset/web", f"--namespace={real_namespace}", "--replicas=0")
    testbed.disks.wait_until_unstaged(powered)
    assert len(acknowledged) == 100
    files = {name: testbed.disks.read(powered, f"burst/{name}") for name in acknowledged}
    spoilt = {name for name in files if _checksum(files[name]) != acknowledged[name]}
    status = testbed.disks.power_status(powered)
    print(f"{len(spoilt)} of {len(files)} files are spoilt: {status}")
    assert {_damage(files[name], acknowledged) for name in spoilt} == DAMAGE[mode]
    assert 0 < len(spoilt) <= 2 * status.spoilt_writes


def test_a_pod_whose_disk_cannot_be_mounted_says_so_and_starts_once_it_is_mended(
    powered: str, real: RealCluster, real_namespace: str, testbed: Any
) -> None:
    written = _burst(real, real_namespace, "burst", most=3)
    real.kubectl("scale", "statefulset/web", f"--namespace={real_namespace}", "--replicas=0")
    testbed.disks.wait_until_unstaged(powered)
    testbed.disks.break_superblock(powered)
    real.kubectl("scale", "statefulset/web", f"--namespace={real_namespace}", "--replicas=1")
    real.event(real_namespace, "FailedMount", "Bad magic number in super-block")
    testbed.disks.mend_superblock(powered)
    real.wait_ready(real_namespace, "web")
    assert _checksums(real, real_namespace, "burst") == written


def test_a_disk_that_is_not_in_use_has_no_power_to_cut(web: str, real: RealCluster, testbed: Any) -> None:
    from testbed.shell import TestbedError

    with pytest.raises(TestbedError, match="nothing to cut"):
        testbed.disks.cut_power(real.handle(web, "disk-ssd-web-0"))


@pytest.mark.alone
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
        assert [line for line in _command_lines() if f"{CACHE}/" in line] == []
    finally:
        testbed.up()
    assert real.get("nodes")["items"]


@pytest.fixture
def powered(request: pytest.FixtureRequest, real: RealCluster, real_namespace: str, testbed: Any) -> str:
    """The disk, with a power switch, of a StatefulSet with one replica; the parameter is its file system."""
    classes = {"ext4": testbed.power_storage_class, "xfs": testbed.power_xfs_storage_class}
    storage = {"storage_class": classes[getattr(request, "param", "ext4")], "size": "1Gi"}
    real.apply(manifests.statefulset(namespace=real_namespace, image=real.image, replicas=1, **storage))
    real.wait_ready(real_namespace, "web")
    return real.handle(real_namespace, "disk-web-0")


def _burst(real: RealCluster, namespace: str, folder: str, most: int) -> dict[str, str]:
    """Writes files of 64 KiB until the disk fails; returns the acknowledged ones' checksums by name."""
    rows = _pod_says(real, namespace, "web-0", "sh", "-c", _BURST.format(folder=folder, most=most)).splitlines()
    return {name: checksum for checksum, _, name in map(str.split, rows)}


def _cut_in_a_burst(real: RealCluster, namespace: str, cut: Callable[[], object]) -> dict[str, str]:
    with ThreadPoolExecutor() as pool:
        burst = pool.submit(_burst, real, namespace, "burst", most=100_000)
        cut()
        acknowledged = burst.result(timeout=300)
    print(f"{len(acknowledged)} files were acknowledged")
    assert acknowledged
    return acknowledged


def _replace_pod(real: RealCluster, namespace: str, *how: str) -> None:
    """Delete the pod, with these options, and wait for the next one: it has the disk mounted anew."""
    began = time.monotonic()
    real.kubectl("delete", "pod", "web-0", f"--namespace={namespace}", *how)
    real.kubectl("wait", "pod/web-0", f"--namespace={namespace}", "--for=create", "--timeout=180s")
    real.kubectl("wait", "pod/web-0", f"--namespace={namespace}", "--for=condition=Ready", "--timeout=300s")
    print(f"the pod was back after {time.monotonic() - began:.1f} s")


def _checksums(real: RealCluster, namespace: str, folder: str) -> dict[str, str]:
    script = f"find /data/{folder} -type f 2>/dev/null | xargs -r sha256sum"  # the folder itself may be lost
    rows = _pod_says(real, namespace, "web-0", "sh", "-c", script).splitlines()
    return {Path(name).name: checksum for checksum, name in map(str.split, rows)}


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _damage(data: bytes, acknowledged: dict[str, str]) -> str:
    """What became of a file of random bytes, on a disk that was all zeros."""
    if not any(data):
        return "zeros"
    if _checksum(data) in acknowledged.values():
        return "another's"
    return "torn" if not any(data[-512:]) else "garbage"


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found
