"""What a person sees of a run on a terminal: the `picture`, a pure fold of its ops; the `drawing`, which makes lines of it;
and the `screen`, which keeps them at the bottom. Only the picture is used where there is no terminal, so rich is imported
by the other two alone."""

from __future__ import annotations

import os
from typing import TextIO

_WITHOUT_A_CURSOR = frozenset({"", "dumb", "unknown"})


def is_live(stream: TextIO) -> bool:
    """Whether it is a terminal on which lines can be drawn again. Colours that are forced, as CI services do, make none."""
    return stream.isatty() and os.environ.get("TERM", "") not in _WITHOUT_A_CURSOR
