"""A target that something disturbs, such as a run of chaosd's own, is well again a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

_POLL_SECONDS = 0.5


async def well_at_last(look: Callable[[], Awaitable[Found]], is_well: Callable[[Found], bool], seconds: float) -> Found:
    """What `look` finds as soon as that is well; after so many seconds, whatever it finds."""
    now = asyncio.get_running_loop().time
    ends = now() + seconds
    while True:
        found = await look()
        if is_well(found) or now() >= ends:
            return found
        await asyncio.sleep(_POLL_SECONDS)
