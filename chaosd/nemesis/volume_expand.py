"""`volume-expand`: ask for a larger volume, while it is in use.

It cannot be undone: no volume shrinks. So it is done only to targets that chaosd made itself, which say so by a label.
Source: Kubernetes docs, "Persistent Volumes", Expanding Persistent Volumes Claims.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.observer import View
from chaosd.cluster.port import OWN_LABEL, Claim
from chaosd.errors import BlockedError, NotReadyError
from chaosd.nemesis.base import Prepared, Right, Scene, unless_refused
from chaosd.nemesis.pods import OfOnePod, picked
from chaosd.quantities import parse_bytes

_MEBIBYTE = 1 << 20


class VolumeExpand(OfOnePod):
    """Expand the volume of a replica; finds file systems that do not grow with their volume, and data that does not survive
    it.

    It cannot be undone, since no volume shrinks: only targets that are labelled `chaosd.io/own: "true"`, chaosd's own, are
    expanded. Blocked, for the reason `refused`, where the storage class does not allow it."""

    rights: ClassVar[tuple[Right, ...]] = (("patch", "persistentvolumeclaims"),)
    undone: ClassVar[str] = "Nothing: it cannot be undone, no volume shrinks."

    kind: Literal["volume-expand"]
    by: Annotated[
        str | float,
        Field(description="How much larger: a quantity that is added, such as `1Gi`, or a factor above 1, such as 1.5."),
    ]

    @field_validator("by")
    @classmethod
    def _grows(cls, by: str | float) -> str | float:
        if isinstance(by, str):
            if parse_bytes(by) <= 0:
                raise ValueError("it must grow: give a quantity above 0")
        elif not (math.isfinite(by) and by > 1):
            raise ValueError("a factor must be above 1; write a quantity with its unit, such as 1Gi")
        return by

    @property
    def awaits_pods(self) -> bool:
        """A volume grows where it is mounted."""
        return True

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The replica, and how much."""
        return {**super().draw(rng, ordinals, turn), "by": self.by}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """The claim, and the size to ask for."""
        (pod,) = picked(scene, parameters)
        claim = _claim(scene, pod.name)
        more = {"claim": claim.name, "uid": claim.uid, "from": claim.capacity, "to": larger(claim, parameters["by"])}
        return Prepared((), None, more)

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Ask for it, and wait until the claim tells that it has it."""
        more, namespace = prepared.more, scene.target.namespace
        wanted = parse_bytes(more["to"])
        async for attempt in patiently(scene.timeout_seconds):
            with attempt:
                expanding = scene.cluster.expand_claim(namespace, more["claim"], uid=more["uid"], storage=more["to"])
                try:
                    await unless_refused(unbroken(expanding), f"claim {more['claim']} cannot be expanded to {more['to']}")
                except BlockedError:
                    # An attempt whose answer was lost may have asked for it, and what is asked for already is no more.
                    found = await scene.cluster.get(Claim, namespace, more["claim"])
                    if attempt.number == 1 or _bytes(found.requested) != wanted:
                        raise

        def expanded(view: View) -> str | None:
            claim = view.claims.get(more["claim"])
            return claim.capacity if claim and claim.capacity and _bytes(claim.capacity) >= wanted else None

        capacity = await scene.observer.wait(expanded, scene.timeout_seconds, f"{more['claim']} to have {more['to']}")
        return {"claim": more["claim"], "capacity": {"was": more["from"], "is": capacity}}


def larger(claim: Claim, by: str | float) -> str:
    """The size to ask for, in whole mebibytes. Raises NotReadyError for a claim whose size is told in an unknown way."""
    now = _bytes(claim.requested)
    if now <= 0:
        raise NotReadyError(f"claim {claim.name} asks for {claim.requested or 'nothing'}, which says no number of bytes")
    wanted = now + parse_bytes(by) if isinstance(by, str) else now * by
    return f"{math.ceil(wanted / _MEBIBYTE)}Mi"


def _bytes(quantity: str) -> int:
    try:
        return parse_bytes(quantity)
    except ValueError:
        return 0


def _claim(scene: Scene, pod: str) -> Claim:
    view, target = scene.observer.view, scene.target
    labels = view.statefulset.labels if view.statefulset else {}
    if labels.get(OWN_LABEL) != "true":
        raise NotReadyError(
            f"{target.key} is not chaosd's own, and no volume shrinks again: only targets labelled {OWN_LABEL}=true are "
            "expanded"
        )
    claim = view.claims.get(target.claim(pod))
    if claim is None:
        raise NotReadyError(f"{target.namespace}/{pod} has no claim that could be expanded")
    return claim
