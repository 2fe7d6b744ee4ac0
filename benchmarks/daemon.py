"""What the daemon takes of a machine: idle, and in a soak of 30 pods on the testbed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks import real_cluster
from benchmarks.figure import Figure

if TYPE_CHECKING:
    from tests.real import RealCluster

_TARGETS, _REPLICAS = 10, 3
_SECONDS = 120.0
_MEGABYTES, _CORES = 140, 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Taken:
    """Cores while it was looked at, and the most memory in megabytes until then."""

    cores: float
    megabytes: float


def measure() -> Iterator[Figure]:
    """Cores and megabytes."""
    real = real_cluster.of_testbed()
    with real_cluster.own_namespace(real) as namespace, tempfile.TemporaryDirectory() as folder:
        names = _start_targets(real, namespace)
        later = {"rounds": 1, "schedule": {"cron": "0 0 1 1 *"}}  # on New Year's Day
        with _daemon(real, Path(folder) / "idle", [_experiment(namespace, name) | later for name in names]) as log:
            _until(log, "the next run is due", len(names))
            idle = _taken(log, _SECONDS)
        with _daemon(real, Path(folder) / "soak", [_experiment(namespace, name) for name in names]) as log:
            _until(log, ": round 2", len(names))
            soak = _taken(log, _SECONDS)
            rounds = log.read_text().count(" done: ")
    detail = f"{_TARGETS} experiments wait for their time; {idle.megabytes:.0f} MB"
    yield Figure("cores of an idle daemon", idle.cores, "cores", detail, at_most=_CORES)
    detail = f"{_TARGETS} targets of {_REPLICAS} replicas, {rounds} rounds done; {soak.cores:.2f} cores"
    yield Figure("memory of the daemon in a soak of 30 pods", soak.megabytes, "MB", detail, at_most=_MEGABYTES)


def _start_targets(real: RealCluster, namespace: str) -> Sequence[str]:
    names = [f"web-{number}" for number in range(_TARGETS)]
    rendered = yaml.safe_load_all(real.kubectl("kustomize", str(real.target)))
    (web,) = [document for document in rendered if document["kind"] == "StatefulSet"]
    for name in names:
        meta = {**web["metadata"], "name": name, "namespace": namespace}
        labels = {"app": name}
        template = {**web["spec"]["template"], "metadata": {"labels": labels}}
        spec = {**web["spec"], "replicas": _REPLICAS, "selector": {"matchLabels": labels}, "template": template}
        real.apply({**web, "metadata": meta, "spec": spec})
    for name in names:
        real.wait_ready(namespace, name)
    return names


def _experiment(namespace: str, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "target": {"namespace": namespace, "statefulset": name},
        "workload": {"files": 20, "size": "64Ki"},
        "disruptions": [{"kind": "pod-delete", "weight": 3}, {"kind": "scale"}],
        "guards": {"minInterval": "1m"},
    }


@contextmanager
def _daemon(real: RealCluster, folder: Path, experiments: Sequence[dict[str, Any]]) -> Iterator[Path]:
    """Yields its log, whose first line is its process id."""
    (folder / "experiments").mkdir(parents=True)
    for document in experiments:
        (folder / "experiments" / f"{document['name']}.yaml").write_text(yaml.safe_dump(document))
    argv = ("daemon", folder / "experiments", "--kubeconfig", real.kubeconfig, "--out", folder, "--listen", "127.0.0.1:0")
    log = folder / "log"
    with log.open("w") as writing:
        command = [sys.executable, "-m", "chaosd", *map(str, argv)]
        daemon = subprocess.Popen(command, stdout=writing, stderr=writing, env={**os.environ, "CHAOSD_DRILL": "never"})
    (folder / "pid").write_text(str(daemon.pid))
    try:
        yield log
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(120)


def _until(log: Path, words: str, times: int) -> None:
    deadline = time.monotonic() + 600
    while log.read_text().count(words) < times:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(1)


def _taken(log: Path, seconds: float) -> _Taken:
    process = Path("/proc") / (log.parent / "pid").read_text()
    before, began = _cpu_seconds(process), time.monotonic()
    time.sleep(seconds)
    cores = (_cpu_seconds(process) - before) / (time.monotonic() - began)
    most = int(re.findall(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())[0]) / 1024
    return _Taken(cores, most)


def _cpu_seconds(process: Path) -> float:
    user, system = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS
