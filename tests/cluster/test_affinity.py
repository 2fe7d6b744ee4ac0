"""Which nodes may have a volume, by Kubernetes' operators."""

from __future__ import annotations

import pytest

from chaosd.cluster.affinity import Requirement, fits, places
from chaosd.cluster.port import Node, Volume

ONE = {"zone": "a", "disks": "5"}


def _volume(*terms: tuple[Requirement, ...]) -> Volume:
    return Volume("pv", "uid", "Bound", node_terms=terms)


def _node(name: str = "one", *, ready: bool = True, cordoned: bool = False, tainted: bool = False, zone: str = "a") -> Node:
    return Node(name, name, ready=ready, unschedulable=cordoned, tainted=tainted, labels={**ONE, "zone": zone})


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        (("zone", "In", ("a", "b")), True),
        (("zone", "In", ("b",)), False),
        (("rack", "In", ("a",)), False),
        (("zone", "NotIn", ("b",)), True),
        (("zone", "NotIn", ("a",)), False),
        (("rack", "NotIn", ("a",)), True),
        (("zone", "Exists", ()), True),
        (("rack", "Exists", ()), False),
        (("rack", "DoesNotExist", ()), True),
        (("zone", "DoesNotExist", ()), False),
        (("disks", "Gt", ("4",)), True),
        (("disks", "Gt", ("5",)), False),
        (("disks", "Lt", ("6",)), True),
        (("disks", "Lt", ("5",)), False),
        (("zone", "Gt", ("1",)), False),
        (("rack", "Lt", ("1",)), False),
        (("zone", "Like", ("a",)), False),
    ],
)
def test_a_requirement_holds_as_kubernetes_says(requirement: Requirement, holds: bool) -> None:
    assert fits(_volume((requirement,)), _node()) is holds


def test_all_requirements_of_one_of_the_terms_must_hold() -> None:
    here, there, many = ("zone", "In", ("a",)), ("zone", "In", ("b",)), ("disks", "Gt", ("4",))
    assert fits(_volume((here, many)), _node())
    assert not fits(_volume((there, many)), _node())
    assert fits(_volume((there, many), (here,)), _node())


def test_a_volume_without_affinity_fits_anywhere_and_a_term_without_requirements_nowhere() -> None:
    assert fits(_volume(), _node())
    assert not fits(_volume(()), _node())


def test_places_are_nodes_that_take_pods_and_fit_every_volume() -> None:
    nodes = [
        _node("ready"),
        _node("down", ready=False),
        _node("cordoned", cordoned=True),
        _node("tainted", tainted=True),
        _node("far", zone="b"),
    ]
    here, many = _volume((("zone", "In", ("a",)),)), _volume((("disks", "Exists", ()),))
    assert places(nodes, [here, many]) == ["ready"]
    assert places(nodes, []) == ["far", "ready"]
