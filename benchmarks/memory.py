"""The daemon's memory after 1,000 rounds on the sandbox, against what its imports take."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Figure

_ROUNDS = 1000
_EXPERIMENT = Path(__file__).resolve().parents[1] / "experiments" / "soak.yaml"
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
    listen = f"127.0.0.1:{_free_port()}"
    argv = ("daemon", _EXPERIMENT, "--cluster", "sandbox", "--out", folder, "--listen", listen)
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen([sys.executable, "-m", "chaosd", *map(str, argv)], stdout=log, stderr=log)
    try:
        _until_round(listen, _ROUNDS // 10)
        early = _resident_megabytes(daemon.pid)
        _until_round(listen, _ROUNDS + 1)
        late = _resident_megabytes(daemon.pid)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "pass"
    return early, late


def _until_round(listen: str, wanted: int) -> None:
    while _round(listen) < wanted:
        time.sleep(1)


def _round(listen: str) -> float:
    try:
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
            found = re.search(r"^chaosd_round\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)
    except OSError:
        return 0.0  # not listening yet
    return float(found[1]) if found else 0.0


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
