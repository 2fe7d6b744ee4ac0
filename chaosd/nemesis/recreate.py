"""`recreate`: delete the StatefulSet and create it again from its own manifest.

The manifest is in a ConfigMap in the target's namespace before anything is deleted, so that it can be made again with
chaosd and its ledger gone: `kubectl get configmap chaosd-NAME-manifest -o jsonpath={.data.manifest} | kubectl create -f -`.
Source: Kubernetes docs, "Delete a StatefulSet", and "Use Cascading Deletion in a Cluster".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import Cluster, StatefulSet
from chaosd.errors import BlockedError, ConflictError, DeadlineError, NotFoundError, NotReadyError
from chaosd.nemesis.base import CONFLICT, Disruption, Prepared, Right, Scene, unless_refused
from chaosd.nemesis.pods import doomed, names

_LOOK_SECONDS = 0.5


class Recreate(Disruption):
    """Delete the StatefulSet and create it again; finds claims that are bound to their StatefulSet's life, and pods that
    are not adopted.

    With `orphan` the pods stay, and the new StatefulSet adopts them; with `foreground` they go first. Refused where
    something else owns the StatefulSet, such as an operator, and under `whenDeleted: Delete`, which takes the claims."""

    rights: ClassVar[tuple[Right, ...]] = (
        ("create", "statefulsets.apps"),
        ("delete", "statefulsets.apps"),
        *((verb, "configmaps") for verb in ("get", "create", "delete")),
    )
    undone: ClassVar[str] = "The StatefulSet is created from the ConfigMap `chaosd-NAME-manifest`, which then goes."

    kind: Literal["recreate"]
    deletion: Annotated[Literal["orphan", "foreground"], Field(description="Whether the pods stay, or go first.")]
    may_delete: Annotated[
        Literal[True],
        Field(alias="mayDelete", description="It deletes the StatefulSet; it does so only where this says `true`."),
    ]

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """How it is deleted."""
        return {"deletion": self.deletion}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The StatefulSet as it is now, and its pods, which stay where they are orphaned."""
        found = _deletable(scene)
        where = {"namespace": found.namespace, "statefulset": found.name, "uid": found.uid}
        undo = {"kind": "recreate", **where, "config": f"chaosd-{found.name}-manifest"}
        orphan = parameters["deletion"] == "orphan"
        pods = [] if orphan else [scene.observer.view.pods[name] for name in sorted(scene.observer.view.pods)]
        more = {"deletion": parameters["deletion"], "uid": found.uid}
        return Prepared(doomed(scene, pods), undo, more, names(pods))

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Store the manifest, delete, create, and wait until the target has converged again."""
        undo, more, cluster = prepared.undo, prepared.more, scene.cluster
        assert undo is not None, "prepared so"
        before = {name: pod.uid for name, pod in scene.observer.view.pods.items()}
        manifest = await _manifest(cluster, undo, scene.timeout_seconds)
        await _store(cluster, undo, manifest, scene.timeout_seconds)
        await _delete(cluster, undo, manifest, orphan=more["deletion"] == "orphan", timeout_seconds=scene.timeout_seconds)
        await _until_absent(cluster, undo, scene.timeout_seconds)
        await _create(cluster, undo, scene.timeout_seconds)

        def made_anew(view: View) -> StatefulSet | None:
            return view.statefulset if view.statefulset and view.statefulset.uid != more["uid"] else None

        now = await scene.observer.wait(made_anew, scene.timeout_seconds, "the StatefulSet to be there again")
        await scene.observer.converged(now.replicas, scene.timeout_seconds)
        kept = sorted(name for name, pod in scene.observer.view.pods.items() if before.get(name) == pod.uid)
        return {"uid": {"was": more["uid"], "is": now.uid}, "pods_kept": kept}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Create the StatefulSet where it is absent, and take the ConfigMap away once it is there."""
        there = await _found(cluster, undo, timeout_seconds)
        if there and there.deleting:
            await _until_absent(cluster, undo, timeout_seconds)
            there = None
        key = f"{undo['namespace']}/{undo['statefulset']}"
        done = f"{key} is there"
        if there is None:
            await _create(cluster, undo, timeout_seconds)
            done = f"{key} was created again from ConfigMap {undo['config']}"
        async for attempt in patiently(timeout_seconds):
            with attempt, suppress(NotFoundError):
                stored = await cluster.get_config(undo["namespace"], undo["config"])
                await unbroken(cluster.delete_config(undo["namespace"], undo["config"], expected=stored))
        return done


def _deletable(scene: Scene) -> StatefulSet:
    found = scene.observer.view.statefulset
    if found is None or found.deleting:
        raise NotReadyError(f"{scene.target.key} cannot be made again: it is gone, or being deleted")
    if found.owner:
        raise NotReadyError(f"{found.key} belongs to {found.owner}, which would make it again itself: it is left alone")
    if found.retention_when_deleted == "Delete":
        raise NotReadyError(f"{found.key} has whenDeleted: Delete: its claims would go with it, so it is left alone")
    return found


async def _manifest(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> Mapping[str, Any]:
    """From which the StatefulSet can be made again, as those say who will be asked then; that it is there yet is all that
    they may have against it. Raises BlockedError."""
    async for attempt in patiently(timeout_seconds):
        with attempt:
            manifest = await cluster.manifest(undo["namespace"], undo["statefulset"])
            _refuse_changed(manifest)
            with suppress(ConflictError):
                asked = cluster.create(manifest, dry_run=True)
                await unless_refused(asked, f"{undo['statefulset']} could not be created again")
    return manifest


def _refuse_changed(manifest: Mapping[str, Any]) -> None:
    """What `_deletable` refuses may have come since: the watch is behind what is read. Raises BlockedError."""
    name, policy = manifest["metadata"]["name"], manifest["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    owned = any(owner.get("controller") for owner in manifest["metadata"].get("ownerReferences") or ())
    if owned or policy.get("whenDeleted") == "Delete":
        why = "an owner" if owned else "whenDeleted: Delete"
        raise BlockedError(f"{name} has {why} since a moment ago: it is left alone", CONFLICT)


async def _store(cluster: Cluster, undo: Mapping[str, Any], manifest: Mapping[str, Any], timeout_seconds: float) -> None:
    """The manifest, in the cluster. One that a run left is replaced: the StatefulSet that it described is there again."""
    namespace, name = undo["namespace"], undo["config"]
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": {"manifest": json.dumps(manifest), "uid": undo["uid"]},
    }
    async for attempt in patiently(timeout_seconds):
        with attempt:
            try:
                await unbroken(cluster.create(config))
            except ConflictError:
                found = await cluster.get_config(namespace, name)
                if "manifest" not in found:
                    raise ConflictError(f"ConfigMap {namespace}/{name} is not chaosd's: delete or rename it") from None
                if dict(found) != config["data"]:
                    await unbroken(cluster.delete_config(namespace, name, expected=found))
                    await unbroken(cluster.create(config))


async def _delete(
    cluster: Cluster, undo: Mapping[str, Any], manifest: Mapping[str, Any], *, orphan: bool, timeout_seconds: float
) -> None:
    """Raises ConflictError where somebody changed it meanwhile: made again from the manifest, it would be changed back."""
    namespace, name = undo["namespace"], undo["statefulset"]
    async for attempt in patiently(timeout_seconds):
        with attempt, suppress(NotFoundError):
            deleting = cluster.delete_statefulset(namespace, name, uid=undo["uid"], orphan=orphan, expected=manifest)
            await unless_refused(unbroken(deleting), f"{undo['statefulset']} cannot be deleted")


async def _found(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> StatefulSet | None:
    with suppress(NotFoundError):
        async for attempt in patiently(timeout_seconds):
            with attempt:
                return await cluster.get(StatefulSet, undo["namespace"], undo["statefulset"])
    return None


async def _until_absent(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> None:
    """Until the StatefulSet that was deleted is gone, or another is there. Raises DeadlineError."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while (found := await _found(cluster, undo, timeout_seconds)) and found.uid == undo["uid"]:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError as error:
        still = f"{undo['namespace']}/{undo['statefulset']} was deleted, and is there still after {timeout_seconds:.0f} s"
        raise DeadlineError(still) from error


async def _create(cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> None:
    """From the ConfigMap. One that is there already was made by an earlier attempt, or by somebody else. Raises
    ConflictError when there is nothing to make it from."""
    try:
        async for attempt in patiently(timeout_seconds):
            with attempt:
                config = await cluster.get_config(undo["namespace"], undo["config"])
                with suppress(ConflictError):
                    await unbroken(cluster.create(json.loads(config["manifest"])))
    except NotFoundError as error:
        key = f"{undo['namespace']}/{undo['statefulset']}"
        gone = f"{key} is gone, and so is ConfigMap {undo['config']} with its manifest: somebody else took both away"
        raise ConflictError(gone) from error
