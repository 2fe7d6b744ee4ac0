"""Where everything of the testbed lives, and the addresses it uses. There is one testbed on a machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = HERE / "mods"

_USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
CACHE = Path(os.environ.get("CHAOSD_TESTBED_CACHE") or _USER_CACHE / "chaosd-testbed").absolute()
STATE = Path(os.environ.get("CHAOSD_TESTBED_STATE") or "/var/tmp/chaosd-testbed").absolute()

# Unix socket addresses end at 107 characters, so sockets (and what must survive a lost STATE) have a short folder.
RUN = Path("/run/chaosd-testbed")

BIN = CACHE / "bin"
TOOLS = CACHE / "tools"  # what tests run beside the testbed
STUBS = CACHE / "stubs"
VENV = CACHE / "venv"

LOGS = STATE / "log"
PKI = STATE / "pki"
DISKS = STATE / "disks"
ADMIN_KUBECONFIG = STATE / "admin.kubeconfig"
NOBODY_KUBECONFIG = STATE / "nobody.kubeconfig"
NODE_KUBECONFIG = STATE / "node.kubeconfig"

API_PORT = 6443
ETCD_PORT = 2379
API_OUTSIDE = f"https://127.0.0.1:{API_PORT}"

SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
PODS_CIDR = "10.200.0.0/16"

CSI_DRIVER = "disk.testbed.local"
CSI_CONTROLLER_SOCKET = RUN / "csi-controller.sock"
POWER_SOCKET = RUN / "power.sock"


@dataclass(frozen=True)
class Node:
    """One node: a network namespace with a containerd, a kubelet and a kube-proxy in it."""

    number: int

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def network(self) -> str:
        """The name of its network namespace."""
        return f"chaosd-{self.name}"

    @property
    def address(self) -> str:
        return f"10.99.0.{self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.200.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        return STATE / self.name

    @property
    def kubelet_folder(self) -> Path:
        return self.folder / "kubelet"

    @property
    def run_folder(self) -> Path:
        return RUN / self.name

    @property
    def containerd_socket(self) -> Path:
        return self.run_folder / "containerd.sock"


NODES = (Node(1), Node(2))

# The first node is the control plane too, and carries the bridge that the others are plugged into.
CONTROL_PLANE = NODES[0]
API_INSIDE = f"https://{CONTROL_PLANE.address}:{API_PORT}"
