"""The timer of the kernel's."""

from __future__ import annotations

import trio

from duplex.cli._timer import Timer


async def test_it_ends_in_time_and_never_before() -> None:
    with Timer() as timer:
        for seconds in (0.001, 0.0005, 0.0, -1.0):
            deadline = trio.current_time() + seconds
            await timer.sleep_until(deadline)
            assert trio.current_time() >= deadline


async def test_one_that_was_cancelled_can_be_used_again() -> None:
    with Timer() as timer:
        with trio.move_on_after(0.002) as scope:
            await timer.sleep_until(trio.current_time() + 1000)
        assert scope.cancelled_caught
        deadline = trio.current_time() + 0.002
        await timer.sleep_until(deadline)
        assert trio.current_time() >= deadline
