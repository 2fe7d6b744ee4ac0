"""kill -9 of chaosd on a real cluster at moments that are drawn, and what its next start finds and does."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chaosd.checkers.records import expand, name_of
from chaosd.cluster.port import CORDONED_ANNOTATION
from chaosd.history import Kind, Op
from tests import cuts
from tests.chaosd_process import Chaosd
from tests.manifests import Document
from tests.real import RealCluster

# What leaves something to be undone, beside what does not.
DISRUPTIONS: list[Document] = [
    {"kind": "pod-delete"},
    {"kind": "scale", "to": 0},
    {"kind": "node-drain"},
    {"kind": "recreate", "deletion": "foreground", "mayDelete": True},
]
# A dead holder keeps others off no longer than this.
ENV = {"CHAOSD_LEASE_SECONDS": "8"}
_LONGEST_SECONDS = 6.0

Start = Callable[..., Chaosd]


@dataclass(frozen=True)
class Survived:
    """What a run was after its chaosd was killed so often: files that were `acknowledged`, which of them are `gone`, what
    was `left` unhealed when the next start went on, what next starts found to be undone (`healed`, by its kind), and how
    the run was verified in the end."""

    acknowledged: int
    gone: set[str]
    left: list[str]
    healed: Counter[str]
    verified: Chaosd


def survive(real: RealCluster, namespace: str, start: Start, path: Path, kills: int, rng: random.Random) -> Survived:
    """Start a run, which goes on for ever, and kill it; so often. Then end and verify it."""
    left, run = list[str](), ""
    as_found = left_on(real, namespace, run)
    for number in range(kills + 1):
        with start("run", path, "-n", namespace, env=ENV) as process:
            if number:
                process.until_line(lambda line: "goes on with this run" in line)
                found = _paused(process, partial(left_on, real, namespace, run))
                left += [f"start {number}: {found}; {process.told}"] if found != as_found else []
            else:
                named = re.search(r" run (01\w{24})", process.until_line(lambda line: " run 01" in line))
                assert named is not None, "that is how it is told"
                run = named[1]
            if number < kills:
                time.sleep(rng.uniform(0.0, _LONGEST_SECONDS))
                process.send(signal.SIGKILL)
            else:
                _end_after_a_round(process)
            process.wait()
    real.wait_ready(namespace, "web")
    with start("verify", env=ENV) as verified:
        verified.wait()
    assert verified.out is not None, "started with --out"
    ops = cuts.history(verified.out)
    must_be, acknowledged = owed(ops)
    gone = must_be - files_on(real, namespace, verified.verdict["run"])
    return Survived(acknowledged, gone, left, _healed(ops), verified)


def _end_after_a_round(process: Chaosd) -> None:
    """After one more than that which was interrupted."""
    interrupted = re.search(r"round (\d+) done", process.until_line(lambda line: " done: " in line))
    assert interrupted is not None, "that is how it is told"
    process.until_line(lambda line: f"round {int(interrupted[1]) + 1} done: " in line)
    process.send(signal.SIGTERM)


def _paused(process: Chaosd, look: Callable[[], Any]) -> Any:
    """What is seen while chaosd does nothing."""
    process.send(signal.SIGSTOP)
    try:
        return look()
    finally:
        process.send(signal.SIGCONT)


def left_on(real: RealCluster, namespace: str, run: str) -> Document:
    """What a disruption of a run might have left. Who else works on the cluster may cordon nodes, too."""
    configs = real.get("configmaps", f"--namespace={namespace}")["items"]
    nodes = real.get("nodes")["items"]
    return {
        "replicas": real.get("statefulset", "web", f"--namespace={namespace}")["spec"]["replicas"],
        "cordoned": [node["metadata"]["name"] for node in nodes if _mark(node) == run],
        "configs": [one["metadata"]["name"] for one in configs if one["metadata"]["name"].startswith("chaosd")],
    }


def _mark(node: Document) -> str | None:
    """Which run cordoned a node."""
    return (node["metadata"].get("annotations") or {}).get(CORDONED_ANNOTATION)


def _healed(ops: Iterable[Op]) -> Counter[str]:
    """What stood open when chaosd was killed. A start that undoes something tells it after the undo itself."""
    healed, last = Counter[str](), ""
    for op in ops:
        if op.f == "undo":
            last = str(op.value["kind"])
        elif op.f == "healed":
            healed[last] += 1
    return healed


def owed(ops: Iterable[Op]) -> tuple[set[str], int]:
    """Of the files that are written once, as POD/FILE: those that must be there, and how many were acknowledged."""
    acknowledged, dropped = set[str](), set[str]()
    for op in ops:
        pod = op.process.rpartition("/")[2]
        if op.f == "write" and op.kind is Kind.OK and "how" not in op.value:
            acknowledged.add(f"{pod}/{name_of(op.value['sequence'])}")
        elif op.f == "delete":
            dropped |= {f"{pod}/{name_of(sequence)}" for sequence in expand(op.value["sequences"])}
    return acknowledged - dropped, len(acknowledged)


def files_on(real: RealCluster, namespace: str, run: str) -> set[str]:
    """A run's files on all replicas, as POD/FILE."""
    pods = [pod["metadata"]["name"] for pod in real.get("pods", f"--namespace={namespace}")["items"]]
    path = f"/data/.chaosd/{run}"
    listed = {pod: real.kubectl("exec", pod, f"--namespace={namespace}", "--", "ls", path) for pod in pods}
    return {f"{pod}/{name}" for pod, names in listed.items() for name in names.split()}
