"""The sandbox: an embedded model of a Kubernetes cluster, whose disks are real folders.

It needs nothing but Python. `store` holds the objects and tells watchers; `statefulset`, `volumes` and `kubelet` are its
controllers; `disks` the folders and `process` the probes as local processes; `cluster` is the adapter. It is held to the
real Kubernetes by the conformance tests, and says of itself that it is simulated.
"""

from chaosd.cluster.sandbox.cluster import STATE_FILE, SandboxCluster
from chaosd.cluster.sandbox.store import Timings

__all__ = ["STATE_FILE", "SandboxCluster", "Timings"]
