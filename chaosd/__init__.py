"""chaosd: chaos and durability testing for Kubernetes StatefulSets."""

__version__ = "0.1.0"
