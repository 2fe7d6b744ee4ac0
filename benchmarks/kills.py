"""kill -9 of the chaosd process on the testbed, at random moments of one run, which each next start goes on with."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.figure import Figure

_ROOT = Path(__file__).resolve().parents[1]
_KILLS = 20
_SEED = 1


def measure() -> Iterator[Figure]:
    """How often the target was healed, and what was lost."""
    sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]
    from tests import kills
    from tests.chaosd_process import Chaosd
    from tests.real import RealCluster

    real = RealCluster.of_testbed()
    namespace = real.make_namespace()
    real.start_web(namespace)
    document = {"name": "kills", "target": {"statefulset": "web"}, "workload": {"files": 20}, "seed": _SEED}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "experiment.yaml", Path(folder) / "out"
        path.write_text(json.dumps({**document, "disruptions": kills.DISRUPTIONS}))

        def start(command: str, *args: str | Path, env: Mapping[str, str]) -> Chaosd:
            return Chaosd(command, *args, "--kubeconfig", real.path, "--out", out, env=env)

        try:
            survived = kills.survive(real, namespace, start, path, _KILLS, random.Random(_SEED))
        finally:
            real.remove_namespaces([namespace])
        verdict = survived.verified.verdict
    coverage, value = verdict["coverage"], verdict["verdict"]
    detail = f"one run, {coverage['rounds']} rounds, {coverage['disruptions']}; in the end its verdict is {value}"
    yield Figure("targets healed after kill -9", survived.healed, f"of {_KILLS}", detail, at_least=_KILLS)
    detail = f"of {survived.acknowledged:,} files acknowledged; {coverage['writes_unanswered']} writes were unanswered"
    yield Figure("acknowledged files lost by kill -9", len(survived.gone), "files", detail, at_most=0)
