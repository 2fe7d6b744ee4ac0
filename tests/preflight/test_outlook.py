"""What `plan` tells, on a cluster that refuses every write and every exec."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from typing import Any

from rich.console import Console

from chaosd.cluster.port import Room
from chaosd.errors import ForbiddenError
from chaosd.experiment import Experiment
from chaosd.preflight.outlook import NOT_MEASURED, Outlook, look_out
from chaosd.report import outlook as report
from tests.cluster.sandbox.simulated import Simulated, simulated
from tests.read_only import ReadOnly

DRAIN: dict[str, Any] = {"name": "drain", "target": {"statefulset": "web"}, "disruptions": [{"kind": "node-drain"}]}


def _planned(instead: dict[str, Any] | None = None, **over: Any) -> Outlook:
    """The plan of an experiment on a target of two replicas, which was only read."""
    told: list[Outlook] = []

    async def plan(sim: Simulated) -> None:
        await sim.apply(2)
        cluster = ReadOnly(sim.cluster, instead)
        told.append(await look_out(cluster, Experiment.model_validate(DRAIN | over), 7))
        assert "list" not in cluster.asked

    simulated(plan)
    return told[0]


def test_it_names_target_claims_volumes_and_decisions_and_only_reads() -> None:
    found = _planned(rounds=3)
    assert (found.target, found.path, found.seed) == ("default/web", "/data", 7)
    assert [replica["claim"] for replica in found.replicas] == ["disk-web-0", "disk-web-1"]
    for replica in found.replicas:
        assert replica["volume"].startswith("pvc-")
        assert replica["handle"]
        assert replica["node"]
        assert replica["capacity"] == "1Gi"
        assert (replica["free_bytes"], replica["room_told_by"]) == (None, NOT_MEASURED)
    assert [decision["kind"] for decision in found.decisions] == ["node-drain"] * 3
    assert found.missing_rights == found.missing_wishes == ()
    assert found.guards["lock"].endswith("is free")
    assert json.loads(json.dumps(asdict(found)))["seed"] == 7


def test_its_own_seed_goes_before_one_that_was_drawn() -> None:
    assert _planned(seed=3).seed == 3


async def _room(node: str) -> dict[str, Room]:
    return {"default/disk-web-0": Room(5 << 20, 100)}


async def _forbidden(*_: object) -> Any:
    raise ForbiddenError("no")


def test_room_is_told_by_the_kubelet_where_it_may_be_asked() -> None:
    one, other = _planned({"volume_room": _room}).replicas
    assert (one["free_bytes"], one["free_files"], one["room_told_by"]) == (5 << 20, 100, "kubelet")
    assert (other["free_bytes"], other["room_told_by"]) == (None, NOT_MEASURED)
    assert {replica["room_told_by"] for replica in _planned({"volume_room": _forbidden}).replicas} == {NOT_MEASURED}


async def _only_gets(verb: str, resource: str, namespace: str) -> bool:
    return verb == "get"


def test_rights_are_told_apart_and_the_missing_ones_named_with_their_place() -> None:
    found = _planned({"allowed": _only_gets, "get_lease": _forbidden})
    assert "create on pods/eviction" in found.missing_rights
    assert "patch on nodes cluster-wide" in found.missing_rights
    assert "list on persistentvolumes cluster-wide" in found.missing_wishes
    assert "list on events" in found.missing_wishes
    granted = {(right["verb"], right["resource"]): right["granted"] for right in found.rights}
    assert granted["get", "pods"]
    assert not granted["create", "pods/exec"]
    assert "may not be seen" in found.guards["lock"]


def test_guards_of_the_experiment_stand_beside_those_that_always_hold() -> None:
    office = {"days": ["mon", "fri"], "from": "09:00", "to": "17:30"}
    guards = {"maxUnavailable": 1, "minInterval": "5m", "active": [office], "holidays": ["2026-12-24"]}
    found = _planned(guards=guards).guards
    assert found["label"] == "chaosd.io/target=true is set on default/web"
    assert (found["maxUnavailable"], found["minInterval"], found["maxPerHour"]) == ("1", "300 s", "no limit")
    assert found["active"] == "mon fri 09:00-17:30"
    assert (found["blackout"], found["holidays"]) == ("none", "2026-12-24")


def test_the_text_has_everything_at_80_columns() -> None:
    found = _planned({"allowed": _only_gets, "volume_room": _room})
    shown = Console(width=80, file=io.StringIO(), record=True)
    shown.print(report.shown(found))
    text = shown.export_text()
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for replica in found.replicas:
        for key in ("pod", "claim", "volume", "handle", "node", "capacity"):
            assert replica[key] in words
    assert "missing list, watch on statefulsets.apps; list, watch on pods; create on pods/exec; " in words
    assert "unseen list, watch on persistentvolumes cluster-wide; " in words
    for name, rule in found.guards.items():
        assert f"{name} {rule}" in words
    assert "5,242,880 bytes and 100 inodes free, as kubelet tells" in words
    assert "node-drain" in words
