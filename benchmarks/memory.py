"""The daemon's memory after 1,000 rounds on the sandbox, against what its imports take."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from benchmarks.figure import Figure

_ROUNDS = 1000
_SOAK = Path(__file__).resolve().parents[1] / "experiments" / "soak.yaml"
# Every round reads all that is owed, so the share says how long a round takes.
_SHARE = {"bytes": "16Mi", "files": 200}
_IMPORTS = "import chaosd.cli; print(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])"


def measure() -> Iterator[Figure]:
    """Megabytes of resident memory beyond the imports'."""
    imports = (
        int(subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True).stdout) / 1024
    )
    with tempfile.TemporaryDirectory() as folder:
        early, late = _soak(Path(folder))
    detail = f"imports take {imports:.1f} MB; {early:.1f} MB after {_ROUNDS // 10} rounds, {late:.1f} MB after {_ROUNDS}"
    yield Figure("daemon's memory beyond its imports", late - imports, "MB", detail, at_most=40)


def _soak(folder: Path) -> tuple[float, float]:
    document = yaml.safe_load(_SOAK.read_text())
    document["workload"]["share"] = _SHARE
    document["target"]["manifest"] = str(_SOAK.parent / "targets" / "web.yaml")
    experiment = folder / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(document))
    argv = ("daemon", experiment, "--cluster", "sandbox", "--out", folder, "--listen", "127.0.0.1:0")
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen([sys.executable, "-m", "chaosd", *map(str, argv)], stdout=log, stderr=log)
    try:
        _until_round(folder / "log", _ROUNDS // 10)
        early = _resident_megabytes(daemon.pid)
        _until_round(folder / "log", _ROUNDS + 1)
        late = _resident_megabytes(daemon.pid)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    assert not json.loads((folder / "soak" / "verdict.json").read_text())["violations"]
    return early, late


def _until_round(log: Path, wanted: int) -> None:
    while f" round {wanted}:" not in log.read_text():
        time.sleep(1)


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024
