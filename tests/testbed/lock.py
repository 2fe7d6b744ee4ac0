"""One at a time on the whole machine, since all share one cache and one testbed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.layout import CACHE


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Waits for whoever has it, in this process, too: do not nest it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
