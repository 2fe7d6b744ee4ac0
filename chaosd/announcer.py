"""What a run does to its StatefulSet, and what it finds, as Events on that, for who looks with `kubectl describe`.

There are few of them: what is told of the same topic is one Event, with a count, as the recorders of Kubernetes' own
components keep it (k8s.io/client-go, tools/record/events_cache.go). They are told at best effort, and disturb no run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chaosd.checkers.verdict import Value
from chaosd.cluster.inflight import patiently
from chaosd.cluster.observer import Sink
from chaosd.cluster.port import Cluster, StatefulSet
from chaosd.errors import ClusterError
from chaosd.history import NEMESIS, RUN, Event, Kind, Op, in_words

DISRUPTION, VERDICT = "ChaosdDisruption", "ChaosdVerdict"
_PATIENCE_SECONDS = 10.0
_LAST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Announcement:
    topic: str
    reason: str
    message: str
    warning: bool = False


class Announcer:
    """Follows one run's journal by `record`, and tells while `run` does. `about` gives the StatefulSet as it is now."""

    def __init__(self, cluster: Cluster, about: Callable[[], StatefulSet | None], run: str, sink: Sink) -> None:
        self._cluster = cluster
        self._about = about
        self._run = run
        self._sink = sink
        self._round = 0
        self._said: Any = ("", 0)  # the last verdict, and of how many violations
        self._waiting: dict[str, _Announcement] = {}  # of each topic the latest
        self._counts: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._warned = False

    def record(self, op: Op) -> None:
        """Take note of what is worth telling."""
        if op.process == NEMESIS and op.kind is Kind.INVOKE and op.value.get("disrupts"):
            self._announce(_Announcement(op.f, DISRUPTION, f"{in_words(op)}: round {self._round} of run {self._run}"))
        elif op.process == RUN and op.f == "round":
            self._round = op.value["round"]
            if op.kind is Kind.OK and self._said != (said := (op.value["verdict"], op.value["violations"])):
                self._said = said
                self._announce_verdict(*said, f"after round {self._round}")

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._tell_all()

    async def end(self, verdict: str, violations: int) -> None:
        """Tell the verdict of the whole run, and what was not told yet, in a few seconds or not at all."""
        self._warned = True  # nothing more can be journaled
        self._announce_verdict(verdict, violations, "at the end")
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._tell_all()
        except TimeoutError:
            return

    def _announce_verdict(self, verdict: str, violations: int, when: str) -> None:
        message = f"{verdict}, {violations} violations, {when} of run {self._run}"
        self._announce(_Announcement(f"verdict-{verdict}", VERDICT, message, warning=verdict == Value.FAIL))

    def _announce(self, announcement: _Announcement) -> None:
        self._waiting[announcement.topic] = announcement
        self._counts[announcement.topic] += 1
        self._wake.set()

    async def _tell_all(self) -> None:
        while self._waiting:
            one = self._waiting.pop(next(iter(self._waiting)))
            if statefulset := self._about():
                try:
                    await self._tell(statefulset, one)
                except ClusterError as error:
                    await self._warn(error)

    async def _tell(self, statefulset: StatefulSet, one: _Announcement) -> None:
        topic, count = f"{self._run.lower()}.{one.topic}", self._counts[one.topic]
        async for attempt in patiently(_PATIENCE_SECONDS):
            with attempt:
                await self._cluster.post_event(
                    statefulset, topic, reason=one.reason, message=one.message, warning=one.warning, count=count
                )

    async def _warn(self, error: ClusterError) -> None:
        """Once: that the rest is missing, too, need not be said."""
        if not self._warned:
            self._warned = True
            warning = f"Events on the StatefulSet do not tell all that the run does: {error}"
            await self._sink([Event(RUN, "warning", Kind.OK, {"warning": warning})])
