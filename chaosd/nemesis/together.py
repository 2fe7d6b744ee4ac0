"""`together`: several disruptions at the same time, as one.

Each is drawn, prepared and told as it would be alone; they are begun at once, and the round goes on when all have ended.
What they leave is undone in one go, the last first.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from chaosd.cluster.port import Cluster
from chaosd.errors import ChaosdError, ConflictError
from chaosd.nemesis.base import Disruption, Prepared, Scene, all_done
from chaosd.nemesis.single import SINGLE, AnySingle

# Each of these wants the count, or the StatefulSet, for itself.
_EXCLUSIVE = frozenset({"scale", "scale-flap", "recreate", "rollout-restart"})


class Together(Disruption):
    """Do several disruptions at the same time; finds what each of them alone does not, such as a pod that is deleted while
    the driver of its volume restarts.

    It happens only where an experiment says so: no others are ever combined. At most one of scale, scale-flap, recreate and
    rollout-restart can be among them, and no other `together`."""

    no_rights: ClassVar[str] = "what each of them needs"
    undone: ClassVar[str] = "What each of them undoes, the last first."

    kind: Literal["together"]
    disruptions: Annotated[
        tuple[AnySingle, ...], Field(min_length=2, max_length=8, description="Which; their weights say nothing here.")
    ]

    @field_validator("disruptions")
    @classmethod
    def _not_at_odds(cls, disruptions: tuple[Disruption, ...]) -> tuple[Disruption, ...]:
        counts = Counter(part.kind for part in disruptions if part.kind in _EXCLUSIVE)
        if counts.total() > 1:
            raise ValueError(f"{' and '.join(sorted(counts.elements()))} would fight each other: keep one of them")
        if counts["scale"] and (waiting := [part.kind for part in disruptions if part.awaits_pods]):
            raise ValueError(f"{waiting[0]} would wait for pods that scale takes away: keep one of them, or use scale-flap")
        return disruptions

    @property
    def scales(self) -> bool:
        """Whether one of them does."""
        return any(part.scales for part in self.disruptions)

    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """The parameters of each, from a stream of its own."""
        drawn = []
        for part in self.disruptions:
            own = random.Random(rng.getrandbits(64))  # noqa: S311 - repeatable, not secret
            drawn.append({"kind": part.kind, **part.draw(own, ordinals, turn)})
        return {"disruptions": drawn}

    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """Each as it would be alone: if one cannot be done, none is."""
        drawn = parameters["disruptions"]
        parts = [part.prepare(scene, own) for part, own in zip(self.disruptions, drawn, strict=True)]
        undos = [part.undo for part in parts if part.undo]
        deletes = {one["uid"]: one for part in parts for one in part.deletes}
        told = [{**own, **part.more, "deletes": list(part.deletes)} for own, part in zip(drawn, parts, strict=True)]
        return Prepared(
            deletes=tuple(deletes.values()),
            undo=combined(undos) if undos else None,
            more={"disruptions": told},
            takes=frozenset().union(*(part.takes for part in parts)),
            parts=tuple(parts),
        )

    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Do them at the same time, each to its end. Raises `joined` errors where one was not done."""
        done = await all_done(part.invoke(scene, own) for part, own in zip(self.disruptions, prepared.parts, strict=True))
        evidence = [{"kind": part.kind, **of} for part, of in zip(self.disruptions, done, strict=True)]
        return {"disruptions": evidence, "crash": any(of.get("crash") for of in evidence)}

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Each, the last first; what somebody else changed is left, and the others are undone all the same. Raises the
        first error of another kind, once all were tried."""
        told, errors = [], []
        for one in reversed(undo["undos"]):
            kind = cls if one["kind"] == "together" else SINGLE[one["kind"]]
            try:
                told.append(await kind.heal(cluster, one, timeout_seconds))
            except ConflictError as error:
                told.append(f"left as it is: {error}")
            except ChaosdError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return "; ".join(told)

    def needs(self, namespace: str) -> Iterator[tuple[str, str, str]]:
        """What each needs."""
        yield from dict.fromkeys(right for part in self.disruptions for right in part.needs(namespace))


def combined(undos: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One undo for one or several, in the order in which they were registered."""
    return {"kind": "together", "undos": list(undos)} if len(undos) > 1 else undos[0]
