"""The program that sends a signal from inside a container, in every shell that is here, on a /proc that the test makes. Its
`kill` only tells what it would do."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

PROGRAM = resources.files("chaosd.cluster.kubernetes").joinpath("signal.sh").read_text()
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
TERM = 1 << 14
HARMLESS = 'kill() { case $* in "-0 13") return 1 ;; "-0 "*) ;; *) echo "kill $*" ;; esac; }\n'


@dataclass
class Proc:
    """A /proc as the program sees it, whose own container has the mounts and the cgroup `ours`."""

    folder: Path

    def __post_init__(self) -> None:
        self._identify(self.folder / "self", "ours", readable=True)

    def add(
        self,
        pid: int,
        *,
        of: str = "ours",
        cgroup: str = "",
        parent: int = 0,
        began: int = 100,
        caught: int = 0,
        blocked: int = 0,
        ignored: int = 0,
        readable: bool = True,
    ) -> None:
        """A process in the container `of`; whose namespaces may not be read unless `readable`."""
        folder = self.folder / str(pid)
        self._identify(folder, of, readable=readable, cgroup=cgroup)
        after = ["S", str(parent), *["0"] * 17, str(began), *["0"] * 10]
        (folder / "stat").write_text(f"{pid} (a) b (c) {' '.join(after)}\n")
        masks = {"SigBlk": blocked, "SigIgn": ignored, "SigCgt": caught}
        lines = [f"{name}:\t{mask:016x}" for name, mask in masks.items()]
        (folder / "status").write_text("\n".join(["Name:\tx", *lines, "CapInh:\t0"]) + "\n")

    def _identify(self, folder: Path, of: str, *, readable: bool, cgroup: str = "") -> None:
        (folder / "ns").mkdir(parents=True)
        (folder / "cgroup").write_text(f"0::/{cgroup or of}\n")
        if readable:
            (folder / "ns" / "mnt").symlink_to(f"mnt:[{of}]")


@dataclass(frozen=True)
class Told:
    status: int
    lines: list[str]
    why: str


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request: pytest.FixtureRequest) -> list[str]:
    """The words that start a shell."""
    return list(request.param)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


def _run(shell: list[str], proc: Proc, signal: str, told: str = "go\n") -> Told:
    argv = [*shell, "-c", HARMLESS + PROGRAM, "chaosd-signal", signal]
    environment = {"PATH": os.environ["PATH"], "CHAOSD_PROC": str(proc.folder)}
    done = subprocess.run(argv, input=told, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return Told(done.returncode, done.stdout.splitlines(), done.stderr.strip())


def _sent(first: int, signal: str) -> Told:
    return Told(0, [f"first {first}", f"kill -s {signal} {first}"], "")


def _refused(told: Told) -> str:
    assert (told.status, told.lines) == (3, [])
    return told.why


@pytest.mark.parametrize(
    "handles", [{"caught": TERM}, {"blocked": TERM}, {"caught": 0x180014A03}, {"blocked": 0xFFFFFFFE7BFBFEFF}]
)
def test_term_is_sent_to_a_process_1_that_handles_or_awaits_it(
    shell: list[str], proc: Proc, handles: dict[str, int]
) -> None:
    proc.add(1, **handles)
    proc.add(7, parent=1, caught=0)
    assert _run(shell, proc, "TERM") == _sent(1, "TERM")


@pytest.mark.parametrize("mask", [0, 0x2000, 0x8000, 0xFFFFFFFFFFFFBFFF])
def test_term_is_refused_where_process_1_does_neither(shell: list[str], proc: Proc, mask: int) -> None:
    proc.add(1, caught=mask, ignored=TERM)
    assert "process 1 does not handle SIGTERM" in _refused(_run(shell, proc, "TERM"))


def test_kill_is_refused_to_process_1(shell: list[str], proc: Proc) -> None:
    proc.add(1, caught=TERM)
    assert "process 1 of a PID namespace gets no SIGKILL" in _refused(_run(shell, proc, "KILL"))


def test_where_processes_are_shared_the_oldest_of_the_containers_own_is_meant(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="pause", began=50)
    proc.add(8, of="sidecar", began=60)
    proc.add(100, began=900)  # of an exec, such as the probe's
    proc.add(20, began=99)
    proc.add(21, parent=20, began=99)
    assert _run(shell, proc, "KILL") == _sent(20, "KILL")
    assert _run(shell, proc, "TERM") == _sent(20, "TERM")


def test_processes_of_other_users_are_told_by_their_cgroup(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="pause", readable=False)
    proc.add(8, of="sidecar", began=60, readable=False)
    proc.add(20, began=99, readable=False)
    assert _run(shell, proc, "KILL") == _sent(20, "KILL")


def test_term_is_refused_to_who_ignores_it(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="pause")
    proc.add(20, ignored=TERM)
    assert _refused(_run(shell, proc, "TERM")) == "process 20 ignores SIGTERM: send KILL"


def test_on_the_nodes_own_processes_nothing_is_sent(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="node")
    proc.add(2, of="node", readable=False)
    proc.add(400, parent=399, caught=TERM)  # the container's first process, whose parent is the runtime's
    assert "its first process is not to be seen from inside" in _refused(_run(shell, proc, "TERM"))


def test_a_process_1_with_the_same_cgroup_and_other_mounts_is_not_passed_over(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="unshared", cgroup="ours")
    proc.add(20)
    assert "its first process cannot be told for sure" in _refused(_run(shell, proc, "KILL"))


def test_whose_process_may_not_be_signalled_is_said_before(shell: list[str], proc: Proc) -> None:
    proc.add(1, of="pause")
    proc.add(13)
    assert "process 13 runs as another user" in _refused(_run(shell, proc, "KILL"))


def test_nothing_is_sent_when_nobody_asks_any_more(shell: list[str], proc: Proc) -> None:
    proc.add(1, caught=TERM)
    assert _run(shell, proc, "TERM", told="") == Told(4, ["first 1"], "")
