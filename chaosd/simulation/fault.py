"""What every planted fault has, wherever it is put: in a simulated cluster or through the probe on a real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chaosd.checkers.verdict import Class, Value


@dataclass(frozen=True, slots=True)
class Fault:
    """What it is, in a few words, which are the same wherever it can be planted; and the class under which it must be
    found: `unknown` where something cannot be seen and nothing may be accused, None where it is no fault."""

    what: str
    found_as: Class | Literal[Value.UNKNOWN] | None
