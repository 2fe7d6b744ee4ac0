"""Requests that are on their way when their caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


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
