"""Which nodes may have a volume: its required node affinity. Pure.

Source: Kubernetes docs, "Assigning Pods to Nodes", Operators, and "Persistent Volumes", Node Affinity; how absent labels
count is k8s.io/apimachinery's (labels.Requirement.Matches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chaosd.cluster.port import Node, Volume

# A label, an operator, and its values.
Requirement = tuple[str, str, tuple[str, ...]]


def fits(volume: Volume, node: Node) -> bool:
    """Whether a volume's node affinity lets it be used on a node: one of its terms holds, or it has none."""
    return not volume.node_terms or any(_holds(term, node.labels) for term in volume.node_terms)


def takes_pods(node: Node) -> bool:
    """Whether a pod without tolerations may be scheduled to it."""
    return node.ready and not node.unschedulable and not node.tainted


def places(nodes: Iterable[Node], volumes: Sequence[Volume]) -> list[str]:
    """Names of the nodes that take pods and fit all these volumes."""
    return sorted(node.name for node in nodes if takes_pods(node) and all(fits(volume, node) for volume in volumes))


def _holds(term: Sequence[Requirement], labels: Mapping[str, str]) -> bool:
    """Every requirement of a term; a term without one matches nothing."""
    return bool(term) and all(_met(requirement, labels) for requirement in term)


def _met(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    label, operator, values = requirement
    matches = _OPERATORS.get(operator)
    return matches is not None and matches(labels.get(label), values)


def _compared(value: str | None, values: Sequence[str], by: Callable[[int, int], bool]) -> bool:
    """A label that is absent or no integer never matches."""
    try:
        return value is not None and by(int(value), int(values[0]))
    except (ValueError, IndexError):
        return False


_OPERATORS: Mapping[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, values: _compared(value, values, int.__gt__),
    "Lt": lambda value, values: _compared(value, values, int.__lt__),
}
