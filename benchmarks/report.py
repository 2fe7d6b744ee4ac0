"""Reports: an HTML page of a history of 100,000 ops, and the memory that a longer one takes."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.judging import fill
from chaosd.ledger import Ledger
from chaosd.report import files, runs

_LENGTHS = (100_000, 1_000_000)
_SECONDS, _BYTES = 5.0, 2 << 20


def measure() -> Iterator[Figure]:
    """CPU seconds of a process of its own, which is what counts on a machine that others use, too; memory and size."""
    for length in _LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            fill(f"sqlite:///{Path(folder) / 'ledger.db'}", length)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                cpu, wall, megabytes, size = pool.apply(_report, (folder,))
        shortest = length == _LENGTHS[0]
        detail = f"CPU of the process, with its start; {wall:.1f} s went by; {megabytes:.0f} MB"
        name = f"HTML report of {length:,} ops"
        yield Figure(name, cpu, "s", detail, at_most=_SECONDS if shortest else None)
        yield Figure(f"{name}, size", size / 1024, "KiB", "one file", at_most=_BYTES / 1024)


def _report(folder: str) -> tuple[float, float, float, int]:
    """CPU seconds, seconds, the most memory that was resident in MB, and the page's bytes."""
    began = time.perf_counter()
    with Ledger.open_to_read(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger:
        standing = runs.standing(ledger, runs.find(ledger, runs.LATEST), time.time())
        _, (page,) = files.write(ledger, standing, ["html"], Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024, page.stat().st_size
