"""The documents keep up with the code: commands, options, links, names."""

from __future__ import annotations

import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations, takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from rich.console import Console

from chaosd import cli
from chaosd.checkers.steps import EXPECTATIONS
from chaosd.checkers.verdict import Class, Verdict, Violation, root_causes
from chaosd.experiment import Experiment
from chaosd.guards import REASONS, Guards
from chaosd.nemesis import DISRUPTIONS
from chaosd.preflight import checks
from chaosd.report import disruptions, metrics
from tests.histories import WEB_0, WEB_1, history, listed
from tests.nemesis.stage import stage
from website import __main__ as website

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    ROOT / "tests" / "testbed" / "README.md",
    *ROOT.glob("charts/*/README.md"),
]


def _shell_lines(document: Path) -> Iterator[list[str]]:
    """The commands of a document's shell blocks, as words, without their comments."""
    for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        yield from (words for line in lines if (words := shlex.split(line, comments=True)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", document.read_text())
    for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose):
        if "://" not in link:
            assert (document.parent / link).exists(), link


def test_every_command_and_option_in_the_documents_is_there() -> None:
    group = typer.main.get_command(cli.app)
    used = set()
    for document in DOCUMENTS:
        for words in _shell_lines(document):
            if words[0].endswith("bin/chaosd") or words[0] == "chaosd":
                command = group.commands[words[1]]  # type: ignore[attr-defined]
                options = {name for parameter in command.params for name in parameter.opts}
                own = takewhile(lambda word: word not in ("|", "||", ";"), words[2:])
                assert {word for word in own if word.startswith("-")} <= options, (document, words)
                used.add(words[1])
    assert {"run", "plan", "preflight", "verify", "daemon", "gate", "report", "diff", "drill"} <= used


def test_every_make_target_in_the_documents_is_there() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"`make ([a-z-]+)`", document.read_text())) <= targets, document
        for words in _shell_lines(document):
            if words[0] == "make":
                assert words[1] in targets, words


def test_the_tutorial_runs_as_it_stands_and_shows_what_it_says(tmp_path: Path) -> None:
    for needed in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / needed, tmp_path)
    for needed in ("experiments", "requirements"):
        shutil.copytree(ROOT / needed, tmp_path / needed)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / "runtime").touch()  # what `make demo` would install is there
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```", (ROOT / "docs" / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)
    told: list[str] = []
    for kind, block in blocks:
        if kind == "sh":
            done = subprocess.run(
                ["sh", "-c", block], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}
            )
            assert done.stdout or "dd " in block, done.stderr
            told = done.stdout.splitlines()
        for line in block.splitlines() if kind == "text" else ():
            shown = re.compile(".*".join(re.escape(part) for part in line.split("…")))
            assert any(shown.fullmatch(told_line) for told_line in told), (line, told)
    assert [kind for kind, _ in blocks].count("text") > 5


def _python(guide: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / guide).read_text(), re.MULTILINE | re.DOTALL)


def _imported(name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


async def test_the_disruption_of_the_guide_passes_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, test = _python("new-disruption.md")
    disruption = _imported("pod_restart", code, tmp_path, monkeypatch).PodRestart
    shown: dict[str, Any] = {"stage": stage, "spec": lambda kind, **fields: disruption(kind=kind, **fields)}
    exec(test, shown)
    await next(value for name, value in shown.items() if name.startswith("test_"))()


def test_the_check_of_the_guide_notes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = _python("new-check.md")
    checker = _imported("folders", code, tmp_path, monkeypatch).Folders()
    for op in history(listed(WEB_0, strangers=["lost", "found"]), listed(WEB_1)):
        checker.step(op)
    assert checker.verdict() == Verdict("folders", notes=(f"{WEB_0}: 2 files of others",))


def test_the_readme_names_two_commands_for_the_set_up() -> None:
    set_up = (ROOT / "README.md").read_text().split("## Set-up")[1].split("\n## ")[0]
    commands = [line.split(" #")[0].strip() for line in re.findall(r"```sh\n(.*?)```", set_up, re.DOTALL)[0].splitlines()]
    assert commands == ["make demo", "make test"]


def test_exit_codes_are_those_of_the_code() -> None:
    table = re.findall(r"^\| (\d) \| (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = {"pass": cli.PASS, "fail": cli.VIOLATED, "usage": cli.USAGE, "inconclusive": cli.INCONCLUSIVE}
    assert {name: int(code) for code, name in table} == {**names, "aborted": cli.ABORTED}


def test_architecture_names_every_module_and_every_class() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    layers = text.split("## Layers")[1].split("## A round")[0]
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_]+/?)`", layers)}
    modules = {path.stem for path in (ROOT / "chaosd").glob("[!_]*") if path.suffix in ("", ".py")}
    assert modules <= named
    classes = text.split("## Failure classes")[1].split("`checkers.verdict.root_causes`")[0]
    assert set(re.findall(r"`([a-z_]+)`", classes)) == {str(failure) for failure in Class}


def test_the_page_of_disruptions_is_made_of_the_registry() -> None:
    assert (ROOT / "docs" / "disruptions.md").read_text() == disruptions.markdown(), "make docs"


def test_the_page_of_metrics_is_made_of_what_is_declared() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics.markdown(), "make docs"


@pytest.mark.parametrize("name", website.PAGES)
def test_a_page_of_the_site_is_made_of_the_code(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == website.PAGES[name](), "make docs"


def test_every_command_and_every_field_is_in_the_reference() -> None:
    group = typer.main.get_command(cli.app)
    commands = (ROOT / "docs" / "commands.md").read_text()
    assert re.findall(r"^## `(.+)`$", commands, re.MULTILINE) == [*group.commands]  # type: ignore[attr-defined]
    fields = (ROOT / "docs" / "experiment-schema.md").read_text()
    assert {f"`{alias.alias or name}`" for name, alias in Experiment.model_fields.items()} <= set(
        re.findall(r"`[^`]+`", fields)
    )


def test_every_expectation_and_disruption_is_documented() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    for name in (*EXPECTATIONS, *DISRUPTIONS):
        assert f"`{name}`" in text


def test_every_failure_class_has_a_section_and_no_other_has_and_depths_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "failures.md").read_text()
    assert sorted(re.findall(r"^### `(.+)`$", text, re.MULTILINE)) == sorted(Class)
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\1\) \| .+ \| (\d+|none) \|$", text, re.MULTILINE)
    depths = {Class(name): depth for name, depth in rows}
    assert len(rows) == len(depths) == len(Class)
    for one, other in permutations(Class, 2):
        causes = root_causes([Violation(failure, "ns/web-0", 1, 0) for failure in (one, other)])
        depth, other_depth = depths[one], depths[other]
        explains = "none" not in (depth, other_depth) and int(depth) < int(other_depth)
        if other is Class.NOT_RECOVERED:
            explains = explains and int(depth) <= int(depths[Class.ATTACHED_ELSEWHERE])
        assert ([cause.failure for cause in causes] == [one]) == explains, (one, other)


def test_every_check_of_preflight_is_documented() -> None:
    before = (ROOT / "docs" / "safety.md").read_text().split("## Before a run")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", before, re.MULTILINE) == list(checks.NAMES)


def test_every_kind_of_disruption_is_shown_whole_on_a_narrow_terminal() -> None:
    shown = Console(width=60, file=io.StringIO(), record=True)
    shown.print(disruptions.table())
    first_words = {line.split()[0] for line in shown.export_text().splitlines() if line[:1].strip()}
    assert first_words == set(DISRUPTIONS)


def test_the_safety_document_has_every_guard_with_its_default_and_every_reason() -> None:
    table = (ROOT / "docs/safety.md").read_text().split("## Guards")[1].split("## Kill switch")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    for name, field in Guards.model_fields.items():
        row = next(row for row in rows if f"`{field.alias or name}`" in row)
        defaults = field.default if isinstance(field.default, tuple) else (field.default,)
        assert all(not isinstance(told, str) or told == "*" or f"`{told}`" in row for told in defaults), row
    assert set(re.findall(r"\| `([a-z_]+)` \|$", table, re.MULTILINE)) == set(REASONS)
    guards = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", table, re.DOTALL)[0])["guards"]
    assert Guards.model_validate(guards).stop_after == 1
