"""Running commands and waiting for conditions; every failure is a TestbedError that says what was tried."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class TestbedError(Exception):
    """The testbed could not do what was asked; the message names the cause."""

    __test__ = False  # pytest would otherwise take the name for a test class


def run(*argv: str | Path, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run to the end and return standard output; raises TestbedError with standard error on another status than 0."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, input=stdin, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise TestbedError(f"{words[0]}: not found") from error
    if done.returncode:
        raise TestbedError(f"`{' '.join(words)}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def succeeds(*argv: str | Path) -> bool:
    try:
        run(*argv)
    except TestbedError:
        return False
    return True


def wait_until(what: str, condition: Callable[[], bool], timeout_seconds: float, every_seconds: float = 0.1) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TestbedError(f"waited {timeout_seconds:g} s in vain until {what}")
        time.sleep(every_seconds)
