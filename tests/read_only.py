"""A cluster that refuses everything but to be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaosd.cluster.port import Cluster

# Whoever asks what he may do changes nothing (Kubernetes docs, "Authorization", Checking API access).
READS = {"kind", "version", "cluster_id", "clock", "node_clock", "volume_room", "get", "list", "get_lease", "allowed"}


class ReadOnly:
    """A Cluster whose other methods, exec among them, are an error of the test's. `instead` stands in the place of some."""

    def __init__(self, inner: Cluster, instead: Mapping[str, Any] | None = None) -> None:
        self.asked: set[str] = set()
        self._inner = inner
        self._instead = instead or {}

    def __getattr__(self, name: str) -> Any:
        assert name in READS, f"{name} is no reading"
        self.asked.add(name)
        return self._instead[name] if name in self._instead else getattr(self._inner, name)
