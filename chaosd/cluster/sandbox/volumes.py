"""Claims, volumes and attachments: the provisioner, the protection of claims in use, the attach and detach controller.

Source: Kubernetes docs, "Persistent Volumes" (Binding, Storage Object in Use Protection, Reclaiming), and "Storage
Classes" (WaitForFirstConsumer).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from chaosd.cluster.port import Attachment, Claim, Pod, Volume
from chaosd.cluster.sandbox.disks import Disks
from chaosd.cluster.sandbox.store import Store, pods_on
from chaosd.errors import RefusedError
from chaosd.quantities import parse_quantity

DRIVER = "disk.sandbox.chaosd.io"
# A storage class without a provisioner: its claims stay Pending.
NO_PROVISIONER = "none"
# Volumes of a storage class whose name says this cannot be expanded (allowVolumeExpansion: false).
NO_EXPANSION = "fixed"


def bind(store: Store, disks: Disks, pod: Pod) -> list[Volume] | None:
    """The volumes of a pod's claims, each made when it is first used; None while a claim is missing or Pending."""
    volumes = []
    for name in pod.claims.values():
        claim = store.find(Claim, pod.namespace, name)
        if claim is None or claim.deleting or claim.phase == "Lost":
            return None
        if claim.phase == "Pending" and claim.storage_class != NO_PROVISIONER:
            claim = _provision(store, disks, claim)
        volume = store.find(Volume, "", claim.volume)
        if volume is None:
            return None
        volumes.append(volume)
    return volumes


def attachment(volume: Volume, node: str, store: Store) -> Attachment:
    """The attachment of a volume to a node, as it is or new."""
    name = "csi-" + hashlib.sha256(f"{volume.handle}{DRIVER}{node}".encode()).hexdigest()
    return store.find(Attachment, "", name) or Attachment(name, store.uid(), volume.name, node)


def in_use(store: Store) -> set[tuple[str, str]]:
    """Volumes that pods use, each with the pod's node."""
    volumes = {(claim.namespace, claim.name): claim.volume for claim in store.all(Claim)}
    return {(volumes.get((pod.namespace, name), ""), pod.node) for pod in store.all(Pod) for name in pod.claims.values()}


def reclaim(store: Store, disks: Disks) -> None:
    """Claims that are deleted and no longer used go, and their volumes and disks with them."""
    for claim in store.all(Claim):
        if claim.deleting and not any(pods_on(store, claim)):
            store.remove(claim)
    claims = {claim.uid for claim in store.all(Claim)}
    if all(volume.claim_uid in claims for volume in store.all(Volume)):
        return
    attached = {a.volume for a in store.all(Attachment)}
    for volume in store.all(Volume):
        if volume.claim_uid not in claims and volume.name not in attached:
            store.remove(volume)
            disks.delete(volume.handle)


def refuse_expansion(claim: Claim, storage: str) -> None:
    """Raises RefusedError where a claim cannot have that much. Source: Kubernetes docs, "Persistent Volumes", Expanding."""
    if claim.phase != "Bound" or NO_EXPANSION in claim.storage_class:
        raise RefusedError(
            f'persistentvolumeclaims "{claim.name}" is forbidden: only dynamically provisioned pvc can be resized and the '
            "storageclass that provisions the pvc must support resize"
        )
    if parse_quantity(storage) <= parse_quantity(claim.requested):
        raise RefusedError(f"{claim.namespace}/{claim.name} has asked for {claim.requested}, and {storage} is no more")


def expand(store: Store, disks: Disks) -> None:
    """Volumes of claims that ask for more grow, and their file systems with them, whether or not they are mounted."""
    for claim in store.all(Claim):
        if claim.phase != "Bound" or claim.requested == claim.capacity:
            continue
        volume = store.find(Volume, "", claim.volume)
        if volume and parse_quantity(claim.requested) > parse_quantity(claim.capacity):
            disks.grow(volume.handle, claim.requested)
            store.put(replace(volume, capacity=claim.requested))
            store.put(replace(claim, capacity=claim.requested))


def _provision(store: Store, disks: Disks, claim: Claim) -> Claim:
    handle = f"d-{store.hexadecimal(20)}"
    disks.create(handle, claim.requested)
    volume = Volume(
        name=f"pvc-{claim.uid}",
        uid=store.uid(),
        phase="Bound",
        driver=DRIVER,
        handle=handle,
        claim=f"{claim.namespace}/{claim.name}",
        claim_uid=claim.uid,
        capacity=claim.requested,
        reclaim_policy="Delete",
    )
    bound = replace(claim, phase="Bound", volume=volume.name, capacity=claim.requested)
    store.put(volume)
    store.put(bound)
    return bound
