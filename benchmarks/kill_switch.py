"""The kill switch on the testbed: how soon everything is undone, at whatever moment of a run it is thrown."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks import real_cluster
from benchmarks.figure import Figure

_TRIES, _SECONDS = 50, 1.0


def measure() -> Iterator[Figure]:
    """Tries that did what they must, and the longest that an undo took, its answer included."""
    from tests import kill_switch

    real, tries = real_cluster.of_testbed(), []
    with real_cluster.own_namespace(real) as namespace, tempfile.TemporaryDirectory() as folder:
        real.start_web(namespace)
        for seed in range(_TRIES):
            tries.append(kill_switch.thrown(real, namespace, Path(folder), seed))
            real.wait_ready(namespace, "web")
    for one in tries:
        if not one.right:
            print(f"{one.way}, {one.phase}: {one.undone_after} s, code {one.code}: {one.told}", file=sys.stderr)
    undone = [one.undone_after for one in tries if one.undone_after is not None]
    phases = ", ".join(f"{count} {phase}" for phase, count in Counter(one.phase for one in tries).most_common())
    detail = f"{len(undone)} with something to undo; thrown after {phases}"
    yield Figure("kill switches that were obeyed", sum(one.right for one in tries), f"of {_TRIES}", detail, at_least=_TRIES)
    ways = ", ".join(f"{count} by {way}" for way, count in sorted(Counter(one.way for one in tries).items()))
    yield Figure(
        "from the kill switch to the last undo", max(undone), "s", f"{ways}; undone and answered", at_most=_SECONDS
    )
