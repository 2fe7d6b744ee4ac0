"""Turns: one run at a time on each target, of all the experiments of a process."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Who goes on for ever looks between rounds whether somebody waits, and lets that one pass."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, target: str) -> AsyncIterator[None]:
        """In the order in which they asked."""
        self._waiting[target] += 1
        try:
            await self._locks[target].acquire()
        finally:
            self._waiting[target] -= 1
        try:
            yield
        finally:
            self._locks[target].release()

    def wanted(self, target: str) -> bool:
        """Whether somebody waits for a turn on the target."""
        return self._waiting[target] > 0
