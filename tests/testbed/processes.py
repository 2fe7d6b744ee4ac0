"""The testbed's own processes: started detached, recorded on disk, and ended only if they are still the same process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.layout import LOGS, RUN
from testbed.shell import TestbedError, wait_until

_RECORDS = RUN / "processes"

# The shell in between makes the program a child of init: a long-lived caller (pytest) then keeps no zombie of it.
_DETACH = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
_RESPAWN = 'log=$1; shift; { while :; do "$@"; sleep 1; done; } </dev/null >>"$log" 2>&1 & echo $!'


@dataclass(frozen=True)
class Process:
    """A started program, or the shell that starts it anew whenever it ends (`respawn`). `born` tells it from a later
    process with the same id, even after a reboot."""

    name: str
    pid: int
    born: str
    argv: tuple[str, ...]
    env: dict[str, str]
    respawn: bool = False  # records of before it have none

    def alive(self) -> bool:
        return born(self.pid) == self.born


def born(pid: int) -> str | None:
    """When a process started (boot id and clock ticks since); None if there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def start(
    name: str,
    argv: Iterable[object],
    env: dict[str, str] | None = None,
    network: str | None = None,
    *,
    respawn: bool = False,
) -> Process:
    """Start a program with `env` added to the environment, in a network namespace if one is named; output to its log.

    `respawn` starts it anew when it ends, as systemd or a kubelet would: some programs count on that (the scheduler ends
    itself when its cache and the API server disagree).
    """
    enter = [] if network is None else ["nsenter", f"--net=/run/netns/{network}"]
    return _start(name, [*enter, *(str(word) for word in argv)], env or {}, respawn=respawn)


def restart(name: str) -> Process:
    """Start a recorded program again, just as it was started before."""
    old = recorded(name)
    if old.alive():
        raise TestbedError(f"{name} is running")
    return _start(name, old.argv, old.env, respawn=old.respawn)


def _start(name: str, argv: Sequence[str], env: dict[str, str], *, respawn: bool) -> Process:
    LOGS.mkdir(parents=True, exist_ok=True)
    _RECORDS.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["/bin/sh", "-c", _RESPAWN if respawn else _DETACH, "sh", str(LOGS / f"{name}.log"), *argv],
        env={**os.environ, **env},
        cwd="/",
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
        check=True,
    )
    pid = int(done.stdout)
    process = Process(name, pid, born(pid) or "died at once", tuple(argv), env, respawn)
    (_RECORDS / f"{name}.json").write_text(json.dumps(asdict(process)))
    return process


def recorded(name: str) -> Process:
    try:
        fields = json.loads((_RECORDS / f"{name}.json").read_text())
    except OSError as error:
        raise TestbedError(f"{name} was never started") from error
    return Process(**{**fields, "argv": tuple(fields["argv"])})


def all_recorded() -> list[Process]:
    return [recorded(file.stem) for file in sorted(_RECORDS.glob("*.json"))]


def kill(processes: Iterable[Process]) -> None:
    """SIGKILL, and wait until they are gone; those that are no longer what was recorded are left alone."""
    kill_trees(process.pid for process in processes if process.alive())


def kill_trees(roots: Iterable[int]) -> None:
    """SIGKILL processes with all their descendants, parents first, and wait until they are gone."""
    children: dict[int, list[int]] = {}
    for pid in all_pids():
        children.setdefault(_parent(pid), []).append(pid)
    pending, doomed = list(roots), dict[int, str | None]()
    while pending:
        pid = pending.pop()
        doomed[pid] = born(pid)
        pending.extend(children.get(pid, []))
    for pid, birth in doomed.items():
        if birth is not None and born(pid) == birth:
            _kill(pid)
    for pid, birth in doomed.items():
        wait_until(f"process {pid} is gone", lambda p=pid, b=birth: b is None or born(p) != b, 120)  # type: ignore[misc]


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
