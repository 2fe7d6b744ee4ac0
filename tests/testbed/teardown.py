"""Removes all that the testbed made, from a whole, a half-started or a crashed one alike. Safe to repeat.

Nothing is found by a bare name: processes by their recorded id and birth, shims by the socket of the containerd that they
report to, mounts and loop devices by their folder, the rest by names that only the testbed gives.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from testbed import network, processes
from testbed.disk_store import mount_table
from testbed.layout import NODES, RUN, STATE
from testbed.nodes import POD_NETWORK
from testbed.shell import TestbedError, run, succeeds, wait_until

# kubelet changes these for the whole machine.
_KERNEL_SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
_SAVED_SETTINGS = RUN / "kernel-settings.json"

# The mark of a state folder of ours; one without it is somebody else's and stays.
_MARK = STATE / ".chaosd-testbed"


def claim_folders() -> None:
    """Make the folders that `down` will remove, and keep what it will restore."""
    if STATE.exists() and any(STATE.iterdir()):
        raise TestbedError(f"{STATE} is not empty and not the testbed's: set CHAOSD_TESTBED_STATE to another folder")
    STATE.mkdir(parents=True, exist_ok=True)
    _MARK.touch()
    RUN.mkdir(parents=True)
    settings = {name: Path("/proc/sys", name).read_text() for name in _KERNEL_SETTINGS}
    _SAVED_SETTINGS.write_text(json.dumps(settings))


def down() -> None:
    containers = _container_ids()
    processes.kill(processes.all_recorded())
    processes.kill_trees(_shims())
    _unmount_all()
    network.down()
    _remove_cgroups(containers)
    _remove_traces_elsewhere()
    _restore_kernel_settings()
    if RUN.exists():
        shutil.rmtree(RUN)
    if _MARK.exists():
        shutil.rmtree(STATE)


def _shims() -> list[int]:
    """containerd's shims outlive it, and containers outlive their kubelet: each is a child of its shim."""
    sockets = {str(node.containerd_socket) for node in NODES}
    return [pid for pid in processes.all_pids() if _is_shim_of(processes.command_line(pid), sockets)]


def _is_shim_of(argv: list[str], sockets: set[str]) -> bool:
    return any(word.endswith("containerd-shim-runc-v2") for word in argv[:1]) and not sockets.isdisjoint(argv)


def _container_ids() -> set[str]:
    return {bundle.name for bundle in RUN.glob("*/containerd/io.containerd.runtime.v2.task/*/*")}


def _our_mounts() -> list[Path]:
    places = [place for _, place in mount_table()]
    return [place for place in places if place.is_relative_to(STATE) or place.is_relative_to(RUN)]


def _our_loop_devices() -> list[str]:
    listed = json.loads(run("losetup", "--list", "--json", "--output", "NAME,BACK-FILE") or '{"loopdevices": []}')
    return [loop["name"] for loop in listed["loopdevices"] if Path(loop["back-file"] or "/").is_relative_to(STATE)]


def _unmount_all() -> None:
    """The last mounted first. The mount namespace of a killed container may keep one busy for a moment."""

    def none_left() -> bool:
        for place in reversed(_our_mounts()):
            with suppress(TestbedError):
                run("umount", place)
        return not _our_mounts()

    wait_until("everything is unmounted", none_left, 120)

    def none_attached() -> bool:
        for loop in _our_loop_devices():
            with suppress(TestbedError):
                run("losetup", "--detach", loop)
        return not _our_loop_devices()

    wait_until("every loop device is detached", none_attached, 120)


def _remove_cgroups(containers: set[str]) -> None:
    """containerd puts each container below /k8s.io of every cgroup hierarchy."""
    for parent in [*Path("/sys/fs/cgroup").glob("k8s.io"), *Path("/sys/fs/cgroup").glob("*/k8s.io")]:
        for container in containers:
            folder = parent / container
            wait_until(f"{folder} is gone", lambda f=folder: not f.exists() or succeeds("rmdir", f), 60)  # type: ignore[misc]
        _remove_if_empty(parent)


def _remove_traces_elsewhere() -> None:
    """Places that kubelet and CNI do not let anybody choose."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(STATE):
            link.unlink()
    for result in Path("/var/lib/cni/results").glob(f"{POD_NETWORK}-*"):
        result.unlink()
    for folder in ("/var/log/containers", "/var/lib/cni/results", "/var/lib/cni"):
        _remove_if_empty(Path(folder))


def _restore_kernel_settings() -> None:
    if _SAVED_SETTINGS.exists():
        for name, value in json.loads(_SAVED_SETTINGS.read_text()).items():
            Path("/proc/sys", name).write_text(value)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
