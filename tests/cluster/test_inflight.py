"""Requests that are tried again: soon at first, then more and more seldom, whatever they are told."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from chaosd import virtual_time
from chaosd.cluster.inflight import patiently
from chaosd.errors import ForbiddenError, ThrottledError


def tried(told: float | None, attempts: int | None = None) -> list[float]:
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


def test_no_attempt_begins_after_the_deadline_of_the_loops_own_clock() -> None:
    assert tried(None)[-1] == pytest.approx(56.2), "the next would begin after 61.2 of 60 seconds"
    assert tried(61.0) == [0.0]


def test_what_succeeds_and_what_is_worth_no_other_attempt_are_tried_once() -> None:
    began = []

    async def act(error: Exception | None) -> None:
        async for attempt in patiently(60):
            with attempt:
                began.append(error)
                if error:
                    raise error

    virtual_time.run(act(None))
    with pytest.raises(ForbiddenError):
        virtual_time.run(act(ForbiddenError("no")))
    assert len(began) == 2
