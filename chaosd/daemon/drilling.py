"""The drill of a daemon: once when it starts, so that its metrics tell whether this very chaosd finds every fault.

In a process of its own: simulated runs keep a processor busy for most of a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chaosd.daemon.logs import Logger
from chaosd.metrics import Metrics

_SECONDS = 900.0  # on a busy node
_NICE = 5


@dataclass(frozen=True, slots=True)
class _Told:
    """What the drill's JSON says of a plant."""

    wanted: str
    right: bool


async def drill(metrics: Metrics, log: Logger, classes: Sequence[str] = ()) -> None:
    """Drill, all classes where none are named, and tell the metrics. What keeps it from ending is logged, and keeps nobody
    from anything."""
    only = [word for name in classes for word in ("--class", name)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaosd", "drill", "--json", *only),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: os.nice(_NICE),
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
        results = [_Told(one["wanted"], one["right"]) for one in json.loads(out)]
    except (TimeoutError, ValueError) as error:
        log.warning(f"the drill did not come to its end, so nobody knows what would be found: {error!r}")
        return
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    metrics.drilled(results)
    _tell(results, log)


def _tell(results: Sequence[_Told], log: Logger) -> None:
    missed = sorted({one.wanted or "healthy" for one in results if not one.right})
    if missed:
        log.error(f"the drill was not passed: {', '.join(missed)}; what this chaosd says cannot be believed")
    else:
        log.info(f"drill: {len(results)} faults and healthy runs, each judged rightly")
