"""What every disruption is made of: its frozen spec, what it is given, and what it must say.

A disruption is drawn by the generator (pure), prepared against the target as it is (which pods, what must be undone),
and only then invoked. Its undo is registered between the two, by the interpreter.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from chaosd.cluster.observer import Observer
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import (
    BlockedError,
    ChaosdError,
    DisruptionError,
    ForbiddenError,
    RefusedError,
)

Result = TypeVar("Result")

NOT_READY, CONFLICT, BUDGET, REFUSED = "not_ready", "conflict", "budget", "refused"
# Why a disruption was not done, for counting; the error says more.
BLOCKED: Mapping[str, str] = {
    NOT_READY: "the target, or what the disruption needs, is not as it must be for it",
    CONFLICT: "somebody else changed the target in that moment",
    BUDGET: "a PodDisruptionBudget allowed no eviction",
    REFUSED: "the API server, a webhook or a container said no",
}

# A verb and a resource, such as `("delete", "pods")`.
Right = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a disruption acts. `timeout_seconds` bounds each of its waits; `by` names the run in what it leaves marks on;
    `is_writing` tells whether a replica (NAMESPACE/POD) has writes under way that are not answered; `clock` gives seconds
    since the epoch."""

    cluster: Cluster
    observer: Observer
    target: Target
    timeout_seconds: float
    by: str
    is_writing: Callable[[str], bool]
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is about to be done: the pods that will be deleted on purpose (`replica`, `uid`, `node`), the undo as plain JSON
    with its `kind` (None where Kubernetes itself puts it right), and more for the history. `takes` names the pods that will
    not be there at the same time because of it. `parts` are those of a disruption
    that is made of several."""

    deletes: tuple[Mapping[str, str], ...] = ()
    undo: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    parts: tuple[Prepared, ...] = ()


class Disruption(BaseModel, ABC):
    """The spec of a disruption in an experiment. The first paragraph of a subclass' docstring says what it does and, after
    a semicolon, what it finds, the others what else one must know; docs/disruptions.md is made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # What it needs beyond any run: in the target's namespace, in the whole cluster, in a namespace that the spec names.
    rights: ClassVar[tuple[Right, ...]] = ()
    cluster_rights: ClassVar[tuple[Right, ...]] = ()
    rights_elsewhere: ClassVar[tuple[Right, ...]] = ()
    # Where there are none of these.
    no_rights: ClassVar[str] = "none beyond any run's"
    # What is undone of it after the round, or if chaosd dies.
    undone: ClassVar[str] = "Nothing: Kubernetes puts it right itself."

    kind: str
    weight: Annotated[int, Field(ge=1, le=1000, description="How often it is drawn, against the other kinds.")] = 1

    @property
    def awaits_pods(self) -> bool:
        """Whether it waits for pods that a scaling at the same time might take away for good."""
        return False

    @property
    def scales(self) -> bool:
        """Whether it changes the count of replicas."""
        return False

    @abstractmethod
    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Its parameters, as plain JSON, for the round in which it is drawn for the `turn`th time, from 0. Pure."""

    @abstractmethod
    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """What it will do to the target as it is now; touches nothing. Raises NotReadyError when it cannot be done."""

    @abstractmethod
    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Do it, and return the evidence that it really happened.

        Raises BlockedError when nothing was done, ConflictError when somebody else was quicker; ClusterError,
        DeadlineError, DisruptionError: then nobody knows.
        """

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Carry out what it registered as its undo, and say what was done. Safe to repeat.

        Raises ConflictError when the target is not as chaosd left it: then somebody else's hand is respected; ClusterError.
        """
        raise LookupError(f"{undo['kind']} registers nothing to undo")

    def needs(self, namespace: str) -> Iterator[tuple[str, str, str]]:
        """The rights that it needs on a target in a namespace: verb, resource, and where (empty: cluster-wide)."""
        yield from ((verb, resource, namespace) for verb, resource in self.rights)
        yield from ((verb, resource, "") for verb, resource in self.cluster_rights)


async def unless_refused(act: Awaitable[Result], what: str) -> Result:
    """The first act of a disruption. Raises BlockedError where the API server refuses it, such as for a webhook's sake:
    then nothing was done."""
    try:
        return await act
    except RefusedError as error:
        raise BlockedError(f"{what}: {error}", REFUSED) from error


async def all_done(acts: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of acts that go on at the same time, each to its end whatever becomes of the others. Raises `joined`
    errors; what is no ChaosdError as it is."""
    done = await asyncio.gather(*acts, return_exceptions=True)
    errors, results = [], []
    for outcome in done:
        if isinstance(outcome, ChaosdError):
            errors.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append(outcome)
    if errors:
        raise joined(errors, len(done))
    return results


def joined(errors: Sequence[ChaosdError], acts: int) -> ChaosdError:
    """One error for those of several acts: the first, where it says enough of all; else that it was done in part."""
    forbidden = next((error for error in errors if isinstance(error, ForbiddenError)), None)
    if forbidden or len(errors) == acts == 1:
        return forbidden or errors[0]
    if len(errors) == acts and all(isinstance(error, BlockedError) for error in errors):
        return errors[0]
    return DisruptionError(f"done in part, {len(errors)} of {acts} failed: {'; '.join(map(str, errors))}")
