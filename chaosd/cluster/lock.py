"""The lock on a target: one Lease, so that two chaosd never work one StatefulSet, and the place where a dead run's undo
is found even if its ledger is gone.

Source: Kubernetes docs, "Leases". A holder that could not renew in time stops acting before the Lease ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import Cluster, Lease
from chaosd.errors import AbortedError, ClusterError, ConflictError, NotFoundError, TargetError

UNDO_ANNOTATION = "chaosd.io/undo"
LEDGER_ANNOTATION = "chaosd.io/ledger"
RENEWALS_PER_LEASE = 4
_ATTEMPTS_PER_RENEWAL = 4  # where they fail


async def names_undo(cluster: Cluster, key: str) -> bool:
    """Whether the Lease of a target (NAMESPACE/STATEFULSET) names something to undo. Raises ClusterError."""
    namespace, name = key.split("/")
    try:
        lease = await cluster.get_lease(namespace, _name_of(name))
    except NotFoundError:
        return False
    return UNDO_ANNOTATION in lease.annotations


async def holder_of(cluster: Cluster, key: str) -> str:
    """Who holds the Lease of a target, or held it when dying; empty where nobody does. Raises ClusterError."""
    namespace, name = key.split("/")
    try:
        return (await cluster.get_lease(namespace, _name_of(name))).holder
    except NotFoundError:
        return ""


def _name_of(statefulset: str) -> str:
    return f"chaosd-{statefulset}"


class TargetLock:
    """Held from `acquire` to `release`; `keep` renews it."""

    def __init__(
        self, cluster: Cluster, namespace: str, statefulset: str, holder: str, seconds: int, clock: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._seconds = seconds
        self._clock = clock
        self._holder = holder
        self._lease = Lease(namespace, _name_of(statefulset), holder, seconds)
        self._turn = asyncio.Lock()
        self._standing: Callable[[], Mapping[str, Any]] | None = None

    @property
    def noted(self) -> Mapping[str, Any]:
        """How far which run's ledger is, as the Lease says; empty where no run is unfinished."""
        noted: dict[str, Any] = json.loads(self._lease.annotations.get(LEDGER_ANNOTATION, "{}"))
        return noted

    def follow(self, standing: Callable[[], Mapping[str, Any]]) -> None:
        """From now on note with every write of the Lease how far a run's ledger is, as `standing` tells: its name is at
        `run`. It costs no request of its own."""
        self._standing = standing

    def finished(self, run: str) -> None:
        """This run needs nothing noted of its ledger any more."""
        if self.noted.get("run") == run or self._standing:
            self._standing = None
            others = {k: v for k, v in self._lease.annotations.items() if k != LEDGER_ANNOTATION}
            self._lease = replace(self._lease, annotations=others)

    async def acquire(self) -> Mapping[str, Any] | None:
        """Take the Lease, once nobody holds it; returns the undo that a dead holder left, if any.

        Waits for a Lease to end that is not renewed any more. Raises TargetError as soon as it is seen that its holder
        is alive, ClusterError.
        """
        first = found = await self._find()
        while found.holder and (left := found.renewed_at + found.duration_seconds - self._clock()) > 0:
            if found.version != first.version:
                name = found.name.removeprefix("chaosd-")
                raise TargetError(f"{found.namespace}/{name} is being tested by {found.holder}: wait until it ends")
            await asyncio.sleep(min(left, 1.0))
            found = await self._find()
        try:
            async for attempt in patiently(self._seconds):
                with attempt:
                    await self._put(replace(found, holder=self._holder, duration_seconds=self._seconds))
        except ConflictError as error:
            raise TargetError(f"another chaosd took the Lease {found.namespace}/{found.name} just now") from error
        undo = self._lease.annotations.get(UNDO_ANNOTATION)
        return json.loads(undo) if undo else None

    async def _find(self) -> Lease:
        try:
            return await self._cluster.get_lease(self._lease.namespace, self._lease.name)
        except NotFoundError:
            return replace(self._lease, holder="")

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

    async def register_undo(self, undo: Mapping[str, Any] | None) -> None:
        """Write what must be undone on the Lease, or that nothing must. Raises ClusterError: then do not act."""
        others = {k: v for k, v in self._lease.annotations.items() if k != UNDO_ANNOTATION}
        noted = {UNDO_ANNOTATION: json.dumps(undo)} if undo else {}
        async with self._turn:
            await self._put(replace(self._lease, annotations={**others, **noted}))

    async def release(self) -> None:
        """Give it up; a Lease that still names an undo or an unfinished run is kept for whoever comes next."""
        async with self._turn:
            async for attempt in patiently(self._seconds / RENEWALS_PER_LEASE):
                with attempt:
                    if {UNDO_ANNOTATION, LEDGER_ANNOTATION} & self._lease.annotations.keys():
                        await self._put(replace(self._lease, holder=""))
                    else:
                        await self._delete()

    async def _put(self, lease: Lease) -> None:
        if self._standing:
            noted = {LEDGER_ANNOTATION: json.dumps(self._standing())}
            lease = replace(lease, annotations={**lease.annotations, **noted})
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
