"""The daemon as a process: what it runs, what it serves meanwhile, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from chaosd.webhook import signature
from tests.chaosd_process import Chaosd, get
from tests.test_webhook import SECRET, Receiver, hook
from tests.waiting import until

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_past_the_experiments_rounds_and_serves_what_it_finds(tmp_path: Path, number: signal.Signals) -> None:
    path = _soak(tmp_path, rounds=1)
    with _started(tmp_path, path) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " round 3" in line)
        assert get(f"{address}/healthz") == (200, "ok\n")
        assert get(f"{address}/readyz") == (200, "ok\n")
        code, text = get(f"{address}/metrics")
        assert code == 200
        assert get(f"{address}/nowhere")[0] == 404
        daemon.send(number)
        assert daemon.wait() == 4, daemon.told
    values = {
        (sample.name, sample.labels.get("outcome", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["chaosd_writes_total", "ok"] >= 8
    assert values["chaosd_targets", ""] == 1
    assert _verdict(tmp_path / "out")["violations"] == []


def _verdict(out: Path, experiment: str = "soak") -> Any:
    return json.loads((out / experiment / "verdict.json").read_text())


def _soak(tmp_path: Path, **over: Any) -> Path:
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    document |= {"workload": {"files": 2, "size": "4Ki"}, **over}
    document["target"]["manifest"] = str(EXPERIMENTS / "targets" / "web.yaml")
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _open_violations(address: str) -> float:
    families = text_string_to_metric_families(get(f"{address}/metrics")[1])
    return sum(s.value for family in families for s in family.samples if s.name == "chaosd_violations_open")


def test_after_the_first_violation_it_disrupts_nothing_and_serves_even_when_started_again(
    tmp_path: Path,
) -> None:
    path, sandbox = _soak(tmp_path, guards={"stopAfter": 1}), tmp_path / "sandbox"
    with _started(tmp_path, path, "--sandbox-dir", str(sandbox)) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " round 2" in line)
        broken = next(path for path in sandbox.glob("disks/*/.chaosd/*/0*") if path.stat().st_size)
        broken.write_bytes(b"X" * broken.stat().st_size)
        daemon.until_line(lambda line: "nothing is disrupted any more: guards.stopAfter is 1" in line)
        rounds = sum(" done: " in line for line in daemon.stderr)
        time.sleep(1)
        assert _open_violations(address) == 1
        assert sum(" done: " in line for line in daemon.stderr) == rounds
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 1, daemon.told
        run = _verdict(tmp_path / "out")["run"]
    with _started(tmp_path, path, "--sandbox-dir", str(sandbox)) as again:
        address = again.address()
        again.until_line(lambda line: "goes on with this run" in line)
        again.until_line(lambda line: " done: " in line)
        time.sleep(1)
        assert _open_violations(address) == 1
        assert not any(": pod-delete" in line or ": scale" in line for line in again.stderr), again.told
        again.send(signal.SIGTERM)
        assert again.wait() == 1, again.told
    assert _verdict(tmp_path / "out")["run"] == run


def test_it_is_not_ready_before_the_first_round(tmp_path: Path) -> None:
    document = yaml.safe_load((EXPERIMENTS / "soak.yaml").read_text())
    manifest = list(yaml.safe_load_all((EXPERIMENTS / "targets" / "web.yaml").read_text()))
    manifest[1]["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] = "none"
    (tmp_path / "web.yaml").write_text(yaml.safe_dump_all(manifest))
    document["target"]["manifest"] = "web.yaml"
    path = tmp_path / "soak.yaml"
    path.write_text(yaml.safe_dump(document))
    with _started(tmp_path, path) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: "run 01" in line)
        until(lambda: get(f"{address}/readyz") == (503, "no round has begun of soak\n"), "the run to be waited for")
        assert get(f"{address}/healthz")[0] == 200
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4


def _folder(tmp_path: Path, **experiments: dict[str, Any]) -> Path:
    """Experiments on StatefulSets of their own names, each in a file."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name, document in experiments.items():
        _write(folder, name, document)
    return folder


def _write(folder: Path, name: str, document: dict[str, Any]) -> None:
    service, statefulset = yaml.safe_load_all((EXPERIMENTS / "targets" / "web.yaml").read_text())
    target = document.pop("on", name)
    statefulset["metadata"]["name"] = target
    manifest = folder.parent / f"{target}.manifest"
    new = folder.parent / f"{target}.new"  # the daemon may read it at any moment
    new.write_text(yaml.safe_dump_all([service, statefulset]))
    new.rename(manifest)
    base = {
        "name": name,
        "target": {"statefulset": target, "manifest": f"../{manifest.name}"},
        "workload": {"files": 2, "size": "4Ki"},
        "disruptions": [{"kind": "pod-delete"}],
    }
    changed = folder / f"{name}.new"
    changed.write_text(yaml.safe_dump(base | document))
    changed.rename(folder / f"{name}.yaml")


def _started(tmp_path: Path, folder: Path, *args: str, **env: str) -> Chaosd:
    sandbox = ("--cluster", "sandbox", "--out", tmp_path / "out", "--listen", "127.0.0.1:0")
    settings = {"drill": "never", **env}
    return Chaosd("daemon", folder, *sandbox, *args, env={f"CHAOSD_{n.upper()}": value for n, value in settings.items()})


def _samples(address: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(get(f"{address}/metrics")[1])
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}


def test_experiments_on_several_targets_run_side_by_side(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={}, two={})
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " one: round 3" in line)
        daemon.until_line(lambda line: " two: round 3" in line)
        assert get(f"{address}/readyz") == (200, "ok\n")
        assert _samples(address)["chaosd_targets",] == 2
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    assert {_verdict(tmp_path / "out", name)["target"] for name in ("one", "two")} == {"default/one", "default/two"}


def test_a_scheduled_run_takes_its_turn_between_the_rounds_of_one_that_goes_on_for_ever(tmp_path: Path) -> None:
    folder = _folder(tmp_path, soak={}, gate={"on": "soak", "rounds": 2, "schedule": {"every": "5s"}})
    with _started(tmp_path, folder) as daemon:
        daemon.until_line(lambda line: " gate: verdict: pass" in line)
        daemon.until_line(lambda line: " soak: goes on with this run" in line)
        daemon.until_line(lambda line: " soak: round" in line and "done" in line)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    rounds = [line.split(" ")[1] for line in daemon.stderr if ": round " in line and "done" in line]
    assert rounds.index("gate:") < len(rounds) - 1 - rounds[::-1].index("soak:")
    assert _verdict(tmp_path / "out", "gate")["verdict"] == "pass"
    assert _verdict(tmp_path / "out", "soak")["violations"] == []


def test_a_schedule_that_was_missed_is_caught_up_once_and_one_that_was_not_waits(tmp_path: Path) -> None:
    folder = _folder(tmp_path, gate={"rounds": 1, "schedule": {"every": "1h"}})
    for due in (True, False):
        with _started(tmp_path, folder) as daemon:
            daemon.until_line(lambda line: " gate: the next run is due" in line)
            if due:
                daemon.until_line(lambda line: " gate: verdict: pass" in line)
            time.sleep(1)
            daemon.send(signal.SIGTERM)
            daemon.wait()
        assert sum(" gate: run 01" in line for line in daemon.stderr) == int(due), daemon.told


def test_a_changed_experiment_begins_anew_a_new_one_begins_and_one_that_is_taken_away_ends(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={}, two={})
    with _started(tmp_path, folder) as daemon:
        daemon.until_line(lambda line: " one: round 2" in line)
        daemon.until_line(lambda line: " two: round 2" in line)
        _write(folder, "one", {"workload": {"files": 3, "size": "4Ki"}})
        daemon.until_line(lambda line: " one: begins anew, and leaves run" in line)
        _write(folder, "three", {"on": "one", "rounds": 1, "schedule": {"every": "1h"}})
        daemon.until_line(lambda line: " three: verdict: pass" in line)
        (folder / "two.yaml").unlink()
        daemon.until_line(lambda line: " two: verdict:" in line)
        daemon.until_line(lambda line: " one: round 2" in line and "done" in line)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    assert "its experiment was taken away" in _verdict(tmp_path / "out", "two")["aborted"]


def test_a_broken_experiment_is_refused_and_what_it_said_before_goes_on(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={})
    (folder / "other.yaml").write_text("name: other\n")
    with _started(tmp_path, folder) as daemon:
        daemon.until_line(lambda line: "warning refused: other.yaml: target: Field required" in line)
        daemon.until_line(lambda line: " one: round 2" in line)
        (folder / "one.yaml").write_text("name: [\n")
        daemon.until_line(lambda line: "refused: one.yaml:2:1: no YAML" in line and "what it said before goes on" in line)
        done = sum(" done: " in line for line in daemon.stderr)
        daemon.until_line(lambda line: f" one: round {done + 2} done" in line)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told


def test_a_target_that_is_not_there_keeps_no_other_from_being_tested_and_is_tried_again(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={}, gone={})
    for path in tmp_path.glob("gone.manifest"):
        path.write_text("")
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: "warning gone: no StatefulSet default/gone" in line)
        daemon.until_line(lambda line: " one: round 3" in line)
        assert get(f"{address}/readyz") == (200, "ok\n")
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told


def test_its_log_is_json_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={"rounds": 1, "schedule": {"every": "1h"}})
    with _started(tmp_path, folder, log_format="json") as daemon:
        daemon.until_line(lambda line: "verdict: pass" in line)
        daemon.send(signal.SIGTERM)
        daemon.wait()
    lines = [json.loads(line) for line in daemon.stderr]
    (done,) = [line for line in lines if line["event"].startswith("round 1 done")]
    run = _verdict(tmp_path / "out", "one")["run"]
    known = {"experiment": "one", "target": "default/one", "run": run, "round": 1, "level": "info"}
    assert {key: done[key] for key in known} == known


def test_what_is_no_experiment_or_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: x\n")
    for given, why in ((path, "broken.yaml: target: Field required"), (tmp_path / "none", "no such file or folder")):
        with _started(tmp_path, given) as daemon:
            assert daemon.wait() == 2, daemon.told
        assert why in daemon.told


def test_a_ledger_that_cannot_be_written_ends_disruptions_and_readiness_until_it_can_again(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={})
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " one: round 2 done" in line)
        with closing(sqlite3.connect(tmp_path / "out" / "chaosd.db", isolation_level=None, timeout=60)) as other:
            other.execute("BEGIN EXCLUSIVE")
            daemon.until_line(lambda line: "database is locked" in line and " one: " in line)
            lines = len(daemon.stderr)
            until(lambda: "database is locked" in get(f"{address}/readyz")[1], "the fault to be told")
            assert not any("pod-delete default" in line for line in daemon.stderr[lines:])
            other.execute("ROLLBACK")
        daemon.until_line(lambda line: " one: goes on with this run" in line)
        daemon.until_line(lambda line: " one: round 4 done" in line)
        until(lambda: get(f"{address}/readyz") == (200, "ok\n"), "the daemon to be ready")
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    assert _verdict(tmp_path / "out", "one")["violations"] == []


def test_a_database_that_is_away_at_the_start_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, and never listened on
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://chaosd@127.0.0.1:{nobody.getsockname()[1]}/chaosd"
        with _started(tmp_path, _folder(tmp_path, one={}), ledger=url) as daemon:
            address = daemon.address()
            daemon.until_line(lambda line: "warning ledger postgresql+psycopg://" in line)
            code, why = get(f"{address}/readyz")
            assert code == 503
            assert "127.0.0.1" in why
            assert get(f"{address}/healthz") == (200, "ok\n")
            daemon.send(signal.SIGTERM)
            assert daemon.wait() == 4, daemon.told


def test_without_a_schedule_it_goes_on_past_what_is_required(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={"require": {"rounds": 1}})
    with _started(tmp_path, folder) as daemon:
        daemon.until_line(lambda line: " one: round 3 done" in line)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told
    assert sum(" one: run 01" in line for line in daemon.stderr) == 1


@pytest.mark.parametrize("drill", ["at-start", "never"])
def test_a_scheduled_run_that_requires_a_drill_waits_for_it_and_passes_no_run_without(tmp_path: Path, drill: str) -> None:
    folder = _folder(tmp_path, gate={"rounds": 1, "schedule": {"every": "1h"}, "require": {"drill": True}})
    with _started(tmp_path, folder, drill=drill) as daemon:
        told = daemon.until_line(lambda line: " gate: verdict:" in line, timeout_seconds=400)
        daemon.send(signal.SIGTERM)
        daemon.wait()
    assert ("verdict: pass" if drill == "at-start" else "verdict: unknown") in told
    assert _verdict(tmp_path / "out", "gate")["coverage"]["drill_passed"] is (drill == "at-start")


def test_a_folder_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={})
    with _started(tmp_path, folder) as daemon:
        daemon.until_line(lambda line: " one: round 2" in line)
        folder.rename(tmp_path / "away")
        daemon.until_line(lambda line: "No such file or directory" in line and "what it said before goes on" in line)
        done = sum(" done: " in line for line in daemon.stderr)
        daemon.until_line(lambda line: f" one: round {done + 2} done" in line)
        daemon.send(signal.SIGTERM)
        assert daemon.wait() == 4, daemon.told


def _gate(address: str, query: str = "") -> tuple[int, Any]:
    code, text = get(f"{address}/api/gate/gate{query}")
    return code, json.loads(text)


GATE: dict[str, Any] = {"rounds": 1, "schedule": {"every": "1h"}, "require": {"rounds": 1}}


def test_a_scheduled_gate_says_over_http_whether_it_passes_and_still_does_after_a_restart(tmp_path: Path) -> None:
    folder = _folder(tmp_path, gate=GATE)
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        until(lambda: _gate(address)[0] == 200, "the gate to pass")
        first = _gate(address)[1]
        assert _gate(address, "?max_age=1ms")[0] == 503
        daemon.send(signal.SIGTERM)
        daemon.wait()
    with _started(tmp_path, folder) as again:
        address = again.address()
        again.until_line(lambda line: " gate: the next run is due" in line)
        code, second = _gate(address)
        assert (code, second["last"]["run"]) == (200, first["last"]["run"])
        assert second["next_begins"] == pytest.approx(first["next_begins"], abs=1)
        assert _samples(address)["chaosd_gate_last_timestamp_seconds", "default", "gate", "gate"] == first["last"]["ended"]
        again.send(signal.SIGTERM)
        again.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_gate_that_was_cut_short_does_not_pass_and_goes_on_when_the_daemon_is_started_again(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = _folder(tmp_path, gate=GATE | {"rounds": 400})
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        daemon.until_line(lambda line: " gate: round 2 done" in line)
        code, gate = _gate(address)
        assert (code, gate["why"], gate["last"]) == (503, "its first run is under way", None)
        assert gate["running"]["round"] >= 2
        daemon.send(number)
        daemon.wait()
    with _started(tmp_path, folder) as again:
        address = again.address()
        again.until_line(lambda line: " gate: round" in line and "done" in line)
        code, gate = _gate(address)
        assert code == 503
        assert (gate["last"] is None) == (number is signal.SIGKILL)  # which ends no run
        assert gate["running"]
        again.send(signal.SIGTERM)
        again.wait()


async def test_what_came_of_a_gate_is_told_by_webhook_and_one_that_hangs_holds_up_neither_runs_nor_the_end(
    tmp_path: Path,
) -> None:
    (tmp_path / "hanging").mkdir()
    folder, answering, hanging = _folder(tmp_path, gate=GATE), Receiver(), Receiver(hangs=True)
    async with answering.serving() as good, hanging.serving() as bad:
        hooks = [hook(tmp_path, good, signed=True), hook(tmp_path / "hanging", bad).model_copy(update={"name": "hanging"})]
        told = json.dumps([one.model_dump(mode="json") for one in hooks])
        with _started(tmp_path, folder, webhooks=told) as daemon:
            address = await asyncio.to_thread(daemon.address)
            await asyncio.to_thread(daemon.until_line, lambda line: "was told by webhook team" in line)
            samples = await asyncio.to_thread(_samples, address)
            assert samples["chaosd_webhook_deliveries_total", "delivered", "team"] == 1
            assert samples["chaosd_webhook_deliveries_total", "failed", "hanging"] == 0
            daemon.send(signal.SIGTERM)
            began = time.monotonic()
            assert await asyncio.to_thread(daemon.wait) == 4
            assert time.monotonic() - began < 100
    [(headers, body)] = answering.got
    assert headers["X-Chaosd-Signature"] == signature(SECRET.encode(), headers["X-Chaosd-Timestamp"], body)
    assert json.loads(body)["gate"] == "gate"
    assert json.loads(body)["last"]["run"] == _verdict(tmp_path / "out", "gate")["run"]
    for secret in (SECRET, "secret-path"):
        assert secret not in daemon.told
        assert secret.encode() not in (tmp_path / "out" / "chaosd.db").read_bytes()


def test_a_pass_of_the_experiment_before_it_was_changed_passes_no_more(tmp_path: Path) -> None:
    folder = _folder(tmp_path, gate=GATE)
    with _started(tmp_path, folder) as daemon:
        address = daemon.address()
        until(lambda: _gate(address)[0] == 200, "the gate to pass")
        _write(folder, "gate", GATE | {"require": {"rounds": 1, "crashes": 1}})
        until(lambda: "was changed" in _gate(address)[1].get("why", ""), "the change to be told")
        assert _gate(address)[0] == 503
        daemon.send(signal.SIGTERM)
        daemon.wait()
