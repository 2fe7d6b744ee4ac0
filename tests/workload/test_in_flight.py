"""How many bytes are under way to probes at one time."""

from __future__ import annotations

import asyncio
import random

import pytest

from chaosd import virtual_time
from chaosd.workload.in_flight import BytesInFlight
from tests.seeds import FRESH


class Use:
    """Who had how many bytes under way, in which order, and the most at one time."""

    def __init__(self, limit: int) -> None:
        self.budget = BytesInFlight(limit)
        self.began: list[str] = []
        self.held: dict[str, int] = {}
        self.most = 0

    async def hold(self, name: str, count: int, seconds: float = 1.0) -> None:
        async with self.budget.holding(count):
            self.began.append(name)
            self.held[name] = count
            self.most = max(self.most, sum(self.held.values()))
            try:
                await asyncio.sleep(seconds)
            finally:
                del self.held[name]


async def _settled() -> None:
    """Everybody has come as far as can be without time passing."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_fits_goes_at_once_and_what_does_not_waits_for_room() -> None:
    async def scenario() -> None:
        use = Use(10)
        tasks = [asyncio.create_task(use.hold(name, 4)) for name in "abc"]
        await _settled()
        assert use.began == ["a", "b"]
        await asyncio.gather(*tasks)
        assert (use.began, use.most) == (["a", "b", "c"], 8)
        assert asyncio.get_running_loop().time() == 2.0

    virtual_time.run(scenario())


def test_nobody_overtakes_one_who_waits_for_more_room() -> None:
    async def scenario() -> None:
        use = Use(10)
        sizes = {"a": 6, "b": 8, "c": 2}
        await asyncio.gather(*(use.hold(name, size) for name, size in sizes.items()))
        assert use.began == ["a", "b", "c"]

    virtual_time.run(scenario())


def test_what_is_larger_than_the_limit_passes_alone() -> None:
    async def scenario() -> None:
        use = Use(10)
        await asyncio.gather(use.hold("a", 3), use.hold("large", 25), use.hold("b", 3))
        assert (use.began, use.most) == (["a", "large", "b"], 25)
        assert asyncio.get_running_loop().time() == 3.0

    virtual_time.run(scenario())


def test_one_that_fails_gives_back_what_it_held() -> None:
    async def scenario() -> None:
        budget = BytesInFlight(10)
        with pytest.raises(OSError, match="broke"):
            async with budget.holding(10):
                raise OSError("broke")
        async with asyncio.timeout(1), budget.holding(10):
            pass

    virtual_time.run(scenario())


def test_one_that_gives_up_waiting_does_not_stand_before_others() -> None:
    async def scenario() -> None:
        use = Use(10)
        first, large, small = (
            asyncio.create_task(use.hold(name, count)) for name, count in (("a", 6), ("large", 9), ("small", 4))
        )
        await _settled()
        assert use.began == ["a"]
        large.cancel()
        await asyncio.gather(large, return_exceptions=True)
        await _settled()
        assert use.began == ["a", "small"]
        await asyncio.gather(first, small)

    virtual_time.run(scenario())


def test_one_that_is_cancelled_as_its_turn_comes_keeps_nothing() -> None:
    async def scenario() -> None:
        use = Use(10)
        first, second = asyncio.create_task(use.hold("a", 10)), asyncio.create_task(use.hold("b", 10))
        await _settled()
        first.cancel()
        await asyncio.sleep(0)  # it gives back what it held, and it is the second's turn
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert use.began == ["a"]
        async with asyncio.timeout(1):
            await use.hold("c", 10, 0.0)
        assert use.began == ["a", "c"]

    virtual_time.run(scenario())


@pytest.mark.parametrize("seed", [1, 2, 3, FRESH])
def test_whoever_comes_and_gives_up_the_limit_holds_and_all_get_their_turn_in_order(seed: int) -> None:
    async def scenario() -> None:
        rng, use = random.Random(seed), Use(100)
        tasks = {}
        for number in range(200):
            name = str(number)
            tasks[name] = asyncio.create_task(use.hold(name, rng.randrange(120), rng.random()))
            await asyncio.sleep(rng.random() / 10)
            if rng.random() < 0.3:
                rng.choice([*tasks.values()]).cancel()
            assert sum(use.held.values()) <= 100 or len([count for count in use.held.values() if count]) == 1
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert use.held == {}
        assert {name for name, task in tasks.items() if not task.cancelled()} <= set(use.began)
        assert use.began == sorted(use.began, key=int)

    virtual_time.run(scenario())
