"""Waiting for what something else does, in real time."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str, timeout_seconds: float = 180, every_seconds: float = 0.1) -> None:
    """Wait until this holds; raises AssertionError with `what` where it does not."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout_seconds} s in vain for {what}"
        time.sleep(every_seconds)
