"""Documents of a daemon's status, as short as they can be told."""

from __future__ import annotations

from typing import Any

from chaosd.checkers.verdict import Value
from chaosd.status.document import Experiment, Judged, Refused, Replica, Round, Run, Status, Target, Violation

AT = 1_700_000_100.0


def replica(name: str = "default/web-0", **more: Any) -> Replica:
    stands = {"claim": "disk-ssd-web-0", "volume": "pv-0", "handle": "d-0", "node": "node-1"}
    return Replica(replica=name, **{"pod": "Ready", "since": AT - 60, **stands, **more})


def running(number: int = 3, phase: str = "writes", disruption: str = "pod-delete default/web-1") -> Run:
    where = {"number": number, "name": "pod-delete", "phase": phase, "since": AT - 5}
    at = Round(**where, disruption=disruption, disrupted_at=AT - 9 if disruption else None)  # type: ignore[arg-type]
    return Run(run="RUN", seed=7, cluster="kubernetes v1.37.2", started_at=AT - 3600, round=at)


def judged(verdict: Value = Value.PASS, **more: Any) -> Judged:
    return Judged(verdict=verdict, **{"at": AT - 120, "run": "RUN", "ended": False, "violations": 0, **more})


def experiment(name: str = "soak", **more: Any) -> Experiment:
    told = {"target": "default/web", "state": "running", "why": "", "run": running(), "judged": judged(), "next_at": None}
    return Experiment(name=name, **{**told, **more})


def violation(**more: Any) -> Violation:
    told = {"failure": "corrupt", "target": "default/web", "replica": "default/web-0", "experiment": "soak", "run": "RUN"}
    stands = {"claim": "disk-ssd-web-0", "handle": "d-0", "file": ".chaosd/RUN/00000001"}
    return Violation(**{**told, **stands, "since": AT - 30, **more})


def status(*experiments: Experiment, **more: Any) -> Status:
    """One experiment on one target, where none is given."""
    target = Target(target="default/web", experiment="soak", replicas=(replica(), replica("default/web-1")))
    told = {"at": AT, "not_ready": "", "experiments": experiments or (experiment(),), "targets": (target,), **more}
    return Status(**{"violations_count": len(told.get("violations", ())), **told})


__all__ = ["AT", "Refused", "experiment", "judged", "replica", "running", "status", "violation"]
