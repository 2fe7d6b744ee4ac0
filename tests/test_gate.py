"""The gate: a run that goes on until it has done what is required, and ends with yes, no, or nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosd import gate
from chaosd.errors import ExperimentError
from chaosd.experiment import default_for, overlay
from tests.chaosd_process import Chaosd, chaosd

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def _experiment(tmp_path: Path, **over: Any) -> Path:
    document = {
        "name": "gate",
        "target": {"statefulset": "web", "manifest": str(EXPERIMENTS / "targets" / "web.yaml")},
        "workload": {"files": 2, "size": "4Ki"},
        "disruptions": [{"kind": "pod-delete"}, {"kind": "scale"}],
        **over,
    }
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _held(tmp_path: Path, path: Path, *args: str) -> Chaosd:
    return chaosd("gate", path, "--cluster", "sandbox", "--out", tmp_path / "out", *args)


def test_it_ends_as_soon_as_everything_that_is_required_was_done(tmp_path: Path) -> None:
    path = _experiment(tmp_path, require={"disruptions": {"pod-delete": 2, "scale": 1}, "replicas": "100%"}, duration="5m")
    held = _held(tmp_path, path)
    assert held.code == 0, held.told
    coverage = held.verdict["coverage"]
    assert coverage["disruptions"]["pod-delete"] >= 2
    assert coverage["disruptions"]["scale"] >= 1
    assert len(coverage["replicas_hit"]) == 2
    assert ", covered" in next(line for line in reversed(held.stderr) if " done: " in line)
    assert held.verdict["notes"] == []


def test_what_is_missing_at_the_end_of_its_time_makes_it_inconclusive_and_is_named(tmp_path: Path) -> None:
    path = _experiment(tmp_path, require={"rounds": 1, "crashes": 1}, duration="3s")
    held = _held(tmp_path, path)
    assert held.code == 3, held.told
    assert held.verdict["verdict"] == "unknown"
    assert [one["missing"] for one in held.verdict["unknown"] if one["subject"] == "coverage"] == [
        "crashes: 0 of 1 that are required"
    ]


def test_a_run_of_so_many_rounds_is_held_to_it_too(tmp_path: Path) -> None:
    path = _experiment(tmp_path, require={"rounds": 3}, rounds=2)
    ran = chaosd("run", path, "--cluster", "sandbox", "--out", tmp_path / "out")
    assert ran.code == 3, ran.told
    assert "rounds: 2 of 3 that are required" in (tmp_path / "out" / "report.txt").read_text()


def test_an_experiment_that_requires_nothing_is_no_gate(tmp_path: Path) -> None:
    held = _held(tmp_path, _experiment(tmp_path))
    assert held.code == 2
    assert "requires nothing" in held.told


def test_options_of_a_target_that_is_made_are_refused_where_none_is(tmp_path: Path) -> None:
    path = _experiment(tmp_path, require={"rounds": 1})
    for args, why in (
        (["--keep"], "--keep is of a target that is made"),
        (["--storage-class", "fast"], "makes a target on a real cluster"),
    ):
        held = _held(tmp_path, path, *args)
        assert held.code == 2
        assert why in held.told


def test_to_fail_fast_is_to_stop_after_the_first_violation() -> None:
    required = overlay(default_for("web"), {"require": {"rounds": 1}, "guards": {"minInterval": "1s"}})
    assert gate.fit(required, fail_fast=False) == required
    fast = gate.fit(required, fail_fast=True)
    assert (fast.guards.stop_after, fast.guards.min_interval) == (1, 1.0)
    with pytest.raises(ExperimentError, match="requires nothing"):
        gate.fit(default_for("web"), fail_fast=True)
