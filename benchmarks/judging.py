"""Judging: a history from the ledger through every checker, in one pass, by how long it is."""

from __future__ import annotations

import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from chaosd.checkers import Panel, Value
from chaosd.history import NEMESIS, OBSERVER, RUN, Event, Kind, Op
from chaosd.ledger import Ledger

_LENGTHS = (10_000, 100_000, 1_000_000)
_REPLICAS = tuple(f"default/web-{ordinal}" for ordinal in range(3))
_FILES = 64  # of a round, for each replica
_SECONDS, _MEGABYTES = 5.0, 500.0


def measure() -> Iterator[Figure]:
    """Seconds and memory for each length; a process of its own judges, so that its memory is its own."""
    costs = []
    for length in _LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'ledger.db'}"
            fill(url, length)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                fetching, seconds, megabytes = pool.apply(_judge, (url,))
        costs.append(seconds / length * 1e6)
        detail = (
            f"{costs[-1]:.1f} µs for each op, of which fetching takes {fetching / length * 1e6:.1f}; {megabytes:.0f} MB"
        )
        longest = length == _LENGTHS[-1]
        name = f"judging a history of {length:,} ops"
        yield Figure(name, seconds, "s", detail, at_most=_SECONDS if longest else None)
        if longest:
            yield Figure(f"{name}, memory", megabytes, "MB", detail, at_most=_MEGABYTES)
    detail = "cost of an op in the longest history against the shortest: 1 is linear"
    yield Figure("judging, growth", costs[-1] / costs[0], "times", detail, at_most=1.5)


def fill(url: str, length: int) -> None:
    """A ledger with one run of so many ops."""
    with Ledger.open(url) as ledger:
        run = ledger.begin(
            "RUN", experiment="{}", seed=1, target="default/web", cluster="sandbox v1", cluster_id="", started_at=0.0
        )
        ops = islice(_ops(), length)
        while batch := list(islice(ops, 20_000)):
            ledger._write(run, batch)


def _judge(url: str) -> tuple[float, float, float]:
    """Seconds to fetch the history, seconds to fetch and judge it, and the most memory that was resident, in MB."""
    with Ledger.open(url) as ledger:
        run = ledger.run()
        assert run is not None, "made by fill"
        began = time.perf_counter()
        for _ in ledger.history(run):
            pass
        fetched = time.perf_counter()
        panel = Panel()
        for op in ledger.history(run):
            panel.step(op)
        judgement = panel.judge()
        judged = time.perf_counter()
    assert judgement.value is not Value.FAIL, judgement.violations
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return fetched - began, judged - fetched, megabytes


def _ops() -> Iterator[Op]:
    """The history, in which what is journaled together has one time."""
    index = itertools.count()
    for at, events in enumerate(_journaled()):
        yield from (Op(next(index), float(at), e.process, e.f, e.kind, e.value) for e in events)


def _journaled() -> Iterator[Iterable[Event]]:
    """Rounds for ever: write, replace a pod, list, read all that is owed, delete what was read twice."""
    yield _target()
    owed: dict[str, range] = dict.fromkeys(_REPLICAS, range(0))
    number = 0
    while True:
        number += 1
        value = {"round": number, "name": "pod-delete", "replicas": list(_REPLICAS), "files": _FILES, "verify": True}
        yield [Event(RUN, "round", Kind.INVOKE, value)]
        for replica in _REPLICAS:
            new = range(owed[replica].stop, owed[replica].stop + _FILES)
            owed[replica] = range(owed[replica].start, new.stop)
            yield [Event(replica, "write", Kind.INVOKE, {**_length(s), "digest": f"{s:064x}"}) for s in new]
            yield [Event(replica, "write", Kind.OK, _length(s)) for s in new]
        hit = _REPLICAS[number % len(_REPLICAS)]
        doomed = {"replica": hit, "uid": f"pod-{number}", "node": "one"}
        yield [Event(NEMESIS, "pod-delete", Kind.INVOKE, {"deletes": [doomed], "disrupts": True})]
        yield [_opened(hit, f"pod-{number + 1}")]
        for replica in _REPLICAS:
            yield from ([event] for event in _read_back(replica, owed))
        yield [Event(RUN, "round", Kind.OK, {"round": number, "violations": 0, "verdict": "pass"})]


def _read_back(replica: str, owed: dict[str, range]) -> Iterator[Event]:
    all_of_it = [[owed[replica].start, owed[replica].stop - 1]]
    yield Event(replica, "list", Kind.OK, {"present": all_of_it, "documents": [], "folder": ".chaosd/RUN"})
    yield Event(replica, "read", Kind.INVOKE, {"sequences": all_of_it})
    told = {"sequences": all_of_it, "finding": "intact", "cache": "cold", "bytes": 4096 * len(owed[replica])}
    yield Event(replica, "read", Kind.OK, told)
    if len(owed[replica]) > _FILES:
        oldest = {"sequences": [[owed[replica].start, owed[replica].start + _FILES - 1]]}
        owed[replica] = range(owed[replica].start + _FILES, owed[replica].stop)
        yield Event(replica, "delete", Kind.INVOKE, oldest)
        yield Event(replica, "delete", Kind.OK, oldest)


def _target() -> Iterator[Event]:
    statefulset = {"name": "web", "replicas": len(_REPLICAS), "template_claims": ["disk"]}
    yield _seen("statefulset", **statefulset)
    for ordinal, replica in enumerate(_REPLICAS):
        pod = f"web-{ordinal}"
        yield _seen(
            "claim", name=f"disk-{pod}", pod=pod, ordinal=ordinal, uid=f"claim-{pod}", phase="Bound", volume=f"pv-{pod}"
        )
        yield _seen("volume", name=f"pv-{pod}", pod=pod, driver="csi", handle=f"d-{pod}", claim_uid=f"claim-{pod}")
        yield _seen("pod", name=pod, ordinal=ordinal, uid=f"pod-{ordinal}", ready=True, created_at=0.0)
        yield _opened(replica, f"pod-{ordinal}")


def _seen(f: str, **value: Any) -> Event:
    return Event(OBSERVER, f, Kind.OK, {"namespace": "default", **value, "change": "present"})


def _opened(replica: str, pod_uid: str) -> Event:
    pod = replica.partition("/")[2]
    binding = {"claim": f"disk-{pod}", "claim_uid": f"claim-{pod}", "volume": f"pv-{pod}", "handle": f"d-{pod}"}
    value = {"run": "RUN", "pod_uid": pod_uid, "hostname": pod, "mounted": True, "binding": {**binding, "node": "one"}}
    return Event(replica, "open", Kind.OK, value)


def _length(sequence: int) -> dict[str, Any]:
    return {"sequence": sequence, "length": 4096}
