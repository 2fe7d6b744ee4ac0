"""Help shows examples of every command, and each of them works as far as its words go."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer.main

from chaosd import cli, examples
from tests.chaosd_main import Main

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
LINES = [line for told in examples.EXAMPLES.values() for line, _ in told]


def test_every_command_has_examples_and_no_other_has() -> None:
    assert sorted(examples.EXAMPLES) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_them_whole(command: str, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    told = main(command, "--help")
    assert told.code == 0
    shown = [line.strip() for line in told.out.partition("Examples:")[2].splitlines()]
    for line, what in examples.EXAMPLES[command]:
        assert shown[shown.index(line) - 1] == f"# {what}"


@pytest.mark.parametrize("line", LINES)
def test_each_is_a_command_line_that_chaosd_understands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, name, *words = shlex.split(line.partition(" > ")[0])
    assert program == "chaosd"
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, words).params
    subject = str(given.get("subject", ""))
    if subject.startswith("experiments/"):
        asked = {key: given.get(key) for key in ("namespace", "rounds", "duration", "seed")}
        chosen, _ = cli._experiment(subject, **asked)
        assert chosen.require if name == "gate" else chosen.name
    elif "experiments" in given:
        assert (ROOT / given["experiments"]).exists()
