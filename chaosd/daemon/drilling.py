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
from chaosd.history import Event
from chaosd.metrics import Metrics
from chaosd.requirements import drilled

_SECONDS = 900.0  # on a busy node
_NICE = 5


@dataclass(frozen=True, slots=True)
class _Told:
    """What the drill's JSON says of a plant."""

    wanted: str
    right: bool


class Drill:
    """Carried out once, by `run`; whoever requires it of a run waits for what was found."""

    def __init__(self, metrics: Metrics, log: Logger) -> None:
        self._metrics = metrics
        self._log = log
        self._found: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()

    async def run(self, classes: Sequence[str] = ()) -> None:
        """Drill, all classes where none are named, and tell the metrics. What keeps it from ending is logged, and keeps
        nobody from anything."""
        try:
            results = await _results(classes)
        except (TimeoutError, ValueError) as error:
            self._log.warning(f"the drill did not come to its end, so nobody knows what would be found: {error!r}")
            self.skip()
            return
        self._metrics.drilled(results)
        found = drilled(results)
        self._found.set_result([found])
        if missed := found.value["missed"]:
            self._log.error(f"the drill was not passed: {', '.join(missed)}; what this chaosd says cannot be believed")
        else:
            self._log.info(f"drill: {len(results)} faults and healthy runs, each judged rightly")

    def skip(self) -> None:
        """Nothing will be found."""
        self._found.set_result([])

    async def found(self) -> list[Event]:
        """What is told at the beginning of a run that requires a drill, once that has ended; nothing where none did."""
        return await asyncio.shield(self._found)


async def _results(classes: Sequence[str]) -> list[_Told]:
    """Raises TimeoutError, ValueError."""
    only = [word for name in classes for word in ("--class", name)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaosd", "drill", "--json", *only),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: os.nice(_NICE),
    )
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
        return [_Told(one["wanted"], one["right"]) for one in json.loads(out)]
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
