"""Requests that are on their way: when their caller is cancelled, and when they are worth another attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

import stamina

from chaosd.errors import ChaosdError, ClusterError, ThrottledError, UnreachableError

Result = TypeVar("Result")

_LEAST_SECONDS, _MOST_SECONDS = 0.2, 5.0


async def unbroken(request: Coroutine[Any, Any, Result]) -> Result:
    """Await a request that changes something to its end, even when cancelled meanwhile: what was sent cannot be taken
    back, and an undo that overtakes it would undo nothing. Bounded by the request's own deadline."""
    sent = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(sent)
    except asyncio.CancelledError:
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # its error is nobody's any more
        await asyncio.wait({sent})
        raise


def patiently(
    timeout_seconds: float, attempts: int | None = None, also: tuple[type[ChaosdError], ...] = ()
) -> AsyncIterator[stamina.Attempt]:
    """Attempts of an act that is safe to repeat, while the API server is away or throttles, and after the errors that are
    named `also`. Use: `async for attempt in patiently(60): with attempt: await act()`. An error that says for how long
    another attempt is no use is believed."""

    pauses = _pauses()

    def pause(error: Exception) -> bool | float:
        if not isinstance(error, (UnreachableError, ThrottledError, *also)):
            return False
        told, own = error.retry_after if isinstance(error, ClusterError) else None, next(pauses)
        if told is None:
            return True
        # What is told says how the server fares; it may answer others well and this act never.
        return max(told, own) if told <= timeout_seconds else False

    return stamina.retry_context(
        on=pause,
        attempts=attempts,
        timeout=timeout_seconds,
        wait_initial=_LEAST_SECONDS,
        wait_max=_MOST_SECONDS,
        wait_jitter=0,  # a simulation must wait the same every time; for a real cluster the client draws its pauses
    ).__aiter__()


def _pauses() -> Iterator[float]:
    """As long as those between attempts that are told nothing."""
    seconds = _LEAST_SECONDS
    while True:
        yield seconds
        seconds = min(2 * seconds, _MOST_SECONDS)
