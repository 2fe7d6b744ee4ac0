"""The seed that nobody has tried before: one in each session of tests, told at its beginning."""

from __future__ import annotations

import os
import random

_VARIABLE = "CHAOSD_TEST_SEED"
FRESH = int(os.environ.get(_VARIABLE) or random.SystemRandom().randrange(1 << 32))


def told() -> str:
    """What repeats it."""
    return f"fresh seed {FRESH} ({_VARIABLE}={FRESH} repeats it)"
