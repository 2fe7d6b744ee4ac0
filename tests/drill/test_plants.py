"""Faults that can be planted in simulated clusters and on real ones."""

from __future__ import annotations

from chaosd.drill import plants as through_the_probe
from chaosd.simulation import plants as simulated


def test_a_fault_has_the_same_words_and_the_same_class_wherever_it_is_planted() -> None:
    known = {plant.what: plant.found_as for plant in simulated.PLANTS}
    planted = {plant.what: plant.found_as for plant in through_the_probe.PLANTS if plant.found_as}
    assert {what: known.get(what, found_as) for what, found_as in planted.items()} == planted
    assert planted.keys() - known.keys() == {"a file is as another pod would have written it"}, (
        "pods are not so alike there"
    )
