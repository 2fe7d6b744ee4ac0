"""What a guard says when it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BLACKOUT, INACTIVE, HOLIDAY, INTERVAL, RATE = "blackout", "inactive", "holiday", "interval", "rate"
TERMINATING, NOT_CONVERGED, ROLLOUT, AUTOSCALER = "terminating", "not_converged", "rollout", "autoscaler"
UNAVAILABLE, ROOM, UNSEEN = "unavailable", "room", "unseen"

# Each reason for which a guard refuses, for counting; the refusal says more.
REASONS: Mapping[str, str] = {
    BLACKOUT: "a blackout window is open",
    INACTIVE: "no active window is open",
    HOLIDAY: "the day is a holiday",
    INTERVAL: "the last disruption is too recent",
    RATE: "the hour has had its disruptions",
    TERMINATING: "the namespace or the StatefulSet is being deleted",
    NOT_CONVERGED: "a replica is not Ready",
    ROLLOUT: "a rollout is under way that is not chaosd's, or a deleted pod would begin one",
    AUTOSCALER: "an autoscaler owns the count of replicas",
    UNAVAILABLE: "too many replicas would be unavailable",
    ROOM: "a volume is nearly full",
    UNSEEN: "what a guard must know could not be seen",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no disruption now, one of REASONS; `why` is for people. `until` is when to ask again, in seconds since
    the epoch, None where only the cluster can tell. `window` says that it is the hour that is wrong, not the pace."""

    reason: str
    why: str
    until: float | None = None
    window: bool = False
