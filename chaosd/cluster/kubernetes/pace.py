"""How fast one client asks an API server, and how long it lets one in need be.

Source of the bucket: client-go's flowcontrol (QPS and Burst), as GCRA; of the pauses: its rest.Request, which waits where
the server names a time (429 and 5xx with Retry-After).
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LEAST_SECONDS, _MOST_SECONDS = 0.2, 5.0
_DOUBLINGS = 8  # more than lead from the least to the most


class Pace:
    """`burst` requests without waiting, and `qps` a second on average. Failures in a row make pauses longer, whoever's
    requests they were: it is one server that they were made to. Pauses are drawn from `rng`, so that a fleet of clients
    does not come back in step."""

    def __init__(self, qps: float, burst: int, rng: random.Random) -> None:
        self._interval = 1 / qps
        self._ahead = (burst - 1) / qps
        self._rng = rng
        self._due = 0.0  # when the next request would be made, were none allowed ahead of time
        self._failures = 0

    async def turn(self) -> None:
        """Wait until the next request may be made."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now)
        wait = self._due - self._ahead - now
        self._due += self._interval
        if wait > 0:
            await asyncio.sleep(wait)

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0

    def failed(self, told_seconds: float | None) -> float:
        """The server is in need; for how many seconds it should be let be, at least those that it `told`."""
        self._failures += 1
        return (told_seconds or 0.0) + pause(self._failures, self._rng)


def pause(failures: int, rng: random.Random) -> float:
    """Seconds to wait after so many failures in a row, at least one: exponential, drawn."""
    longest: float = min(_MOST_SECONDS, _LEAST_SECONDS * 2.0 ** min(failures - 1, _DOUBLINGS))
    return longest * rng.uniform(0.5, 1.0)


def retry_after(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or a date; None where it says nothing of use. Source:
    RFC 9110, 10.2.3."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date; one without a zone
        return None
