"""Virtual time: an asyncio event loop that never waits.

Where nothing is ready it jumps to the next timer, so that hours pass in milliseconds, and the same program does the same
in the same order every time: callbacks run first in, first out, and so do timers of the same moment. There are no
sockets, no threads and no subprocesses. What would wait for ever is an error that says who waits for what.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, NoReturn, TypeVar

Result = TypeVar("Result")

# 2026-01-01T00:00:00Z, when every simulated run begins.
EPOCH_SECONDS = 1_767_225_600.0
# Longer than any simulated run, shorter than a loop of timers that a fault would keep going for ever.
LIMIT_SECONDS = 365 * 86_400.0
# How near to each other two moments are the same: more than what a float loses within LIMIT_SECONDS.
_RESOLUTION_SECONDS = 1e-6
# Beyond twice as many as there were, and these, timers are looked through for those that were cancelled.
_FEW_TIMERS = 100
# Between two looks for cycles.
_ALLOCATIONS = 20_000


class StuckError(RuntimeError):
    """Nothing can happen any more, or time runs on without end."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop; `run` makes one. `time()` is 0 at first."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        super().__init__()
        self.failures: list[BaseException] = []
        self._now = 0.0
        self._limit_seconds = limit_seconds
        # A heap, by moment and number, so that timers of the same moment keep their order.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_set = 0
        self._crowded = _FEW_TIMERS
        self._tasks = 0
        self.set_task_factory(_numbered)  # type: ignore[arg-type]

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As in any loop."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As in any loop."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        return timer

    def task_number(self) -> int:
        """The next one."""
        self._tasks += 1
        return self._tasks

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody awaits must not go unseen: `run` raises it."""
        self.failures.append(context.get("exception") or RuntimeError(context.get("message")))

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        """Refused: a thread would run in real time."""
        raise RuntimeError("there are no threads in virtual time: what needs one must be given another adapter")

    # What BaseEventLoop asks of its subclass. One turn is written anew, since nothing here can come from outside.

    def _run_once(self) -> None:
        """What is ready, and the timers that are due; where nothing is ready, time passes first."""
        ready, timers = self._ready, self._timers
        if not ready and not self._stopping:
            self._let_time_pass()
        due = self._now + _RESOLUTION_SECONDS
        while timers and timers[0][0] < due:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):  # what these make ready comes in the next turn
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _let_time_pass(self) -> None:
        """Up to the next timer, instead of waiting for it."""
        timers = self._timers
        if len(timers) > self._crowded:  # most are time-outs of what came in time
            timers[:] = [timer for timer in timers if not timer[2].cancelled()]
            heapq.heapify(timers)
            self._crowded = 2 * len(timers) + _FEW_TIMERS
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise StuckError(f"nothing is left to happen: {_waiting(self)}")
        self._now = max(self._now, timers[0][0])
        if self._now > self._limit_seconds:
            raise StuckError(f"not done after {self._limit_seconds:.0f} virtual seconds: {_waiting(self)}")

    def _write_to_self(self) -> None:
        """Nothing sleeps that would have to be woken."""


class WallClock:
    """Seconds since the epoch, as a clock beside the running virtual loop tells them."""

    def __init__(self, epoch_seconds: float = EPOCH_SECONDS) -> None:
        self._offset_seconds = epoch_seconds

    def __call__(self) -> float:
        """Now. Raises RuntimeError where no loop runs."""
        return self._offset_seconds + asyncio.get_running_loop().time()

    def step(self, seconds: float) -> None:
        """Set the clock forward or, with negative `seconds`, back, as a time server may."""
        self._offset_seconds += seconds


def run(main: Coroutine[Any, Any, Result], *, limit_seconds: float = LIMIT_SECONDS) -> Result:
    """Run a coroutine to its end in virtual time, as asyncio.run does in real time.

    Raises StuckError when it waits for what cannot happen, or is not done after `limit_seconds` of virtual time; and
    what was raised where nobody awaits it, if the coroutine itself raised nothing.
    """
    loop = VirtualLoop(limit_seconds=limit_seconds)
    with _collecting_seldom(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    if loop.failures:
        raise loop.failures[0]
    return result


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Hours of work are done in a second, and hardly any of it leaves cycles behind: they are not looked for as often."""
    usual = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class _Task(asyncio.Task[Any]):
    """A task that sets have in the same place every time: they order by hash, which else is an address in memory. A
    TaskGroup cancels its tasks in the order of such a set."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: VirtualLoop, **options: Any) -> None:
        self._number = loop.task_number()
        super().__init__(coroutine, loop=loop, name=f"task {self._number}", **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


def _numbered(loop: VirtualLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> _Task:
    return _Task(coroutine, loop=loop, **options)


def _waiting(loop: VirtualLoop) -> str:
    """Every task that is not done, and the line of it that waits."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "; ".join(f"{task.get_name()} waits at {_place(task)}" for task in tasks) or "no task is left"


def _place(task: asyncio.Task[Any]) -> str:
    coroutine: Any = task.get_coro()
    place = "its beginning"
    while coroutine is not None and (frame := getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)):
        if "/asyncio/" not in frame.f_code.co_filename:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return place
