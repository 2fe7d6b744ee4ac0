"""docs/commands.md: every command with its arguments and options, as its `--help` tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from chaosd import cli

_HEAD = """# Commands

What `chaosd --help` and `chaosd COMMAND --help` tell; this page is made from it (`make docs`). What
[the settings](daemon.md#settings) name can be set in the environment, too.

## Exit codes

| Code | Meaning |
|---|---|
| {cli.PASS} | pass; of commands that judge nothing: done |
| {cli.VIOLATED} | fail: a promise was broken; of a drill: a fault was missed, misnamed or raised for nothing |
| {cli.USAGE} | usage, an invalid experiment or target, or a missing right; nothing was touched |
| {cli.INCONCLUSIVE} | nobody knows: something could not be seen or reached, or was not done that was required |
| {cli.ABORTED} | aborted: a signal, the kill switch, or a guard; what was disturbed was put back |

Where several fit: {cli.USAGE}, {cli.VIOLATED}, {cli.ABORTED}, {cli.INCONCLUSIVE}, {cli.PASS}.
"""


def markdown() -> str:
    """The page."""
    group: Any = typer.main.get_command(cli.app)
    return _HEAD.format(cli=cli) + "".join(
        part for name, command in group.commands.items() for part in _section(name, command)
    )


def _section(name: str, command: Any) -> Iterator[str]:
    if command.hidden:
        return
    context = command.context_class(command, info_name=f"chaosd {name}")
    yield f"\n## `{name}`\n\n{command.help}\n\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    if command.epilog:
        yield f"\n```text\n{command.epilog.strip()}\n```\n"
    yield "\n| Argument or option | Meaning |\n|---|---|\n"
    for parameter in command.params:
        if (record := parameter.get_help_record(context)) is not None:
            told, meaning = (text.replace("|", "\\|") for text in record)
            yield f"| `{told.strip()}` | {' '.join(meaning.split())} |\n"
