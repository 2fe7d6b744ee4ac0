"""A real Kubernetes, through the official client's asyncio half.

`client` is the one place that makes requests and translates errors; `exec` and `informer` are what the client does not do
well enough for us (ARCHITECTURE.md says why); `cluster` is the adapter. Nothing here uses the client's typed models: the
values that chaosd judges by are read from plain JSON.
"""

from chaosd.cluster.kubernetes.cluster import KubernetesCluster

__all__ = ["KubernetesCluster"]
