"""Whether two samples may well be of one distribution: the Mann-Whitney U test, two-sided.

Pure. It asks whether one of two samples tends to be larger, and assumes nothing of the shape of their distributions, which
recovery times need: they have long tails. Source: Mann and Whitney, "On a test of whether one of two random variables is
stochastically larger than the other" (1947); normal approximation with correction for ties and continuity as in Lehmann,
"Nonparametrics" (1975), section 1.2. Good from about eight values on either side; below that `MIN_VALUES` refuses to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

MIN_VALUES = 8
SIGNIFICANT = 0.05  # below this chance is an unlikely cause, where one pair is compared


@dataclass(frozen=True, slots=True)
class Comparison:
    """`u` counts the pairs in which the first sample's value is the larger, ties by half; `p` is how likely so large a
    difference is where there is none; `larger` in what part of all pairs the first's is the larger (ties by half)."""

    u: float
    p: float
    larger: float


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> Comparison | None:
    """None where one has fewer than MIN_VALUES."""
    n, m = len(first), len(second)
    if min(n, m) < MIN_VALUES:
        return None
    ranks, ties = _ranked(first, second)
    u = ranks - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:  # all values are the same
        return Comparison(u, 1.0, 0.5)
    distance = max(0.0, abs(u - n * m / 2) - 0.5)
    p = math.erfc(distance / math.sqrt(variance) / math.sqrt(2))
    return Comparison(u, min(1.0, p), u / (n * m))


def _ranked(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The sum of the first sample's ranks among all values, where equal ones share their mean rank; and the sum of t³ - t
    over the groups of t equal ones."""
    everything = sorted([(value, True) for value in first] + [(value, False) for value in second])
    ranks, ties, before = 0.0, 0, 0
    for _, group in groupby(everything, key=lambda pair: pair[0]):
        own = [is_first for _, is_first in group]
        ranks += sum(own) * (before + (len(own) + 1) / 2)
        ties += len(own) ** 3 - len(own)
        before += len(own)
    return ranks, float(ties)
