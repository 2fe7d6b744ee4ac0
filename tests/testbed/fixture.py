"""What tests use: `Testbed.up()`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from testbed import cluster, control_plane, credentials, etcd
from testbed.disks import Disks
from testbed.layout import ADMIN_KUBECONFIG, HERE, NOBODY_KUBECONFIG, NODES, STATE
from testbed.storage import POWER_STORAGE_CLASS, POWER_XFS_STORAGE_CLASS, STORAGE_CLASS, XFS_STORAGE_CLASS


class Testbed:
    """A running cluster."""

    __test__ = False  # pytest would otherwise take the name for a test class

    kubeconfig: Path = ADMIN_KUBECONFIG
    nobody_kubeconfig: Path = NOBODY_KUBECONFIG  # a known user without any rights
    nodes: tuple[str, ...] = tuple(node.name for node in NODES)
    storage_class: str = STORAGE_CLASS
    xfs_storage_class: str = XFS_STORAGE_CLASS  # its disks grow with their claims
    power_storage_class: str = POWER_STORAGE_CLASS  # its disks have a power switch
    power_xfs_storage_class: str = POWER_XFS_STORAGE_CLASS  # these too, and xfs in place of ext4
    target: Path = HERE / "kustomization"  # experiments/targets with an image that is here: `kubectl apply -k`

    def __init__(self) -> None:
        self.disks = Disks()

    @classmethod
    def up(cls) -> Testbed:
        """Start the cluster unless it is running. It stays up afterwards: `down` when it is to go."""
        cluster.up()
        return cls()

    def down(self) -> None:
        cluster.down()

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator; raises TestbedError with what it said if it failed."""
        return control_plane.kubectl(*args, stdin=stdin)

    def api_server_stopped(self) -> AbstractContextManager[None]:
        """The API server is dead inside the `with`, and ready again after it; everything else keeps running."""
        return control_plane.api_server_stopped()

    def overwrite_in_etcd(self, key: str, old: str, new: str) -> None:
        """Replace words of the object with this key, such as `pods/NAMESPACE/NAME`, by others of the same length. The API
        server is not asked, so that what it refuses can be done, as by a backup of etcd that is restored."""
        etcd.overwrite(key, old, new)

    def volume_handle(self, claim: str, namespace: str = "default") -> str:
        """The disk behind a bound claim."""
        volume = self.kubectl("get", "pvc", claim, f"--namespace={namespace}", "--output=jsonpath={.spec.volumeName}")
        return self.kubectl("get", "pv", volume, "--output=jsonpath={.spec.csi.volumeHandle}")

    def service_account_kubeconfig(self, name: str, namespace: str = "default") -> Path:
        """A kubeconfig for a service account that exists, with the rights that it has and no others; good for an hour."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}").strip()
        path = STATE / f"{namespace}.{name}.kubeconfig"
        credentials.write_kubeconfig(path, token)
        return path
