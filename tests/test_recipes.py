"""The recipes for CI in examples/ci: held to the schemas of what reads them, and their commands to our command line.

Those whose schema comes with a Go module are in tests/e2e/test_recipes.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_groovy
import typer.main
import yaml
from tree_sitter import Language, Node, Parser

from chaosd import cli

RECIPES = Path(__file__).resolve().parents[1] / "examples" / "ci"
GITHUB, GITLAB, JENKINS = RECIPES / "github-actions.yaml", RECIPES / "gitlab-ci.yaml", RECIPES / "Jenkinsfile"
_SCHEMAS = {"vendor.github-workflows": GITHUB, "vendor.gitlab-ci": GITLAB}


def _checked(schema: str, pipeline: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    more = ["--data-transform", "gitlab-ci"] if pipeline.name.startswith("gitlab") else []
    return subprocess.run([*command, *more, pipeline], capture_output=True, text=True)


@pytest.mark.parametrize(("schema", "recipe"), _SCHEMAS.items(), ids=_SCHEMAS)
def test_a_pipeline_is_what_its_published_schema_says(schema: str, recipe: Path) -> None:
    checked = _checked(schema, recipe)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("schema", "recipe", "right", "wrong"),
    [
        ("vendor.github-workflows", GITHUB, "runs-on:", "runs-at:"),
        ("vendor.gitlab-ci", GITLAB, "when: always", "when: ever"),
    ],
)
def test_the_schema_finds_a_wrong_word(tmp_path: Path, schema: str, recipe: Path, right: str, wrong: str) -> None:
    assert recipe.read_text().count(right) == 1
    (tmp_path / recipe.name).write_text(recipe.read_text().replace(right, wrong))
    assert _checked(schema, tmp_path / recipe.name).returncode == 1


def _groovy(text: str) -> Node:
    return Parser(Language(tree_sitter_groovy.language())).parse(text.encode()).root_node


def test_the_jenkinsfile_is_groovy() -> None:
    text = JENKINS.read_text()
    assert not _groovy(text).has_error
    assert _groovy(text.removesuffix("}\n")).has_error


def _strings(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    for part in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _strings(part)


def _commands(recipe: Path) -> Iterator[list[str]]:
    """What a recipe tells chaosd, as words."""
    if recipe == JENKINS:
        shell: list[str] = re.findall(r"'(\.venv/bin/chaosd [^']+)'", recipe.read_text())
    else:
        shell = [line for text in _strings(yaml.safe_load(recipe.read_text())) for line in text.splitlines()]
    for line in shell:
        for words in re.findall(r"\.venv/bin/chaosd ([^|;]+)", line):
            yield shlex.split(words)
    for container in _containers(yaml.safe_load(recipe.read_text()) if recipe != JENKINS else None):
        yield container["args"]


def _containers(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict) and document.get("command") == ["chaosd"]:
        yield document
    for part in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _containers(part)


@pytest.mark.parametrize("recipe", sorted(RECIPES.iterdir()), ids=lambda path: path.name)
def test_what_a_recipe_tells_chaosd_is_understood(recipe: Path) -> None:
    group: Any = typer.main.get_command(cli.app)
    commands = list(_commands(recipe))
    assert [words[0] for words in commands] == ["gate", "report"]
    for name, *words in commands:
        group.commands[name].make_context(name, [*words], resilient_parsing=False)


def test_the_document_shows_every_recipe() -> None:
    text = (RECIPES.parents[1] / "docs" / "ci.md").read_text()
    assert set(re.findall(r"\(\.\./examples/ci/([^)]+)\)", text)) == {recipe.name for recipe in RECIPES.iterdir()}
