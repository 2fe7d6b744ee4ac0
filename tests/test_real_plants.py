"""Every class of failure is planted on the real testbed: by one of these tests of tests/e2e, or by the drill that
tests/e2e/test_drill.py runs there. This holds the list itself, and needs no cluster."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from chaosd.checkers.verdict import Class
from chaosd.drill.plants import PLANTS as DRILLED
from tests.e2e import test_cluster_faults as cluster
from tests.e2e import test_faults as disks
from tests.e2e import test_power as power

PLANTED: Mapping[Class, Callable[..., Any]] = {
    Class.LOST: disks.test_a_removed_file_is_lost,
    Class.TORN: power.test_a_disk_that_tears_writes_is_torn,
    Class.CORRUPT: disks.test_a_flipped_bit_is_corrupt_and_names_file_and_block,
    Class.STALE: power.test_a_disk_that_begins_to_lie_is_stale_since_registers_went_back_in_time,
    Class.FOREIGN: disks.test_two_swapped_disks_are_foreign,
    Class.REFORMATTED: disks.test_a_file_system_made_anew_is_reformatted,
    Class.NOT_MOUNTED: disks.test_a_folder_of_the_volume_in_its_place_is_not_mounted,
    Class.NOT_EXPANDED: cluster.test_a_claim_that_grew_while_its_file_system_did_not_is_not_expanded,
    Class.CLAIM_REPLACED: disks.test_a_claim_that_is_made_anew_is_replaced_and_what_was_on_its_disk_is_a_consequence,
    Class.CLAIM_MISSING: cluster.test_a_claim_that_a_quota_keeps_from_being_made_anew_is_missing,
    Class.CLAIM_LOST: cluster.test_a_claim_whose_volume_was_deleted_is_lost_until_the_volume_is_made_again,
    Class.CLAIM_MISMATCH: cluster.test_a_pod_that_is_given_another_claim_is_claim_mismatch,
    Class.VOLUME_REBOUND: cluster.test_a_claim_that_a_restored_etcd_binds_to_another_volume_is_volume_rebound,
    Class.HANDLE_CHANGED: cluster.test_a_volume_that_was_made_anew_on_another_disk_is_handle_changed,
    Class.DOUBLE_BOUND: cluster.test_a_second_volume_on_the_same_disk_is_double_bound,
    Class.ATTACHED_ELSEWHERE: (
        cluster.test_a_disk_that_is_detached_in_use_and_attached_to_another_node_is_attached_elsewhere
    ),
    Class.HOSTNAME_CHANGED: cluster.test_a_hostname_that_somebody_set_in_the_pod_is_hostname_changed,
    Class.ORDER_VIOLATED: cluster.test_a_pod_that_is_made_before_its_turn_is_order_violated,
    Class.NOT_RECOVERED: cluster.test_a_disk_that_no_node_can_reach_is_not_recovered,
}


def test_every_class_is_planted_on_the_real_cluster() -> None:
    drilled = {plant.found_as for plant in DRILLED if plant.found_as}
    assert {*PLANTED, *drilled} == set(Class)


def test_each_of_these_tests_asks_for_its_class() -> None:
    wrong = [test.__name__ for failure, test in PLANTED.items() if f'"{failure}"' not in inspect.getsource(test)]
    assert wrong == []
