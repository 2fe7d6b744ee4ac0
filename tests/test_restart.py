"""chaosd dies, and is started again: it goes on with the same run, or says why it does not."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosd import commands
from chaosd.cluster.lock import LEDGER_ANNOTATION, TargetLock
from chaosd.cluster.port import StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.experiment import Experiment
from chaosd.history import RESTART, RUN, Kind, Op
from chaosd.ledger import Ledger
from chaosd.run import Ending
from chaosd.settings import Settings
from tests import manifests
from tests.chaosd_process import Chaosd
from tests.manifests import Document
from tests.waiting import until

Start = Callable[..., Chaosd]
ROUNDS = 6
MIXED = [{"kind": "pod-delete", "weight": 2}, {"kind": "scale"}]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a command of chaosd on a sandbox of the test's own."""

    def started(command: str, *args: object) -> Chaosd:
        return Chaosd(command, *map(str, args), "--cluster", "sandbox", "--out", tmp_path / "out")

    return started


@pytest.fixture
def run(start: Start) -> Start:
    """Runs it to its end."""

    def ran(command: str, *args: object) -> Chaosd:
        with start(command, *args) as process:
            process.wait()
        return process

    return ran


def _experiment(folder: Path, **over: Any) -> Path:
    (folder / "target.yaml").write_text(yaml.safe_dump(manifests.statefulset()))
    document: Document = {
        "name": "test",
        "target": {"statefulset": "web", "manifest": "target.yaml"},
        "workload": {"files": 6, "size": "4Ki", "share": {"bytes": "4Mi", "files": 100}},
        "rounds": ROUNDS,
        "disruptions": MIXED,
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**document, **over}))
    return path


def _kill(start: Start, *args: object, line: str, then: Callable[[Chaosd], object] = lambda _: None) -> str:
    """Kill a run as soon as it has told a line that ends so and `then` is done; returns its name."""
    with start("run", *args) as process:
        process.until_line(lambda told: line in told)
        then(process)
        process.send(signal.SIGKILL)
        process.wait()
    return _run_of(process)


def _run_of(process: Chaosd) -> str:
    return next(line for line in process.stderr if " run 01" in line).split(" run ")[1].split(",")[0]


def _ledger(folder: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{folder / 'out' / 'chaosd.db'}")


def _history(folder: Path, name: str) -> list[Op]:
    with _ledger(folder) as ledger:
        run = ledger.run(name)
        assert run is not None
        return list(ledger.history(run))


def _state(folder: Path) -> Any:
    return json.loads((folder / "out" / "sandbox" / "state.json").read_text())


@pytest.mark.parametrize("line", [" run 01", " round 1 of", " round 3 of", " round 3 done", f" round {ROUNDS} of"])
def test_it_goes_on_with_the_same_run_and_the_decisions_of_its_seed(
    start: Start, run: Start, tmp_path: Path, line: str
) -> None:
    path = _experiment(tmp_path)
    name = _kill(start, path, "--seed", 11, line=line)
    done = run("run", path)
    assert done.code == 0, done.told
    verdict = done.verdict
    assert (verdict["run"], verdict["seed"], verdict["verdict"]) == (name, 11, "pass")
    assert (verdict["coverage"]["rounds"], verdict["coverage"]["chaosd_restarts"]) == (ROUNDS, 1)
    assert "chaosd itself died and was started again 1 times" in "".join(verdict["notes"])
    assert "goes on with this run, after round" in done.told
    ops = _history(tmp_path, name)
    begun = {op.value["round"]: op.value["disruption"] for op in reversed(ops) if _begins(op) and op.value["disruption"]}
    planned = json.loads("".join(run("plan", path, "--seed", 11, "--rounds", ROUNDS, "--json").stdout))["decisions"]
    drawn = [op.value["round"] for op in ops if _begins(op) and op.value["disruption"]]
    assert drawn == [*range(1, ROUNDS + 1)]
    assert {d["round"]: {k: d[k] for k in d if k not in ("round", "name")} for d in planned} == begun
    assert _state(tmp_path)["leases"] == []


def _begins(op: Op) -> bool:
    return op.process == RUN and op.f == "round" and op.kind is Kind.INVOKE


def test_what_was_invoked_and_never_answered_is_info(start: Start, run: Start, tmp_path: Path) -> None:
    path = _experiment(tmp_path)
    name = _kill(start, path, line=" round 2 of")
    assert run("run", path).code == 0
    ops = _history(tmp_path, name)
    began = next(op.index for op in ops if op.f == RESTART)
    answers = {"write": lambda op: (op.process, op.value["sequence"]), "round": lambda op: op.value["round"]}
    for f, key in answers.items():
        invoked = {key(op) for op in ops[:began] if op.f == f and op.kind is Kind.INVOKE}
        assert invoked == {key(op) for op in ops[:began] if op.f == f and op.kind is not Kind.INVOKE}


@pytest.mark.parametrize(
    ("changed", "args", "why"),
    [
        ({}, ["--seed", "12"], "its seed is 11, and this one is 12"),
        ({"timeouts": {"probe": "31s"}}, [], "it is of this experiment before that was changed"),
        ({}, ["--rounds", "2"], "it is of this experiment before that was changed"),
    ],
)
def test_another_experiment_or_seed_begins_a_new_run_and_says_so(
    start: Start, run: Start, tmp_path: Path, changed: Document, args: list[str], why: str
) -> None:
    name = _kill(start, _experiment(tmp_path), "--seed", 11, line=" round 2 of")
    done = run("run", _experiment(tmp_path, **{"rounds": 2, **changed} if not args else {}), *args)
    assert done.code == 0, done.told
    assert done.verdict["run"] != name
    assert f"begins anew, and leaves run {name} unfinished: {why}" in done.told
    (told,) = [op.value for op in _history(tmp_path, done.verdict["run"]) if op.f == "unfinished"]
    assert told["run"] == name
    assert run("verify", "--run", name).code == 0


def test_a_script_begins_anew(start: Start, run: Start, tmp_path: Path) -> None:
    steps = [{"name": "write", "write": 2}, {"name": "fewer", "disrupt": {"kind": "scale", "to": 1}}]
    path = _experiment(tmp_path, disruptions=[], rounds=None, steps=[*steps, {"name": "again", "verify": True}])
    name = _kill(start, path, line=" scale 2 to 1")
    done = run("run", path)
    assert f"begins anew, and leaves run {name} unfinished: it is a script" in done.told
    assert "default/web scaled from 1 back to 2 replicas" in done.told or "has its 2 replicas" in done.told


def test_what_a_round_owes_is_read_back_though_the_time_is_over(start: Start, run: Start, tmp_path: Path) -> None:
    path = _experiment(tmp_path, rounds=None, duration="1h", disruptions=[{"kind": "pod-delete"}])
    name = _kill(start, path, line=" round 2")
    with sqlite3.connect(tmp_path / "out" / "chaosd.db") as ledger:
        ledger.execute("UPDATE runs SET started_at = started_at - 3600")
    ledger.close()
    done = run("run", path)
    assert (done.code, done.verdict["run"], done.verdict["unknown"]) == (0, name, []), done.told


def test_a_verification_that_does_not_begin_leaves_the_run_as_it_was(start: Start, run: Start, tmp_path: Path) -> None:
    path = _experiment(tmp_path, timeouts={"probe": "5s"})
    name = _kill(start, path, line=" round 2 of")
    sandbox = tmp_path / "out" / "sandbox"
    disks, hidden = sandbox / "disks", sandbox / "hidden"
    disks.rename(hidden)
    assert run("verify").code != 0
    shutil.rmtree(disks, ignore_errors=True)
    hidden.rename(disks)
    assert _ended(tmp_path, name) is None
    assert run("run", path).verdict["run"] == name


def _ended(folder: Path, name: str) -> float | None:
    with _ledger(folder) as ledger:
        found = ledger.run(name)
    assert found is not None
    return found.ended_at


def test_a_run_that_was_ended_is_not_gone_on_with(start: Start, run: Start, tmp_path: Path) -> None:
    path = _experiment(tmp_path)
    name = _kill(start, path, line=" round 2 of")
    assert run("verify").code == 0
    done = run("run", path)
    assert (done.code, done.verdict["run"] == name, "unfinished" in done.told) == (0, False, False)


def test_whoever_scaled_the_target_meanwhile_wins(start: Start, run: Start, tmp_path: Path) -> None:
    path = _experiment(tmp_path, disruptions=[{"kind": "scale", "to": 0}])
    _kill(start, path, line=" round 2 of", then=lambda process: process.stop_when(lambda: _replicas(tmp_path) == 0))
    file = tmp_path / "out" / "sandbox" / "state.json"
    state = _state(tmp_path)
    state["statefulsets"][0] |= {"replicas": 3, "generation": state["statefulsets"][0]["generation"] + 1}
    file.write_text(json.dumps(state))
    done = run("run", path)
    assert done.code == 0, done.told
    assert "undone what a chaosd that died left: left as it is: default/web has 3 replicas" in done.told
    assert _replicas(tmp_path) == 3
    assert done.verdict["coverage"]["rounds"] == ROUNDS


def _replicas(folder: Path) -> Any:
    return _state(folder)["statefulsets"][0]["replicas"]


async def _being_recreated(folder: Path) -> None:
    """A StatefulSet that a chaosd which died had deleted; its ledger is gone, too: the Lease and the ConfigMap are left."""
    cluster = await SandboxCluster.open(folder / "out" / "sandbox")
    await cluster.apply([manifests.statefulset()])
    lock = TargetLock(cluster, "default", "web", "dead", 4, lambda: time.time() - 100)
    await lock.acquire()
    uid = (await cluster.get(StatefulSet, "default", "web")).uid
    undo = {"kind": "recreate", "namespace": "default", "statefulset": "web", "config": "kept", "uid": uid}
    await lock.register_undo(undo)
    data = {"manifest": json.dumps(await cluster.manifest("default", "web")), "uid": uid}
    metadata = {"namespace": "default", "name": "kept"}
    await cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    await cluster.delete_statefulset("default", "web", uid=uid, orphan=True)
    await cluster.close()


async def test_a_statefulset_that_was_being_recreated_is_made_again_by_the_next_run(tmp_path: Path) -> None:
    await _being_recreated(tmp_path)
    experiment = Experiment.model_validate(yaml.safe_load(_experiment(tmp_path, rounds=1).read_text()))
    settings = Settings(cluster="sandbox", out=tmp_path / "out")
    assert (await commands.run_experiment(settings, experiment, None, Ending())).verdict.verdict == "pass"
    assert [one["name"] for one in _state(tmp_path)["statefulsets"]] == ["web"]


async def test_a_statefulset_that_was_being_recreated_is_made_again_by_undo_where_it_is_named(tmp_path: Path) -> None:
    await _being_recreated(tmp_path)
    settings = Settings(cluster="sandbox", out=tmp_path / "out")
    assert await commands.undo_runs(settings, None, Ending()) == []  # nothing tells that there ever was one
    (done,) = await commands.undo_runs(settings, "default/web", Ending())
    assert done == "default/web was created again from ConfigMap kept"
    assert await commands.undo_runs(settings, "default/web", Ending()) == []


# A ledger that was rolled back.


def _copied(folder: Path) -> Path:
    """The ledger as it is now, by SQLite's own means."""
    copy = folder / "copy.db"
    with sqlite3.connect(folder / "out" / "chaosd.db") as ledger, sqlite3.connect(copy) as to:
        ledger.backup(to)
    ledger.close()
    to.close()
    return copy


def _restore(folder: Path, copy: Path) -> None:
    for file in (folder / "out").glob("chaosd.db*"):
        file.unlink()
    copy.rename(folder / "out" / "chaosd.db")


def _noted(folder: Path) -> Any:
    (lease,) = _state(folder)["leases"]
    return json.loads(lease["annotations"][LEDGER_ANNOTATION])


def test_a_ledger_that_was_rolled_back_is_told_by_the_lease_and_its_run_is_unknown(
    start: Start, run: Start, tmp_path: Path
) -> None:
    path, copies = _experiment(tmp_path, rounds=1000), []

    def copied_and_noted_later(_: Chaosd) -> None:
        copies.append(_copied(tmp_path))
        with sqlite3.connect(copies[0]) as copy:
            (had,) = copy.execute('SELECT max("index") FROM ops').fetchone()
        copy.close()
        until(lambda: _noted(tmp_path).get("index", 0) > had, "the Lease to note more than the copy has", 30)

    name = _kill(start, path, line=" round 2 of", then=copied_and_noted_later)
    _restore(tmp_path, copies[0])
    with start("run", path) as process:
        process.until_line(lambda line: " round 1 done" in line)
        process.send(signal.SIGINT)
        assert process.wait() == 4, process.told
    assert f"begins anew, and leaves run {name} unfinished: the ledger has no op" in process.told
    assert "it was rolled back" in process.told
    assert (process.verdict["run"] == name, process.verdict["violations"]) == (False, [])
    verified = run("verify", "--run", name)
    assert (verified.code, verified.verdict["verdict"], verified.verdict["violations"]) == (3, "unknown", [])
    assert [one["subject"] for one in verified.verdict["unknown"]][:1] == ["ledger"]


def test_a_ledger_that_was_rolled_back_is_told_by_the_volumes_where_no_lease_is_left(
    start: Start, run: Start, tmp_path: Path
) -> None:
    path = _experiment(tmp_path, rounds=3)
    with start("run", path) as process:
        process.until_line(lambda line: " round 2 of" in line)
        copy = _copied(tmp_path)
        assert process.wait() == 0, process.told
    _restore(tmp_path, copy)
    again = run("run", path)
    assert (again.code, again.verdict["verdict"], again.verdict["violations"]) == (3, "unknown", []), again.told
    assert again.verdict["run"] == _run_of(process)
    assert "the ledger has lost its end" in json.dumps(again.verdict["unknown"])
    after = run("run", path)
    assert (after.code, _run_of(after) == _run_of(process)) == (0, False), after.told
