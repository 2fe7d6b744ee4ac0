"""The sandbox: an embedded model of a Kubernetes cluster, whose disks are real folders or in memory.

It needs nothing but Python. `store` holds the objects and tells watchers; `statefulset`, `volumes` and `kubelet` are its
controllers; `disks` says what these ask of disks and containers. `directory_disks` has folders, and the probes as local
processes (`process`); `memory_disks` has disks with a page cache that crashes (`memory_disk`), and the probe's agent in
this process (`memory_process`, on `memory_files`). `cluster` is the adapter. It is held to the real Kubernetes by the
conformance tests, and says of itself that it is simulated.
"""

from chaosd.cluster.sandbox.cluster import STATE_FILE, SandboxCluster
from chaosd.cluster.sandbox.disks import Mounting
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.sandbox.store import Timings

__all__ = ["STATE_FILE", "MemoryDisk", "Mounting", "SandboxCluster", "Timings"]
