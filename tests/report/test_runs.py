"""`chaosd history` and `chaosd show`: which runs a ledger has, how each stands, and that looking changes nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from chaosd.errors import UsageError
from chaosd.history import NEMESIS, Event, Kind
from chaosd.ledger import Ledger
from chaosd.report import runs
from chaosd.report.runs import State
from chaosd.report.verdict import Verdict
from tests.chaosd_main import Main
from tests.histories import WEB_0, opened, read, round_began, written
from tests.report.ledgers import BEGAN, keep, url
from tests.test_report import SOUND, verdict

HELD = Event(NEMESIS, "hold", Kind.FAIL, {"error": "the window is closed", "blocked": "window", "until": BEGAN + 50_000.0})


def _standing(folder: Path, now: float) -> runs.Standing:
    with Ledger.open_to_read(url(folder)) as ledger:
        run = ledger.run()
        assert run is not None
        return runs.standing(ledger, run, now)


def test_runs_are_listed_the_newest_first_with_their_verdicts(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, *SOUND, name="01A", verdict=verdict(*SOUND, read(WEB_0, 0)).as_json())
    keep(tmp_path, *SOUND, name="01B", began=time.time() - 20)
    told = main("history", "--out", tmp_path)
    assert told.code == 0
    head, *lines = [line.split() for line in told.out.splitlines()]
    assert head == ["run", "experiment", "target", "verdict", "began", "took"]
    assert [(line[0], line[3]) for line in lines] == [("01B", "running"), ("01A", "pass")]
    assert lines[1][4:] == ["2023-11-14", "22:13:20", "UTC", f"{len(SOUND)}", "s"]
    listed = json.loads(main("history", "--out", tmp_path, "--json", "--limit", 1).out)
    assert [(one["run"], one["verdict"], one["state"]) for one in listed] == [("01B", None, "running")]


def test_an_unfinished_run_is_running_until_it_is_silent_for_longer_than_it_may_wait(tmp_path: Path) -> None:
    keep(tmp_path, *SOUND)
    last = BEGAN + len(SOUND) - 1
    assert _standing(tmp_path, last + 659).state is State.RUNNING
    killed = _standing(tmp_path, last + 661)
    assert killed.state is State.KILLED
    assert "It was killed" in killed.told
    assert "11 min 1 s ago" in killed.told


def test_a_run_that_a_guard_holds_back_is_not_taken_for_dead(tmp_path: Path) -> None:
    keep(tmp_path, *SOUND, HELD)
    assert _standing(tmp_path, BEGAN + 50_000).state is State.RUNNING
    assert _standing(tmp_path, BEGAN + 50_661).state is State.KILLED


def test_a_run_that_has_only_begun_is_running_and_says_so(tmp_path: Path) -> None:
    keep(tmp_path)
    assert "journaled nothing yet" in _standing(tmp_path, BEGAN + 1).told
    assert _standing(tmp_path, BEGAN + 100_000).state is State.KILLED


def test_one_run_is_shown_as_in_its_report(tmp_path: Path, main: Main) -> None:
    lost = verdict(*SOUND, read(WEB_0, 0, finding="missing"))
    keep(tmp_path, *SOUND, name="01A", verdict=lost.as_json())
    keep(tmp_path, *SOUND, name="01B", verdict=verdict(*SOUND, read(WEB_0, 0)).as_json())
    told = main("show", "01A", "--out", tmp_path)
    assert (told.code, told.out.split(":")[0]) == (0, "FAIL")
    assert "LOST default/web-0" in told.out
    assert main("show", "--out", tmp_path).out.startswith("PASS: ")
    shown = main("show", "01A", "--out", tmp_path, "--json").out
    assert Verdict.model_validate_json(shown) == lost
    assert json.loads(shown)["violations"][0]["class"] == "lost"


def test_of_an_unfinished_run_is_shown_what_can_be_said_so_far(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, opened(WEB_0), round_began(1, WEB_0), *written(WEB_0, 0), read(WEB_0, 0, finding="missing"))
    told = main("show", "--out", tmp_path).out
    assert told.startswith("It was killed, or cannot reach its ledger: ")
    assert "LOST default/web-0" in told


def test_a_run_that_is_not_there_is_refused_with_the_names_that_are_near(tmp_path: Path, main: Main) -> None:
    for name in ("01M8B05J4MXB0JGDPD9K21DK02", "01M8B05J4MXB0JGDPD9K21DK0Z", "01AAAAAAAAAAAAAAAAAAAAAAAA"):
        keep(tmp_path, name=name)
    told = main("show", "01m8b05j4mxb0jgdpd9k21dk03", "--out", tmp_path)
    assert told.code == 2
    assert "no run 01m8b05j4mxb0jgdpd9k21dk03: there are 01M8B05J4MXB0JGDPD9K21DK0" in told.error
    assert "chaosd history lists all" in told.error


def test_an_empty_name_is_not_the_latest_run(tmp_path: Path, main: Main) -> None:
    keep(tmp_path, name="01A")
    for command in (("show", ""), ("report", ""), ("diff", "", "01A")):
        told = main(*command, "--out", tmp_path)
        assert (told.code, told.error) == (
            2,
            "chaosd: the ledger has no run without a name: there are 01A (chaosd history lists all)",
        )


def test_a_ledger_that_is_not_there_is_refused_and_not_made(tmp_path: Path, main: Main) -> None:
    for command in ("history", "show"):
        told = main(command, "--out", tmp_path / "out")
        assert (told.code, "there is no ledger at" in told.error) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path, main: Main) -> None:
    keep(tmp_path)
    with sqlite3.connect(tmp_path / "chaosd.db") as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    connection.close()
    told = main("history", "--out", tmp_path)
    assert (told.code, "has schema 99" in told.error) == (3, True)


def test_looking_leaves_a_ledger_as_it_is_while_another_writes_to_it(tmp_path: Path, main: Main) -> None:
    run = keep(tmp_path, *SOUND)
    with Ledger.open(url(tmp_path)) as writer:
        writer.append(run, HELD, BEGAN + 100)
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
        assert "WEB" not in main("show", "--out", tmp_path).out
        assert main("history", "--out", tmp_path).code == 0
        after = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.endswith("-shm")}
        assert after == before
        writer.append(run, HELD, BEGAN + 101)
    with Ledger.open_to_read(url(tmp_path)) as ledger, pytest.raises(UsageError, match="has no run X"):
        runs.find(ledger, "X")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0123, "0.0123 s"),
        (9.5, "9.5 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert runs.duration(seconds) == told
