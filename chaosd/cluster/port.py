"""The port: what chaosd asks of a cluster, and the value types in which it is answered.

Values are frozen and hold only what chaosd judges by, so that two equal values mean "nothing that matters changed".
Times are seconds since the epoch as the cluster tells them; Kubernetes gives them with one second's resolution.
Every method raises `chaosd.errors.ClusterError` (a subclass that says which) and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

TARGET_LABEL = "chaosd.io/target"
PAUSED_ANNOTATION = "chaosd.io/paused"
# On a StatefulSet: chaosd made it, for tests only.
OWN_LABEL = "chaosd.io/own"
# On a node: which chaosd cordoned it, so that nobody else's cordon is ever lifted.
CORDONED_ANNOTATION = "chaosd.io/cordoned-by"


@dataclass(frozen=True, slots=True)
class Mount:
    """One volumeMount of a container. `volume` is the pod's name for the volume."""

    volume: str
    path: str
    read_only: bool = False
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod: its spec's mounts and its present status. `id` is empty until it was started, `waiting` and
    `ended` are the reasons why it does not run yet or any more, such as `ImagePullBackOff` and `Completed`."""

    name: str
    image: str = ""
    id: str = ""
    ready: bool = False
    restarts: int = 0
    waiting: str = ""
    ended: str = ""
    mounts: tuple[Mount, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return bool(self.id) and not self.waiting and not self.ended


@dataclass(frozen=True, slots=True)
class EphemeralContainer:
    """A container to be added to a running pod. `argv` stands in the place of its image's own command; with `like`, it has
    the security context of the pod's container of that name: its user, its capabilities."""

    name: str
    image: str
    argv: tuple[str, ...]
    mounts: tuple[Mount, ...]
    like: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. `claims` maps the pod's volume names to claim names; volumes of other kinds are not in it. `ephemeral` are the
    containers that were added since it was made; with `shared_processes` its containers see each other's processes."""

    namespace: str
    name: str
    uid: str
    phase: str
    node: str = ""
    hostname: str = ""
    controller_uid: str = ""
    revision: str = ""
    created_at: float = 0.0
    scheduled_at: float | None = None
    ready: bool = False
    ready_at: float | None = None
    deleting: bool = False
    grace_seconds: int | None = None
    unschedulable: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    containers: tuple[Container, ...] = ()
    ephemeral: tuple[Container, ...] = ()
    shared_processes: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim. `capacity` and `requested` are quantities as Kubernetes writes them, such as `20Gi`."""

    namespace: str
    name: str
    uid: str
    phase: str
    volume: str = ""
    capacity: str = ""
    requested: str = ""
    storage_class: str = ""
    access_modes: tuple[str, ...] = ()
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume. `driver` and `handle` are empty where no CSI driver serves it. `node_terms` is its required node
    affinity: a node may have it when every requirement (label, operator, values) of one of the terms holds; empty, any."""

    name: str
    uid: str
    phase: str
    driver: str = ""
    handle: str = ""
    claim: str = ""  # NAMESPACE/NAME of its claimRef
    claim_uid: str = ""
    capacity: str = ""
    reclaim_policy: str = ""
    node_terms: tuple[tuple[tuple[str, str, tuple[str, ...]], ...], ...] = ()
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A VolumeAttachment: that `volume` is (to be) attached to `node`."""

    name: str
    uid: str
    volume: str
    node: str
    attached: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class StatefulSet:
    """A StatefulSet: the rules it set, and how far its controller has come.

    `template_claims` are the names of its volumeClaimTemplates; `template_volumes` those of the template's own volumes
    (an emptyDir is one) with their kind, such as `emptyDir`. `containers` are the template's. `owner` is who controls it,
    as KIND/NAME, empty where nobody does. `update_strategy` is `RollingUpdate` or `OnDelete`, `partition` the lowest
    ordinal that a rolling update reaches.
    """

    namespace: str
    name: str
    uid: str
    replicas: int
    ready_replicas: int = 0
    generation: int = 0
    observed_generation: int = 0
    current_revision: str = ""
    update_revision: str = ""
    updated_replicas: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    service: str = ""
    pod_management: str = "OrderedReady"
    retention_when_deleted: str = "Retain"
    retention_when_scaled: str = "Retain"
    first_ordinal: int = 0
    min_ready_seconds: int = 0
    template_claims: tuple[str, ...] = ()
    template_volumes: Mapping[str, str] = field(default_factory=dict)
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    owner: str = ""
    update_strategy: str = "RollingUpdate"
    partition: int = 0
    deleting: bool = False

    @property
    def key(self) -> str:
        """`NAMESPACE/NAME`."""
        return f"{self.namespace}/{self.name}"

    def pod_name(self, ordinal: int) -> str:
        """The stable name of the replica at `ordinal`. Source: Kubernetes docs, "StatefulSets", Pod Identity."""
        return f"{self.name}-{ordinal}"

    def pod_names(self, replicas: int | None = None) -> tuple[str, ...]:
        """The names of the first `replicas` replicas (all that are wanted now, unless told), lowest ordinal first."""
        count = self.replicas if replicas is None else replicas
        return tuple(self.pod_name(self.first_ordinal + i) for i in range(count))


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `boot_id` changes when the machine was started anew; `cordoned_by` is the chaosd that cordoned it, if one
    did. `tainted` says that it takes no pods without a toleration (NoSchedule, NoExecute), a cordon aside."""

    name: str
    uid: str
    ready: bool = True
    unschedulable: bool = False
    boot_id: str = ""
    cordoned_by: str = ""
    tainted: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on a volume, for whoever is not root. `files` is None where the file system makes inodes as it goes."""

    bytes: int
    files: int | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A coordination Lease. `version` is the resourceVersion for compare-and-swap, empty to create it."""

    namespace: str
    name: str
    holder: str = ""
    duration_seconds: int = 0
    renewed_at: float = 0.0
    annotations: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """An Event of core/v1: what a component tells about an object. It is kept for an hour, and counted where it recurs."""

    namespace: str
    name: str
    uid: str
    about_kind: str
    about_name: str
    about_uid: str
    reason: str
    message: str
    warning: bool
    count: int
    last_seen: float


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace. `terminating` once it is being deleted with all that is in it."""

    name: str
    uid: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget: the pods that `selector` matches, and how many evictions it allows now."""

    namespace: str
    name: str
    uid: str
    selector: Mapping[str, str] = field(default_factory=dict)
    allowed: int = 0
    wanted: int = 0  # pods that must be healthy


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What owns the replica count of the workload `target` (KIND/NAME): a HorizontalPodAutoscaler, or a ScaledObject of
    KEDA's."""

    namespace: str
    name: str
    uid: str
    kind: str
    target: str


Object = Pod | Claim | Volume | Attachment | StatefulSet | Node | ClusterEvent | Namespace | Budget | Autoscaler
T = TypeVar("T", Pod, Claim, Volume, Attachment, StatefulSet, Node, ClusterEvent, Namespace, Budget, Autoscaler)


def key_of(found: Object) -> str:
    """`NAMESPACE/NAME`, or the name alone where there is no namespace."""
    namespace = getattr(found, "namespace", "")
    return f"{namespace}/{found.name}" if namespace else found.name


class ChangeKind(StrEnum):
    """What a watch tells.

    `PRESENT` objects were there when the watch began, then `SYNCED` once; `ADDED`, `MODIFIED`, `DELETED` follow as they
    happen. `GAP` says that events may have been missed since: what differs is told as further changes, then `SYNCED`
    again, and the order of events within the gap is unknown.
    """

    PRESENT = "present"
    SYNCED = "synced"
    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a watch told. `object` is None for SYNCED and GAP; for DELETED it is the last state known."""

    kind: ChangeKind
    object: Object | None = None


class ExecStream(Protocol):
    """A process in a container, with its three streams. Leaving the context ends the connection, not always the
    process (opencontainers/runc#3359)."""

    async def write(self, data: bytes) -> None:
        """Send `data` to its stdin. Raises SessionLostError when the connection is gone."""

    async def close_stdin(self) -> None:
        """Tell it that its input ended. On servers older than v5.channel.k8s.io this cannot be told: RefusedError."""

    async def read(self) -> bytes:
        """The next piece of its stdout, of any length; `b""` once it ended with a known exit status.

        Raises SessionLostError when the connection broke, or closed without a status: the outcome is unknown.
        """

    @property
    def exit_status(self) -> int | None:
        """Its exit status once `read` gave `b""`, else None."""

    @property
    def stderr(self) -> bytes:
        """The last 4,096 bytes of its stderr so far."""


class Cluster(Protocol):
    """A cluster. Adapters: `cluster.kubernetes.KubernetesCluster`, `cluster.sandbox.SandboxCluster`."""

    @property
    def kind(self) -> str:
        """`kubernetes` or `sandbox`; reports say which."""

    async def version(self) -> str:
        """The server's version, such as `v1.37.2`. Raises UnreachableError, ForbiddenError."""

    async def cluster_id(self) -> str:
        """What tells this cluster from every other, empty where that may not be seen. Raises ClusterError."""

    async def clock(self) -> float:
        """Seconds since the epoch by the server's clock, the fraction cut off. Raises ClusterError."""

    async def node_clock(self, node: str) -> float:
        """By how many seconds a node's clock is ahead of the server's, within a second; told by the Lease that its kubelet
        renews. Raises NotFoundError where that has no Lease, ForbiddenError."""

    async def volume_room(self, node: str) -> Mapping[str, Room]:
        """What is free on the volumes of a node's pods, by NAMESPACE/CLAIM, as its kubelet saw it minutes ago at most; one
        of which it tells nothing is left out. Raises NotFoundError, ForbiddenError (get on nodes/proxy), UnreachableError.
        """

    async def get(self, kind: type[T], namespace: str, name: str) -> T:
        """One object; `namespace` is empty for volumes, attachments, nodes and namespaces. Raises NotFoundError; ValueError
        for autoscalers, which are of two kinds and can only be listed."""

    async def list(self, kind: type[T], namespace: str, selector: Mapping[str, str] | None = None) -> Sequence[T]:
        """All objects of a kind (an empty namespace means all namespaces), those whose labels match `selector`."""

    def watch(self, kind: type[T], namespace: str) -> AsyncIterator[Change]:
        """What happens to objects of a kind, for ever; reconnects by itself and says so with GAP. Raises ValueError for
        autoscalers."""

    async def delete_pod(
        self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None, dry_run: bool = False
    ) -> None:
        """Delete the pod that has this UID. `grace_seconds` None takes the pod's own, 0 forces. A `dry_run` asks everybody
        who would be asked, and deletes nothing.

        Raises NotFoundError, ConflictError when the pod of that name has another UID, RefusedError (a webhook).
        """

    async def evict_pod(self, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None) -> None:
        """Evict the pod (policy/v1 Eviction), so that a PodDisruptionBudget is respected.

        Raises ThrottledError when a budget allows none now, NotFoundError, ConflictError.
        """

    async def add_ephemeral_container(self, namespace: str, pod: str, container: EphemeralContainer, *, uid: str) -> None:
        """Add a container to a running pod; it cannot be taken away again, nor started a second time.

        Raises NotFoundError, ConflictError when the pod of that name has another UID, RefusedError when the API server says
        no (a subPath mount, a name that is taken, a namespace's Pod Security), ForbiddenError. Source: Kubernetes docs,
        "Ephemeral Containers".
        """

    async def scale(self, namespace: str, name: str, *, uid: str, replicas: int, expected: int) -> None:
        """Set the replicas of the StatefulSet that has this UID through `statefulsets/scale`, if they are `expected` now.

        Raises ConflictError when it has another, or they are not, ThrottledError when the object never stood still,
        NotFoundError, ForbiddenError.
        """

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str]
    ) -> AbstractAsyncContextManager[ExecStream]:
        """Start a process in a running container. It is bound to the name, not to a UID: ask for the pod before and
        after. Raises NotFoundError, RefusedError (such as no such program), UnreachableError."""

    async def signal_container(
        self, namespace: str, pod: str, container: str, signal: str, *, uid: str, container_id: str
    ) -> None:
        """Send a signal (`TERM` or `KILL`) to the first process of a running container, while it has this id: it gets
        another each time that it starts.

        Raises RefusedError, which says why, where it would not arrive: a process that is PID 1 of its own namespace gets no
        signal from inside that it does not handle, SIGKILL never (Linux, pid_namespaces(7)), and sending one takes a shell.
        Raises NotFoundError, ConflictError when the pod or the container of that name is another, UnreachableError: then
        nobody knows.
        """

    async def cordon(self, node: str, *, uid: str, by: str) -> None:
        """Let no more pods be scheduled to a node, and note in CORDONED_ANNOTATION `by` whom.

        Raises ConflictError when it has another UID, or is cordoned already by anybody else; NotFoundError, ForbiddenError.
        """

    async def uncordon(self, node: str, *, uid: str, by: str) -> None:
        """Let pods be scheduled to a node again that was cordoned `by` the same. One that is not cordoned stays so, and
        loses the mark where somebody else lifted the cordon. Safe to repeat, as `cordon` is.

        Raises ConflictError when it has another UID, or somebody else cordoned it; NotFoundError, ForbiddenError.
        """

    async def annotate(
        self, kind: type[StatefulSet] | type[Namespace], namespace: str, name: str, changes: Mapping[str, str | None]
    ) -> None:
        """Set annotations, and take away those that are None, whatever object has the name now; others' annotations stay.
        `namespace` is empty for a namespace. Raises NotFoundError, ForbiddenError."""

    async def restart_rollout(self, namespace: str, name: str, *, uid: str, at: str) -> None:
        """Have the controller replace every pod: `at` (a timestamp) goes into the template's annotation
        kubectl.kubernetes.io/restartedAt, as `kubectl rollout restart` does. Raises ConflictError when the StatefulSet has
        another UID, NotFoundError, ForbiddenError, RefusedError (a webhook)."""

    async def expand_claim(self, namespace: str, name: str, *, uid: str, storage: str) -> None:
        """Ask for a larger volume (`storage` such as `2Gi`). Raises RefusedError where its class does not allow that or it
        is no larger, ConflictError when the claim has another UID, NotFoundError, ForbiddenError."""

    async def manifest(self, namespace: str, name: str) -> Mapping[str, Any]:
        """A StatefulSet as a document from which it can be made again: without status, and without what the server sets.
        Raises NotFoundError."""

    async def delete_statefulset(
        self, namespace: str, name: str, *, uid: str, orphan: bool, expected: Mapping[str, Any] | None = None
    ) -> None:
        """Delete the StatefulSet that has this UID, if its manifest is the `expected` one now (None: any): its pods stay
        where `orphan`, else they go before it does (foreground). Raises NotFoundError, ConflictError when it has another
        UID or manifest, ForbiddenError, RefusedError (a webhook)."""

    async def create(self, document: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """Create the Namespace, StatefulSet, ConfigMap or Pod that a manifest describes; a `dry_run` asks everybody who
        would be asked, and creates nothing. Raises ConflictError when it is there, RefusedError, ForbiddenError,
        NotFoundError when its namespace is not there; ValueError for other kinds."""

    async def get_config(self, namespace: str, name: str) -> Mapping[str, str]:
        """The data of a ConfigMap. Raises NotFoundError, ForbiddenError."""

    async def delete_config(self, namespace: str, name: str, *, expected: Mapping[str, str]) -> None:
        """Delete a ConfigMap, if its data are the `expected` ones now. Raises ConflictError when they are not,
        NotFoundError, ForbiddenError."""

    async def get_lease(self, namespace: str, name: str) -> Lease:
        """Raises NotFoundError."""

    async def put_lease(self, lease: Lease) -> Lease:
        """Create it (`version` empty) or replace it, if it still has this version. Raises ConflictError."""

    async def delete_lease(self, lease: Lease) -> None:
        """Delete it, if it still has this version. Raises ConflictError, NotFoundError."""

    async def allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether the credentials may do `verb` on `resource` (`pods/exec`, `statefulsets.apps/scale`,
        `leases.coordination.k8s.io`) in `namespace` (empty: cluster-wide)."""

    async def post_event(
        self, about: StatefulSet | Pod, topic: str, *, reason: str, message: str, warning: bool, count: int
    ) -> None:
        """Tell it in a Kubernetes Event on the StatefulSet or pod. What is told of one `topic` (lower-case words of a DNS
        name) is one Event, with the last `message`, and how often something was told. Safe to repeat. Raises
        ForbiddenError, RefusedError."""

    async def close(self) -> None:
        """Free connections and tasks; a sandbox stores its state."""
