"""`chaosd drill` as its users see it: the table, the exit codes, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosd import cli
from chaosd.checkers.verdict import Class
from chaosd.drill import on_cluster
from chaosd.drill.progress import DrillProgress
from chaosd.drill.table import Drilled
from chaosd.errors import AbortedError
from chaosd.own_target import DEFAULT_IMAGE, Wanted
from chaosd.simulation import plants
from tests.test_cli import Told

Drill = Callable[..., Told]


@pytest.fixture
def drill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Drill:
    """Runs `chaosd drill` with arguments in this process."""

    def run(*args: object) -> Told:
        monkeypatch.setattr("sys.argv", ["chaosd", "drill", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Told(ended.value.code, captured.out, captured.err)

    return run


def _rows(told: Told) -> list[list[str]]:
    """The table's lines as words, without what they took."""
    lines = told.out.split("\n\n")[0].splitlines()
    assert " ".join(lines[0].split()) == "CLASS PLANTED FOUND AS RIGHT ROUNDS AFTER s TOOK s"
    return [line.split()[:-1] for line in lines[1:]]


def test_every_class_is_planted_and_found_under_its_own_name(drill: Drill) -> None:
    told = drill("--seed", 3)
    assert (told.code, told.errors) == (0, [])
    assert {row[0] for row in _rows(told)} == {*map(str, Class), "unknown", "-"}
    count, controls = len(plants.PLANTS), len(plants.CONTROLS)
    assert told.out.splitlines()[-3:] == [
        f"{count} of {count} planted faults were found under their own name",
        f"{controls} of {controls} healthy runs raised nothing",
        "on a simulated cluster; AFTER: of its own time; seed 3",
    ]


def test_one_class_and_the_healthy_runs_and_the_same_again_from_the_same_seed(drill: Drill) -> None:
    first, again = (drill("--seed", 7, "--class", "stale") for _ in range(2))
    assert _rows(first) == _rows(again)
    assert {row[0] for row in _rows(first)} == {"stale", "-"}
    unnamed = drill("--class", "stale", "--class", "torn")
    assert {row[0] for row in _rows(unnamed)} == {"stale", "torn", "-"}


def test_each_is_planted_as_often_as_is_asked_for(drill: Drill) -> None:
    told = drill("--seed", 7, "--class", "stale", "--count", 3)
    assert {row[-3] for row in _rows(told)} == {"3/3"}
    assert told.out.splitlines()[-1].endswith("seeds 7 to 9")


def test_a_fault_that_is_not_found_is_exit_code_1(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = replace(plants.CONTROLS[0], found_as=Class.STALE)
    monkeypatch.setattr(plants, "PLANTS", (harmless,))
    monkeypatch.setattr(plants, "CONTROLS", ())
    told = drill("--seed", 7)
    assert told.code == 1
    assert f"WRONG: seed 7: {harmless.what}: found nothing, verdict pass" in told.out


def test_a_healthy_run_that_raises_something_is_exit_code_1(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plants, "CONTROLS", (replace(plants.PLANTS[0], found_as=None),))
    told = drill("--seed", 7, "--class", "stale")
    assert told.code == 1
    assert "0 of 1 healthy runs raised nothing" in told.out


def test_what_it_refuses(drill: Drill, tmp_path: Path) -> None:
    for args, words in (
        (["--class", "los"], "--class los: no such class can be planted in a simulated cluster: there are lost,"),
        (
            ["--class", "claim_lost", "--cluster", "kubernetes"],
            "--class claim_lost: no such class can be planted on a real",
        ),
        (["--count", 0], "--count"),
        (["--cluster", "nowhere"], "nowhere"),
        (["--image", "busybox"], "--image is of a real cluster: add --cluster kubernetes, or leave it out"),
        (["--storage-class", "fast"], "--storage-class is of a real cluster"),
        (["--keep"], "--keep is of a real cluster"),
        (["--cluster", "kubernetes", "--kubeconfig", tmp_path / "absent"], "no such file"),
    ):
        told = drill(*args)
        assert (told.code, words in told.error, told.out) == (2, True, ""), told.error


def test_a_real_drill_shows_what_the_probe_cannot_plant(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Wanted] = []

    async def drilled(_: Any, wanted: Wanted, planted: Any, seed: int, *rest: Any) -> None:
        asked.append(wanted)
        progress: DrillProgress = rest[-1]
        for plant in planted:
            name = str(plant.found_as or "")
            found = (name,) if name else ()
            progress.done(Drilled(plant.what, name, found, "fail" if name else "pass", seed, 1, 0.5, 2.0))

    monkeypatch.setattr(on_cluster, "drill_in_own_target", drilled)
    told = drill("--cluster", "kubernetes", "--seed", 3)
    assert (told.code, asked) == (0, [Wanted("drill", DEFAULT_IMAGE, "", keep=False)])
    rows = _rows(told)
    assert {row[0] for row in rows} == {*map(str, Class), "-"}
    assert "reformatted not planted here - - - -" in [" ".join(row) for row in rows]
    told = drill("--cluster", "kubernetes", "--class", "lost", "--image", "mine", "--storage-class", "fast", "--keep")
    assert (told.code, asked[-1]) == (0, Wanted("drill", "mine", "fast", keep=True))
    assert {row[0] for row in _rows(told)} == {"lost", "-"}


def test_a_real_drill_that_ends_early_shows_how_far_it_came(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ended(*args: Any) -> None:
        args[-1].done(Drilled("a file is removed", "lost", ("lost",), "fail", 3, 1, 0.5, 2.0))
        raise AbortedError("ended by SIGINT")

    monkeypatch.setattr(on_cluster, "drill_in_own_target", ended)
    told = drill("--cluster", "kubernetes", "--class", "lost", "--seed", 3)
    assert (told.code, told.error) == (4, "chaosd: ended by SIGINT")
    assert (
        told.out.splitlines()[-1]
        == "on a real cluster; AFTER: from the planting on; ended early, after 1 of 7 runs; seed 3"
    )


def test_what_could_not_be_seen_is_no_fault_of_the_storage(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unseen(*args: Any) -> None:
        args[-1].done(Drilled("a file is removed", "lost", (), "unknown", 3, None, None, 2.0))

    monkeypatch.setattr(on_cluster, "drill_in_own_target", unseen)
    assert drill("--cluster", "kubernetes", "--seed", 3).code == 3
