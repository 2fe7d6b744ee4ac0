"""`together`: several disruptions as one, and one undo for all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from chaosd.cluster.port import StatefulSet
from chaosd.errors import BlockedError, DisruptionError, NotReadyError
from tests.nemesis.stage import spec, stage


async def test_all_are_done_and_each_tells_its_evidence() -> None:
    async with stage() as on:
        before = on.uids
        parts = [{"kind": "pod-delete", "ordinals": [0]}, {"kind": "pod-delete", "ordinals": [2], "grace": 0}]
        prepared = on.prepared(spec("together", disruptions=parts))
        assert prepared.takes == {"web-0", "web-2"}
        assert [one["uid"] for one in prepared.deletes] == [before["web-0"], before["web-2"]]
        assert [(part["kind"], part["grace"]) for part in prepared.more["disruptions"]] == [
            ("pod-delete", "default"),
            ("pod-delete", 0),
        ]
        evidence = await spec("together", disruptions=parts).invoke(on.scene, prepared)
        await on.converged(3)
        assert [part["gone"] for part in evidence["disruptions"]] == [[before["web-0"]], [before["web-2"]]]
        assert on.uids["web-1"] == before["web-1"]


async def test_each_draws_from_a_stream_of_its_own() -> None:
    async with stage() as on:
        alone = [{"kind": "pod-delete"}, {"kind": "pod-delete"}]
        draws = [
            [part["ordinals"] for part in on.prepared(spec("together", disruptions=alone), seed=seed).more["disruptions"]]
            for seed in range(20)
        ]
        assert any(first != second for first, second in draws)


async def test_what_all_registered_is_undone_the_last_first_whatever_somebody_changed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    undone = {"kind": "external", "command": ["true"], "undo": ["sh", "-c", f"echo up >>{told}"]}
    async with stage() as on:
        prepared = on.prepared(spec("together", disruptions=[undone, {"kind": "scale", "to": 1}, undone]))
        await on.scaled(7)
        done = await on.healed(prepared.undo)
        assert "left as it is: default/web has 7 replicas" in done
        assert told.read_text() == "up\nup\n"
        await on.scaled(1)
        await on.healed(prepared.undo)
        assert (await on.cluster.get(StatefulSet, "default", "web")).replicas == 3


async def test_an_undo_that_fails_does_not_keep_the_others() -> None:
    async with stage() as on:
        failing = {"kind": "external", "command": ["true"], "undo": ["false"]}
        prepared = on.prepared(spec("together", disruptions=[{"kind": "scale", "to": 1}, failing]))
        await on.scaled(1)
        with pytest.raises(DisruptionError, match="false ended with status 1"):
            await on.healed(prepared.undo)
        assert (await on.cluster.get(StatefulSet, "default", "web")).replicas == 3


async def test_one_that_fails_does_not_stop_the_others() -> None:
    async with stage() as on:
        before = on.uids
        parts = [{"kind": "external", "command": ["false"]}, {"kind": "pod-delete", "ordinals": [1]}]
        with pytest.raises(DisruptionError, match="done in part, 1 of 2 failed: false ended"):
            await on.done(spec("together", disruptions=parts))
        await on.converged(3)
        assert on.uids["web-1"] != before["web-1"]


async def test_where_all_are_blocked_nothing_was_done() -> None:
    async with stage(seconds=0.1) as on:
        before = on.uids
        waiting = {"kind": "pod-delete", "when": "writing"}
        with pytest.raises(BlockedError, match="for a write"):
            await on.done(spec("together", disruptions=[waiting, waiting]))
        assert on.uids == before


async def test_none_is_done_where_one_cannot_be() -> None:
    async with stage() as on:
        leaderless = {"kind": "pod-delete", "pick": "leader", "leaderLabel": "role=primary"}
        with pytest.raises(NotReadyError, match="no one leader"):
            on.prepared(spec("together", disruptions=[{"kind": "pod-delete"}, leaderless]))


async def test_an_undo_does_not_overtake_what_was_sent_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal cancels it while a request is on the way: the server carries that out all the same."""
    async with stage() as on:
        scale, sent = on.cluster.scale, asyncio.Event()

        async def slow(*args: str, **counts: int) -> None:
            sent.set()
            await asyncio.sleep(0.1)
            await scale(*args, **counts)

        monkeypatch.setattr(on.cluster, "scale", slow)
        disruption = spec("together", disruptions=[{"kind": "scale", "to": 1}, {"kind": "pod-delete", "when": "writing"}])
        prepared = on.prepared(disruption)
        doing = asyncio.create_task(disruption.invoke(on.scene, prepared))
        await sent.wait()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        assert (await on.cluster.get(StatefulSet, "default", "web")).replicas == 1
        await on.healed(prepared.undo)
        assert (await on.cluster.get(StatefulSet, "default", "web")).replicas == 3


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([{"kind": "pod-delete"}], "at least 2"),
        ([{"kind": "pod-delete"}, {"kind": "together", "disruptions": []}], "Input tag 'together'"),
        ([{"kind": "scale"}, {"kind": "rollout-restart"}], "rollout-restart and scale would fight each other"),
        ([{"kind": "scale"}, {"kind": "reschedule"}], "reschedule would wait for pods that scale takes away"),
        ([{"kind": "scale"}, {"kind": "pod-delete", "when": "mounting"}], "pod-delete would wait"),
    ],
)
def test_what_does_not_go_together_is_refused(parts: list[dict[str, object]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec("together", disruptions=parts)
