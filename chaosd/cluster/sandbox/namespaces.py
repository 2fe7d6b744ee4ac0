"""Namespaces: what is made in one, and what its deletion takes along. Source: Kubernetes docs, "Namespaces"."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from chaosd.cluster.port import Autoscaler, Budget, Claim, ClusterEvent, Namespace, Pod, StatefulSet
from chaosd.cluster.sandbox import statefulset as controller
from chaosd.cluster.sandbox.store import Store
from chaosd.errors import ConflictError, RefusedError

DEFAULT = "default"
# What must be gone before a namespace is, and what goes with it.
_HELD: tuple[type[Any], ...] = (StatefulSet, Pod, Claim)
_LEFT: tuple[type[Any], ...] = (Budget, Autoscaler, ClusterEvent)


def complete(store: Store) -> None:
    """Those that must be there: the default one, and in what an older version stored those of its objects. Their UIDs are
    made of their names, so that nothing is drawn for them."""
    for name in sorted({DEFAULT, *(one.namespace for kind in _HELD for one in store.all(kind))}):
        if not store.find(Namespace, "", name):
            store.put(Namespace(name, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{store.id}/{name}"))))


def ensure(store: Store, name: str) -> None:
    """Make one that is not there. Raises RefusedError for one that goes."""
    if not store.find(Namespace, "", name):
        store.put(Namespace(name, store.uid()))
    refuse_terminating(store, name)


def refuse_terminating(store: Store, name: str) -> None:
    """Raises NotFoundError where there is none, RefusedError for one that goes."""
    if store.get(Namespace, "", name).terminating:
        raise RefusedError(f"unable to create new content in namespace {name} because it is being terminated")


def delete(store: Store, name: str) -> None:
    """Let it go with all that is in it. Raises NotFoundError, ConflictError when it goes already."""
    found = store.get(Namespace, "", name)
    if found.terminating:
        raise ConflictError(f"namespace {name} is being deleted")
    store.put(replace(found, terminating=True))
    for one in store.all(StatefulSet, name):
        controller.delete(store, one, orphan=False)
    for pod in store.all(Pod, name):
        controller.terminate(store, pod, None)
    for claim in store.all(Claim, name):
        store.put(replace(claim, deleting=True))


def reconcile(store: Store) -> None:
    """Namespaces that go are gone once no pod and no claim is in them."""
    for namespace in store.all(Namespace):
        if namespace.terminating and not any(store.all(kind, namespace.name) for kind in _HELD):
            _empty(store, namespace.name)
            store.remove(namespace)


def _empty(store: Store, name: str) -> None:
    held: tuple[dict[str, Any], ...] = (store.limits, store.configs, store.leases)
    for objects in held:
        for key in [key for key in objects if key.startswith(f"{name}/")]:
            del objects[key]
    for kind in _LEFT:
        for one in store.all(kind, name):
            store.remove(one)
