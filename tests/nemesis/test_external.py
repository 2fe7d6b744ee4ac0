"""`external`: what a command is told, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.chaosd_process import Chaosd, chaosd

WEB = Path(__file__).parents[2] / "experiments" / "targets" / "web.yaml"


def _disturbed(tmp_path: Path, *commands: str, **spec: Any) -> Chaosd:
    """A run on the sandbox with one step for each command."""
    disruptions = [{"kind": "external", "command": ["sh", "-c", command], **spec} for command in commands]
    steps = [{"name": f"step-{n}", "write": 1, "disrupt": d, "verify": True} for n, d in enumerate(disruptions)]
    document = {"name": "disturbed", "target": {"statefulset": "web", "manifest": str(WEB)}, "steps": steps}
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(document))
    return chaosd("run", experiment, "--cluster", "sandbox", "--out", tmp_path / "out", "--seed", "1")


def test_every_command_is_run_and_told_which_replica_it_disturbs(tmp_path: Path) -> None:
    told = tmp_path / "told"
    done = _disturbed(tmp_path, *(f"echo {n} {{namespace}} {{pod}} {{claim}} >>{told}" for n in ("one", "two")))
    assert done.code == 0, done.told
    lines = [line.split() for line in told.read_text().splitlines()]
    assert [line[0] for line in lines] == ["one", "two"]
    assert all((namespace, claim) == ("default", f"disk-ssd-{pod}") for _, namespace, pod, claim in lines)
    assert (done.verdict["coverage"]["crashes"], done.verdict["coverage"]["disruptions"]) == (0, {"external": 2})


def test_a_crash_is_counted_only_where_the_command_succeeds(tmp_path: Path) -> None:
    done = _disturbed(tmp_path, "true", "echo it is no use; exit 3", crash=True)
    coverage = done.verdict["coverage"]
    assert (coverage["crashes"], coverage["disruptions_not_done"]) == (1, {"external": 1})
