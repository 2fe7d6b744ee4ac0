"""A healthy cluster passes; and what was done is in the report."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaosd_process import Chaosd
from tests.e2e.conftest import EXPERIMENTS
from tests.real import RealCluster
from tests.seeds import FRESH
from tests.waiting import until

Run = Callable[..., Chaosd]


def test_the_walkthrough_passes_and_passes_again(web: str, run: Run, real: RealCluster) -> None:
    done = run("run", EXPERIMENTS / "walkthrough.yaml", "-n", web)
    assert done.code == 0, done.told
    verdict = done.verdict
    assert (verdict["verdict"], verdict["violations"], verdict["unknown"]) == ("pass", [], [])
    shown = {(line["step"], line["expectation"], line["result"]) for line in verdict["steps"]}
    results = {result for _, _, result in shown}
    assert results == {"shown"}, shown
    assert {expectation for _, expectation, _ in shown} == {
        "own-claims",
        "new-disk-empty",
        "path-is-mount",
        "stopped-in-order",
        "started-in-order",
        "claims-unchanged",
        "claim-count",
        "pod-replaced",
        "files-kept",
    }
    assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2

    again = run("run", EXPERIMENTS / "walkthrough.yaml", "-n", web)
    assert again.code == 0, again.told
    assert {s["result"] for s in again.verdict["steps"] if s["expectation"] == "new-disk-empty"} == {"not shown"}


def test_a_soak_of_5_rounds_passes(web: str, run: Run, real: RealCluster) -> None:
    done = run("run", EXPERIMENTS / "soak.yaml", "-n", web, "--seed", "7")
    assert done.code == 0, done.told
    verdict = done.verdict
    assert (verdict["verdict"], verdict["violations"], verdict["unknown"], verdict["seed"]) == ("pass", [], [], 7)
    assert verdict["cluster"]["kind"] == "kubernetes"
    coverage = verdict["coverage"]
    assert coverage["rounds"] == 5
    assert coverage["files_acknowledged"] >= 5 * 2 * 20
    assert coverage["records_verified_cold"] >= coverage["files_acknowledged"]
    assert coverage["records_verified_cached"] == 0
    assert coverage["crashes"] == 0
    assert "no node or disk lost power" in (done.out / "report.txt").read_text()
    assert done.stdout[-1].startswith("verdict: pass")
    assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2
    assert real.get("leases", f"--namespace={web}")["items"] == []


def test_the_short_form_needs_no_file(web: str, run: Run) -> None:
    done = run("run", "statefulset/web", "-n", web, "--rounds", "1")
    assert done.code == 0, done.told


def test_the_plan_names_claims_volumes_and_decisions_and_touches_nothing(
    web: str, run: Run, real: RealCluster, tmp_path: Path
) -> None:
    before = real.settled(lambda: real.get("all,pvc,lease", f"--namespace={web}"))
    done = run("plan", EXPERIMENTS / "soak.yaml", "-n", web, "--seed", "7")
    assert done.code == 0, done.told
    for claim in ("disk-ssd-web-0", "disk-ssd-web-1"):
        assert claim in done.told
        assert real.handle(web, claim) in done.told
    assert real.get("all,pvc,lease", f"--namespace={web}") == before
    assert not (tmp_path / "out").exists()


def test_sigint_puts_the_replicas_back_and_ends_with_the_verdict_so_far(
    web: str, start: Run, experiment: Callable[..., Path], real: RealCluster
) -> None:
    endless = experiment(rounds=100, disruptions=[{"kind": "scale", "to": 0}])
    with start("run", endless, "-n", web) as process:
        process.until_line(lambda line: "scale 2 to 0" in line)
        process.send(signal.SIGINT)
        assert process.wait() == 4
        assert process.verdict["aborted"] == "ended by SIGINT"
        assert process.verdict["violations"] == []
    assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2
    assert real.get("leases", f"--namespace={web}")["items"] == []


def test_a_signal_at_any_moment_leaves_the_target_as_it_was(
    web: str, start: Run, experiment: Callable[..., Path], real: RealCluster
) -> None:
    rng = random.Random(FRESH)
    disruptions = [{"kind": "scale", "to": 0}, {"kind": "scale", "to": 1}, {"kind": "pod-delete"}]
    endless = experiment(rounds=1000, disruptions=disruptions)
    for _ in range(5):
        with start("run", endless, "-n", web) as process:
            process.until_line(lambda line: " run 01" in line)
            time.sleep(rng.uniform(0.0, 6.0))
            process.send(rng.choice([signal.SIGINT, signal.SIGTERM]))
            assert process.wait() == 4, process.told
        assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2, process.told
        assert real.get("leases", f"--namespace={web}")["items"] == [], process.told
        real.wait_ready(web, "web")


def test_what_a_killed_run_left_is_undone_and_its_files_are_still_verified(
    web: str, start: Run, run: Run, experiment: Callable[..., Path], real: RealCluster
) -> None:
    short_lease = {"CHAOSD_LEASE_SECONDS": "8"}
    mixed = experiment(rounds=100, disruptions=[{"kind": "scale", "to": 0}])
    with start("run", mixed, "-n", web, env=short_lease) as process:
        process.until_line(lambda line: " round 2" in line)
        until(lambda: real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 0, "it is scaled down")
        process.send(signal.SIGKILL)
        process.wait()
    undone = run("undo", env=short_lease)
    assert undone.code == 0, undone.told
    assert real.get("statefulset", "web", f"--namespace={web}")["spec"]["replicas"] == 2
    real.wait_ready(web, "web")
    verified = run("verify", env=short_lease)
    assert verified.code == 0, verified.told
    assert verified.verdict["coverage"]["records_verified_cold"] > 0
