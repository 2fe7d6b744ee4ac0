"""`external`: what a command or a URL is told, what is said of it, and how it is undone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from pydantic import ValidationError

from chaosd.errors import DisruptionError
from tests.chaosd_process import Chaosd, chaosd
from tests.nemesis.stage import BY, spec, stage

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


def test_what_was_done_is_undone_before_the_target_is_read_even_where_it_failed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    undo = ["sh", "-c", f"echo up {{pod}} >>{told}"]
    done = _disturbed(tmp_path, f"echo down {{pod}} >>{told}", f"echo down {{pod}} >>{told}; exit 1", undo=undo)
    assert done.code == 0, done.told
    words = [line.split() for line in told.read_text().splitlines()]
    assert [word for word, _ in words] == ["down", "up", "down", "up"]
    assert words[0][1] == words[1][1]


async def test_a_url_is_told_the_same_and_so_is_the_one_that_undoes_it() -> None:
    async with _server() as (address, calls), stage() as on:
        disruption = spec("external", url=f"{address}/down", undoUrl=f"{address}/up", ordinal=1)
        prepared = on.prepared(disruption)
        evidence = await disruption.invoke(on.scene, prepared)
        assert (evidence["output"], evidence["boot_id"]["was"] != "") == ("done", True)
        assert await on.healed(prepared.undo) == f"{address}/up undid it: done"
    (down, told), (up, told_again) = calls
    assert (down, up) == ("/down", "/up")
    assert (told["namespace"], told["pod"], told["claim"], told["run"]) == ("default", "web-1", "disk-web-1", BY)
    assert (told["handle"] != "", told_again) == (True, told)


async def test_an_undo_that_fails_stays_to_be_undone() -> None:
    async with _server() as (address, _), stage() as on:
        prepared = on.prepared(spec("external", command=["true"], undoUrl=f"{address}/broken"))
        with pytest.raises(DisruptionError, match="/broken answered 500: no"):
            await on.healed(prepared.undo)
        prepared = on.prepared(spec("external", command=["true"], undo=["false"]))
        with pytest.raises(DisruptionError, match="false ended with status 1"):
            await on.healed(prepared.undo)


async def test_a_url_that_nobody_answers_says_so() -> None:
    async with stage() as on:
        with pytest.raises(DisruptionError, match=r"http://127.0.0.1:1/ cannot be reached"):
            await on.done(spec("external", url="http://127.0.0.1:1/"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "give either command or url"),
        ({"command": ["a"], "url": "http://a"}, "give either command or url"),
        ({"command": ["a"], "undo": ["b"], "undoUrl": "http://b"}, "give either undo or undoUrl"),
        ({"command": ["a"], "undo": ["{place}"]}, "is not told"),
        ({"url": "ftp://a"}, "url"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec("external", **fields)


@asynccontextmanager
async def _server() -> AsyncIterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Its address, and the calls that it got."""
    calls: list[tuple[str, dict[str, Any]]] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append((request.path, await request.json()))
        return web.Response(text="no", status=500) if request.path == "/broken" else web.Response(text="done")

    app = web.Application()
    app.router.add_post("/{any}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", calls
    finally:
        await runner.cleanup()
