"""The checks of `chaosd preflight`, each by its name: what was found, whether a run can live with it, and the mend."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from chaosd.cluster.lock import holder_of
from chaosd.cluster.observer import View
from chaosd.cluster.port import Budget, Claim, Cluster, Pod, StatefulSet
from chaosd.cluster.target import Target
from chaosd.errors import AbortedError, ForbiddenError, LedgerError, NotFoundError, TargetError, UsageError
from chaosd.experiment import Experiment
from chaosd.ledger import Ledger, file_of
from chaosd.nemesis.eviction import never_allows
from chaosd.preflight import probing, rights
from chaosd.preflight.finding import find_target
from chaosd.preflight.outlook import room_on
from chaosd.preflight.patience import well_at_last
from chaosd.preflight.probing import Look, Seen, Untried
from chaosd.preflight.rights import Document, Placed
from chaosd.workload.worker import MAKE_WRITABLE

# More than what two clocks that are kept by NTP differ by.
SKEW_SECONDS = 2.0
_RENEWED_SECONDS = 15.0  # a kubelet renews its Lease every 10 s (Kubernetes docs, "Leases", Node heartbeats)
# Whose fsid is made of the file system's UUID, and so means the same on every machine.
_EXT = ("ext2", "ext3", "ext4")


class Status(StrEnum):
    """`unknown` is what could not be looked at; only what `failed` stands in the way of a run."""

    OK = "ok"
    WARNING = "warning"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding of a check. `mend` is empty where there is nothing to mend, or where `found` says it."""

    name: str
    status: Status
    found: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Preflight:
    """Everything that was checked; `roles` are manifests that grant what is missing."""

    target: str
    cluster: str
    checks: tuple[Check, ...]
    roles: tuple[Document, ...]

    @property
    def failed(self) -> bool:
        """Whether something stands in the way of a run."""
        return any(check.status is Status.FAILED for check in self.checks)


_Late = Mapping[str, str] | ForbiddenError


@dataclass(frozen=True, slots=True)
class _Site:
    """What is checked. `late` is what each replica lacks, or why that may not be seen; `looks` has what the probe told of
    each replica's pod; `clock` is chaosd's own."""

    cluster: Cluster
    experiment: Experiment
    target: Target
    statefulset: StatefulSet
    late: _Late
    needs: Sequence[Placed]
    looks: Mapping[str, Look]
    lease_seconds: int
    clock: Callable[[], float]


Finding = tuple[Status, str, str]


async def check_all(
    cluster: Cluster,
    experiment: Experiment,
    ledger_url: str,
    lease_seconds: int,
    clock: Callable[[], float] = time.time,
) -> Preflight:
    """Whether anything stands in the way of a run with this ledger and with Leases of so many seconds. Raises ClusterError
    where the cluster cannot be asked."""
    needs, wishes = rights.needed(experiment), rights.wished(experiment)
    lacking = await rights.missing(cluster, needs)
    unseen = await rights.missing(cluster, wishes)
    checks = [_rights(needs, lacking, experiment), _wishes(unseen, experiment)]
    looks: Mapping[str, Look] = {}
    try:
        target = await _found(cluster, experiment)
        if not target.replicas:
            raise TargetError(f"{target.key} has no replicas, so there is nothing to test: scale it up")
    except (UsageError, AbortedError) as error:
        checks.insert(0, Check("target", Status.FAILED, str(error)))
        checks += [Check(name, Status.UNKNOWN, "the target must be found first") for name in _CHECKS]
    else:
        statefulset, late = await _settled(cluster, experiment, target)
        looks = await probing.look(cluster, experiment, target)
        site = _Site(cluster, experiment, target, statefulset, late, needs, looks, lease_seconds, clock)
        checks.insert(0, _target(site))
        checks += [check for name in _CHECKS for check in await _checked(name, site)]
    return Preflight(
        target=f"{experiment.target.namespace}/{experiment.target.statefulset}",
        cluster=f"{cluster.kind} {await cluster.version()}",
        checks=(*checks, _ledger(ledger_url, looks)),
        roles=(*rights.roles(lacking), *rights.roles(unseen)),
    )


async def _found(cluster: Cluster, experiment: Experiment) -> Target:
    """The target. Whoever holds its Lease may have scaled it to 0 for as long as a disruption lasts."""
    target = await find_target(cluster, experiment)
    if target.replicas or not await holder_of(cluster, target.key):
        return target
    return await well_at_last(
        lambda: find_target(cluster, experiment), lambda found: found.replicas > 0, experiment.timeouts.probe
    )


async def _settled(cluster: Cluster, experiment: Experiment, target: Target) -> tuple[StatefulSet, _Late]:
    """The StatefulSet, and what each replica lacks once it had as long as a run would give it."""

    async def look() -> tuple[StatefulSet, _Late]:
        statefulset = await cluster.get(StatefulSet, target.namespace, target.statefulset)
        try:
            return statefulset, await _late(cluster, target, statefulset)
        except ForbiddenError as error:
            return statefulset, error

    return await well_at_last(
        look, lambda found: not found[1] or isinstance(found[1], ForbiddenError), experiment.timeouts.probe
    )


async def _late(cluster: Cluster, target: Target, statefulset: StatefulSet) -> Mapping[str, str]:
    pods = await cluster.list(Pod, target.namespace, statefulset.selector)
    claims = await cluster.list(Claim, target.namespace)
    own = {pod.name: pod for pod in pods if target.ordinal(pod.name) is not None}
    return View(statefulset, own, {claim.name: claim for claim in claims}).late(target, target.replicas)


async def _checked(name: str, site: _Site) -> list[Check]:
    try:
        return [Check(name, *finding) async for finding in _CHECKS[name](site)]
    except ForbiddenError as error:
        return [Check(name, Status.UNKNOWN, str(error), "grant what is missing under rights")]


def _target(site: _Site) -> Check:
    target = site.target
    found = f"{target.key}, labelled; {target.replicas} replicas, {target.path} in container {target.container}"
    return Check("target", Status.OK, found)


def _rights(needs: Sequence[Placed], lacking: Sequence[Placed], experiment: Experiment) -> Check:
    if not lacking:
        return Check("rights", Status.OK, f"all {len(needs)} are granted")
    return Check(
        "rights", Status.FAILED, f"missing: {rights.summed(lacking, experiment.target.namespace)}", _grant(lacking)
    )


def _wishes(unseen: Sequence[Placed], experiment: Experiment) -> Check:
    if not unseen:
        return Check("wishes", Status.OK, "everything that is judged by may be seen")
    found = f"what these would show is unknown: {rights.summed(unseen, experiment.target.namespace)}"
    return Check("wishes", Status.WARNING, found, _grant(unseen))


def _grant(lacking: Sequence[Placed]) -> str:
    names = ", ".join(f"{role['kind']} {role['metadata']['name']}" for role in rights.roles(lacking))
    return f"apply {names} (below), and bind it to whom chaosd runs as"


async def _converged(site: _Site) -> AsyncIterator[Finding]:
    if isinstance(site.late, ForbiddenError):
        raise site.late
    if not site.late:
        yield Status.OK, f"all {site.target.replicas} replicas are Ready, their claims Bound", ""
    for name, why in site.late.items():
        mend = f"wait until it is, or mend it: kubectl -n {site.target.namespace} describe pod {name}"
        yield Status.FAILED, f"{name}: {why}", mend


async def _probe(site: _Site) -> AsyncIterator[Finding]:
    """Of what is well only the first replica is told."""
    well = []
    for pod, look in site.looks.items():
        if isinstance(look, ForbiddenError):
            yield Status.UNKNOWN, f"{pod}: {look}", "grant what is missing under rights"
        elif isinstance(look, Untried):
            yield Status.WARNING, f"{pod}: {look.why}", "a run will tell whether it can"
        elif not isinstance(look, Seen):
            yield Status.FAILED, f"{pod}: {look}", ""
        elif fault := _fault(site, pod, look):
            yield fault
        else:
            well.append(f"{pod}: {_seen(site, look)}")
    if well:
        more = f"; {len(well) - 1} more alike" if len(well) > 1 else ""
        yield Status.OK, well[0] + more, ""


def _fault(site: _Site, pod: str, seen: Seen) -> Finding | None:
    path, facts = site.target.path, seen.facts
    where = f"{pod}: {path} in container {seen.container}"
    if not facts.present:
        return Status.FAILED, f"{where} is not there", "name a path that the container has, with target.path"
    if facts.mounted is False and site.target.template:
        return Status.FAILED, f"{where} is no mount, though a claim is behind it", "delete the pod, so that it is mounted"
    if facts.read_only:
        return Status.FAILED, f"{where} is mounted read-only", MAKE_WRITABLE
    if facts.in_memory:
        return Status.WARNING, f"{where} is {facts.fs_type}: no reading can be cold", "name a path on a disk"
    if seen.cache == "cached":
        mend = "set target.probe: agent, which can tell, where the image has Python; see target.probeImage"
        return Status.WARNING, f"{where} is read through the page cache: readings count as cached", mend
    return None


def _seen(site: _Site, seen: Seen) -> str:
    facts = seen.facts
    mounted = {True: "a mount", False: "no mount", None: "maybe a mount: the table of mounts cannot be read"}[facts.mounted]
    cold = "read past the page cache" if seen.cache else "whether it is read past the page cache shows with the first file"
    what = f"{facts.fs_type} {facts.device}".strip() or "of a kind that is not told"
    return f"{seen.program} in container {seen.container}; {site.target.path} is {mounted} ({what}), {cold}"


async def _room(site: _Site) -> AsyncIterator[Finding]:
    share, roomy = site.experiment.workload.share, {}
    for pod in site.target.pods:
        free_bytes, free_files, total_bytes = await _free(site, pod)
        least = site.experiment.guards.free_bytes(total_bytes or 0)
        if free_bytes is None:
            yield Status.UNKNOWN, f"{pod}: neither the probe nor its kubelet told what is free", ""
        elif lacks := share.lacks(free_bytes, free_files):
            yield Status.FAILED, f"{pod} has {lacks}", ""
        elif free_bytes < least:
            why = f"guards.minFree is {site.experiment.guards.min_free}: every disruption would be refused"
            yield Status.FAILED, f"{pod} has {free_bytes} of {total_bytes} bytes free, {why}", "make room, or lower it"
        else:
            roomy[pod] = (free_bytes, free_files)
    if roomy:
        pod, (free_bytes, free_files) = min(roomy.items(), key=lambda one: one[1][0])
        inodes = "inodes without a limit" if free_files is None else f"{free_files} inodes"
        taken = f"the share is {mebibytes(share.bytes)} and {share.files} files"
        yield Status.OK, f"least free: {mebibytes(free_bytes)} and {inodes} on {pod}; {taken}", ""


async def _free(site: _Site, pod: str) -> tuple[int | None, int | None, int | None]:
    """Bytes and inodes that are free, and bytes in all: as the probe told, else the kubelet."""
    look = site.looks[pod]
    if isinstance(look, Seen):
        return look.facts.free_bytes, look.facts.free_files, look.facts.total_bytes
    try:
        node = (await site.cluster.get(Pod, site.target.namespace, pod)).node
    except NotFoundError:
        return None, None, None
    room = await room_on(site.cluster, site.target, node, pod)
    return (room.bytes, room.files, None) if room else (None, None, None)


def mebibytes(count: int) -> str:
    """As people read it."""
    return f"{count / (1 << 20):,.0f} MiB"


async def _clocks(site: _Site) -> AsyncIterator[Finding]:
    """Leases end by chaosd's clock; when a pod was Ready is told by its node's."""
    before = site.clock()
    told = await site.cluster.clock()
    skews: dict[str, float | None] = {"the API server": _nearest_zero(told - site.clock(), told + 1 - before)}
    for node in await _nodes(site):
        try:
            skews[f"node {node}"] = await _node_clock(site.cluster, node)
        except (ForbiddenError, NotFoundError):
            skews[f"node {node}"] = None
    kept = [who for who, ahead in skews.items() if ahead is not None and abs(ahead) <= SKEW_SECONDS]
    if kept:
        yield Status.OK, f"within {SKEW_SECONDS:g} s: chaosd, {', '.join(kept)}", ""
    if unseen := [who for who, ahead in skews.items() if ahead is None]:
        yield Status.UNKNOWN, f"not told: {', '.join(unseen)}", "grant get on leases in kube-node-lease to see it"
    for who, ahead in skews.items():
        if ahead is not None and who not in kept:
            status = Status.FAILED if abs(ahead) > site.lease_seconds / 2 else Status.WARNING
            other = "chaosd's" if who == "the API server" else "the API server's"
            found = f"the clock of {who} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {other}"
            yield status, found, "set the clocks by NTP: Leases and recovery times are judged by them"


async def _node_clock(cluster: Cluster, node: str) -> float:
    """What it is ahead. A Lease that took long to be stored makes a clock look slow: then the next is looked at, too."""
    return await well_at_last(lambda: cluster.node_clock(node), lambda ahead: ahead >= -SKEW_SECONDS, _RENEWED_SECONDS)


def _nearest_zero(low: float, high: float) -> float:
    return max(low, min(high, 0.0))


async def _nodes(site: _Site) -> list[str]:
    pods = await site.cluster.list(Pod, site.target.namespace, site.statefulset.selector)
    return sorted({pod.node for pod in pods if pod.node and pod.name in site.target.pods})


async def _retention(site: _Site) -> AsyncIterator[Finding]:
    scales = any(disruption.scales for disruption in rights.disruptions(site.experiment))
    recreates = ("delete", "statefulsets.apps", site.target.namespace) in site.needs
    scaled, deleted = site.statefulset.retention_when_scaled, site.statefulset.retention_when_deleted
    if deleted == "Delete" and recreates:
        found = "whenDeleted: Delete: `recreate` would take every claim and its data, so it would be refused"
        yield Status.FAILED, found, "set whenDeleted: Retain, or leave recreate out"
    elif scaled == "Delete" and scales:
        found = "whenScaled: Delete: who is scaled away loses claim and data; that is told as by policy, and proves nothing"
        yield Status.WARNING, found, "set whenScaled: Retain to test that data outlive scaling"
    else:
        yield Status.OK, f"whenScaled: {scaled}, whenDeleted: {deleted}: no disruption here takes a claim by policy", ""


async def _budgets(site: _Site) -> AsyncIterator[Finding]:
    namespace = site.target.namespace
    if ("create", "pods/eviction", namespace) not in site.needs:
        yield Status.OK, "nothing is evicted", ""
        return
    hopeless = False
    for budget in await site.cluster.list(Budget, namespace):
        names = {pod.name for pod in await site.cluster.list(Pod, namespace, budget.selector)}
        if names & set(site.target.pods) and (never := never_allows(budget, len(names))):
            hopeless = True
            yield Status.WARNING, f"evictions will end blocked (budget): {never}", ""
    if not hopeless:
        yield Status.OK, "no PodDisruptionBudget forbids evictions for ever", ""


def _ledger(url: str, looks: Mapping[str, Look]) -> Check:
    try:
        there = Ledger.look(url)
        file = file_of(url)
    except (UsageError, LedgerError) as error:
        return Check("ledger", Status.FAILED, str(error))
    if file is None:
        return Check("ledger", Status.OK, "it can be opened; where the database keeps it is not seen")
    folder = next(parent for parent in file.parents if parent.exists())
    # As statfs(2) has it in its two words, which the probe tells one after the other.
    word = os.statvfs(folder).f_fsid
    fsid = f"{(word & 0xFFFFFFFF) << 32 | word >> 32:x}"
    for pod, look in looks.items():
        if isinstance(look, Seen) and look.facts.fs_type in _EXT and look.facts.fsid == fsid:
            found = f"{file} lies on the volume of {pod}, which is under test: what befalls it befalls the ledger"
            return Check("ledger", Status.WARNING, found, "name a ledger elsewhere with --ledger")
    return Check("ledger", Status.OK, f"{file} {'can be opened' if there else 'will be made'}; on no volume under test")


_CHECKS: Mapping[str, Callable[[_Site], AsyncIterator[Finding]]] = {
    "converged": _converged,
    "probe": _probe,
    "room": _room,
    "clocks": _clocks,
    "retention": _retention,
    "budgets": _budgets,
}
# In the order in which they are told.
NAMES = ("target", "rights", "wishes", *_CHECKS, "ledger")
