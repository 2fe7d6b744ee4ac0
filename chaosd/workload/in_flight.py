"""How many bytes a process may have under way to probes at one time.

A daemon of many targets would else hold every replica's batch at once when their rounds begin: what it takes of a machine
would grow with the number of replicas, for no use, since no network and no disk takes all of them at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BytesInFlight:
    """A semaphore that counts bytes, first come, first served. What is larger than the limit passes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def holding(self, count: int) -> AsyncIterator[None]:
        """Have `count` bytes under way while the context is open."""
        await self._take(count)
        try:
            yield
        finally:
            self._held -= count
            self._admit()

    async def _take(self, count: int) -> None:
        if not self._waiting and self._fits(count):
            self._held += count
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, count))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn came in the same moment
                self._held -= count
            self._admit()
            raise

    def _fits(self, count: int) -> bool:
        return not self._held or self._held + count <= self._limit

    def _admit(self) -> None:
        """Whose turn it is: nobody overtakes one who waits for more room, unless that one has given up."""
        while self._waiting and (self._waiting[0][0].done() or self._fits(self._waiting[0][1])):
            turn, count = self._waiting.popleft()
            if not turn.done():
                self._held += count
                turn.set_result(None)


# Memory is the process', so its limit is, whatever targets and runs there are: two replicas' largest batches, which
# are of 4 MiB of files and what is written beside them.
WRITES = BytesInFlight(9 << 20)
