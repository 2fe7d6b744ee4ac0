"""What every disruption is made of: its frozen spec, what it is given, and what it must say.

A disruption is drawn by the generator (pure), prepared against the target as it is (which pods, what must be undone),
allowed by the guards, and only then invoked. Its undo is registered before it is invoked, by the interpreter.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import stamina
from pydantic import BaseModel, ConfigDict, Field

from chaosd.cluster.observer import Observer
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import ThrottledError, UnreachableError


# A verb and a resource, such as `("delete", "pods")`.
Right = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a disruption acts. `timeout_seconds` bounds each of its waits; `by` names the run in what it leaves marks on;
    `is_writing` tells whether a replica (NAMESPACE/POD) has writes under way that are not answered."""

    cluster: Cluster
    observer: Observer
    target: Target
    timeout_seconds: float
    by: str
    is_writing: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is about to be done: the pods that will be deleted on purpose (`replica`, `uid`, `node`), the undo as plain JSON
    with its `kind` (None where Kubernetes itself puts it right), and more for the history. `takes` names the pods that will
    not be there at the same time because of it, for the guard on unavailable replicas."""

    deletes: tuple[Mapping[str, str], ...] = ()
    undo: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()


class Disruption(BaseModel, ABC):
    """The spec of a disruption in an experiment. The first line of a subclass' docstring says what it does and, after a
    semicolon, what it finds; docs/disruptions.md is made of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # What it needs beyond any run: in the target's namespace, and in the whole cluster.
    rights: ClassVar[tuple[Right, ...]] = ()
    cluster_rights: ClassVar[tuple[Right, ...]] = ()

    kind: str
    weight: Annotated[int, Field(ge=1, le=1000, description="How often it is drawn, against the other kinds.")] = 1

    @abstractmethod
    def draw(self, rng: random.Random, ordinals: Sequence[int], turn: int) -> dict[str, Any]:
        """Its parameters, as plain JSON, for the round in which it is drawn for the `turn`th time, from 0. Pure."""

    @abstractmethod
    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """What it will do to the target as it is now; touches nothing. Raises NotReadyError when it cannot be done."""

    @abstractmethod
    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Do it, and return the evidence that it really happened.

        Raises ClusterError, DeadlineError: then nobody knows.
        """

    @classmethod
    async def heal(cls, cluster: Cluster, undo: Mapping[str, Any], timeout_seconds: float) -> str:
        """Carry out what it registered as its undo, and say what was done. Safe to repeat.

        Raises ConflictError when the target is not as chaosd left it: then somebody else's hand is respected; ClusterError.
        """
        raise LookupError(f"{undo['kind']} registers nothing to undo")


def patiently(timeout_seconds: float) -> AsyncIterator[stamina.Attempt]:
    """Attempts of an act that is safe to repeat, while the API server is away or throttles. Use: `async for attempt in
    patiently(60): with attempt: await act()`."""
    return stamina.retry_context(
        on=(UnreachableError, ThrottledError),
        attempts=None,
        timeout=timeout_seconds,
        wait_initial=0.2,
        wait_max=5.0,
        wait_jitter=0,  # one client needs none, and a simulation must wait the same every time
    ).__aiter__()
