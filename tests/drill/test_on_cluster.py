"""The drill through the probe, on a sandbox of real folders: what it plants is found, and what goes wrong is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from chaosd.checkers.verdict import Class
from chaosd.drill import on_cluster
from chaosd.drill.on_cluster import Ground
from chaosd.drill.plants import PLANTS, ProbePlant, Site
from chaosd.drill.table import Drilled, not_planted
from chaosd.errors import AbortedError, ProbeError
from chaosd.own_target import Wanted, statefulset
from chaosd.run import Ending
from chaosd.settings import Settings
from tests.seeds import FRESH

Drill = Callable[..., Awaitable[list[Drilled]]]
HEALTHY = next(plant for plant in PLANTS if plant.found_as is None)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A sandbox that is given the target of a real cluster."""
    manifest = tmp_path / "drill.yaml"
    manifest.write_text(yaml.safe_dump(statefulset("default", Wanted("drill"))))
    settings = Settings(cluster="sandbox", out=tmp_path / "out", sandbox_dir=tmp_path / "sandbox")
    return Ground(settings, "default", manifest)


@pytest.fixture
def drill(ground: Ground) -> Drill:
    """Drills there."""

    async def drilled(*planted: ProbePlant, count: int = 1, ending: Ending | None = None) -> list[Drilled]:
        results: list[Drilled] = []
        await on_cluster.drill(ground, planted, FRESH, count, ending or Ending(), results.append)
        return results

    return drilled


async def test_every_plant_is_found_under_its_own_name_and_what_is_healthy_raises_nothing(drill: Drill) -> None:
    results = await drill(*PLANTS)
    assert [(r.plant, r.found, r.verdict) for r in results if not r.right] == []
    assert [r.plant for r in results] == [plant.what for plant in PLANTS]
    assert all((r.seconds is not None and r.seconds > 0) == bool(r.wanted) for r in results)


async def test_each_run_has_a_seed_a_folder_and_a_ledger_of_its_own(drill: Drill, ground: Ground) -> None:
    results = await drill(PLANTS[0], count=2)
    assert results[1].seed == results[0].seed + 1
    assert [Path(r.report) for r in results] == [ground.settings.out / n / "report.txt" for n in ("001", "002")]
    assert "LOST default/drill-" in Path(results[0].report).read_text()
    assert (ground.settings.out / "001" / "chaosd.db").exists()


async def test_a_fault_that_is_found_under_another_name_is_wrong(drill: Drill) -> None:
    (result,) = await drill(replace(PLANTS[0], found_as=Class.STALE))
    assert (result.wanted, result.found, result.right) == ("stale", ("lost",), False)


async def test_a_fault_that_is_not_found_is_wrong(drill: Drill) -> None:
    (result,) = await drill(replace(PLANTS[0], act=HEALTHY.act))
    assert (result.found, result.verdict, result.right, result.undecided) == ((), "pass", False, False)
    assert (result.rounds, result.seconds) == (None, None)


async def test_a_healthy_run_that_raises_something_is_wrong(drill: Drill) -> None:
    (result,) = await drill(replace(HEALTHY, act=PLANTS[0].act))
    assert (result.found, result.right) == (("lost",), False)


async def test_a_run_that_does_not_pass_is_given_no_fault_and_is_wrong(drill: Drill) -> None:
    async def never(_: Site) -> None:
        raise AssertionError("planted in what was not in order")

    down = {"name": "scale down", "disrupt": {"kind": "scale", "to": 0}}
    (result,) = await drill(replace(PLANTS[0], act=never, steps=(down,)))
    assert (result.found, result.verdict, result.right, result.undecided) == ((), "unknown", False, True)


async def test_an_error_while_planting_ends_it(drill: Drill) -> None:
    async def breaks(site: Site) -> None:
        await site.read("absent")

    with pytest.raises(ProbeError, match="No such file"):
        await drill(replace(PLANTS[0], act=breaks))


async def test_a_signal_ends_it_before_the_next_run(drill: Drill) -> None:
    ending = Ending()

    async def signalled(_: Site) -> None:
        ending.because("ended by SIGINT")
        await asyncio.sleep(0)

    with pytest.raises(AbortedError, match="ended by SIGINT"):
        await drill(replace(HEALTHY, act=signalled), PLANTS[0], ending=ending)


def test_the_classes_that_have_no_plant_are_those_of_what_the_probe_cannot_reach() -> None:
    planted = {plant.found_as for plant in PLANTS if plant.found_as}
    assert planted == {
        Class.LOST,
        Class.TORN,
        Class.CORRUPT,
        Class.STALE,
        Class.FOREIGN,
        Class.UNEXPECTED,
        Class.DOUBLE_WRITER,
    }
    assert set(not_planted(PLANTS)) == set(Class) - planted
