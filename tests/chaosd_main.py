"""The command line, run in the process of the test: what it told, and its exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaosd import cli


class Told:
    """What a command told, and its exit code."""

    def __init__(self, code: object, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.errors = [line for line in err.splitlines() if line.startswith("chaosd: ")]

    @property
    def error(self) -> str:
        """The one line of the error."""
        assert len(self.errors) == 1, self.errors
        return self.errors[0]


Main = Callable[..., Told]


def running(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs `chaosd` with arguments."""

    def run(*args: object) -> Told:
        monkeypatch.setattr("sys.argv", ["chaosd", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Told(ended.value.code, captured.out, captured.err)

    return run
