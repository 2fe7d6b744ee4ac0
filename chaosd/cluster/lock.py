"""The lock on a target: one Lease, so that two chaosd never work one StatefulSet, and the place where a dead run's undo
is found even if its ledger is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chaosd.cluster.held_lease import RENEWALS_PER_LEASE, HeldLease
from chaosd.cluster.inflight import patiently
from chaosd.cluster.port import Cluster, Lease
from chaosd.errors import ConflictError, NotFoundError, TargetError

UNDO_ANNOTATION = "chaosd.io/undo"
LEDGER_ANNOTATION = "chaosd.io/ledger"


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


class TargetLock(HeldLease):
    """Held from `acquire` to `release`; `keep` renews it."""

    def __init__(
        self, cluster: Cluster, namespace: str, statefulset: str, holder: str, seconds: int, clock: Callable[[], float]
    ) -> None:
        super().__init__(cluster, namespace, _name_of(statefulset), holder, seconds, clock)
        self._standing: Callable[[], Mapping[str, Any]] | None = None

    @property
    def noted(self) -> Mapping[str, Any]:
        """How far which run's ledger is, as the Lease says; empty where no run is unfinished."""
        noted: dict[str, Any] = json.loads(self._lease.annotations.get(LEDGER_ANNOTATION, "{}"))
        return noted

    def follow(self, standing: Callable[[], Mapping[str, Any]]) -> None:
        """From now on note with every write of the Lease how far a run's ledger is, as `standing` tells: its name is at
        `run`, and its `index` counts up. It costs no request of its own."""
        self._standing = standing

    async def note(self) -> None:
        """Have the Lease say that the ledger is at least as far as it is now. Who asks while it is being written shares the
        next write with all who do. Raises ClusterError."""
        if self._standing is None:
            return
        now = self._standing()
        async for attempt in patiently(self._seconds / RENEWALS_PER_LEASE):
            with attempt:
                async with self._turn:
                    if self.noted.get("run") != now["run"] or self.noted.get("index", -1) < now["index"]:
                        await self._put(self._lease)

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
        found = await self._free(refuse_living=True)
        try:
            await self._take(found)
        except ConflictError as error:
            raise TargetError(f"another chaosd took the Lease {found.namespace}/{found.name} just now") from error
        undo = self._lease.annotations.get(UNDO_ANNOTATION)
        return json.loads(undo) if undo else None

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

    def _refusal(self, found: Lease) -> str:
        name = found.name.removeprefix("chaosd-")
        return f"{found.namespace}/{name} is being tested by {found.holder}: wait until it ends"

    async def _put(self, lease: Lease) -> None:
        if self._standing:
            noted = {LEDGER_ANNOTATION: json.dumps(self._standing())}
            lease = replace(lease, annotations={**lease.annotations, **noted})
        await super()._put(lease)
