"""Time that passes only when nothing else is left to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from chaosd import virtual_time
from chaosd.virtual_time import EPOCH_SECONDS, StuckError, WallClock


def test_a_day_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert virtual_time.run(main()) == 86_400
    assert time.monotonic() - began < 60


def test_callbacks_run_first_in_first_out_and_so_do_timers_of_the_same_moment() -> None:
    order: list[int] = []

    async def sleeper(number: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(number)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(50):
            loop.call_soon(order.append, number)
        async with asyncio.TaskGroup() as tasks:
            for number in range(50, 150):
                tasks.create_task(sleeper(number, 1.0))
            tasks.create_task(sleeper(-1, 0.5))

    virtual_time.run(main())
    assert order == [*range(50), -1, *range(50, 150)]


def test_time_outs_conditions_and_waits_keep_to_virtual_time() -> None:
    async def main() -> list[str]:
        told = []
        condition = asyncio.Condition()

        async def waiter() -> None:
            async with condition:
                await condition.wait()
            told.append(f"notified at {asyncio.get_running_loop().time():g}")

        async def notifier() -> None:
            await asyncio.sleep(7)
            async with condition:
                condition.notify_all()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.Event().wait()
        told.append(f"timed out at {asyncio.get_running_loop().time():g}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waiter())
            tasks.create_task(notifier())
        sleeps = [asyncio.create_task(asyncio.sleep(seconds)) for seconds in (1, 5)]
        done, pending = await asyncio.wait(sleeps, timeout=2)
        told.append(f"{len(done)} done, {len(pending)} not, at {asyncio.get_running_loop().time():g}")
        for sleep in pending:
            sleep.cancel()
        return told

    assert virtual_time.run(main()) == ["timed out at 3", "notified at 10", "1 done, 1 not, at 12"]


def test_a_deadlock_names_who_waits_and_where() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(
        StuckError, match=r"nothing is left to happen: .*the stuck one waits at \S+test_virtual_time\.py:\d+"
    ):
        virtual_time.run(main())


def test_timers_without_end_are_noticed() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(10)

    with pytest.raises(StuckError, match="not done after 3600 virtual seconds"):
        virtual_time.run(main(), limit_seconds=3600)


def test_moments_stay_apart_late_in_time() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(300 * 86_400)
        return [await asyncio.sleep(0.001, loop.time()) for _ in range(1000)]

    moments = virtual_time.run(main())
    assert moments == sorted(set(moments))


def test_an_exception_that_nobody_awaits_fails_the_run() -> None:
    def fails() -> None:
        raise ValueError("unseen")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="unseen"):
        virtual_time.run(main())


def test_threads_are_refused() -> None:
    with pytest.raises(RuntimeError, match="there are no threads in virtual time"):
        virtual_time.run(asyncio.to_thread(time.sleep, 0))


def test_tasks_are_cancelled_in_the_same_order_whatever_their_addresses() -> None:
    async def waits(number: int, order: list[int]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append(number)

    async def main() -> list[int]:
        order: list[int] = []
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                for number in range(100):
                    tasks.create_task(waits(number, order))
                await asyncio.sleep(1)
                raise ValueError
        return order

    held, orders = [], []
    for number in range(5):
        held.append(bytearray(1000 * number + 1))  # so that addresses differ
        orders.append(virtual_time.run(main()))
    assert sorted(orders[0]) == list(range(100))
    assert orders == [orders[0]] * 5


def test_cancelled_timers_do_not_pass() -> None:
    async def main() -> float:
        for _ in range(1000):
            async with asyncio.timeout(900):
                await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(1.0)


def test_the_wall_clock_can_be_stepped_while_the_loop_runs_on() -> None:
    async def main() -> tuple[list[float], float]:
        clock = WallClock()
        told = [clock()]
        await asyncio.sleep(10)
        told.append(clock())
        clock.step(-3600)
        told.append(clock())
        return told, asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == ([EPOCH_SECONDS, EPOCH_SECONDS + 10, EPOCH_SECONDS + 10 - 3600], 10)


def test_it_is_fast(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async def sleeper(each: Callable[[], float]) -> None:
            for _ in range(1000):
                await asyncio.sleep(each())

        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(sleeper(lambda number=number: 0.01 * (number + 1)))

    began = time.perf_counter()
    virtual_time.run(main())
    with capsys.disabled():
        print(f" {10_000 / (time.perf_counter() - began):,.0f} sleeps a second", end="")
