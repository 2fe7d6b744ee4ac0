"""The rights that an experiment takes, and the roles that grant them."""

from __future__ import annotations

from typing import Any

import yaml

from chaosd.experiment import Experiment
from chaosd.preflight import rights


def experiment(*disruptions: dict[str, Any], target: dict[str, Any] | None = None) -> Experiment:
    where = {"namespace": "shop", "statefulset": "db", **(target or {})}
    return Experiment.model_validate({"name": "test", "target": where, "disruptions": list(disruptions)})


EVICTS = {"kind": "pod-evict"}


def test_an_experiment_needs_what_every_run_and_its_own_disruptions_do() -> None:
    found = rights.needed(experiment(EVICTS))
    assert {(verb, resource, "shop") for verb, resource in rights.RIGHTS} <= set(found)
    assert ("create", "pods/eviction", "shop") in found
    assert ("update", "statefulsets.apps/scale", "shop") not in found
    assert len(found) == len(set(found))


def test_a_script_needs_what_its_steps_do() -> None:
    target = {"statefulset": "db"}
    steps = [{"name": "down", "disrupt": {"kind": "scale", "to": 0}}]
    script = Experiment.model_validate({"name": "test", "target": target, "steps": steps})
    assert ("update", "statefulsets.apps/scale", "default") in rights.needed(script)


def test_an_agent_of_its_own_image_needs_an_ephemeral_container() -> None:
    assert ("patch", "pods/ephemeralcontainers", "shop") in rights.needed(
        experiment(EVICTS, target={"probeImage": "python:3"})
    )


def test_what_is_needed_is_no_wish() -> None:
    drain = experiment({"kind": "node-drain"})
    assert ("list", "nodes", "") in rights.needed(drain)
    assert ("list", "nodes", "") not in rights.wished(drain)
    assert ("list", "nodes", "") in rights.wished(experiment(EVICTS))


def test_the_clocks_of_the_nodes_are_wished_for_where_kubelets_tell_them() -> None:
    assert ("get", "leases.coordination.k8s.io", "kube-node-lease") in rights.wished(experiment(EVICTS))


def test_several_are_said_by_resource_and_place() -> None:
    several = [("get", "pods", "shop"), ("list", "pods", "shop"), ("get", "pods", "csi"), ("patch", "nodes", "")]
    assert rights.summed(several, "shop") == "get, list on pods; get on pods in csi; patch on nodes cluster-wide"


def test_roles_grant_exactly_what_is_missing_by_group_and_place() -> None:
    missing = [
        ("get", "pods", "shop"),
        ("create", "pods/exec", "shop"),
        ("get", "persistentvolumeclaims", "shop"),
        ("update", "statefulsets.apps/scale", "shop"),
        ("patch", "nodes", ""),
        ("delete", "pods", "csi"),
    ]
    everywhere, csi, shop = yaml.safe_load_all(rights.as_yaml(rights.roles(missing)))
    assert everywhere["kind"] == "ClusterRole"
    assert everywhere["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]
    assert (csi["kind"], csi["metadata"]["namespace"]) == ("Role", "csi")
    assert (shop["kind"], shop["metadata"]["namespace"]) == ("Role", "shop")
    assert shop["rules"] == [
        {"apiGroups": [""], "resources": ["persistentvolumeclaims", "pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["statefulsets/scale"], "verbs": ["update"]},
    ]
    assert {(v, r, "shop") for v, r in _granted(shop)} == {right for right in missing if right[2] == "shop"}


def test_roles_of_other_rules_have_other_names() -> None:
    one, other = (rights.roles([(verb, "pods", "shop")])[0]["metadata"]["name"] for verb in ("get", "list"))
    assert one != other
    assert rights.roles([("get", "pods", "shop")])[0]["metadata"]["name"] == one


def _granted(role: dict[str, Any]) -> set[tuple[str, str]]:
    """Verbs and resources, as chaosd names them."""
    found = set()
    for rule in role["rules"]:
        for resource in rule["resources"]:
            plural, slash, sub = resource.partition("/")
            group = f".{rule['apiGroups'][0]}" if rule["apiGroups"][0] else ""
            found |= {(verb, f"{plural}{group}{slash}{sub}") for verb in rule["verbs"]}
    return found
