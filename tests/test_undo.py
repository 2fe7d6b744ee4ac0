"""`chaosd undo`: what one target has against it keeps no other from being put right."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chaosd import commands
from chaosd.cluster.lock import TargetLock
from chaosd.cluster.port import StatefulSet
from chaosd.cluster.sandbox import SandboxCluster
from chaosd.errors import TargetError, UnreachableError
from chaosd.run import Ending
from chaosd.settings import Settings
from tests import manifests


async def test_a_target_that_is_being_tested_or_out_of_reach_keeps_no_other_from_being_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _left_behind(tmp_path / "sandbox")
    hold_lock = commands.hold_lock

    @asynccontextmanager
    async def obstructed(cluster: Any, settings: Settings, key: str, ending: Ending) -> AsyncIterator[Any]:
        if key == "default/busy":
            raise TargetError("default/busy is being tested by another")
        if key == "default/away":
            raise UnreachableError("no answer")
        async with hold_lock(cluster, settings, key, ending) as held:
            yield held

    monkeypatch.setattr(commands, "hold_lock", obstructed)
    settings = Settings(cluster="sandbox", sandbox_dir=tmp_path / "sandbox", out=tmp_path / "out")
    assert await commands.undo_runs(settings, None, Ending()) == [
        "default/away could not be looked at: no answer",
        "left as it is: default/busy is being tested by another",
        "default/web scaled from 0 back to 2 replicas",
    ]
    cluster = await SandboxCluster.open(tmp_path / "sandbox")
    assert (await cluster.get(StatefulSet, "default", "web")).replicas == 2
    await cluster.close()


async def _left_behind(folder: Path) -> None:
    """Targets that a chaosd which died long ago had scaled down, and one that nobody ever tested."""
    cluster = await SandboxCluster.open(folder)
    await cluster.apply(manifests.statefulset(name=name) for name in ("away", "busy", "untested", "web"))
    for name in ("away", "busy", "web"):
        lock = TargetLock(cluster, "default", name, "dead", 4, lambda: time.time() - 100)
        await lock.acquire()
        undo = {"kind": "scale", "namespace": "default", "statefulset": name, "restore": 2, "wrote": [0]}
        await lock.register_undo(undo)
        uid = (await cluster.get(StatefulSet, "default", name)).uid
        await cluster.scale("default", name, uid=uid, replicas=0, expected=2)
    await cluster.close()
