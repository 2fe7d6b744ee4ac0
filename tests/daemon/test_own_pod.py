"""The daemon's own pod: a ledger on the storage under test is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosd.cluster.port import StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.daemon.own_pod import OwnPod
from chaosd.errors import TargetError
from chaosd.experiment import default_for

WEB = Path(__file__).resolve().parents[2] / "experiments" / "targets" / "web.yaml"
LEDGER = Path("/data/chaosd/chaosd.db")


def _statefulset(name: str, storage_class: str) -> dict[str, Any]:
    _, document = yaml.safe_load_all(WEB.read_text())
    document["metadata"]["name"] = name
    document["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = storage_class
    return dict(document)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SandboxCluster]:
    """A daemon's pod `chaosd-0` whose claim has the class of `web`, and not that of `db`."""
    opened = await SandboxCluster.open(tmp_path)
    await opened.apply([_statefulset("chaosd", "fast"), _statefulset("web", "fast"), _statefulset("db", "slow")])
    while min(found.ready_replicas for found in await opened.list(StatefulSet, "default")) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    yield opened
    await opened.close()


async def test_a_target_of_the_ledgers_storage_class_is_refused_and_no_other(cluster: SandboxCluster) -> None:
    own = OwnPod(cluster, "default", "chaosd-0")
    await own.refuse_shared_storage(LEDGER, default_for("db"))
    with pytest.raises(TargetError, match="default/web is of storage class fast, as the ledger's claim"):
        await own.refuse_shared_storage(LEDGER, default_for("web"))


async def test_nothing_is_refused_outside_of_a_pod_or_for_a_ledger_on_no_claim(cluster: SandboxCluster) -> None:
    await OwnPod(cluster, "", "").refuse_shared_storage(LEDGER, default_for("web"))
    own = OwnPod(cluster, "default", "chaosd-0")
    await own.refuse_shared_storage(Path("/tmp/chaosd.db"), default_for("web"))
    await own.refuse_shared_storage(None, default_for("web"))


async def test_what_is_told_is_a_warning_about_the_pod(cluster: SandboxCluster) -> None:
    await OwnPod(cluster, "default", "chaosd-0").tell("experiment-A_b.yaml", "ChaosdExperimentRefused", "no YAML")
    event = cluster._store.events[-1]
    told = {"target": "default/chaosd-0", "type": "Warning", "reason": "ChaosdExperimentRefused", "message": "no YAML"}
    told["topic"] = "experiment-a-b.yaml"  # Kubernetes docs, "Object Names and IDs"
    assert {key: event[key] for key in told} == told
