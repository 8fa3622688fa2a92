"""Time limits of calls: they fire in their order, and leave nothing of calls that are over."""

from __future__ import annotations

import random
from typing import Any

import trio

from duplex.engine.calling._timers import _MOST_STALE, Timers, cancel_timer


class _Call:
    def __init__(self, name: str, fired: list[tuple[str, float]]) -> None:
        self._name = name
        self._fired = fired

    def expire(self) -> None:
        self._fired.append((self._name, trio.current_time()))


async def test_they_fire_at_their_times_unless_dismissed(autojump_clock: object) -> None:
    fired: list[tuple[str, float]] = []
    start = trio.current_time()

    def call(name: str) -> Any:
        return _Call(name, fired)

    async with trio.open_nursery() as nursery:
        timers = Timers(lambda function, name: nursery.start_soon(function))
        timers.add(start + 3, call("late"))
        await trio.sleep(1)  # the watching task is asleep until the first one's time now
        timers.add(start + 2, call("sooner"))
        cancel_timer(timers.add(start + 1.5, call("over")))
        await trio.sleep(9)  # and with nothing left to wait for
        timers.add(start + 11, call("later"))
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert fired == [("sooner", start + 2), ("late", start + 3), ("later", start + 11)]


async def test_those_of_calls_that_are_over_are_swept(autojump_clock: object) -> None:
    fired: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        timers = Timers(lambda function, name: nursery.start_soon(function))
        lives: Any = _Call("lives", fired)
        timers.add(trio.current_time() + 60, lives)
        for _ in range(10 * _MOST_STALE):
            cancel_timer(timers.add(trio.current_time() + 3600, lives))
        assert len(timers._entries) <= _MOST_STALE
        await trio.sleep(61)
        nursery.cancel_scope.cancel()
    assert [name for name, _ in fired] == ["lives"]


async def test_they_fire_in_their_order_after_a_sweep(autojump_clock: object) -> None:
    """What is left between calls that are over is in any order, and the next one is the earliest all the same."""
    fired: list[tuple[str, float]] = []
    times = random.Random(1).sample(range(1, 10 * _MOST_STALE), _MOST_STALE)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        timers = Timers(lambda function, name: nursery.start_soon(function))
        added = []
        for after in times:
            call: Any = _Call(str(after), fired)
            added.append(timers.add(start + after, call))
        live = sorted(times)[10::2]
        for timer, after in zip(added, times, strict=True):
            if after not in live:
                cancel_timer(timer)
        last: Any = _Call("last", fired)
        timers.add(start + 20 * _MOST_STALE, last)
        assert len(timers._entries) == len(live) + 1, "they were swept"
        await trio.sleep(21 * _MOST_STALE)
        nursery.cancel_scope.cancel()
    assert fired == [*((str(after), start + after) for after in live), ("last", start + 20 * _MOST_STALE)]
