"""Of several daemons of one name, which one leads: it alone runs experiments, the others wait.

The targets' own Leases and the ledger keep two chaosd apart in any case; leading keeps the second from trying. Source:
Kubernetes docs, "Leases", Leader election; k8s.io/client-go, tools/leaderelection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from chaosd.cluster.held_lease import RENEWALS_PER_LEASE, HeldLease
from chaosd.cluster.inflight import patiently
from chaosd.errors import ClusterError, ConflictError, ThrottledError, UnreachableError

_AGAIN_SECONDS = 5.0


class Leadership(HeldLease):
    """Held from `acquire` to `release`; `keep` renews it, and raises when another may lead."""

    async def acquire(self) -> None:
        """Wait until nobody else leads, and lead. An API server that is away is waited for. Raises ForbiddenError, and
        other ClusterErrors that waiting does not mend."""
        while True:
            try:
                await self._take(await self._free())
            except ConflictError:  # another was quicker
                continue
            except (UnreachableError, ThrottledError):
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def release(self) -> None:
        """Let the next one lead at once, if the API server answers."""
        with suppress(ClusterError):
            async with self._turn:
                async for attempt in patiently(self._seconds / RENEWALS_PER_LEASE):
                    with attempt:
                        await self._delete()
