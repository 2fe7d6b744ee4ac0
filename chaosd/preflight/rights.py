"""The rights that an experiment takes, those that the credentials lack, and the Roles that grant these."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from chaosd.cluster.port import Cluster
from chaosd.experiment import Experiment
from chaosd.nemesis import DISRUPTIONS, Disruption
from chaosd.nemesis.base import Right

# What every run needs in the target's namespace; its disruptions say what they need besides.
RIGHTS = tuple(
    (verb, resource)
    for resource, verbs in (
        ("statefulsets.apps", ("get", "list", "watch")),
        ("pods", ("get", "list", "watch")),
        ("pods/exec", ("get", "create")),
        ("persistentvolumeclaims", ("get", "list", "watch")),
        ("leases.coordination.k8s.io", ("get", "create", "update", "delete")),
    )
    for verb in verbs
)
# What it would like to see of the whole cluster; without it, bindings are unknown.
WISHES = tuple(
    (verb, resource)
    for resource in ("persistentvolumes", "volumeattachments.storage.k8s.io", "nodes")
    for verb in ("get", "list", "watch")
)
# What it would like to see in the target's namespace: why a pod does not start. Without it, that is not told apart from
# storage that does not come back; whether the namespace is being deleted, or the kill switch thrown there; and it tells in
# Events what it does.
NAMESPACED_WISHES = (*((verb, "events") for verb in ("get", "list", "watch", "create", "patch")), ("get", "namespaces"))
# By how much the nodes' clocks differ, which kubelets tell in Leases of this namespace; without it, preflight does not know
# whether the times are true that recoveries are judged by.
CLOCK_WISHES, CLOCKS_NAMESPACE = (("get", "leases.coordination.k8s.io"),), "kube-node-lease"
# What a run needs besides, where the agent has an image of its own.
AGENT_RIGHTS = (("patch", "pods/ephemeralcontainers"),)
# What a daemon needs besides, whose status page pauses targets.
PAUSE_RIGHTS = (("patch", "statefulsets.apps"),)

# A verb, a resource (such as `statefulsets.apps/scale`), and where: a namespace, or empty for the whole cluster.
Placed = tuple[str, str, str]
Document = Mapping[str, Any]


def needed(experiment: Experiment) -> list[Placed]:
    """Those of every run, and those of what the experiment may do."""
    namespace = experiment.target.namespace
    every = (*RIGHTS, *(AGENT_RIGHTS if experiment.target.probe_image else ()))
    own = (right for disruption in disruptions(experiment) for right in disruption.needs(namespace))
    return list(dict.fromkeys((*placed(namespace, every), *own)))


def wished(experiment: Experiment) -> list[Placed]:
    """Those without which something is `unknown`, and nothing else."""
    own = placed(experiment.target.namespace, NAMESPACED_WISHES)
    wishes = (*placed("", WISHES), *placed(CLOCKS_NAMESPACE, CLOCK_WISHES), *own)
    needs = set(needed(experiment))
    return [right for right in wishes if right not in needs]


def placed(namespace: str, rights: Iterable[tuple[str, str]]) -> list[Placed]:
    """Rights in a namespace, or in the whole cluster where that is empty."""
    return [(verb, resource, namespace) for verb, resource in rights]


def disruptions(experiment: Experiment) -> Iterator[Disruption]:
    """Everything that the experiment may do to its target."""
    yield from experiment.disruptions
    yield from (step.disrupt for step in experiment.steps if step.disrupt)


async def missing(cluster: Cluster, rights: Sequence[Placed]) -> list[Placed]:
    """Those that the credentials lack, as the API server says. Raises ClusterError."""
    asked = await asyncio.gather(*(cluster.allowed(*right) for right in rights))
    return [right for right, may in zip(rights, asked, strict=True) if not may]


def told(right: Placed, namespace: str) -> str:
    """As people say it, with its place where that is not the namespace that is spoken of anyhow."""
    verb, resource, where = right
    return f"{verb} on {_where(resource, where, namespace)}"


def summed(rights: Iterable[Placed], namespace: str) -> str:
    """Several as people say them: `get, list on pods; patch on nodes cluster-wide`."""
    verbs: dict[str, list[str]] = {}
    for verb, resource, where in rights:
        verbs.setdefault(_where(resource, where, namespace), []).append(verb)
    return "; ".join(f"{', '.join(held)} on {named}" for named, held in verbs.items())


def roles(rights: Iterable[Placed]) -> list[Document]:
    """A Role for each namespace, and a ClusterRole, that grant exactly these rights. Each is named by what it grants, so
    applying it changes no other. Source: Kubernetes docs, "Using RBAC Authorization"."""
    places: dict[str, list[Placed]] = {}
    for right in rights:
        places.setdefault(right[2], []).append(right)
    return [_role(namespace, granted) for namespace, granted in sorted(places.items())]


def table() -> Document:
    """What grants all that can be needed or wished, as rules of Roles: of every target (`target`), with an agent of its own
    image (`agent`), where it is paused over HTTP (`pause`), cluster-wide (`cluster`), in CLOCKS_NAMESPACE (`clocks`), and
    by disruption (`target`, `cluster`, `elsewhere`)."""
    return {
        "target": _rules_of((*RIGHTS, *NAMESPACED_WISHES)),
        "agent": _rules_of(AGENT_RIGHTS),
        "pause": _rules_of(PAUSE_RIGHTS),
        "cluster": _rules_of(WISHES),
        "clocks": _rules_of(CLOCK_WISHES),
        "disruptions": {
            kind: {
                "target": _rules_of(spec.rights),
                "cluster": _rules_of(spec.cluster_rights),
                "elsewhere": _rules_of(spec.rights_elsewhere),
            }
            for kind, spec in sorted(DISRUPTIONS.items())
        },
    }


def as_yaml(documents: Iterable[Document]) -> str:
    """Manifests to be pasted."""
    return yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=None, width=76)


def _where(resource: str, where: str, namespace: str) -> str:
    return f"{resource}{'' if where == namespace else f' in {where}' if where else ' cluster-wide'}"


def _role(namespace: str, rights: Sequence[Placed]) -> Document:
    rules = list(_rules(rights))
    name = f"chaosd-{hashlib.sha256(repr(rules).encode()).hexdigest()[:8]}"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace else "ClusterRole",
        "metadata": {"name": name, "namespace": namespace} if namespace else {"name": name},
        "rules": rules,
    }


def _rules_of(rights: Iterable[Right]) -> list[Document]:
    return list(_rules(placed("", rights)))


def _rules(rights: Iterable[Placed]) -> Iterator[Document]:
    """By group; resources that take the same verbs share a rule."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for verb, resource, _ in rights:
        verbs.setdefault(_group_and_name(resource), []).append(verb)
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, name), held in sorted(verbs.items()):
        alike.setdefault((group, tuple(held)), []).append(name)
    for (group, common), names in alike.items():
        yield {"apiGroups": [group], "resources": names, "verbs": list(common)}


def _group_and_name(resource: str) -> tuple[str, str]:
    """`statefulsets.apps/scale` is `statefulsets/scale` of the group `apps`."""
    kind, slash, subresource = resource.partition("/")
    plural, _, group = kind.partition(".")
    return group, f"{plural}{slash}{subresource}"
