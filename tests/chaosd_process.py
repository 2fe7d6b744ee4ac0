"""chaosd as its users start it: a process of its own, its exit code, its lines, its documents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Chaosd:
    """A running `chaosd`. Use it in a `with`: what still runs at the end is killed."""

    def __init__(self, *args: str | Path, env: Mapping[str, str] | None = None) -> None:
        words = [str(word) for word in args]
        self.out = Path(words[words.index("--out") + 1]) if "--out" in words else None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaosd", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.code: int | None = None
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._readers = [
            threading.Thread(target=_collect, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Chaosd:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop_when(self, holds: Callable[[], bool], timeout_seconds: float = 180) -> None:
        """Stop it (SIGSTOP) at a moment when this holds, so that it holds still when the process is killed."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            self.send(signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if holds():
                return
            assert time.monotonic() < deadline, f"waited {timeout_seconds} s in vain: {self.told}"
            self.send(signal.SIGCONT)
            time.sleep(0.02)

    def until_line(self, holds: Callable[[str], bool], timeout_seconds: float = 300) -> str:
        """Wait until a line of its stderr holds, and return it."""
        deadline = time.monotonic() + timeout_seconds
        seen = 0
        while time.monotonic() < deadline:
            for line in self.stderr[seen:]:
                seen += 1
                if holds(line):
                    return line
            assert self._process.poll() is None, f"it ended with {self._process.poll()}: {self.told}"
            time.sleep(0.02)
        raise AssertionError(f"waited {timeout_seconds} s in vain: {self.told}")

    def address(self) -> str:
        """Of a daemon: where it serves, once it does."""
        return self.until_line(lambda line: " metrics http" in line).split()[-1].removesuffix("/metrics")

    def wait(self, timeout_seconds: float = 400) -> int:
        """Wait until it ends; its exit code."""
        self.code = self._process.wait(timeout_seconds)
        for reader in self._readers:
            reader.join()
        return self.code

    @property
    def told(self) -> str:
        """Everything that it wrote."""
        return "".join([*self.stderr, *self.stdout])

    @property
    def verdict(self) -> Any:
        """Its verdict.json."""
        assert self.out is not None, "started without --out"
        return json.loads((self.out / "verdict.json").read_text())


def chaosd(*args: str | Path, env: Mapping[str, str] | None = None, timeout_seconds: float = 400) -> Chaosd:
    """Run it to its end."""
    with Chaosd(*args, env=env) as process:
        process.wait(timeout_seconds)
    return process


def get(url: str) -> tuple[int, str]:
    """What a daemon answers: the status, and the text."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _collect(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402 - one by one, as they come: others read along
