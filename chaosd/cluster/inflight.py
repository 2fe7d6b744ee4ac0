"""Requests that are on their way: when their caller is cancelled, and when they are worth another attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

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


class Attempts:
    """What `patiently` gives: an iterator whose items are itself, as the context of the next attempt."""

    def __init__(self, timeout_seconds: float, attempts: int | None, errors: tuple[type[ChaosdError], ...]) -> None:
        self._now = asyncio.get_running_loop().time
        self._ends_at = self._now() + timeout_seconds
        self._most = attempts
        self._errors = errors
        self._own_seconds = _LEAST_SECONDS
        self._next_in: float | None = 0.0  # seconds; None where nothing is left to be tried
        self.number = 0  # of the attempt under way, from 1

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempts:
        pause, self._next_in = self._next_in, None
        if pause is None:
            raise StopAsyncIteration
        if pause:
            await asyncio.sleep(pause)
        self.number += 1
        return self

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if error is None or not isinstance(error, self._errors) or self.number == self._most:
            return False
        told = error.retry_after if isinstance(error, ClusterError) else None
        # What is told says how the server fares; it may answer others well and this act never.
        pause = max(told or 0.0, self._own_seconds)
        self._own_seconds = min(2 * self._own_seconds, _MOST_SECONDS)
        if self._now() + pause > self._ends_at:
            return False
        self._next_in = pause
        return True


def patiently(timeout_seconds: float, attempts: int | None = None, also: tuple[type[ChaosdError], ...] = ()) -> Attempts:
    """Attempts of an act that is safe to repeat, while the API server is away or throttles, and after the errors that are
    named `also`. Use: `async for attempt in patiently(60): with attempt: await act()`. The pauses between them grow, are
    never drawn (a simulation must wait the same every time; for a real cluster the client draws them), and an error that
    says for how long another attempt is no use is believed. None begins after `timeout_seconds`, by the running loop's
    clock: the last error is raised instead, and at once."""
    return Attempts(timeout_seconds, attempts, (UnreachableError, ThrottledError, *also))
