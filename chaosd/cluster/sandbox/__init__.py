"""The sandbox: an embedded model of a Kubernetes cluster, whose disks are real folders or in memory.

It needs nothing but Python. `store` holds the objects and tells watchers; `applying` makes them of manifests, which
`manifest` checks; `statefulset`, `volumes`, `kubelet`, `budgets` and `namespaces` are its controllers; `disks` says what
these ask of disks and containers. `directory_disks` has folders, and the probes as local processes (`process`);
`memory_disks` has disks with a page cache that crashes (`memory_disk`), and the probe's agent in this process
(`memory_process`, on `memory_files`). `cluster` is the adapter. It is held to the real Kubernetes by the conformance tests,
and says of itself that it is simulated.

Names say what an image cannot do: `noimage` cannot be pulled, `noshell` has no sh, `nopython` no python3, and the first
process of `noterm` does not handle SIGTERM. Of storage classes, `none` provisions nothing, and one with `fixed` in its name
does not expand.
"""

from chaosd.cluster.sandbox.cluster import STATE_FILE, SandboxCluster
from chaosd.cluster.sandbox.disks import Mounting
from chaosd.cluster.sandbox.memory_disk import MemoryDisk
from chaosd.cluster.sandbox.store import Timings

__all__ = ["STATE_FILE", "MemoryDisk", "Mounting", "SandboxCluster", "Timings"]
