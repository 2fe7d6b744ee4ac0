"""Each check of `preflight`, well and failing, with its mend."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from chaosd import virtual_time
from chaosd.cluster.port import PAUSED_ANNOTATION, Budget, Cluster, Lease, Node, Pod, Room, StatefulSet
from chaosd.cluster.sandbox import MemoryDisk
from chaosd.errors import ForbiddenError, NotFoundError, RefusedError, UnreachableError
from chaosd.experiment import Experiment
from chaosd.preflight.checks import NAMES, Check, Preflight, Status, check_all
from chaosd.report import preflight as report
from tests import manifests
from tests.cluster.sandbox.simulated import Simulated, simulated

LEASE_SECONDS = 20
Json = dict[str, Any]
Prepare = Callable[[Simulated], Awaitable[None]]
EVICT: Json = {"kind": "pod-evict"}
RECREATE: Json = {"kind": "recreate", "deletion": "orphan", "mayDelete": True}


class Instead:
    """A cluster of which some methods are others."""

    def __init__(self, inner: Cluster, methods: Json) -> None:
        self._inner = inner
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods[name] if name in self._methods else getattr(self._inner, name)


@pytest.fixture
def preflight(tmp_path: Path) -> Callable[..., Preflight]:
    """Checks an experiment on two replicas, once they were `prepared`."""

    def checked(
        prepare: Prepare | None = None,
        *,
        instead: Json | None = None,
        target: Json | None = None,
        applied: Json | None = None,
        ledger: str = f"sqlite:///{tmp_path}/out/chaosd.db",
        **over: Any,
    ) -> Preflight:
        document = {"name": "test", "disruptions": [{"kind": "pod-delete"}], "timeouts": {"probe": "5s"}, **over}
        experiment = Experiment.model_validate(document | {"target": {"statefulset": "web", **(target or {})}})
        told: list[Preflight] = []

        async def check(sim: Simulated) -> None:
            await sim.cluster.apply([applied or manifests.statefulset(replicas=2)])
            await sim.ready(2)
            if prepare:
                await prepare(sim)
            before = _stored(sim)
            told.append(await check_all(Instead(sim.cluster, instead or {}), experiment, ledger, LEASE_SECONDS, sim.clock))
            assert _stored(sim) == before

        there = sorted(tmp_path.iterdir())
        simulated(check)
        assert sorted(tmp_path.iterdir()) == there
        assert list(dict.fromkeys(check.name for check in told[0].checks)) == [*NAMES]
        return told[0]

    return checked


def _stored(sim: Simulated) -> Any:
    """Everything that a check could have left behind."""
    disks = [(sim.disk(n).files, sim.disk(n).free_bytes, sim.disk(n).free_inodes) for n in range(2)]
    return disks, dict(sim.store.leases), dict(sim.store.configs), [pod.ephemeral for pod in sim.store.all(Pod)]


def of(preflight: Preflight, name: str) -> Check:
    """The one finding of a check."""
    (found,) = (check for check in preflight.checks if check.name == name)
    return found


def failed(preflight: Preflight) -> set[str]:
    return {check.name for check in preflight.checks if check.status is Status.FAILED}


def test_a_healthy_target_is_ready(preflight: Callable[..., Preflight]) -> None:
    found = preflight()
    assert {check.name: str(check.status) for check in found.checks} == dict.fromkeys(NAMES, "ok")
    assert not found.failed
    assert found.roles == ()
    assert "/data is a mount (ext4" in of(found, "probe").found
    assert "the share is 256 MiB and 2000 files" in of(found, "room").found


def test_how_files_are_read_shows_where_some_are(preflight: Callable[..., Preflight]) -> None:
    async def stored(sim: Simulated) -> None:
        await sim.stored(0)

    assert "past the page cache; " in of(preflight(stored), "probe").found


# The target.


def _changed(**changes: Any) -> Prepare:
    async def change(sim: Simulated) -> None:
        sim.store.put(replace(sim.store.get(StatefulSet, "default", "web"), **changes))

    return change


@pytest.mark.parametrize(
    ("prepare", "target", "mend"),
    [
        (None, {"statefulset": "absent"}, "an empty sandbox is given the target.manifest"),
        (_changed(labels={}), {}, "kubectl -n default label statefulset web chaosd.io/target=true"),
        (_changed(annotations={PAUSED_ANNOTATION: "true"}), {}, "chaosd resume statefulset/web"),
        (None, {"path": "/nowhere"}, "name one of /data"),
        (None, {"namespace": "kube-system"}, "guards.denyNamespaces has kube-system"),
    ],
)
def test_a_target_that_cannot_be_tested(
    preflight: Callable[..., Preflight], prepare: Prepare | None, target: Json, mend: str
) -> None:
    found = preflight(prepare, target=target)
    assert failed(found) == {"target"}
    assert mend in of(found, "target").found
    assert of(found, "rights").status is Status.OK  # which need no target
    assert of(found, "probe") == Check("probe", Status.UNKNOWN, "the target must be found first")


def test_a_target_without_replicas(preflight: Callable[..., Preflight]) -> None:
    async def scaled(sim: Simulated) -> None:
        await sim.scale(0)

    found = preflight(scaled)
    assert failed(found) == {"target"}
    assert "scale it up" in of(found, "target").found


def test_a_target_that_does_not_converge(preflight: Callable[..., Preflight]) -> None:
    async def cordoned(sim: Simulated) -> None:
        for node in sim.store.all(Node):
            sim.store.put(replace(node, unschedulable=True))
        pod = sim.pod(1)
        await sim.cluster.delete_pod("default", pod.name, uid=pod.uid)

    found = preflight(cordoned)
    assert failed(found) == {"converged", "probe"}
    assert of(found, "converged").found.startswith("web-1: ")
    assert "kubectl -n default describe pod web-1" in of(found, "converged").mend


def test_a_pod_that_comes_in_time_is_waited_for(preflight: Callable[..., Preflight]) -> None:
    async def deleted(sim: Simulated) -> None:
        pod = sim.pod(1)
        await sim.cluster.delete_pod("default", pod.name, uid=pod.uid)

    assert not preflight(deleted, timeouts={"probe": "60s"}).failed


class _Disturbed:
    """What a run does to the target is seen at the first look: it is scaled to 0, and then a pod has just gone."""

    def __init__(self) -> None:
        self._cluster: Cluster | None = None
        self._seen = set[object]()

    async def by_a_run(self, sim: Simulated) -> None:
        await sim.cluster.put_lease(Lease("default", "chaosd-web", "somebody's run", LEASE_SECONDS, sim.clock()))
        await self.by_somebody(sim)

    async def by_somebody(self, sim: Simulated) -> None:
        self._cluster = sim.cluster

    async def get(self, kind: type[Any], namespace: str, name: str) -> Any:
        assert self._cluster is not None
        found, is_first = await self._cluster.get(kind, namespace, name), (kind, name) not in self._seen
        self._seen.add((kind, name))
        if is_first and (kind, name) == (Pod, "web-1"):
            raise NotFoundError("pods web-1 not found")
        return replace(found, replicas=0) if is_first and kind is StatefulSet else found


def test_a_target_that_a_run_disturbs_is_looked_at_again(preflight: Callable[..., Preflight]) -> None:
    disturbed = _Disturbed()
    found = preflight(disturbed.by_a_run, instead={"get": disturbed.get})
    assert not found.failed
    assert "2 replicas" in of(found, "target").found
    assert "1 more alike" in of(found, "probe").found


def test_a_target_that_nobody_tests_and_has_no_replicas_is_not_waited_for(preflight: Callable[..., Preflight]) -> None:
    disturbed = _Disturbed()
    assert failed(preflight(disturbed.by_somebody, instead={"get": disturbed.get})) == {"target"}


# Rights.


def _lacking(*lacking: str) -> Json:
    async def allowed(verb: str, resource: str, namespace: str) -> bool:
        return f"{verb} {resource}" not in lacking

    return {"allowed": allowed}


def test_missing_rights_are_named_with_the_role_that_grants_them(preflight: Callable[..., Preflight]) -> None:
    found = preflight(
        instead=_lacking("create pods/exec", "delete pods", "patch nodes"), disruptions=[{"kind": "reschedule"}]
    )
    assert failed(found) == {"rights"}
    check = of(found, "rights")
    assert check.found == "missing: create on pods/exec; delete on pods; patch on nodes cluster-wide"
    cluster, namespaced = found.roles
    assert cluster["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]
    assert namespaced["metadata"]["name"] in check.mend
    assert namespaced["metadata"]["namespace"] == "default"
    assert list(yaml.safe_load_all(report.closing(found).partition("---")[2].rpartition("\n\n")[0])) == [*found.roles]


def test_a_wish_that_is_not_granted_is_a_warning(preflight: Callable[..., Preflight]) -> None:
    found = preflight(instead=_lacking("list persistentvolumes", "watch events"))
    assert not found.failed
    assert of(found, "wishes").status is Status.WARNING
    assert "list on persistentvolumes cluster-wide; watch on events" in of(found, "wishes").found
    assert [role["kind"] for role in found.roles] == ["ClusterRole", "Role"]


async def _forbidden(*_: object) -> Any:
    raise ForbiddenError("no (403)")


def test_what_may_not_be_listed_is_unknown(preflight: Callable[..., Preflight]) -> None:
    found = preflight(instead={"list": _forbidden}, disruptions=[EVICT])
    assert not found.failed  # it stands under rights, where that is why
    assert {of(found, name).status for name in ("converged", "clocks", "budgets")} == {Status.UNKNOWN}
    assert "grant what is missing under rights" in of(found, "budgets").mend


# The probe and its volume.


def _on_disk(act: Callable[[MemoryDisk], object]) -> Prepare:
    async def prepare(sim: Simulated) -> None:
        act(sim.disk(1))

    return prepare


def test_a_container_that_may_not_be_entered_is_unknown(preflight: Callable[..., Preflight]) -> None:
    def refused(*_: object) -> Any:
        raise ForbiddenError("no (403)")

    found = preflight(instead={"exec": refused})
    assert [check.status for check in found.checks if check.name == "probe"] == [Status.UNKNOWN] * 2


def test_a_container_without_a_shell(preflight: Callable[..., Preflight]) -> None:
    def refused(*_: object) -> Any:
        raise RefusedError("no such file or directory: sh")

    found = preflight(instead={"exec": refused})
    assert failed(found) == {"probe"}
    checks = [check for check in found.checks if check.name == "probe"]
    assert len(checks) == 2
    assert all("name a container with a POSIX shell" in check.found for check in checks)
    found = preflight(instead={"exec": refused}, target={"probeImage": "python:3"})
    assert not found.failed
    warned = [check for check in found.checks if check.name == "probe"]
    assert {check.status for check in warned} == {Status.WARNING}
    assert "which stays as long as the pod does" in warned[0].found


def test_an_image_of_the_agents_is_not_tried(preflight: Callable[..., Preflight]) -> None:
    found = preflight(target={"probe": "agent", "probeImage": "python:3"})
    assert not found.failed
    assert {check.status for check in found.checks if check.name == "probe"} == {Status.WARNING}
    assert {check.status for check in found.checks if check.name == "room"} == {Status.UNKNOWN}


def test_room_is_told_by_the_kubelet_where_the_probe_cannot(preflight: Callable[..., Preflight]) -> None:
    async def room(node: str) -> dict[str, Room]:
        return {f"default/disk-web-{n}": Room((100 + n) << 20, 5000) for n in range(2)}

    agent = {"probe": "agent", "probeImage": "python:3"}
    found = preflight(instead={"volume_room": room}, target=agent, workload={"share": {"bytes": "100Mi"}})
    assert of(found, "room").found.startswith("least free: 100 MiB and 5000 inodes on web-0")


def test_a_volume_that_is_mounted_read_only(preflight: Callable[..., Preflight]) -> None:
    document = manifests.statefulset(replicas=2)
    document["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = True
    found = preflight(applied=document)
    assert failed(found) == {"probe"}
    fault = next(check for check in found.checks if check.status is Status.FAILED)
    assert fault.found == "web-0: /data in container app is mounted read-only"
    assert "mount it writable" in fault.mend


@pytest.mark.parametrize(
    ("leave", "mend"),
    [
        ({"leave_bytes": 50 << 20}, "lower workload.share.bytes to 50Mi or less"),
        ({"leave_bytes": 4 << 10}, "lower workload.share.bytes to 4Ki or less"),
        ({"leave_bytes": 500 << 20, "leave_inodes": 9}, "lower workload.share.files to 9 or less"),
    ],
)
def test_a_share_that_does_not_fit(preflight: Callable[..., Preflight], leave: Json, mend: str) -> None:
    found = preflight(_on_disk(lambda disk: disk.fill_up(**leave)))
    assert failed(found) == {"room"}
    (lacking,) = (check for check in found.checks if check.status is Status.FAILED)
    assert lacking.found.startswith("web-1 has ")
    assert mend in lacking.found


def test_a_volume_that_is_too_full_for_the_guard(preflight: Callable[..., Preflight]) -> None:
    found = preflight(_on_disk(lambda disk: disk.fill_up(leave_bytes=300 << 20)), guards={"minFree": "90%"})
    assert failed(found) == {"room"}
    assert "every disruption would be refused" in next(c.found for c in found.checks if c.status is Status.FAILED)


# Clocks.


@pytest.mark.parametrize(
    ("seconds", "status"), [(1, "ok"), (-1, "ok"), (5, "warning"), (-5, "warning"), (30, "failed"), (-30, "failed")]
)
def test_clocks_that_differ(preflight: Callable[..., Preflight], seconds: int, status: str) -> None:
    async def server() -> float:
        return virtual_time.EPOCH_SECONDS + asyncio.get_running_loop().time() // 1 + seconds

    async def node(name: str) -> float:
        return float(seconds) if name == "sandbox-1" else 0.0

    by_server = preflight(instead={"clock": server})
    by_node = preflight(instead={"node_clock": node})
    for found in (by_server, by_node):
        assert status in {check.status for check in found.checks if check.name == "clocks"}
        assert all(check.status in ("ok", status) for check in found.checks if check.name == "clocks")
        assert found.failed == (status == "failed")
    if status != "ok":
        where = "ahead of" if seconds > 0 else "behind"
        assert f"s {where} chaosd's" in " ".join(check.found for check in by_server.checks)
        told = next(check for check in by_node.checks if check.name == "clocks" and check.status == status)
        assert told.found == f"the clock of node sandbox-1 is {abs(seconds)} s {where} the API server's"
        assert "NTP" in told.mend


def test_a_lease_that_took_long_to_be_stored_is_no_clock_that_is_behind(preflight: Callable[..., Preflight]) -> None:
    async def node(name: str) -> float:
        return -3.0 if asyncio.get_running_loop().time() < 8 else 0.0

    found = preflight(instead={"node_clock": node})
    assert {check.status for check in found.checks if check.name == "clocks"} == {Status.OK}


@pytest.mark.parametrize("error", [NotFoundError("no Lease"), ForbiddenError("no")])
def test_a_clock_that_is_not_told_is_unknown(preflight: Callable[..., Preflight], error: Exception) -> None:
    async def untold(_: str) -> float:
        raise error

    found = preflight(instead={"node_clock": untold})
    assert [(c.status, c.found) for c in found.checks if c.name == "clocks"] == [
        (Status.OK, "within 2 s: chaosd, the API server"),
        (Status.UNKNOWN, "not told: node sandbox-1, node sandbox-2"),
    ]
    assert not found.failed


# What goes by policy, and budgets.


def test_data_that_go_by_policy(preflight: Callable[..., Preflight]) -> None:
    scaled, deleted = _changed(retention_when_scaled="Delete"), _changed(retention_when_deleted="Delete")
    assert of(preflight(scaled), "retention").status is Status.OK  # nothing scales
    found = of(preflight(scaled, disruptions=[{"kind": "scale"}]), "retention")
    assert (found.status, "set whenScaled: Retain" in found.mend) == (Status.WARNING, True)
    assert of(preflight(deleted), "retention").status is Status.OK  # nothing deletes the StatefulSet
    refused = preflight(deleted, disruptions=[RECREATE])
    assert failed(refused) == {"retention"}
    assert "leave recreate out" in of(refused, "retention").mend


@pytest.mark.parametrize(("least", "status"), [(2, Status.WARNING), (1, Status.OK)])
def test_a_budget_that_can_never_be_met(preflight: Callable[..., Preflight], least: int, status: Status) -> None:
    async def budgeted(sim: Simulated) -> None:
        await sim.cluster.apply([manifests.budget(min_available=least)])
        await sim.until(lambda: sim.store.get(Budget, "default", "web").wanted == least)

    found = preflight(budgeted, disruptions=[EVICT])
    assert of(found, "budgets").status is status
    if status is Status.WARNING:
        assert "blocked (budget): PodDisruptionBudget default/web wants 2 healthy pods of 2" in of(found, "budgets").found
    assert of(preflight(budgeted), "budgets").found == "nothing is evicted"


# The ledger.


def test_a_ledger_that_cannot_be_opened(preflight: Callable[..., Preflight], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = preflight(ledger=f"sqlite:///{tmp_path}/file/ledger.db")
    assert failed(found) == {"ledger"}
    assert "name another with --ledger" in of(found, "ledger").found
    assert failed(preflight(ledger="nonsense")) == {"ledger"}


def test_a_ledger_on_the_volume_under_test(preflight: Callable[..., Preflight], monkeypatch: pytest.MonkeyPatch) -> None:
    fsids: list[str] = []

    async def seen(sim: Simulated) -> None:
        fsids.append(sim.disk(1).fsid)

    class Stat:
        @property
        def f_fsid(self) -> int:
            number = int(fsids[-1], 16)
            return (number & 0xFFFFFFFF) << 32 | number >> 32

    monkeypatch.setattr("chaosd.preflight.checks.os.statvfs", lambda _: Stat())
    found = of(preflight(seen), "ledger")
    assert (found.status, "the volume of web-1" in found.found) == (Status.WARNING, True)
    assert "--ledger" in found.mend


# What cannot be asked at all, and what is shown.


def test_a_cluster_that_is_away_is_no_finding(preflight: Callable[..., Preflight]) -> None:
    async def away(*_: object) -> Any:
        raise UnreachableError("no answer")

    with pytest.raises(UnreachableError):
        preflight(instead={"allowed": away})


def test_the_text_has_everything_at_80_columns(preflight: Callable[..., Preflight]) -> None:
    found = preflight(instead=_lacking("create pods/exec", "list nodes"), workload={"share": {"bytes": "999Gi"}})
    shown = Console(width=80, file=io.StringIO(), record=True)
    shown.print(report.shown(found))
    text = shown.export_text()
    assert max(map(len, text.splitlines())) <= 80
    told = "".join(text.split())  # a long path is folded anywhere
    for check in found.checks:
        assert f"{check.name}{check.status}{''.join(check.found.split())}" in told
        assert "".join(check.mend.split()) in told
    assert report.closing(found).splitlines()[-1] == "preflight: not ready (3 failed, 1 warning, 7 ok)"
