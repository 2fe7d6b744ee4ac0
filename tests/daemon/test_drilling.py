"""The drill of a daemon: in a process of its own, told in its metrics."""

from __future__ import annotations

import sys

import pytest
from prometheus_client import CollectorRegistry

from chaosd.daemon import drilling, logs
from chaosd.metrics import Metrics


def _detected(registry: CollectorRegistry) -> dict[str, float]:
    families = (family for family in registry.collect() if family.name == "chaosd_drill_detected")
    return {sample.labels["class"]: sample.value for family in families for sample in family.samples}


async def test_what_it_finds_is_told_by_class(capfd: pytest.CaptureFixture[str]) -> None:
    registry = CollectorRegistry()
    drill = drilling.Drill(Metrics(registry), logs.opened("text"))
    await drill.run(["hostname_changed"])
    assert _detected(registry) == {"hostname_changed": 1.0}
    (told,) = await drill.found()
    assert told.value["missed"] == []
    assert told.value["planted"] > 1
    assert "each judged rightly" in capfd.readouterr().err


async def test_one_that_does_not_come_to_its_end_tells_nothing_but_that(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = CollectorRegistry()
    monkeypatch.setattr(sys, "executable", "/bin/true")
    drill = drilling.Drill(Metrics(registry), logs.opened("text"))
    await drill.run()
    assert (_detected(registry), await drill.found()) == ({}, [])
    assert "nobody knows what would be found" in capfd.readouterr().err
