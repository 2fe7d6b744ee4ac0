"""Completion: what a shell is told, and what bash really makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaosd import completion
from tests.chaosd_process import chaosd
from tests.terminal.pty_process import OnTerminal

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnTerminal]:
    """An interactive bash in the repository, that knows chaosd and its completion."""
    bash = shutil.which("bash")
    assert bash, "bash is needed: it is what is tested"
    program = tmp_path / "bin" / "chaosd"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom chaosd.__main__ import main\n\nmain()\n")
    program.chmod(0o755)
    monkeypatch.chdir(ROOT)
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PS1": "ready> ", "PYTHONPATH": str(ROOT), "HISTFILE": ""}
    with OnTerminal(columns=300, lines=30, env=env, program=(bash, "--norc", "--noprofile", "-i")) as running:
        running.type(b'eval "$(_CHAOSD_COMPLETE=source_bash chaosd)"; echo loa""ded\n')
        running.until(lambda: "loaded" in running.rows)
        yield running


def _completes(shell: OnTerminal, typed: str, completed: str) -> None:
    shell.type(f"{typed}\t".encode())
    shell.until(lambda: any(row.endswith(f"ready> {completed}") for row in shell.rows))
    shell.type(b"\x15")  # takes the line back


def test_bash_completes_commands_options_values_experiments_and_runs(shell: OnTerminal, tmp_path: Path) -> None:
    ran = chaosd("run", ROOT / "experiments" / "soak.yaml", "--cluster", "sandbox", "--rounds", "1", "--out", tmp_path)
    assert ran.code == 0, ran.told
    _completes(shell, "chaosd disr", "chaosd disruptions")
    _completes(shell, "chaosd run --clu", "chaosd run --cluster")
    _completes(shell, "chaosd run --cluster sa", "chaosd run --cluster sandbox")
    _completes(shell, "chaosd gate experiments/ga", "chaosd gate experiments/gate.yaml")
    run = ran.verdict["run"]
    _completes(shell, f"chaosd show --out {tmp_path} {run[:10]}", f"chaosd show --out {tmp_path} {run}")


@pytest.mark.parametrize(
    ("name", "mark"), [("bash", "complete -o default"), ("zsh", "#compdef"), ("fish", "complete --command")]
)
def test_each_shell_gets_a_script_of_its_own(name: str, mark: str, tmp_path: Path) -> None:
    program = tmp_path / "chaosd"
    program.write_text("from chaosd.__main__ import main\n\nmain()\n")
    env = {**os.environ, "_CHAOSD_COMPLETE": f"source_{name}", "PYTHONPATH": str(ROOT)}
    assert mark in subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, check=False).stdout


def test_subjects_are_experiments_folders_and_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    for name in ("soak.yaml", "gate.yml", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert completion.subjects("") == ["statefulset/", "gate.yml", "more/", "soak.yaml"]
    assert completion.subjects("s") == ["statefulset/", "soak.yaml"]
    assert completion.experiments("./so") == ["./soak.yaml"]
    assert completion.experiments("nowhere/x") == []


def test_formats_are_completed_one_after_the_other() -> None:
    assert completion.formats("ht") == ["html"]
    assert completion.formats("html,j") == ["html,junit", "html,json"]
    assert "html,html" not in completion.formats("html,")


def test_classes_and_kill_switches_are_completed() -> None:
    assert completion.classes("lo") == ["lost"]
    assert completion.pausable("n") == ["namespace/"]
