"""A Lease that one process holds: on a target, or as the leader of several daemons.

Source: Kubernetes docs, "Leases". A holder that could not renew in time stops acting before the Lease ends. Whether
another is alive is told by whether it renews while one looks, never by its clock (k8s.io/client-go, tools/leaderelection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import Cluster, Lease
from chaosd.errors import AbortedError, ClusterError, ConflictError, NotFoundError, TargetError

RENEWALS_PER_LEASE = 4
_ATTEMPTS_PER_RENEWAL = 4  # where they fail


class HeldLease:
    """Renewed by `keep` while it is held; how it is taken and given up is its kind's."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, holder: str, seconds: int, clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._clock = clock
        self._holder = holder
        self._lease = Lease(namespace, name, holder, seconds)
        self._turn = asyncio.Lock()

    async def keep(self) -> None:
        """Renew now, and for ever. Raises AbortedError when it was lost, or could not be renewed until three quarters of
        it."""
        now = asyncio.get_running_loop().time  # no clock that may step
        renewed, pause = now(), self._seconds / RENEWALS_PER_LEASE
        while True:
            try:
                async with self._turn:
                    await self._put(self._lease)
                renewed, pause = now(), self._seconds / RENEWALS_PER_LEASE
            except (ConflictError, NotFoundError) as error:
                raise AbortedError(f"the Lease {self._lease.name} was taken from us: {error}") from error
            except ClusterError as error:
                if now() - renewed > self._seconds * (RENEWALS_PER_LEASE - 1) / RENEWALS_PER_LEASE:
                    raise AbortedError(f"the Lease {self._lease.name} could not be renewed: {error}") from error
                pause = self._seconds / (RENEWALS_PER_LEASE * _ATTEMPTS_PER_RENEWAL)
            await asyncio.sleep(pause)

    async def _free(self, *, refuse_living: bool = False) -> Lease:
        """The Lease once nobody holds it: given up, or not renewed for as long as it lasts. Where a living holder is to be
        refused: raises TargetError as soon as it renews. Raises ClusterError."""
        now = asyncio.get_running_loop().time
        found = await self._find()
        seen_at = now()
        while found.holder and (left := seen_at + found.duration_seconds - now()) > 0:
            await asyncio.sleep(min(left, 1.0))
            last, found = found, await self._find()
            if found.holder and found.version != last.version:
                if refuse_living:
                    raise TargetError(self._refusal(found))
                seen_at = now()
        return found

    def _refusal(self, found: Lease) -> str:
        """Why a Lease cannot be had that `found` shows in use."""
        return f"the Lease {found.namespace}/{found.name} is held by {found.holder}: wait until it ends"

    async def _find(self) -> Lease:
        try:
            return await self._cluster.get_lease(self._lease.namespace, self._lease.name)
        except NotFoundError:
            return replace(self._lease, holder="")

    async def _take(self, found: Lease) -> None:
        """Raises ConflictError where another was quicker, ClusterError."""
        async for attempt in patiently(self._seconds):
            with attempt:
                await self._put(replace(found, holder=self._holder, duration_seconds=self._seconds))

    async def _put(self, lease: Lease) -> None:
        await unbroken(self._written(replace(lease, renewed_at=self._clock())))

    async def _delete(self) -> None:
        """One that is gone went with an attempt whose answer was lost; for its version see `_written`."""
        with suppress(NotFoundError):
            try:
                await self._cluster.delete_lease(self._lease)
            except ConflictError:
                found = await self._find()
                if found.holder != self._holder:
                    raise
                await self._cluster.delete_lease(found)

    async def _written(self, lease: Lease) -> None:
        """Where the answer to an earlier write was lost, the Lease has a version that is ours and that we do not know."""
        try:
            self._lease = await self._cluster.put_lease(lease)
        except ConflictError:
            found = await self._find()
            if found.holder != self._holder:
                raise
            self._lease = await self._cluster.put_lease(replace(lease, version=found.version))
