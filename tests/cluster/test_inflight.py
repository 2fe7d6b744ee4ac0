"""Requests that are tried again: soon at first, then more and more seldom, whatever they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
import stamina

from chaosd import virtual_time
from chaosd.cluster.inflight import patiently
from chaosd.errors import ThrottledError


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    stamina.instrumentation.set_on_retry_hooks(())
    yield
    stamina.instrumentation.set_on_retry_hooks(None)


def tried(told: float | None, attempts: int) -> list[float]:
    """When each attempt began, in seconds of the loop."""
    at: list[float] = []

    async def act() -> None:
        async for attempt in patiently(60, attempts):
            with attempt:
                at.append(asyncio.get_running_loop().time())
                error = ThrottledError("later")
                error.retry_after = told
                raise error

    with pytest.raises(ThrottledError):
        virtual_time.run(act())
    return at


@pytest.mark.parametrize("told", [None, 0.1])
def test_pauses_grow_however_well_the_server_answers_others(told: float | None) -> None:
    """A budget that refuses an eviction is told of at once, each time, while all else is answered."""
    at = tried(told, 8)
    pauses = [round(after - before, 3) for before, after in pairwise(at)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_longer_pause_that_is_told_is_kept() -> None:
    at = tried(7.0, 3)
    assert [round(after - before, 3) for before, after in pairwise(at)] == [7.0, 7.0]
