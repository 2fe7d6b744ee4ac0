"""What the chart grants: exactly what `preflight` asks for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from chaosd.cluster.port import Cluster
from chaosd.experiment import Experiment
from chaosd.nemesis import DISRUPTIONS
from chaosd.preflight import rights
from chaosd.preflight.checks import Check, Status, check_all
from chaosd.report import disruptions
from tests.chart.rendering import CHART, RELEASE, SOAK, Json, granted, only, rendered
from tests.cluster.sandbox.simulated import Simulated, simulated

OWN = f"{RELEASE}-chaosd-own"
TARGET = {"namespace": "shop", "statefulset": "db"}
SPECS: dict[str, Json] = {
    "csi-restart": {"namespace": "kube-system", "selector": {"app": "csi"}},
    "container-kill": {"hostHelper": {"image": "helper"}},
    "recreate": {"deletion": "orphan", "mayDelete": True},
    "volume-expand": {"by": "1Gi"},
    "external": {"command": ["true"]},
    "together": {
        "disruptions": [{"kind": "pod-evict"}, {"kind": "csi-restart", "namespace": "csi", "selector": {"a": "b"}}]
    },
}
# Never granted, whatever an experiment does, and neither on other resources that hold somebody's data.
FORBIDDEN = {
    *(
        ("delete", resource)
        for resource in ("persistentvolumeclaims", "persistentvolumes", "nodes", "namespaces", "secrets")
    ),
    *((verb, "secrets") for verb in ("get", "list", "watch", "create", "update", "patch")),
    *(("deletecollection", resource) for resource in ("pods", "persistentvolumeclaims", "statefulsets.apps")),
    *((verb, "clusterroles.rbac.authorization.k8s.io") for verb in ("create", "update", "patch", "bind", "escalate")),
    ("impersonate", "users"),
}


def _experiment(*kinds: str, target: Json | None = None) -> Json:
    return {
        "target": {**TARGET, **(target or {})},
        "disruptions": [{"kind": kind, **SPECS.get(kind, {})} for kind in kinds],
    }


def _asked(document: Json) -> set[rights.Placed]:
    experiment = Experiment.model_validate({"name": "test", **document})
    return {*rights.needed(experiment), *rights.wished(experiment)}


def test_the_table_is_made_of_the_registry() -> None:
    assert (CHART / "files" / "rights.yaml").read_text() == disruptions.rules(), "make docs"


@pytest.mark.parametrize("kind", DISRUPTIONS)
def test_an_experiment_is_granted_what_preflight_asks_for_and_nothing_else(kind: str) -> None:
    document = _experiment(kind)
    assert granted(rendered({"experiments": {"one": document}}), but=OWN) == _asked(document)


def test_so_are_several_with_an_agent_a_helper_elsewhere_and_steps() -> None:
    one = _experiment("pod-delete", "scale", target={"probeImage": "chaosd"})
    other = _experiment("node-drain", "csi-restart", target={"namespace": "bank"})
    helper = {"image": "helper", "namespace": "privileged"}
    helped = {"target": {"statefulset": "db"}, "disruptions": [{"kind": "container-kill", "hostHelper": helper}]}
    script = {
        "target": TARGET,
        "steps": [{"name": "down", "disrupt": {"kind": "scale", "to": 0}}, {"name": "look", "verify": True}],
    }
    found = granted(rendered({"experiments": {"one": one, "other": other, "helped": helped, "script": script}}), but=OWN)
    assert found == _asked(one) | _asked(other) | _asked(helped) | _asked(script)


def test_experiments_as_texts_are_granted_the_same() -> None:
    text = (CHART.parents[1] / "experiments" / "soak.yaml").read_text()
    soak = {"target": {"statefulset": "web"}, "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}]}
    assert granted(rendered({"experiments": {"soak": text}}), but=OWN) == _asked(soak)


def test_targets_grant_what_a_config_map_does_not_show() -> None:
    kinds = ["pod-delete", "csi-restart", "container-kill", "reschedule"]
    target = {
        "namespace": "shop",
        "agent": True,
        "disruptions": kinds,
        "elsewhere": {"csi-restart": "kube-system", "container-kill": "shop"},
    }
    found = granted(rendered({"existingConfigMap": "mine", "targets": [target]}), but=OWN)
    assert found == _asked(_experiment(*kinds, target={"probeImage": "chaosd"}))


def test_without_experiments_nothing_is_granted_but_looking_at_the_cluster() -> None:
    clocks = rights.placed("kube-node-lease", [("get", "leases.coordination.k8s.io")])
    assert granted(rendered({}), but=OWN) == {*rights.placed("", rights.WISHES), *clocks}
    assert granted(rendered({"rbac": {"clusterRead": False}}), but=OWN) == set()


def test_statefulsets_are_patched_where_the_page_pauses_them_and_nowhere_else() -> None:
    pauses: Json = {"statusPage": {"pause": {"existingSecret": "pause"}}}
    plain, pausing = (granted(rendered({"experiments": {"soak": SOAK}, **more}), but=OWN) for more in ({}, pauses))
    assert pausing - plain == {("patch", "statefulsets.apps", "shop")}
    assert plain <= pausing
    assert granted(rendered(pauses), but=OWN) == granted(rendered({}), but=OWN)


def test_nodes_are_changed_only_where_an_experiment_drains() -> None:
    drains = ("patch", "nodes", "")
    assert drains not in granted(rendered({"experiments": {"soak": SOAK}}))
    assert drains in granted(rendered({"experiments": {"soak": SOAK, "drain": _experiment("node-drain")}}))


def test_what_nobody_needs_is_never_granted() -> None:
    everything = rendered({"experiments": {"all": _experiment(*DISRUPTIONS, target={"probeImage": "chaosd"})}})
    held = {(verb, resource) for verb, resource, _ in granted(everything)}
    assert not held & FORBIDDEN
    assert "*" not in {word for verb, resource in held for word in (verb, *resource.split("/"))}


def test_in_its_own_namespace_it_has_what_the_daemon_asks_for() -> None:
    role = only(rendered({}), "Role", OWN)
    named = {
        (verb, rule["resources"][0], *rule.get("resourceNames", ())) for rule in role["rules"] for verb in rule["verbs"]
    }
    own = f"{RELEASE}-chaosd"
    assert named == {
        *((verb, "leases", own) for verb in ("get", "update", "delete")),
        ("create", "leases"),
        ("create", "events"),
        ("patch", "events"),
        ("get", "pods"),
        ("get", "persistentvolumeclaims", own),
        ("get", "deployments/scale", own),
        ("update", "deployments/scale", own),
    }


def test_without_any_one_of_its_rights_preflight_says_so_by_name() -> None:
    document = _experiment("pod-evict", "scale", target={"namespace": "default", "statefulset": "web"})
    experiment = Experiment.model_validate({"name": "test", **document})
    held, needed = granted(rendered({"experiments": {"one": document}}), but=OWN), set(rights.needed(experiment))
    told: dict[rights.Placed, Check] = {}

    async def ask(sim: Simulated) -> None:
        for right in sorted(held):
            cluster = cast("Cluster", _Lacking(sim.cluster, right))
            found = await check_all(cluster, experiment, "sqlite://", 20, sim.clock)
            told[right] = next(check for check in found.checks if check.name == _check_of(right in needed))

    simulated(ask)
    assert len(told) == len(held) > 30
    for right, check in told.items():
        assert check.status is (Status.FAILED if right in needed else Status.WARNING), right
        assert rights.summed([right], "default") in check.found


def _check_of(needed: bool) -> str:
    return "rights" if needed else "wishes"


class _Lacking:
    """A cluster whose API server grants everything but one right."""

    def __init__(self, inner: Cluster, lacking: rights.Placed) -> None:
        self._inner = inner
        self._lacking = lacking

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def allowed(self, *right: str) -> bool:
        return right != self._lacking
