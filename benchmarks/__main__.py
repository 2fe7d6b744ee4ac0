"""Runs the measurements that are named, or all, and ends with 1 where one misses its limit."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping

from benchmarks import (
    api_faults,
    daemon,
    gate,
    in_cluster,
    judging,
    kill_switch,
    kills,
    ledger,
    memory,
    power,
    probe,
    report,
    retention,
    sandbox,
    scrape,
    simulation,
    watches,
)
from benchmarks.figure import Figure

MEASUREMENTS: Mapping[str, Callable[[], Iterator[Figure]]] = {
    "ledger": ledger.measure,
    "judging": judging.measure,
    "report": report.measure,
    "simulation": simulation.measure,
    "gate": gate.measure,
    "sandbox": sandbox.measure,
    "probe": probe.measure,
    "power": power.measure,
    "api_faults": api_faults.measure,
    "kill_switch": kill_switch.measure,
    "kills": kills.measure,
    "daemon": daemon.measure,
    "in_cluster": in_cluster.measure,
    "memory": memory.measure,
    "scrape": scrape.measure,
    "watches": watches.measure,
    "retention": retention.measure,
}


def main(names: list[str]) -> int:
    """Measure and print."""
    if unknown := set(names) - set(MEASUREMENTS):
        sys.stderr.write(f"benchmarks: no {', '.join(sorted(unknown))}: there are {', '.join(MEASUREMENTS)}\n")
        return 2
    print(f"{platform.machine()}, Python {platform.python_version()}, {platform.system()} {platform.release()}")
    missed = 0
    for name in names or MEASUREMENTS:
        for figure in MEASUREMENTS[name]():
            print(figure, flush=True)
            missed += not figure.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
