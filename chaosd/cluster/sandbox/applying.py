"""Manifests become objects: applied, which makes or changes them, or created, which only makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chaosd.cluster import objects
from chaosd.cluster.port import Autoscaler, Namespace, Pod, StatefulSet
from chaosd.cluster.sandbox import budgets, manifest, namespaces
from chaosd.cluster.sandbox import statefulset as controller
from chaosd.cluster.sandbox.store import Store
from chaosd.errors import ConflictError, RefusedError

Json = Mapping[str, Any]
RESTARTED = "kubectl.kubernetes.io/restartedAt"
# Source: Kubernetes' validation of StatefulSets (pkg/apis/apps/validation, ValidateStatefulSetUpdate).
_CHANGEABLE = (
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
)


def apply(store: Store, document: Json) -> None:
    """Make or change what a manifest describes; a Service is accepted, since nothing here connects to one. Raises
    RefusedError."""
    kind = str(document.get("kind", "such thing")) if isinstance(document, Mapping) else "such thing"
    if kind == "Service":
        return
    if kind not in _APPLIED:
        raise RefusedError(f"the sandbox has no {kind}: it takes {', '.join(_APPLIED)} and Service")
    _check(document)
    if kind != "Namespace":
        namespaces.ensure(store, _namespace(document))
    _APPLIED[kind](store, document)


def create(store: Store, document: Json, *, dry_run: bool = False) -> None:
    """See the port."""
    if document["kind"] not in _CREATED:
        raise ValueError(f"{document['kind']} is none of {', '.join(_CREATED)}")
    _check(document)
    exists, make = _CREATED[document["kind"]]
    if document["kind"] != "Namespace":
        namespaces.refuse_terminating(store, _namespace(document))
    if exists(store, document):
        raise ConflictError(f'{document["kind"]} "{document["metadata"]["name"]}" already exists')
    if not dry_run:
        make(store, document)


def restart_rollout(store: Store, statefulset: StatefulSet, at: str) -> None:
    """Another annotation of the template, and with it another revision."""
    spec = store.manifests[statefulset.key]
    template = _annotated(spec["template"], at)
    _change(store, statefulset, {**spec, "template": template, "replicas": statefulset.replicas})


def manifest_of(store: Store, statefulset: StatefulSet) -> dict[str, Any]:
    """A StatefulSet as it would be applied."""
    meta = {"name": statefulset.name, "namespace": statefulset.namespace}
    labelled = {"labels": dict(statefulset.labels), "annotations": dict(statefulset.annotations)}
    spec = {**store.manifests[statefulset.key], "replicas": statefulset.replicas}
    given = {key: value for key, value in labelled.items() if value}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {**meta, **given}, "spec": spec}


def _apply_statefulset(store: Store, document: Json) -> None:
    wanted = objects.statefulset(document)
    known = store.find(StatefulSet, wanted.namespace, wanted.name)
    if known is None:
        _make_statefulset(store, document)
        return
    spec = dict(document["spec"])
    # As kubectl merges it: who applies takes away what was applied, and not what a restart has left.
    restarted = _annotations(store.manifests[known.key]["template"]).get(RESTARTED)
    if restarted and RESTARTED not in _annotations(spec["template"]):
        spec["template"] = _annotated(spec["template"], restarted)
    _change(store, replace(known, labels=wanted.labels, annotations=wanted.annotations, owner=wanted.owner), spec)


def _make_statefulset(store: Store, document: Json) -> None:
    wanted, spec = objects.statefulset(document), dict(document["spec"])
    revision = controller.revision_of(wanted.name, spec["template"])
    store.manifests[wanted.key], store.templates[revision] = spec, spec["template"]
    store.put(replace(wanted, uid=store.uid(), generation=1, update_revision=revision))


def _change(store: Store, known: StatefulSet, spec: dict[str, Any]) -> None:
    """Give a StatefulSet another spec; what its controller told of it stays."""
    meta = {"name": known.name, "namespace": known.namespace}
    wanted = objects.statefulset({"metadata": meta, "spec": spec})
    before = {**store.manifests[known.key], "replicas": known.replicas}
    changed = {key for key in (*before, *spec) if before.get(key) != spec.get(key)}
    if fixed := sorted(changed - {*_CHANGEABLE}):
        raise RefusedError(
            f"{known.key}: {', '.join(fixed)} of a StatefulSet cannot be changed, only {', '.join(_CHANGEABLE)}"
        )
    revision = known.update_revision
    if before["template"] != spec["template"]:
        store.templates.setdefault(revision, before["template"])
        revision = controller.revision_of(known.name, spec["template"])
        store.templates[revision] = spec["template"]
    store.manifests[known.key] = spec
    store.put(
        replace(
            wanted,
            uid=known.uid,
            labels=known.labels,
            annotations=known.annotations,
            owner=known.owner,
            deleting=known.deleting,
            generation=known.generation + bool(changed),
            observed_generation=known.observed_generation,
            ready_replicas=known.ready_replicas,
            current_revision=known.current_revision,
            updated_replicas=known.updated_replicas,
            update_revision=revision,
        )
    )
    _forget_templates(store)


def _forget_templates(store: Store) -> None:
    """Of revisions that no pod and no StatefulSet has any more."""
    used = {pod.revision for pod in store.all(Pod)}
    for one in store.all(StatefulSet):
        used |= {one.current_revision, one.update_revision}
    store.templates = {revision: template for revision, template in store.templates.items() if revision in used}


def _apply_namespace(store: Store, document: Json) -> None:
    wanted = objects.namespace(document)
    known = store.find(Namespace, "", wanted.name)
    store.put(replace(known, annotations=wanted.annotations) if known else replace(wanted, uid=store.uid()))


def _apply_config(store: Store, document: Json) -> None:
    store.configs[_key(document)] = dict(document.get("data") or {})
    store.touch()


def _apply_autoscaler(store: Store, document: Json) -> None:
    wanted = objects.autoscaler(document)
    known = store.find(Autoscaler, wanted.namespace, wanted.name)
    store.put(replace(wanted, uid=known.uid if known else store.uid()))


def _make_pod(store: Store, document: Json) -> None:
    store.put(replace(objects.pod(document), uid=store.uid(), created_at=store.now()))


def _check(document: Json) -> None:
    if document["kind"] == "StatefulSet":
        manifest.check(document)
    else:
        manifest.check_other(document)


def _annotations(template: Json) -> Mapping[str, str]:
    return (template.get("metadata") or {}).get("annotations") or {}


def _annotated(template: Json, at: str) -> dict[str, Any]:
    annotations = {**_annotations(template), RESTARTED: at}
    return {**template, "metadata": {**template["metadata"], "annotations": annotations}}


def _namespace(document: Json) -> str:
    return str(document["metadata"].get("namespace", namespaces.DEFAULT))


def _key(document: Json) -> str:
    return f"{_namespace(document)}/{document['metadata']['name']}"


def _exists(kind: type[Any]) -> Callable[[Store, Json], bool]:
    return lambda store, document: store.find(kind, _namespace(document), document["metadata"]["name"]) is not None


_APPLIED: Mapping[str, Callable[[Store, Json], None]] = {
    "StatefulSet": _apply_statefulset,
    "PodDisruptionBudget": budgets.apply,
    "HorizontalPodAutoscaler": _apply_autoscaler,
    "ScaledObject": _apply_autoscaler,
    "ConfigMap": _apply_config,
    "Namespace": _apply_namespace,
}
# Whether it is there, and what makes it.
_CREATED: Mapping[str, tuple[Callable[[Store, Json], bool], Callable[[Store, Json], None]]] = {
    "Namespace": (lambda store, one: store.find(Namespace, "", one["metadata"]["name"]) is not None, _apply_namespace),
    "StatefulSet": (_exists(StatefulSet), _make_statefulset),
    "ConfigMap": (lambda store, one: _key(one) in store.configs, _apply_config),
    "Pod": (_exists(Pod), _make_pod),
}
