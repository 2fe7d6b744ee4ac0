"""Reports: an HTML page of a history of 100,000 ops, and what a longer one takes: ten and a hundred times as many ops, the
last in every format that there is."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.judging import fill
from chaosd.ledger import Ledger
from chaosd.report import files, runs
from chaosd.report.formats import FILES

_HTML, _EVERY = ("html",), tuple(FILES)
_LENGTHS = ((100_000, _HTML), (1_000_000, _HTML), (10_000_000, _EVERY))
_SECONDS, _BYTES, _GROWTH = 5.0, 2 << 20, 1.1


@dataclass(frozen=True, slots=True)
class _Took:
    cpu_seconds: float
    seconds: float
    megabytes: float  # the most memory that was resident
    page_bytes: int
    all_bytes: int


def measure() -> Iterator[Figure]:
    """CPU seconds of a process of its own, which is what counts on a machine that others use, too; memory and size."""
    memory = []
    for length, formats in _LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            fill(f"sqlite:///{Path(folder) / 'ledger.db'}", length)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                took = pool.apply(_report, (folder, formats))
        memory.append(took.megabytes)
        detail = f"CPU of the process, with its start; {took.seconds:.1f} s went by; {took.megabytes:.0f} MB"
        name = f"{'HTML report' if formats == _HTML else 'report in every format'} of {length:,} ops"
        limit = _SECONDS if length == _LENGTHS[0][0] else None
        yield Figure(name, took.cpu_seconds, "s", detail, at_most=limit)
        written = f"of {took.all_bytes / 1024:,.0f} KiB in all"
        yield Figure(f"{name}, the page's size", took.page_bytes / 1024, "KiB", written, at_most=_BYTES / 1024)
    detail = f"{', '.join(f'{one:.0f}' for one in memory)} MB: of the longest history against the shortest"
    yield Figure("report, growth of memory", memory[-1] / memory[0], "times", detail, at_most=_GROWTH)


def _report(folder: str, formats: Sequence[str]) -> _Took:
    began = time.perf_counter()
    with Ledger.open_to_read(f"sqlite:///{Path(folder) / 'ledger.db'}") as ledger:
        standing = runs.standing(ledger, runs.find(ledger, runs.LATEST), time.time())
        _, written = files.write(ledger, standing, formats, Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    sizes = {path.name: path.stat().st_size for path in written}
    return _Took(
        cpu_seconds=used.ru_utime + used.ru_stime,
        seconds=time.perf_counter() - began,
        megabytes=used.ru_maxrss / 1024,
        page_bytes=sizes[FILES["html"]],
        all_bytes=sum(sizes.values()),
    )
