"""Every exception that chaosd raises, as one tree. Each says the cause and the mend in one line.

    ChaosdError
    ├── UsageError            the caller must change something before it can work       exit 2
    │   ├── ExperimentError   the experiment file is missing, broken or out of range
    │   ├── TargetError       the target may not or cannot be tested as it is
    │   └── RightsError       the credentials lack a right that the experiment needs
    ├── InconclusiveError     nothing is wrong with the input, yet nothing can be said   exit 3
    │   ├── NotReadyError     the target is not in a state in which it can be tested
    │   │   └── NoRoomError   the share does not fit on a volume
    │   └── LedgerError       the ledger cannot be read or written
    ├── AbortedError          a signal, the kill switch or a guard ended the work        exit 4
    ├── ClusterError          the cluster answered with an error, or not at all          exit 3
    │   ├── NotFoundError     no such object (404)
    │   ├── ConflictError     the object is not what the caller believed it was (409)
    │   ├── ForbiddenError    not allowed (401, 403)
    │   ├── RefusedError      the request was understood and refused (400, 422)
    │   │   └── DeniedError   a rule of the cluster's owner forbids it: a policy, a webhook, a quota
    │   ├── ThrottledError    try again later; an eviction that a budget blocks (429)
    │   ├── ExpiredError      the watch position is too old; list again (410)
    │   └── UnreachableError  no answer: connection, TLS, proxy or 5xx
    ├── ProbeError            the probe beside the volume answered with an error         exit 3
    │   └── SessionLostError  the session broke: what was in flight may have happened
    ├── DisruptionError       a disruption failed on its way: nobody knows what it did   exit 3
    ├── BlockedError          a disruption was not done; `reason` says why, for counting exit 3
    └── DeadlineError         a wait passed its deadline                                 exit 3

Foreign exceptions are translated where they enter (the cluster adapters, the ledger, the experiment loader) with the
cause chained. Exit codes are read in one place, the command line.
"""

from __future__ import annotations

from typing import ClassVar


class ChaosdError(Exception):
    """The root. `exit_code` is what the command line ends with when this error ends the work."""

    exit_code: ClassVar[int] = 3


class UsageError(ChaosdError):
    """The caller must change the input, the target or the rights first."""

    exit_code = 2


class ExperimentError(UsageError):
    """The experiment file is missing, is no YAML, or does not fit the model."""


class TargetError(UsageError):
    """The target does not exist, is not labelled, or has no claim behind the path."""


class RightsError(UsageError):
    """The credentials lack a verb on a resource."""


class InconclusiveError(ChaosdError):
    """The input is right, yet no verdict can be reached."""


class NotReadyError(InconclusiveError):
    """The target is not in a state in which it can be tested."""


class NoRoomError(NotReadyError):
    """A volume has too little room for what chaosd's files may take."""


class LedgerError(InconclusiveError):
    """The ledger is locked, corrupt, of another version, or on a full disk."""


class AbortedError(ChaosdError):
    """A signal, the kill switch or a guard ended the work."""

    exit_code = 4


class ClusterError(ChaosdError):
    """The cluster answered with an error, or not at all. `retry_after`: for how many seconds another attempt is no use,
    where that is known."""

    retry_after: float | None = None


class NotFoundError(ClusterError):
    """No such object."""


class ConflictError(ClusterError):
    """The object changed: another UID, another count, another version."""


class ForbiddenError(ClusterError):
    """The credentials are not accepted, or lack the right."""


class RefusedError(ClusterError):
    """The API server understood the request and refused it."""


class DeniedError(RefusedError):
    """Admission said no: a policy, a webhook or a quota of who runs the cluster."""


class ThrottledError(ClusterError):
    """Try again later; for an eviction: a PodDisruptionBudget allows none now."""


class ExpiredError(ClusterError):
    """The watch position is too old: list again."""


class UnreachableError(ClusterError):
    """No answer from the API server, or an answer from something in between."""


class ProbeError(ChaosdError):
    """The probe answered with an error; nothing of the request was done, or its reply says what was."""


class SessionLostError(ProbeError):
    """The session broke before its reply was complete: what was in flight may or may not have happened."""


class DisruptionError(ChaosdError):
    """A disruption failed, was done in part, or took too long: nobody knows what it did."""


class BlockedError(ChaosdError):
    """A disruption was not done, and nothing was disturbed. `reason` is one of a few, such as `budget`, so that it can be
    counted; the message says more."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeadlineError(ChaosdError):
    """A wait passed its deadline; the message says what was waited for, and how long."""
