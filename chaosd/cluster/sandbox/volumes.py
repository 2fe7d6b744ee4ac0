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

DRIVER = "disk.sandbox.chaosd.io"
# A storage class without a provisioner: its claims stay Pending.
NO_PROVISIONER = "none"


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
