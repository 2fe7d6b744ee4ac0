"""The kill switch, thrown at any moment of a run on a real cluster, in each of its ways, whatever is under way then."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaosd.cluster.port import PAUSED_ANNOTATION
from chaosd.history import NEMESIS, RUN, Kind, Op
from tests import cuts
from tests.chaosd_process import Chaosd
from tests.real import RealCluster

DISRUPTIONS: tuple[Mapping[str, Any], ...] = (
    {"kind": "scale", "weight": 2},
    {"kind": "scale-flap", "times": 2},
    {"kind": "node-drain"},
    {"kind": "reschedule"},
)
_LONGEST_ROUND_SECONDS = 12.0
_MET_SECONDS = 1.0  # a run that has asked whether it may, and was told yes, does not know yet that it was thrown


@dataclass(frozen=True)
class Thrown:
    """What came of it: in which way it was thrown, what was under way, after how many seconds everything was undone (None
    where nothing was to undo), whether anything was disturbed once it was met, and with which code the process ended."""

    way: str
    phase: str
    undone_after: float | None
    disturbed_later: bool
    code: int
    told: str

    @property
    def right(self) -> bool:
        """Whether it did what it must."""
        return not self.disturbed_later and self.code == 4 and (self.undone_after or 0.0) <= 1.0


def thrown(real: RealCluster, namespace: str, folder: Path, seed: int) -> Thrown:
    """Start a run on the StatefulSet `web`, and stop it at a moment that the seed says."""
    rng, out = random.Random(seed), folder / f"out-{seed}"
    path = folder / "experiment.yaml"
    document = {"name": "stopped", "target": {"namespace": namespace, "statefulset": "web"}, "rounds": 100}
    path.write_text(yaml.safe_dump({**document, "workload": {"files": 5}, "disruptions": list(DISRUPTIONS)}))
    way = rng.choice(sorted(_WAYS))
    with Chaosd("run", path, "--seed", str(seed), "--kubeconfig", real.path, "--out", out) as process:
        process.until_line(lambda line: "round 1 of" in line)
        time.sleep(rng.uniform(0, _LONGEST_ROUND_SECONDS))
        _WAYS[way](real, namespace, process)
        at = time.time()
        code = process.wait()
    for one in (f"statefulset/web --namespace={namespace}", f"namespace/{namespace}"):
        real.kubectl("annotate", *one.split(), f"{PAUSED_ANNOTATION}-")
    ops = cuts.history(out)
    before = [op for op in ops if op.time <= at]
    later = [op for op in ops if op.time > at and op.process == NEMESIS]
    undone = [op.time - at for op in later if op.f == "undo" and op.kind is Kind.OK]
    met = [op for op in later if op.time > at + _MET_SECONDS]
    disturbed = any(op.kind is Kind.INVOKE and op.value.get("disrupts") for op in met)
    return Thrown(way, _phase(before), max(undone, default=None), disturbed, code, process.told)


def _phase(before: Sequence[Op]) -> str:
    """The last thing that was begun: by the nemesis, else by the run."""
    for op in reversed(before):
        if op.process in (NEMESIS, RUN):
            return f"{op.f} {op.kind}"
    return "nothing"


def _annotate(real: RealCluster, *named: str) -> None:
    real.kubectl("annotate", *named, f"{PAUSED_ANNOTATION}=true")


_WAYS: Mapping[str, Callable[[RealCluster, str, Chaosd], None]] = {
    "SIGINT": lambda real, namespace, process: process.send(signal.SIGINT),
    "SIGTERM": lambda real, namespace, process: process.send(signal.SIGTERM),
    "StatefulSet": lambda real, namespace, process: _annotate(real, "statefulset/web", f"--namespace={namespace}"),
    "namespace": lambda real, namespace, process: _annotate(real, f"namespace/{namespace}"),
}
