"""Evictions: deletions that respect PodDisruptionBudgets, as `pod-evict` and `node-drain` do them.

Source: Kubernetes docs, "API-initiated Eviction" (429: a budget allows none now, try again) and "Specifying a Disruption
Budget for your Application". Whether a budget allows it is asked by evicting: asking first would race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field

from chaosd.cluster.inflight import patiently, unbroken
from chaosd.cluster.port import Budget, Pod
from chaosd.errors import BlockedError, ChaosdError, ConflictError, DisruptionError, NotFoundError, ThrottledError
from chaosd.nemesis.base import BUDGET, Right, Scene, unless_refused
from chaosd.nemesis.pods import until_gone
from chaosd.quantities import Seconds

RIGHTS: tuple[Right, ...] = (("create", "pods/eviction"), ("list", "poddisruptionbudgets.policy"))

Patience = Annotated[
    Seconds, Field(gt=0, description="For how long an eviction is tried again that a PodDisruptionBudget refuses.")
]
PATIENCE_SECONDS = 300.0


async def evict(scene: Scene, doomed: Sequence[Mapping[str, str]], patience_seconds: float) -> list[dict[str, Any]]:
    """Evict pods one after the other, wait until each is gone, and tell attempts and seconds of each.

    Raises BlockedError, which names the budget, when that refused the first until the end of patience, or can never allow
    it; DisruptionError when it refused a later one; DeadlineError.
    """
    budgets = await _budgets(scene, {one["replica"].rpartition("/")[2] for one in doomed})
    told: list[dict[str, Any]] = []
    for one in doomed:
        try:
            told.append(await _evicted(scene, one, patience_seconds))
        except ThrottledError as error:
            raise _refused(one["replica"], budgets, patience_seconds, told, error) from error
        except BlockedError as error:
            if told:
                raise DisruptionError(f"{len(told)} pods were evicted, then {error}") from error
            raise
        await until_gone(scene, {one["uid"]})
    return told


async def _evicted(scene: Scene, one: Mapping[str, str], patience_seconds: float) -> dict[str, Any]:
    now = asyncio.get_running_loop().time
    namespace, name = one["replica"].split("/")
    began, attempts = now(), 0
    async for attempt in patiently(patience_seconds):
        attempts = attempt.number
        # Not found, or another UID: an earlier attempt, or somebody else, was quicker.
        with attempt, suppress(NotFoundError, ConflictError):
            evicting = scene.cluster.evict_pod(namespace, name, uid=one["uid"])
            await unless_refused(unbroken(evicting), f"{name} cannot be evicted")
    return {"replica": one["replica"], "attempts": attempts, "seconds": round(now() - began, 3)}


async def _budgets(scene: Scene, names: set[str]) -> list[str]:
    """The budgets over these pods. Raises BlockedError for one that wants as many healthy pods as there are: it is never
    met, so nobody need wait."""
    namespace, found = scene.target.namespace, []
    async for attempt in patiently(scene.timeout_seconds):
        with attempt:
            budgets = await scene.cluster.list(Budget, namespace)
    for budget in budgets:
        async for attempt in patiently(scene.timeout_seconds):
            with attempt:
                pods = await scene.cluster.list(Pod, namespace, budget.selector)
        if not names & {pod.name for pod in pods}:
            continue
        if never := never_allows(budget, len(pods)):
            raise BlockedError(never, BUDGET)
        found.append(budget.name)
    return found


def never_allows(budget: Budget, pods: int) -> str:
    """Why a budget over so many pods can never allow an eviction, with the mend; empty where it can."""
    if budget.wanted < pods:
        return ""
    never = f"{budget.namespace}/{budget.name} wants {budget.wanted} healthy pods of {pods}, so it never allows one"
    return f"PodDisruptionBudget {never}: change it, or leave evictions out"


def _refused(
    replica: str, budgets: Sequence[str], patience_seconds: float, told: Sequence[Mapping[str, Any]], error: Exception
) -> ChaosdError:
    whose = f"PodDisruptionBudget {', '.join(budgets)}" if budgets else "a PodDisruptionBudget"
    why = f"{whose} allowed no eviction of {replica} within {patience_seconds:g} s: {error}"
    if told:
        return DisruptionError(f"{len(told)} pods were evicted, then {why}")
    return BlockedError(why, BUDGET)
