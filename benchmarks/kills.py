"""kill -9 of the chaosd process on the testbed, at random moments of one run, which each next start goes on with."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import real_cluster
from benchmarks.figure import Figure

_KILLS = 20
_SEED = 1


def measure() -> Iterator[Figure]:
    """How often the target was healed, and what was lost."""
    from tests import kills
    from tests.chaosd_process import Chaosd

    real = real_cluster.of_testbed()
    document = {"name": "kills", "target": {"statefulset": "web"}, "workload": {"files": 20}, "seed": _SEED}
    with real_cluster.own_namespace(real) as namespace, tempfile.TemporaryDirectory() as folder:
        real.start_web(namespace)
        path, out = Path(folder) / "experiment.yaml", Path(folder) / "out"
        path.write_text(json.dumps({**document, "disruptions": kills.DISRUPTIONS}))

        def start(command: str, *args: str | Path, env: Mapping[str, str]) -> Chaosd:
            return Chaosd(command, *args, "--kubeconfig", real.path, "--out", out, env=env)

        survived = kills.survive(real, namespace, start, path, _KILLS, random.Random(_SEED))
        verdict = survived.verified.verdict
    coverage, value = verdict["coverage"], verdict["verdict"]
    struck = ", ".join(f"{count} within {kind}" for kind, count in survived.healed.most_common()) or "none within anything"
    detail = f"{struck}; one run, {coverage['rounds']} rounds, {coverage['disruptions']}; in the end its verdict is {value}"
    for left in survived.left:
        print(left, file=sys.stderr)
    healed = _KILLS - len(survived.left)
    yield Figure("targets healed after kill -9", healed, f"of {_KILLS}", detail, at_least=_KILLS)
    detail = f"of {survived.acknowledged:,} files acknowledged; {coverage['writes_unanswered']} writes were unanswered"
    yield Figure("acknowledged files lost by kill -9", len(survived.gone), "files", detail, at_most=0)
