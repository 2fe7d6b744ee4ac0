"""Faults planted by hand in the sandbox's disks, by somebody who knows only the layout that README.md documents:

DIR/disks/<volume handle>/.chaosd/<run>/<file>
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import manifests
from tests.chaosd_process import Chaosd
from tests.manifests import Document

Chaos = Callable[..., Chaosd]
FILES: Document = {"files": 6, "size": "16Ki", "share": {"bytes": "16Mi", "files": 500}, "keep": 1.0}


@pytest.fixture
def chaos(tmp_path: Path) -> Chaos:
    """Starts a command of chaosd on a sandbox in `tmp_path/sandbox`."""

    def start(command: str, *args: str | Path) -> Chaosd:
        folders = ("--sandbox-dir", tmp_path / "sandbox", "--out", tmp_path / "out")
        return Chaosd(command, *args, "--cluster", "sandbox", *folders)

    return start


def _experiment(folder: Path, *, manifest: Document | None = None, target: Document | None = None, **over: Any) -> Path:
    (folder / "target.yaml").write_text(yaml.safe_dump(manifest or manifests.statefulset()))
    document = {
        "name": "test",
        "target": {"statefulset": "web", "manifest": "target.yaml", **(target or {})},
        "workload": FILES,
        "rounds": 1,
        "disruptions": [{"kind": "pod-delete"}],
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**document, **over}))
    return path


def _done(process: Chaosd) -> Chaosd:
    with process:
        process.wait()
    return process


def _disks(folder: Path) -> list[Path]:
    return sorted((folder / "sandbox" / "disks").iterdir())


def _verified(chaos: Chaos, tmp_path: Path, plant: Callable[[], object]) -> Any:
    """The verdict on a run whose disks were tampered with after it had passed."""
    first = _done(chaos("run", _experiment(tmp_path)))
    assert first.code == 0, first.told
    plant()
    second = _done(chaos("verify"))
    assert second.code == 1, second.told
    assert second.verdict["run"] == first.verdict["run"]
    return second.verdict


def test_a_flipped_bit_is_corrupt_and_names_file_and_block(chaos: Chaos, tmp_path: Path) -> None:
    planted: dict[str, Any] = {}

    def flip() -> None:
        disk = _disks(tmp_path)[0]
        file = sorted(disk.glob(".chaosd/*/0*"))[2]
        data = bytearray(file.read_bytes())
        data[2 * 4096 + 77] ^= 1 << 3
        file.write_bytes(data)
        planted.update(handle=disk.name, file=str(file.relative_to(disk)))

    verdict = _verified(chaos, tmp_path, flip)
    assert verdict["violations_by_class"] == {"corrupt": 1}
    found = verdict["violations"][0]
    assert (found["volume_handle"], found["file"], found["block"]) == (planted["handle"], planted["file"], 2)


def test_a_bit_flipped_between_rounds_fails_the_run(chaos: Chaos, tmp_path: Path) -> None:
    with chaos("run", _experiment(tmp_path, rounds=50, guards={"stopAfter": 1})) as process:
        process.until_line(lambda line: "round 1 done" in line)
        file = sorted(_disks(tmp_path)[1].glob(".chaosd/*/00000001"))[0]
        data = bytearray(file.read_bytes())
        data[5000] ^= 1
        file.write_bytes(data)
        assert process.wait() == 1, process.told
        verdict = process.verdict
    assert verdict["violations_by_class"] == {"corrupt": 1}
    assert (verdict["violations"][0]["file"].rpartition("/")[2], verdict["violations"][0]["block"]) == ("00000001", 1)


def test_a_removed_file_is_lost(chaos: Chaos, tmp_path: Path) -> None:
    verdict = _verified(chaos, tmp_path, lambda: sorted(_disks(tmp_path)[1].glob(".chaosd/*/0*"))[0].unlink())
    assert verdict["violations_by_class"] == {"lost": 1}
    assert verdict["violations"][0]["volume_handle"] == _disks(tmp_path)[1].name


def test_a_file_cut_short_is_torn(chaos: Chaos, tmp_path: Path) -> None:
    def cut() -> None:
        with sorted(_disks(tmp_path)[0].glob(".chaosd/*/0*"))[1].open("r+b") as file:
            file.truncate(9000)

    verdict = _verified(chaos, tmp_path, cut)
    assert verdict["violations_by_class"] == {"torn": 1}
    assert verdict["violations"][0]["block"] == 2


def test_something_else_in_a_files_place_is_corrupt_and_the_others_are_still_read(chaos: Chaos, tmp_path: Path) -> None:
    def replace() -> None:
        first, second, *_ = sorted(_disks(tmp_path)[0].glob(".chaosd/*/0*"))
        first.unlink()
        first.mkdir()
        with second.open("r+b") as giant:
            giant.truncate(200 << 30)

    verdict = _verified(chaos, tmp_path, replace)
    assert verdict["violations_by_class"] == {"corrupt": 1}
    assert verdict["violations"][0]["evidence"]["file_count"] == 2
    assert verdict["unknown"] == []


def test_two_swapped_disks_are_foreign(chaos: Chaos, tmp_path: Path) -> None:
    def swap() -> None:
        one, two = _disks(tmp_path)
        one.rename(tmp_path / "between")
        two.rename(one)
        (tmp_path / "between").rename(two)

    verdict = _verified(chaos, tmp_path, swap)
    assert verdict["violations_by_class"] == {"foreign": 2}


def test_a_disk_made_anew_is_reformatted_and_that_is_one_root_cause(chaos: Chaos, tmp_path: Path) -> None:
    def reformat() -> None:
        disk = _disks(tmp_path)[0]
        shutil.rmtree(disk)
        (disk / "lost+found").mkdir(parents=True)

    verdict = _verified(chaos, tmp_path, reformat)
    assert verdict["violations_by_class"] == {"reformatted": 1}


def test_everything_removed_from_the_same_file_system_is_lost_and_that_is_one_root_cause(
    chaos: Chaos, tmp_path: Path
) -> None:
    verdict = _verified(chaos, tmp_path, lambda: shutil.rmtree(_disks(tmp_path)[0] / ".chaosd"))
    assert verdict["violations_by_class"] == {"lost": 1}


def test_an_empty_dir_is_lost_with_its_pod(chaos: Chaos, tmp_path: Path) -> None:
    path = _experiment(
        tmp_path,
        manifest=manifests.statefulset(claim=False),
        target={"path": "/data", "requireClaim": False},
        rounds=3,
    )
    done = _done(chaos("run", path))
    assert done.code == 1, done.told
    assert set(done.verdict["violations_by_class"]) == {"lost"}


def test_what_chaosd_never_wrote_is_none_of_its_business(chaos: Chaos, tmp_path: Path) -> None:
    first = _done(chaos("run", _experiment(tmp_path)))
    assert first.code == 0
    (_disks(tmp_path)[0] / "index.html").write_text("the application's own")
    assert _done(chaos("verify")).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_heals_and_ends_with_the_verdict_so_far(chaos: Chaos, tmp_path: Path, number: signal.Signals) -> None:
    path = _experiment(tmp_path, rounds=1000, disruptions=[{"kind": "scale", "to": 0}])
    with chaos("run", path) as process:
        process.until_line(lambda line: " round 2" in line)
        process.until_line(lambda line: "scale 2 to 0" in line)
        process.send(number)
        assert process.wait() == 4, process.told
    assert process.verdict["aborted"] == f"ended by {number.name}"
    assert process.verdict["violations"] == []
    assert process.stdout[-1].startswith("verdict: ")
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 2
    assert _state(tmp_path)["leases"] == []


def test_what_a_killed_run_left_is_undone_by_undo(chaos: Chaos, tmp_path: Path) -> None:
    _kill_while_scaled_down(chaos, tmp_path)
    undone = _done(chaos("undo"))
    assert undone.code == 0, undone.told
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 2
    again = _done(chaos("undo"))
    assert again.told == "nothing to undo\n"


def test_what_a_killed_run_left_is_undone_even_without_its_ledger(chaos: Chaos, tmp_path: Path) -> None:
    _kill_while_scaled_down(chaos, tmp_path)
    for file in (tmp_path / "out").glob("chaosd.db*"):
        file.unlink()
    assert _done(chaos("undo")).code == 0
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 2


def test_what_a_killed_run_wrote_is_verified_later(chaos: Chaos, tmp_path: Path) -> None:
    _kill_while_scaled_down(chaos, tmp_path)
    verified = _done(chaos("verify"))
    assert verified.code == 0, verified.told
    assert (
        verified.verdict["coverage"]["records_verified_cold"] + verified.verdict["coverage"]["records_verified_cached"] > 0
    )
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 2


def test_what_somebody_else_changed_meanwhile_is_left_alone(chaos: Chaos, tmp_path: Path) -> None:
    _kill_while_scaled_down(chaos, tmp_path)
    file = tmp_path / "sandbox" / "state.json"
    state = json.loads(file.read_text())
    state["statefulsets"][0] |= {"replicas": 1, "generation": state["statefulsets"][0]["generation"] + 1}
    file.write_text(json.dumps(state))
    undone = _done(chaos("undo"))
    assert "left as it is" in undone.told
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 1


def test_the_same_seed_decides_the_same(chaos: Chaos, tmp_path: Path) -> None:
    path = _experiment(tmp_path, rounds=3, disruptions=[{"kind": "pod-delete"}, {"kind": "scale"}])
    runs = [_done(chaos("run", path, "--seed", "5")) for _ in range(2)]
    planned = _done(chaos("plan", path, "--seed", "5", "--rounds", "3", "--json"))
    decided = [[d["kind"] for d in json.loads("".join(planned.stdout))["decisions"]]]
    for run in runs:
        lines = [line.split(" ", 1)[1] for line in run.stderr]
        decided.append([line.split(": ")[1].strip() for line in lines if re.match(r"round \d+ of \d+: ", line)])
    assert decided[0] == decided[1] == decided[2]


def _kill_while_scaled_down(chaos: Chaos, tmp_path: Path) -> None:
    path = _experiment(tmp_path, rounds=1000, disruptions=[{"kind": "scale", "to": 0}])
    with chaos("run", path) as process:
        process.until_line(lambda line: " round 2" in line)
        process.stop_when(lambda: _state(tmp_path)["statefulsets"][0]["replicas"] == 0)
        process.send(signal.SIGKILL)
        process.wait()
    assert _state(tmp_path)["statefulsets"][0]["replicas"] == 0


def _state(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "sandbox" / "state.json").read_text())
