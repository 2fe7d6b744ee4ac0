"""Durable writes and verifications on a real cluster, against one `kubectl exec` for each file.

The cluster is KUBECONFIG's, else that of tests/testbed, which is started.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import real_cluster
from benchmarks.figure import Figure
from benchmarks.rounds import history_of, seconds_between
from chaosd.history import Kind, Op
from chaosd.settings import Settings

_FILES, _BYTES, _BY_HAND = 1000, 65536, 15


def measure() -> Iterator[Figure]:
    """64 KiB files, one replica: how many times as fast as by hand."""
    from tests import manifests

    real = real_cluster.of_environment()
    options = {"image": real.image, "storage_class": real.storage_class, "replicas": 1}
    with real_cluster.own_namespace(real) as namespace:
        real.apply(manifests.statefulset(namespace=namespace, **options))
        real.wait_ready(namespace, "web")
        writes, reads = _chaosd(namespace, real.path)
        by_hand = _by_hand(real, namespace)
    detail = f"{writes:,.0f} files/s with its ledger and checks, against {by_hand:.1f} files/s by hand"
    yield Figure("durable writes", writes / by_hand, "times as fast", detail, at_least=50)
    detail = f"{reads:,.0f} files/s with its ledger and checks, against {by_hand:.1f} files/s by hand"
    yield Figure("verifications, past the page cache", reads / by_hand, "times as fast", detail, at_least=150)


def _chaosd(namespace: str, kubeconfig: Path) -> tuple[float, float]:
    experiment = {
        "name": "bench",
        "target": {"statefulset": "web", "namespace": namespace},
        "workload": {"files": _FILES, "size": _BYTES, "share": {"bytes": "256Mi", "files": 4000}},
        "steps": [{"name": "write and read", "write": _FILES, "verify": True}],
    }
    with tempfile.TemporaryDirectory() as folder:
        ops = history_of(experiment, Settings(kubeconfig=kubeconfig, out=Path(folder)))
    writes = [op for op in ops if op.f == "write"]
    reads = [op for op in ops if op.f == "read"]
    assert {op.value["cache"] for op in reads if op.kind is Kind.OK} == {"cold"}
    return _FILES / _seconds(writes), _FILES / _seconds(reads)


def _seconds(ops: Sequence[Op]) -> float:
    return seconds_between(ops[0], ops[-1])


def _by_hand(real: object, namespace: str) -> float:
    """What people do by hand: one exec that writes a file, syncs and reads it back."""
    script = "dd if=/dev/urandom of=/data/by-hand-$1 bs=65536 count=1 2>/dev/null && sync && sha256sum /data/by-hand-$1"
    began = time.perf_counter()
    for number in range(_BY_HAND):
        real.kubectl("exec", "web-0", f"--namespace={namespace}", "--", "sh", "-c", script, "sh", str(number))  # type: ignore[attr-defined]
    return _BY_HAND / (time.perf_counter() - began)
