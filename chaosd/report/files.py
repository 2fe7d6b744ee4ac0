"""A report as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from chaosd.errors import UsageError
from chaosd.ledger import Ledger
from chaosd.report import html, junit, markdown, table_of_ops
from chaosd.report.formats import FILES
from chaosd.report.making import Made, make
from chaosd.report.runs import Standing

_RENDER: Mapping[str, Callable[[Made], str]] = {
    "html": html.render,
    "junit": lambda made: junit.render(made.report),
    "json": lambda made: made.report.as_json(),
    "markdown": lambda made: markdown.render(made.report),
}


def write(ledger: Ledger, standing: Standing, formats: Sequence[str], folder: Path) -> tuple[Made, list[Path]]:
    """A report in each of the FILES that are wanted; the folder is made. Either all are made or none. Raises
    UsageError, LedgerError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            drafts = {name: held.enter_context(_Draft(folder / FILES[name])) for name in dict.fromkeys(formats)}
            also = [table_of_ops.Writer(drafts["csv"].file).step] if "csv" in drafts else []
            made = make(ledger, standing, also)
            for name, draft in drafts.items():
                if name in _RENDER:
                    draft.file.write(_RENDER[name](made))
            return made, [draft.keep() for draft in drafts.values()]
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}: name a folder that can be written, with room") from error


class _Draft:
    """A file that takes its place when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._draft = path, path.with_name(f".{path.name}.draft")

    def __enter__(self) -> _Draft:
        if self._path.is_dir():
            raise UsageError(f"{self._path} is a folder where a report is to be: take it away, or name another --out")
        self.file = self._draft.open("w", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._draft.unlink(missing_ok=True)

    def keep(self) -> Path:
        """It is whole."""
        self.file.close()
        return self._draft.replace(self._path)
