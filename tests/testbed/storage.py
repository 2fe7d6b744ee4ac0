"""The CSI driver, its three sidecars, the power of its disks, and the storage classes."""

from __future__ import annotations

from testbed import processes
from testbed.control_plane import kubectl
from testbed.disk_store import DiskStore
from testbed.layout import (
    BIN,
    CONTROL_PLANE,
    CSI_CONTROLLER_SOCKET,
    CSI_DRIVER,
    DISKS,
    HERE,
    NODE_KUBECONFIG,
    NODES,
    POWER_SOCKET,
    STUBS,
    VENV,
)
from testbed.shell import wait_until

STORAGE_CLASS = "alicloud-disk-ssd"
XFS_STORAGE_CLASS = f"{STORAGE_CLASS}-xfs"
POWER_STORAGE_CLASS = f"{STORAGE_CLASS}-power"
POWER_XFS_STORAGE_CLASS = f"{POWER_STORAGE_CLASS}-xfs"

# An ext4 grows only offline where CAP_SYS_RESOURCE is missing, as in many a container; an xfs grows while it is mounted.
# commit=1: the journal is written each second, not each fifth, so that a power cut finds more of it under way.
# fsGroupPolicy File: kubelet gives a volume to the pod's fsGroup whatever its type, so that a non-root container may write.
_OBJECTS = f"""
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {CSI_DRIVER}}}
spec: {{attachRequired: true, podInfoOnMount: false, fsGroupPolicy: File, volumeLifecycleModes: [Persistent]}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {STORAGE_CLASS}, annotations: {{storageclass.kubernetes.io/is-default-class: "true"}}}}
provisioner: {CSI_DRIVER}
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {XFS_STORAGE_CLASS}}}
provisioner: {CSI_DRIVER}
parameters: {{csi.storage.k8s.io/fstype: xfs}}
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
allowVolumeExpansion: true
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {POWER_STORAGE_CLASS}}}
provisioner: {CSI_DRIVER}
parameters: {{powerSwitch: "true"}}
mountOptions: [commit=1]
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {POWER_XFS_STORAGE_CLASS}}}
provisioner: {CSI_DRIVER}
parameters: {{powerSwitch: "true", csi.storage.k8s.io/fstype: xfs}}
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
"""


def start() -> None:
    kubectl("apply", "--filename=-", stdin=_OBJECTS)
    _start_power()
    _start_driver()
    sidecar = (f"--csi-address={CSI_CONTROLLER_SOCKET}", f"--kubeconfig={NODE_KUBECONFIG}")
    network = CONTROL_PLANE.network
    for name in ("csi-attacher", "csi-resizer"):
        processes.start(name, [BIN / name, *sidecar], network=network, respawn=True)
    provisioner = [BIN / "csi-provisioner", *sidecar, "--volume-name-prefix=d", "--feature-gates=Topology=false"]
    processes.start("csi-provisioner", provisioner, network=network, respawn=True)


def _start_power() -> None:
    store = DiskStore(DISKS)
    argv = [VENV / "bin" / "python", "-m", "testbed.power_server", store.images, store.powered, POWER_SOCKET]
    processes.start("power", argv, {"PYTHONPATH": str(HERE.parent)}, respawn=True)
    wait_until("the disks' power is on", POWER_SOCKET.exists, 120, every_seconds=0.02)


def _start_driver() -> None:
    nodes = [f"{node.name}={node.kubelet_folder}" for node in NODES]
    argv = [VENV / "bin" / "python", "-m", "testbed.csi_driver", DISKS, CSI_CONTROLLER_SOCKET, *nodes]
    processes.start("csi-driver", argv, {"PYTHONPATH": f"{HERE.parent}:{STUBS}"})
    # The sidecars would wait too, but a second at a time.
    wait_until("the CSI driver serves", CSI_CONTROLLER_SOCKET.exists, 120, every_seconds=0.02)


def registered() -> bool:
    """Whether every node's kubelet knows the driver."""
    drivers = kubectl("get", "csinode", "--output=jsonpath={.items[*].spec.drivers[*].name}").split()
    return drivers.count(CSI_DRIVER) == len(NODES)
