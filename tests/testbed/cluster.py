"""Starts and ends the testbed: `python3 tests/testbed/cluster.py up|down|status|build|packages`. See README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # where the package `testbed` is, not what is in it

from testbed import build as building
from testbed import chaosd_image, control_plane, credentials, network, nodes, packages, processes, storage, teardown
from testbed.layout import ADMIN_KUBECONFIG, CACHE, STATE
from testbed.lock import one_at_a_time
from testbed.shell import TestbedError, wait_until

_UP = STATE / "up"  # written last: the cluster started to the end

# Below the kubelet's folder are unix sockets, whose addresses end at 107 characters.
_LONGEST_STATE = 45


def up() -> None:
    """Start the cluster unless it is running; what a crashed one left is removed first."""
    with one_at_a_time():
        if is_up():
            print(f"already up: export KUBECONFIG={ADMIN_KUBECONFIG}")
            return
        _check_machine()
        building.build()
        began = time.monotonic()
        teardown.down()
        teardown.claim_folders()
        _start()
        _UP.touch()
        print(f"up in {time.monotonic() - began:.1f} s: export KUBECONFIG={ADMIN_KUBECONFIG}")


def down() -> None:
    _check_root()
    with one_at_a_time():
        teardown.down()
    print("down")


def build() -> None:
    """All that takes long the first time, the base of chaosd's image too."""
    with one_at_a_time():
        building.build()
        chaosd_image.prepare()
    print(f"built in {CACHE}")


def status() -> None:
    """Raises TestbedError unless it is up."""
    if not is_up():
        raise TestbedError("down")
    print(f"up: export KUBECONFIG={ADMIN_KUBECONFIG}")


def is_up() -> bool:
    return _UP.exists() and all(process.alive() for process in processes.all_recorded())


def _start() -> None:
    """The slow ones are started early and awaited late."""
    network.up()
    credentials.make()
    control_plane.start_api()
    nodes.start_containerds()
    control_plane.wait_for_api()
    control_plane.start_controllers()
    nodes.start_kubelets()
    control_plane.start_dns()
    storage.start()
    wait_until("both nodes know the CSI driver", storage.registered, 240)
    control_plane.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=240s")
    # Pods are refused until the controller manager has made this.
    control_plane.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=240s")


def _check_machine() -> None:
    if sys.platform != "linux":
        raise TestbedError(f"the testbed is made of Linux' namespaces and loop devices; this is {sys.platform}")
    _check_root()
    missing = packages.missing()
    if missing:
        raise TestbedError(f"missing Debian packages: {' '.join(missing)} (`cluster.py packages` installs them)")
    if len(str(STATE)) > _LONGEST_STATE:
        raise TestbedError(f"CHAOSD_TESTBED_STATE is longer than {_LONGEST_STATE} characters: {STATE}")


def _check_root() -> None:
    if os.geteuid() != 0:
        raise TestbedError("the testbed mounts disks and makes network namespaces: it must be run as root")


def main() -> int:
    commands = {"up": up, "down": down, "status": status, "build": build, "packages": packages.install}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    try:
        commands[parser.parse_args().command]()
    except (TestbedError, subprocess.CalledProcessError) as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
