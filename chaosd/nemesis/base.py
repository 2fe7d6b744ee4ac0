"""What every disruption is made of: its frozen spec, what it is given, and what it must say.

A disruption is drawn by the generator (pure), prepared against the target as it is (which pods, what must be undone),
and only then invoked. Its undo is registered between the two, by the interpreter.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import stamina
from pydantic import BaseModel, ConfigDict, Field

from chaosd.cluster.observer import Observer
from chaosd.cluster.port import Cluster
from chaosd.cluster.target import Target
from chaosd.errors import ThrottledError, UnreachableError


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a disruption acts. `timeout_seconds` bounds each of its waits."""

    cluster: Cluster
    observer: Observer
    target: Target
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is about to be done: the pods that will be deleted on purpose (`replica`, `uid`), the undo as plain JSON
    (None where Kubernetes itself puts it right), and more for the history."""

    deletes: tuple[Mapping[str, str], ...] = ()
    undo: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class Disruption(BaseModel, ABC):
    """The spec of a disruption in an experiment. Subclasses say what it does in their docstring."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: str
    weight: Annotated[int, Field(ge=1, le=1000, description="How often it is drawn, against the other kinds.")] = 1

    @abstractmethod
    def draw(self, rng: random.Random, ordinals: Sequence[int]) -> dict[str, Any]:
        """Its parameters for one round. Pure."""

    @abstractmethod
    def prepare(self, scene: Scene, parameters: Mapping[str, Any]) -> Prepared:
        """What it will do to the target as it is now; touches nothing. Raises NotReadyError when it cannot be done."""

    @abstractmethod
    async def invoke(self, scene: Scene, prepared: Prepared) -> Mapping[str, Any]:
        """Do it, and return the evidence that it really happened.

        Raises ClusterError, DeadlineError: then nobody knows.
        """


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
