"""A run on a real cluster through a bad way to its API server, and what came of it; its guards are watched from outside."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaosd.cluster.port import CORDONED_ANNOTATION
from chaosd.history import NEMESIS, Kind, Op
from tests import cuts, manifests
from tests.chaosd_process import Chaosd
from tests.faulty_proxy import faulty_proxy
from tests.real import RealCluster

REPLICAS = 3
DISRUPTIONS: tuple[Mapping[str, Any], ...] = (
    {"kind": "pod-evict", "weight": 2},
    {"kind": "pod-delete", "weight": 2},
    {"kind": "scale", "to": REPLICAS - 1},
    {"kind": "reschedule"},
)
_INTERVAL_SECONDS = 5
_GUARDS = {"maxUnavailable": 1, "minInterval": f"{_INTERVAL_SECONDS}s"}


@dataclass(frozen=True)
class Ran:
    """What came of a run: its verdicts at the end of each round, how many violations there were, how many requests were
    made and failed, what was not as the guards want it, what was left behind, and its exit code."""

    verdicts: Sequence[str]
    violations: int
    requests: int
    faults: Mapping[str, int]
    breaches: Sequence[str]
    left: Sequence[str]
    code: int
    told: str

    @property
    def decided(self) -> int:
        """Rounds at whose end nothing was unknown."""
        return sum(verdict != "unknown" for verdict in self.verdicts)


def start(real: RealCluster, namespace: str) -> None:
    """The StatefulSet `web`, of whose replicas a budget lets one go."""
    options = {"image": real.image, "storage_class": real.storage_class, "replicas": REPLICAS}
    real.apply(manifests.statefulset(namespace=namespace, **options))
    real.apply(manifests.budget(namespace=namespace, min_available=REPLICAS - 1))
    real.wait_ready(namespace, "web")


def ran(real: RealCluster, namespace: str, folder: Path, *, seed: int, rounds: int) -> Ran:
    """Run so many rounds on it."""
    path, out = folder / "experiment.yaml", folder / "out"
    document = {"name": "bad-way", "target": {"namespace": namespace, "statefulset": "web"}, "rounds": rounds}
    document |= {"workload": {"files": 5}, "guards": _GUARDS, "disruptions": list(DISRUPTIONS)}
    path.write_text(yaml.safe_dump(document))
    with ExitStack() as held:
        proxy = held.enter_context(faulty_proxy(real.path, folder, seed=seed))
        ready = held.enter_context(_watched(real, namespace))
        argv = ("run", path, "--seed", str(seed), "--kubeconfig", proxy.kubeconfig, "--out", out)
        process = held.enter_context(Chaosd(*argv))
        code = process.wait(240 + 90 * rounds)
    ops = cuts.history(out)
    violations = max(cuts.violations(ops), default=0)
    told = {"verdicts": cuts.decided(ops), "violations": violations, "code": code, "told": process.told}
    breaches = [*_too_few(ready), *_too_soon(ops)]
    left = _left(real, namespace, process.verdict["run"])
    return Ran(**told, requests=proxy.requests, faults=proxy.faults, breaches=breaches, left=left)


@contextmanager
def _watched(real: RealCluster, namespace: str) -> Iterator[list[str]]:
    """How many replicas are ready, each time when that changes; told once the context has ended."""
    lines: list[str] = []
    watch = ("get", "statefulset", "web", f"--namespace={namespace}", "--watch")
    command = [*real.kubectl_words, *watch, '--output=jsonpath={.status.availableReplicas}{"\\n"}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        try:
            yield lines
        finally:
            watching.terminate()
            assert watching.stdout is not None
            lines += [line or "0" for line in watching.stdout.read().splitlines()]  # where none is, nothing is told


def _too_few(ready: Sequence[str]) -> list[str]:
    assert ready, "nothing was watched"
    return [f"{count} of {REPLICAS} available" for count in ready if int(count) < REPLICAS - 1]


def _too_soon(ops: Sequence[Op]) -> list[str]:
    began = [op.time for op in ops if op.process == NEMESIS and op.kind is Kind.INVOKE and op.value.get("disrupts")]
    gaps = (after - before for before, after in itertools.pairwise(began))
    return [f"{gap:.1f} s after the last disruption" for gap in gaps if gap < _INTERVAL_SECONDS]


def _left(real: RealCluster, namespace: str, run: str) -> list[str]:
    """What should have been undone. Nodes are everybody's: their marks say who cordoned them."""
    left = [f"Lease {one['metadata']['name']}" for one in real.get("leases", f"--namespace={namespace}")["items"]]
    nodes = [node["metadata"] for node in real.get("nodes")["items"]]
    left += [f"cordon of {n['name']}" for n in nodes if n.get("annotations", {}).get(CORDONED_ANNOTATION) == run]
    replicas = real.get("statefulset", "web", f"--namespace={namespace}")["spec"]["replicas"]
    return left if replicas == REPLICAS else [*left, f"{replicas} replicas"]
