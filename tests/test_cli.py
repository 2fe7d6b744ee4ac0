"""The command line: what it refuses, with which exit code and which line, and that nothing was touched meanwhile."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosd import __version__
from chaosd.cluster.sandbox.directory_disks import DirectoryDisks
from chaosd.nemesis import DISRUPTIONS
from tests import manifests
from tests.chaosd_main import Main, Told
from tests.manifests import Document

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
QUICK: Document = {"files": 2, "size": "4Ki", "share": {"bytes": "1Mi", "files": 50}}

Write = Callable[..., Path]


@pytest.fixture
def sandbox(main: Main, tmp_path: Path) -> Main:
    """Runs a command of `chaosd` on a sandbox of the test's own."""

    def run(command: str, *args: object) -> Told:
        return main(command, *args, "--cluster", "sandbox", "--out", tmp_path / "out")

    return run


@pytest.fixture
def experiment(tmp_path: Path) -> Write:
    """Writes an experiment, and the manifest of its target."""

    def written(*, manifest: Document | None = None, target: Document | None = None, **over: Any) -> Path:
        (tmp_path / "target.yaml").write_text(yaml.safe_dump(manifest or manifests.statefulset()))
        document = {
            "name": "test",
            "target": {"statefulset": "web", "manifest": "target.yaml", **(target or {})},
            "workload": QUICK,
            "rounds": 1,
            "disruptions": [{"kind": "pod-delete"}],
            "timeouts": {"probe": "5s", "converge": "20s"},
        }
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump({**document, **over}))
        return path

    return written


def _pods(tmp_path: Path) -> dict[str, str]:
    state = json.loads((tmp_path / "out" / "sandbox" / "state.json").read_text())
    return {pod["name"]: pod["uid"] for pod in state["pods"]}


def test_a_healthy_target_passes_and_the_last_line_is_the_verdict(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("run", experiment(), "--seed", 11)
    assert told.code == 0
    assert told.errors == []
    assert told.out.splitlines()[-1].startswith("verdict: pass (")
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["seed"], verdict["cluster"]["kind"]) == ("pass", 11, "sandbox")
    assert "seed        11" in (tmp_path / "out" / "report.txt").read_text()


def test_no_round_begins_after_the_duration(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("run", experiment(), "--rounds", 10_000, "--duration", "4s")
    assert told.code == 0
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert 1 <= verdict["coverage"]["rounds"] < 100


def test_no_claim_behind_the_path_is_refused_unless_the_experiment_says_so(sandbox: Main, experiment: Write) -> None:
    without = manifests.statefulset(claim=False)
    told = sandbox("run", experiment(manifest=without, target={"path": "/data"}))
    assert told.code == 2
    assert "no claim is behind /data, but emptyDir" in told.error
    assert "requireClaim: false" in told.error
    told = sandbox("run", experiment(manifest=without, target={"path": "/data", "requireClaim": False}, rounds=2))
    assert told.code == 1
    assert told.out.splitlines()[-1].startswith("verdict: fail (")
    assert " lost" in told.out


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"roundz": 3}, ["roundz: unknown field", "did you mean rounds?"]),
        ({"rounds": 0}, ["rounds", "greater than or equal to 1"]),
        ({"workload": {"size": "5000"}}, ["workload", "multiple of 4Ki"]),
        ({"workload": {"size": "lots"}}, ["workload.size", "lots"]),
        ({"timeouts": {"probe": "0s"}}, ["timeouts.probe", "greater than 0"]),
        (
            {"disruptions": [{"kind": "pod-delet"}]},
            ["disruptions.0", "no such kind as 'pod-delet': did you mean pod-delete?"],
        ),
        ({"require": {"cold": 90}}, ["require.cold", "90 is no share", "such as 90%"]),
        ({"disruptions": []}, ["give either disruptions, for random rounds, or steps"]),
        ({"steps": [{"name": "one"}]}, ["give either disruptions, for random rounds, or steps"]),
        ({"name": "No Name"}, ["name", "pattern"]),
        ({"target": {"statefulset": "web", "folder": "../up/$(x)"}}, ["target.folder", "pattern"]),
        ({"target": {}}, ["target.statefulset", "required"]),
        ({"seed": -1}, ["seed", "greater than or equal to 0"]),
        ({"target": {"statefulset": "web", "folder": "../up"}}, ["target.folder", "without . and .."]),
        ({"disruptions": [{"kind": "pod-delete", "count": 0}]}, ["count", "greater than or equal to 1"]),
        ({"disruptions": [{"kind": "pod-delete", "grace": -5}]}, ["grace", "greater than or equal to 0"]),
    ],
)
def test_what_an_experiment_cannot_say(
    sandbox: Main, experiment: Write, tmp_path: Path, over: Document, words: list[str]
) -> None:
    told = sandbox("run", experiment(**over) if "target" not in over else _with_target(experiment, over["target"]))
    assert told.code == 2
    for word in [str(tmp_path / "experiment.yaml"), *words]:
        assert word in told.error
    assert not (tmp_path / "out").exists()


def _with_target(experiment: Write, target: Document) -> Path:
    path = experiment()
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "target": target}))
    return path


def test_files_that_are_no_experiment(sandbox: Main, tmp_path: Path) -> None:
    told = sandbox("run", tmp_path / "absent.yaml")
    assert (told.code, "No such file" in told.error, "name an experiment file" in told.error) == (2, True, True)
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\ntarget: {statefulset: web\nrounds: 1\n")
    told = sandbox("run", broken)
    assert told.code == 2
    assert f"{broken}:3:7: no YAML" in told.error
    broken.write_bytes(b"\xff\xfe\x00name")
    assert "is no text" in sandbox("run", broken).error
    broken.write_text("- a list\n")
    assert "an experiment is a mapping" in sandbox("run", broken).error
    told = sandbox("run", tmp_path)
    assert (told.code, "Is a directory" in told.error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_targets_that_cannot_be_tested(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    before = _pods(tmp_path)
    told = sandbox("run", experiment(target={"statefulset": "absent"}))
    assert (told.code, "no StatefulSet default/absent" in told.error) == (2, True)
    told = sandbox("run", "statefulset/absent", "-n", "elsewhere")
    assert (told.code, "no StatefulSet elsewhere/absent" in told.error) == (2, True)
    told = sandbox("run", experiment(target={"path": "/elsewhere"}))
    assert told.code == 2
    assert "nothing is mounted at /elsewhere" in told.error
    assert "name one of /data" in told.error
    told = sandbox("run", experiment(target={"container": "absent"}))
    assert (told.code, "has no container absent: it has app" in told.error) == (2, True)
    assert _pods(tmp_path) == before


def test_a_target_without_the_label(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("run", experiment(manifest=manifests.statefulset(label=False)))
    assert told.code == 2
    assert "kubectl -n default label statefulset web chaosd.io/target=true" in told.error


def test_a_container_without_a_shell(sandbox: Main, experiment: Write) -> None:
    told = sandbox("run", experiment(manifest=manifests.statefulset(image="noshell")))
    assert told.code == 2
    assert "name a container with a POSIX shell" in told.error


def test_a_claim_that_is_pending(sandbox: Main, experiment: Write) -> None:
    told = sandbox("run", experiment(manifest=manifests.statefulset(storage_class="none"), timeouts={"probe": "1s"}))
    assert told.code == 3
    assert "default/web is not ready to be tested" in told.error
    assert "claim disk-web-0 is Pending (storage class none)" in told.error


def test_a_disk_without_room(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("run", experiment(workload={**QUICK, "share": {"bytes": "1024Ti", "files": 50}}))
    assert told.code == 3
    assert "bytes free, the share is 1125899906842624: make room, or lower workload.share.bytes" in told.error


def test_a_disk_that_cannot_be_written(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    before = _pods(tmp_path)
    for disk in (tmp_path / "out" / "sandbox" / "disks").iterdir():
        (disk / ".chaosd").rename(disk / "moved")
        (disk / ".chaosd").write_text("in the way")
    told = sandbox("run", experiment())
    assert told.code == 3
    assert "/data cannot be written: " in told.error
    assert _pods(tmp_path) == before


def test_the_kill_switch_stops_a_run_before_it_begins(sandbox: Main, experiment: Write) -> None:
    paused = manifests.statefulset()
    paused["metadata"]["annotations"] = {"chaosd.io/paused": "true"}
    told = sandbox("run", experiment(manifest=paused))
    assert told.code == 4
    assert "the kill switch is thrown (chaosd.io/paused=true): chaosd resume statefulset/web -n default" in told.error


def test_ledgers_that_cannot_be_used(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    path, ledger = experiment(), tmp_path / "ledger.db"
    told = sandbox("run", path, "--ledger", "no url")
    assert (told.code, "give a URL such as sqlite:///chaosd.db" in told.error) == (2, True)
    told = sandbox("run", path, "--ledger", f"sqlite:///{tmp_path}/absent/ledger.db")
    assert (told.code, "its folder must exist and be writable" in told.error) == (3, True)
    ledger.write_bytes(b"this is no database" * 100)
    told = sandbox("run", path, "--ledger", f"sqlite:///{ledger}")
    assert (told.code, "it is damaged or no ledger" in told.error) == (3, True)
    ledger.unlink()
    with sqlite3.connect(ledger) as other:
        other.execute("create table meta (schema_version integer)")
        other.execute("insert into meta values (99)")
    told = sandbox("run", path, "--ledger", f"sqlite:///{ledger}")
    assert (told.code, "has schema 99" in told.error) == (3, True)
    other.close()


def test_a_ledger_that_is_locked(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    sandbox("run", experiment(), "--ledger", f"sqlite:///{ledger}")
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("begin immediate")
    told = sandbox("run", experiment(), "--ledger", f"sqlite:///{ledger}")
    other.close()
    assert told.code == 3
    assert "another process writes to it" in told.error


def test_options_that_mean_nothing(sandbox: Main, main: Main, experiment: Write, tmp_path: Path) -> None:
    path = experiment()
    for args, word in (
        (["--rounds", "0"], "rounds"),
        (["--rounds", "many"], "rounds"),
        (["--seed", "-1"], "seed"),
        (["--duration", "soon"], "duration"),
        (["--no-such-option"], "--no-such-option"),
        (["--duration", "0"], "duration"),
    ):
        told = sandbox("run", path, *args)
        assert (told.code, word in told.error) == (2, True)
    told = main("run", path, "--cluster", "nowhere", "--out", tmp_path / "out")
    assert (told.code, "nowhere" in told.error) == (2, True)
    told = main("rum", path)
    assert (told.code, "rum" in told.error) == (2, True)
    told = sandbox("run", EXPERIMENTS / "walkthrough.yaml", "--rounds", "3")
    assert (told.code, "it takes no --rounds" in told.error) == (2, True)
    told = sandbox("daemon", EXPERIMENTS / "walkthrough.yaml")
    assert (told.code, "is a script" in told.error) == (2, True)
    told = sandbox("daemon", path, "--listen", "nowhere:port")
    assert (told.code, "give --listen HOST:PORT" in told.error) == (2, True)
    told = sandbox("daemon", path, "--listen", "127.0.0.1:99999")
    assert (told.code, "it names no port" in told.error) == (2, True)
    told = sandbox("run", "statefulset/No Name")
    assert (told.code, "target.statefulset" in told.error) == (2, True)
    file = tmp_path / "file"
    file.write_text("")
    told = main("run", path, "--cluster", "sandbox", "--out", file)
    assert (told.code, str(file) in told.error) == (2, True)


def test_a_plan_touches_nothing(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("plan", experiment(), "--seed", 3, "--json")
    assert told.code == 0
    assert json.loads(told.out)["seed"] == 3
    assert not (tmp_path / "out").exists()
    sandbox("run", experiment())
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    handles = {disk.name for disk in (tmp_path / "out" / "sandbox" / "disks").iterdir()}
    told = sandbox("plan", experiment(), "--json")
    assert {replica["handle"] for replica in json.loads(told.out)["replicas"]} == handles
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == files


def test_preflight_writes_nothing_and_ends_with_2_where_something_stands_in_the_way(
    sandbox: Main, experiment: Write, tmp_path: Path
) -> None:
    told = sandbox("preflight", experiment())
    assert (told.code, told.out.splitlines()[-1]) == (0, "preflight: ready (10 ok)")
    assert not (tmp_path / "out").exists()
    sandbox("run", experiment())
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    told = sandbox("preflight", experiment(), "--json")
    checks = {check["name"]: check for check in json.loads(told.out)["checks"]}
    assert "read past the page cache" in checks["probe"]["found"]
    assert "can be opened" in checks["ledger"]["found"]
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == files
    told = sandbox("preflight", experiment(workload={"share": {"bytes": "999Ti"}}))
    assert told.code == 2
    assert "lower workload.share.bytes to" in " ".join(told.out.split())
    assert told.out.splitlines()[-1].startswith("preflight: not ready (2 failed")


def test_there_is_nothing_to_verify_or_to_undo_yet(sandbox: Main, experiment: Write) -> None:
    told = sandbox("verify")
    assert (told.code, "has no run" in told.error) == (2, True)
    told = sandbox("undo")
    assert (told.code, told.out.strip()) == (0, "nothing to undo")
    sandbox("run", experiment())
    told = sandbox("verify", "--run", "01ABSENT")
    assert (told.code, "has no run 01ABSENT" in told.error) == (2, True)


def test_a_run_is_verified_on_its_own_cluster_only(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    told = sandbox("run", experiment(), "--sandbox-dir", tmp_path / "other", "--ledger", f"sqlite:///{tmp_path}/other.db")
    assert told.code == 0
    told = sandbox("verify", "--sandbox-dir", tmp_path / "other")
    assert (told.code, "was on another cluster" in told.error) == (2, True)
    assert sandbox("verify").code == 0


def test_claims_that_go_by_policy_are_no_fault(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    manifest = manifests.statefulset(when_scaled="Delete")
    told = sandbox("run", experiment(manifest=manifest, rounds=3, disruptions=[{"kind": "scale", "to": 1}]))
    assert told.code == 0, told.out
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["by_policy"] == ["disk-web-1: deleted on scale-down, as whenScaled: Delete asks"]


def test_a_target_without_replicas(sandbox: Main, experiment: Write) -> None:
    told = sandbox("run", experiment(manifest=manifests.statefulset(replicas=0)))
    assert (told.code, "has no replicas, so there is nothing to test: scale it up" in told.error) == (2, True)


def test_a_volume_that_replicas_share(sandbox: Main, experiment: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an RWX claim or a hostPath: one folder for all."""
    monkeypatch.setattr(DirectoryDisks, "_folder", lambda self, _: self._pods / "shared")
    shared = manifests.statefulset(claim=False)
    told = sandbox("run", experiment(manifest=shared, target={"path": "/data", "requireClaim": False}))
    assert told.code == 2
    assert "is shared with another replica" in told.error


def test_a_run_can_be_verified_when_its_volume_takes_no_more_writes(
    sandbox: Main, experiment: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox("run", experiment())
    monkeypatch.setattr("chaosd.workload.worker.Session.begin", None)  # would fail, were it called
    assert sandbox("verify").code == 0


def test_files_of_an_older_run_are_recognised_and_left_alone(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    older = json.loads((tmp_path / "out" / "verdict.json").read_text())["run"]
    for disk in (tmp_path / "out" / "sandbox" / "disks").iterdir():
        (disk / ".chaosd" / "0123456789ABCDEFGHJKMNPQRS").mkdir()
        (disk / ".chaosd" / "backup").mkdir()
        (disk / ".chaosd" / "README").touch()
    assert sandbox("run", experiment()).code == 0
    told = "\n".join(json.loads((tmp_path / "out" / "verdict.json").read_text())["notes"])
    assert f"files of run {older} stand on the volumes, too: chaosd verify reads them, too" in told
    assert "files of run 0123456789ABCDEFGHJKMNPQRS stand on the volumes, too: not in this ledger, left alone" in told
    assert "in chaosd's folder stands what chaosd did not write, and is left alone: README, backup" in told


def test_older_runs_of_the_ledger_are_verified_with_the_latest(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    older = json.loads((tmp_path / "out" / "verdict.json").read_text())["run"]
    assert sandbox("run", experiment()).code == 0
    assert sandbox("verify").code == 0
    harmed = next((tmp_path / "out" / "sandbox" / "disks").glob(f"*/.chaosd/{older}/0*"))
    harmed.write_bytes(b"x" + harmed.read_bytes()[1:])
    told = sandbox("verify")
    assert told.code == 1
    assert json.loads((tmp_path / "out" / "verdict.json").read_text())["verdict"] == "pass"
    assert json.loads((tmp_path / "out" / older / "verdict.json").read_text())["violations_by_class"] == {"corrupt": 1}


def test_strangers_in_a_runs_folder_are_left_alone_whatever_they_are_called(
    sandbox: Main, experiment: Write, tmp_path: Path
) -> None:
    sandbox("run", experiment())
    run = json.loads((tmp_path / "out" / "verdict.json").read_text())["run"]
    strangers = ("notes.txt", "7", "123", "r5", "r²", "²", "l0000001", "9" * 40)
    for disk in (tmp_path / "out" / "sandbox" / "disks").iterdir():
        for name in strangers:
            (disk / ".chaosd" / run / name).write_text("not chaosd's")
    assert sandbox("verify").code == 0
    (note, *_) = json.loads((tmp_path / "out" / "verdict.json").read_text())["notes"]
    assert note.endswith(f"is left alone: {', '.join(sorted(strangers))}")
    assert (disk / ".chaosd" / run / "7").read_text() == "not chaosd's"


def test_a_damaged_sandbox_and_manifests_that_it_cannot_apply(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    told = sandbox("run", experiment(target={"manifest": "absent.yaml"}))
    assert (told.code, "target.manifest" in told.error) == (2, True)
    told = sandbox("run", experiment(manifest={"kind": "Deployment", "metadata": {"name": "web"}}))
    assert (told.code, "the sandbox has no Deployment" in told.error) == (2, True)
    sandbox("run", experiment())
    state = tmp_path / "out" / "sandbox" / "state.json"
    state.write_text(state.read_text()[:-100])
    told = sandbox("run", experiment())
    assert (told.code, "is damaged: restore it" in told.error) == (3, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("spec"), "spec: Field required"),
        (lambda d: d["metadata"].pop("name"), "metadata.name: Field required"),
        (lambda d: d["spec"].pop("template"), "spec.template: Field required"),
        (lambda d: d["spec"].update(replicas="two"), "spec.replicas"),
        (lambda d: d["metadata"]["labels"].update({"chaosd.io/target": True}), "values of labels are quoted text"),
        (lambda d: d["spec"]["selector"].update(matchLabels={"app": "other"}), "does not match its template's labels"),
    ],
)
def test_manifests_that_an_api_server_would_refuse(sandbox: Main, experiment: Write, change: Any, words: str) -> None:
    manifest = manifests.statefulset()
    change(manifest)
    told = sandbox("run", experiment(manifest=manifest))
    assert (told.code, words in told.error) == (2, True), told.error


def test_a_manifest_that_is_no_mapping(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    path = experiment()
    (tmp_path / "target.yaml").write_text("hello\n")
    assert sandbox("run", path).code == 2


def test_a_fault_of_its_own_is_no_broken_promise(sandbox: Main, experiment: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosd.commands.run_experiment", None)
    told = sandbox("run", experiment())
    assert (told.code, "a fault of chaosd itself" in told.error) == (3, True)


def test_a_sandbox_may_be_moved(sandbox: Main, main: Main, experiment: Write, tmp_path: Path) -> None:
    sandbox("run", experiment())
    (tmp_path / "out").rename(tmp_path / "moved")
    told = main("verify", "--cluster", "sandbox", "--out", tmp_path / "moved")
    assert told.code == 0, told.out


def test_no_kubeconfig(main: Main, experiment: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("chaosd.cluster.kubernetes.client.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "no-config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    told = main("run", experiment(), "--out", tmp_path / "out")
    assert told.code == 2
    assert "no kubeconfig: neither --kubeconfig nor KUBECONFIG names one" in told.error
    told = main("run", experiment(), "--kubeconfig", tmp_path / "absent", "--out", tmp_path / "out")
    assert (told.code, "no such file" in told.error) == (2, True)
    (tmp_path / "config").write_text("{broken")
    told = main("run", experiment(), "--kubeconfig", tmp_path / "config", "--out", tmp_path / "out")
    assert (told.code, "name another with --kubeconfig" in told.error) == (2, True)


def test_an_api_server_that_is_not_there(main: Main, experiment: Write, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(json.dumps(_kubeconfig("http://127.0.0.1:9")))
    told = main("run", experiment(), "--kubeconfig", config, "--out", tmp_path / "out")
    assert told.code == 3
    assert "is the API server there?" in told.error
    told = main("run", experiment(), "--kubeconfig", config, "--context", "absent", "--out", tmp_path / "out")
    assert (told.code, "absent" in told.error) == (2, True)


def _kubeconfig(server: str) -> Document:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


def test_version_and_help(main: Main) -> None:
    assert main("--version").out.strip() == f"chaosd {__version__}"
    told = main("run", "--help")
    assert told.code == 0
    for option in ("--cluster", "--kubeconfig", "--context", "--rounds", "--duration", "--seed", "--ledger", "--out"):
        assert option in told.out


@pytest.mark.parametrize(
    ("of", "file"),
    [
        ("experiment", "experiments/experiment.schema.json"),
        ("verdict", "docs/verdict.schema.json"),
        ("gate", "docs/gate.schema.json"),
        ("api", "docs/openapi.json"),
    ],
)
def test_the_committed_schemas_are_those_of_the_models(main: Main, of: str, file: str) -> None:
    assert main("schema", of).out == (EXPERIMENTS.parent / file).read_text()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("team", "settings: error parsing value for field"),
        ('[{"name": "team"}]', "settings: webhooks.0."),
        ('[{"name": "team", "urlFile": "/u", "url": "https://x"}]', "settings: webhooks.0.url: Extra inputs"),
        ('[{"name": "team", "urlFile": "/u", "verdicts": []}]', "settings: webhooks.0.verdicts: "),
        ('[{"name": "a", "urlFile": "/u"}, {"name": "a", "urlFile": "/u"}]', "two webhooks are called a"),
    ],
)
def test_webhooks_that_cannot_be_meant_are_refused(
    main: Main, monkeypatch: pytest.MonkeyPatch, told: str, why: str
) -> None:
    monkeypatch.setenv("CHAOSD_WEBHOOKS", told)
    refused = main("daemon", str(EXPERIMENTS / "soak.yaml"), "--cluster", "sandbox")
    assert (refused.code, why in refused.error) == (2, True), refused.error


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--remote", "http://x", "gate.yaml"], "asks a daemon, and runs nothing"),
        (["--remote", "http://x", "--seed", "0"], "asks a daemon, and runs nothing"),
        (["--remote", "http://x", "--fail-fast"], "asks a daemon, and runs nothing"),
        (["--remote", "http://x", "--timeout", "5m"], "add --wait"),
        (["--remote", "http://x", "--wait", "--timeout", "5"], "--timeout: '5' is no duration"),
        (["--remote", "http://x", "--max-age", "soon"], "--max-age: 'soon' is no duration"),
        (["--remote", "http://x", "--token-file", "nowhere"], "--token-file nowhere cannot be read"),
        (["gate.yaml", "--wait"], "--wait is of a daemon that is asked"),
        (["gate.yaml", "--max-age", "24h"], "--max-age is of a daemon that is asked"),
        ([], "no experiment is named"),
    ],
)
def test_a_gate_is_run_or_asked_for_and_not_both(main: Main, words: list[str], why: str) -> None:
    told = main("gate", *words)
    assert (told.code, why in told.error) == (2, True), told.error


def test_disruptions_are_listed_with_what_they_take_and_need(main: Main) -> None:
    told = main("disruptions", "--json")
    listed = {one["kind"]: one for one in json.loads(told.out)}
    assert (told.code, set(listed)) == (0, set(DISRUPTIONS))
    assert all(one["does"] and one["finds"] and one["undone"] for one in listed.values())
    assert all(parameter["description"] for one in listed.values() for parameter in one["parameters"])
    assert listed["pod-evict"]["rights"]["namespace"] == ["create on pods/eviction", "list on poddisruptionbudgets.policy"]
    for kind in DISRUPTIONS:
        assert kind in main("disruptions").out
    assert "ways to tell it" in main("disruptions", "--json", "--markdown").error


@pytest.mark.parametrize("named", ["statefulset/web", "namespace/default"])
def test_what_is_paused_is_not_run_until_it_is_resumed(sandbox: Main, experiment: Write, named: str) -> None:
    path = experiment()
    assert sandbox("run", path).code == 0
    assert sandbox("pause", named).code == 0
    told = sandbox("run", path)
    assert (told.code, f"chaosd resume {named}" in told.error) == (4, True)
    assert sandbox("resume", named).code == 0
    assert sandbox("run", path).code == 0


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("statefulset/absent", "there is no statefulset/absent in default: name one that is there"),
        ("namespace/absent", "there is no namespace/absent: name one that is there"),
        ("deployment/web", "deployment/web cannot be paused: name statefulset/NAME or namespace/NAME"),
        ("web", "web cannot be paused"),
        ("statefulset/", "cannot be paused"),
    ],
)
def test_what_cannot_be_paused_is_told(sandbox: Main, subject: str, says: str) -> None:
    told = sandbox("pause", subject)
    assert told.code == 2
    assert says in told.error


def test_a_namespace_that_guards_deny_is_not_tested(sandbox: Main, experiment: Write) -> None:
    told = sandbox("run", experiment(guards={"denyNamespaces": ["def*"]}))
    assert (told.code, "guards.denyNamespaces has def*" in told.error) == (2, True)


def test_a_guard_that_cannot_be_meant_names_its_place(sandbox: Main, experiment: Write) -> None:
    told = sandbox("run", experiment(guards={"blackout": [{"days": ["sat"], "form": "09:00"}]}))
    assert told.code == 2
    assert "guards.blackout.0.form: unknown field: did you mean from?" in told.error


def test_who_manages_the_target_from_a_repository_is_warned_of(sandbox: Main, experiment: Write, tmp_path: Path) -> None:
    managed = manifests.statefulset()
    managed["metadata"]["labels"]["argocd.argoproj.io/instance"] = "shop"
    assert sandbox("run", experiment(manifest=managed)).code == 0
    assert any(
        "Argo CD manages default/web" in note for note in json.loads((tmp_path / "out/verdict.json").read_text())["notes"]
    )


def _imports(statement: str) -> set[str]:
    """The packages that are loaded by it, in a process of its own."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["run", "web"],
            "web is no file: name an experiment, such as experiments/soak.yaml, or a target, as statefulset/web",
        ),
        (["run", "statefulset"], "or a target, as statefulset/NAME"),
        (["plan", "sts/"], "sts/ is no StatefulSet: name one as statefulset/NAME"),
        (["run", "namespace/shop"], "namespace/shop is no StatefulSet"),
        (["diff", "latest"], "Missing argument 'RUN_B'. See chaosd diff --help"),
        (
            ["run", "statefulset/web", "--cluster", "sandbx"],
            "'sandbx' is not one of 'kubernetes', 'sandbox'. See chaosd run",
        ),
        (["rnu"], "Did you mean 'run'? See chaosd --help"),
    ],
)
def test_what_a_newcomer_types_is_answered_with_what_to_type(main: Main, words: list[str], told: str) -> None:
    done = main(*words)
    assert done.code == 2
    assert told in done.error


def test_help_and_completion_load_no_more_than_they_need() -> None:
    assert not _imports("import chaosd.cli") & {"rich", "sqlalchemy", "kubernetes", "aiohttp", "pydantic"}


def test_what_draws_on_terminals_is_loaded_on_one_only() -> None:
    assert "rich" not in _imports("import chaosd.commands, chaosd.gate, chaosd.progress, chaosd.reporting")
