"""Guards: what must hold before a disruption begins, so that an operations team can let chaosd work on a shared cluster.

They are asked before a round, and once more at the start of its disruption; a disruption of several steps is asked about
once, as a whole. What they refuse is journaled with its reason, counted and shown. Each, with its default: docs/safety.md.
"""

from chaosd.guards.guard import Guard, namespace_of, refuse_untouchable, remembered_seconds
from chaosd.guards.refusal import REASONS, Refusal
from chaosd.guards.safety import Situation, gitops, unsafe
from chaosd.guards.spec import Guards, Window
from chaosd.guards.windows import too_early

__all__ = [
    "REASONS",
    "Guard",
    "Guards",
    "Refusal",
    "Situation",
    "Window",
    "gitops",
    "namespace_of",
    "refuse_untouchable",
    "remembered_seconds",
    "too_early",
    "unsafe",
]
