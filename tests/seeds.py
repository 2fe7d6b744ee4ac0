"""The seed that nobody has tried before: one in each session of tests, told at its beginning."""

from __future__ import annotations

import os
import random

_VARIABLE = "CHAOSD_TEST_SEED"
# In the environment, so that every process of the session has the same.
FRESH = int(os.environ.setdefault(_VARIABLE, str(random.SystemRandom().randrange(1 << 32))))


def told() -> str:
    """What repeats it."""
    return f"fresh seed {FRESH} ({_VARIABLE}={FRESH} repeats it)"
