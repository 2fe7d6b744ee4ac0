"""The target: one StatefulSet, the container and path whose data are tested, and the names that follow from them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chaosd.cluster.port import TARGET_LABEL, Container, Mount, StatefulSet
from chaosd.errors import TargetError

SELECTOR = {TARGET_LABEL: "true"}


@dataclass(frozen=True, slots=True)
class Target:
    """What is tested. `template` is the volumeClaimTemplate behind `path`, empty where there is none; `replicas` is the
    count that chaosd found and restores."""

    namespace: str
    statefulset: str
    uid: str
    container: str
    path: str
    template: str
    replicas: int
    first_ordinal: int

    @property
    def key(self) -> str:
        """`NAMESPACE/STATEFULSET`."""
        return f"{self.namespace}/{self.statefulset}"

    @property
    def pods(self) -> tuple[str, ...]:
        """Names of the replicas that were wanted when chaosd came, lowest ordinal first."""
        return tuple(f"{self.statefulset}-{self.first_ordinal + i}" for i in range(self.replicas))

    def replicas_up_to(self, count: int) -> tuple[str, ...]:
        """The first `count` replicas, as processes."""
        return tuple(self.replica(f"{self.statefulset}-{self.first_ordinal + i}") for i in range(count))

    def replica(self, pod: str) -> str:
        """`NAMESPACE/POD`, the process that writes and reads there."""
        return f"{self.namespace}/{pod}"

    def claim(self, pod: str) -> str:
        """Name of the claim behind the path, or empty. Source: Kubernetes docs, "StatefulSets", Stable Storage."""
        return f"{self.template}-{pod}" if self.template else ""

    def ordinal(self, pod: str) -> int | None:
        """The ordinal of a pod of this StatefulSet, None for any other name."""
        match = re.fullmatch(re.escape(self.statefulset) + r"-(\d+)", pod)
        return int(match[1]) if match else None

    def pod_of_claim(self, claim: str, templates: tuple[str, ...]) -> str | None:
        """The replica that a claim belongs to, None where it is none of this StatefulSet's."""
        for template in templates:
            pod = claim.removeprefix(f"{template}-")
            if pod != claim and self.ordinal(pod) is not None:
                return pod
        return None


def resolve(statefulset: StatefulSet, *, path: str, container: str, require_claim: bool) -> Target:
    """The target that an experiment means by a path (empty: where the first claim is mounted) and a container (empty:
    the first one that mounts it).

    Raises TargetError where the label is missing, nothing is mounted at the path, or no claim is behind it.
    """
    _require_label(statefulset)
    chosen, mount = _find_mount(statefulset, path, container)
    template = mount.volume if mount.volume in statefulset.template_claims else ""
    if require_claim and not template:
        kind = statefulset.template_volumes.get(mount.volume, "another volume")
        raise TargetError(
            f"{statefulset.key}: no claim is behind {path}, but {kind}: name a path on a volumeClaimTemplate, or set "
            "requireClaim: false to test it all the same"
        )
    return Target(
        namespace=statefulset.namespace,
        statefulset=statefulset.name,
        uid=statefulset.uid,
        container=chosen.name,
        path=mount.path,
        template=template,
        replicas=statefulset.replicas,
        first_ordinal=statefulset.first_ordinal,
    )


def _require_label(statefulset: StatefulSet) -> None:
    if statefulset.labels.get(TARGET_LABEL) != "true":
        raise TargetError(
            f"{statefulset.key} is not labelled as a target: "
            f"kubectl -n {statefulset.namespace} label statefulset {statefulset.name} {TARGET_LABEL}=true"
        )


def _find_mount(statefulset: StatefulSet, path: str, container: str) -> tuple[Container, Mount]:
    named = [c for c in statefulset.containers if container in ("", c.name)]
    if not named:
        names = ", ".join(c.name for c in statefulset.containers)
        raise TargetError(f"{statefulset.key} has no container {container}: it has {names}")
    found = [
        (candidate, mount)
        for candidate in named
        for mount in candidate.mounts
        if (mount.path.rstrip("/") == path.rstrip("/") if path else mount.volume in statefulset.template_claims)
    ]
    if found:  # a sidecar that only reads, such as for backups, may stand before the one that writes
        return min(found, key=lambda one: one[1].read_only)
    if not path:
        raise TargetError(f"{statefulset.key}: no container mounts a volumeClaimTemplate: name a path in the experiment")
    mounts = ", ".join(sorted({m.path for c in named for m in c.mounts})) or "nothing"
    raise TargetError(f"{statefulset.key}: nothing is mounted at {path}: name one of {mounts}")
