"""Events on the StatefulSet: few of them, counted, and no run is the worse for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from chaosd import virtual_time
from chaosd.announcer import Announcer
from chaosd.cluster.port import Cluster, StatefulSet
from chaosd.errors import ClusterError, ForbiddenError, UnreachableError
from chaosd.history import NEMESIS, RUN, Event, Kind, Op
from chaosd.report.verdict import Value

WEB = StatefulSet("default", "web", "s1", 3)


class _Cluster:
    """Takes Events, or fails as it is told."""

    def __init__(self, *errors: ClusterError) -> None:
        self.told: list[tuple[str, str, bool, int]] = []
        self.messages: list[str] = []
        self.errors = list(errors)

    async def post_event(
        self, target: StatefulSet, topic: str, *, reason: str, message: str, warning: bool, count: int
    ) -> None:
        assert target == WEB
        if self.errors:
            raise self.errors.pop(0)
        self.told.append((topic, reason, warning, count))
        self.messages.append(message)


class _Followed:
    """An announcer, the ops that it is told, and what it journals."""

    def __init__(self, cluster: _Cluster, about: StatefulSet | None = WEB) -> None:
        self.journaled: list[Event] = []
        self.announcer = Announcer(cast(Cluster, cluster), lambda: about, "01RUN", self._sink)

    async def _sink(self, events: list[Event]) -> None:
        self.journaled += events

    async def op(self, process: str, f: str, kind: Kind, **value: Any) -> None:
        self.announcer.record(Op(0, 0.0, process, f, kind, value))
        await asyncio.sleep(60)

    async def round(self, number: int, verdict: str = "pass", violations: int = 0) -> None:
        await self.op(RUN, "round", Kind.INVOKE, round=number)
        await self.op(NEMESIS, "pod-delete", Kind.INVOKE, disrupts=True, takes=["default/web-1"])
        await self.op(NEMESIS, "pod-delete", Kind.OK)
        await self.op(RUN, "round", Kind.OK, round=number, verdict=verdict, violations=violations)


@asynccontextmanager
async def _following(cluster: _Cluster, about: StatefulSet | None = WEB) -> AsyncIterator[_Followed]:
    followed = _Followed(cluster, about)
    telling = asyncio.create_task(followed.announcer.run())
    yield followed
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


def test_disruptions_and_changes_of_the_verdict_are_told_and_counted() -> None:
    async def check() -> None:
        cluster = _Cluster()
        async with _following(cluster) as followed:
            await followed.round(1)
            await followed.round(2)
            await followed.round(3, "fail", 2)
        await followed.announcer.end(Value.FAIL, 2)
        assert cluster.told == [
            ("01run.pod-delete", "ChaosdDisruption", False, 1),
            ("01run.verdict-pass", "ChaosdVerdict", False, 1),
            ("01run.pod-delete", "ChaosdDisruption", False, 2),
            ("01run.pod-delete", "ChaosdDisruption", False, 3),
            ("01run.verdict-fail", "ChaosdVerdict", True, 1),
            ("01run.verdict-fail", "ChaosdVerdict", True, 2),
        ]
        assert cluster.messages[0] == "pod-delete default/web-1: round 1 of run 01RUN"
        assert cluster.messages[-2] == "fail, 2 violations, after round 3 of run 01RUN"
        assert followed.journaled == []

    virtual_time.run(check())


def test_a_thousand_rounds_are_a_handful_of_events() -> None:
    async def check() -> None:
        cluster = _Cluster()
        async with _following(cluster) as followed:
            for number in range(1, 1001):
                await followed.round(number)
        assert len({topic for topic, *_ in cluster.told}) == 2
        assert cluster.told[-1] == ("01run.pod-delete", "ChaosdDisruption", False, 1000)

    virtual_time.run(check())


def test_what_cannot_be_told_disturbs_nobody_and_is_noted_once() -> None:
    async def check() -> None:
        cluster = _Cluster(*(ForbiddenError("may not create events") for _ in range(3)))
        async with _following(cluster) as followed:
            await followed.round(1)
            await followed.round(2)
        (noted,) = followed.journaled
        assert (noted.process, noted.f) == (RUN, "warning")
        assert "may not create events" in noted.value["warning"]
        assert [topic for topic, *_ in cluster.told] == []

    virtual_time.run(check())


def test_a_moment_without_an_api_server_loses_nothing() -> None:
    async def check() -> None:
        cluster = _Cluster(UnreachableError("away"), UnreachableError("away"))
        async with _following(cluster) as followed:
            await followed.round(1)
        assert [topic for topic, *_ in cluster.told] == ["01run.pod-delete", "01run.verdict-pass"]
        assert followed.journaled == []

    virtual_time.run(check())


def test_the_end_waits_for_nobody_long() -> None:
    async def check() -> None:
        cluster = _Cluster(*(UnreachableError("away") for _ in range(1000)))
        followed, now = _Followed(cluster), asyncio.get_running_loop().time
        began = now()
        await followed.announcer.end(Value.PASS, 0)
        assert now() - began <= 5
        assert followed.journaled == []
        await _Followed(_Cluster(), about=None).announcer.end(Value.PASS, 0)  # a StatefulSet that is gone is told nothing

    virtual_time.run(check())
