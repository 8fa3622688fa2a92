"""Tasks that serve a block: what comes out of it, whoever fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from duplex_services._shared._background import background


class Fault(Exception):
    pass


async def fail(error: Exception, after: float = 0.0) -> None:
    await trio.sleep(after)
    raise error


async def test_tasks_end_with_the_block(autojump_clock: trio.testing.MockClock) -> None:
    async with background() as nursery:
        nursery.start_soon(trio.sleep_forever)
    assert trio.current_time() == 0


async def serve(body: Callable[[], Awaitable[object]], *tasks: Exception) -> None:
    """Run a block with tasks that fail after a second."""
    async with background() as nursery:
        nursery.start_soon(trio.sleep_forever)
        for error in tasks:
            nursery.start_soon(fail, error, 1)
        await body()


async def test_what_the_block_raises_comes_out_alone() -> None:
    error = Fault("block")
    with pytest.raises(Fault) as raised:
        await serve(partial(fail, error))
    assert raised.value is error


async def test_what_a_task_raises_ends_the_block(autojump_clock: trio.testing.MockClock) -> None:
    error = Fault("task")
    with pytest.raises(Fault) as raised:
        await serve(trio.sleep_forever, error)
    assert raised.value is error


async def test_both_fail(autojump_clock: trio.testing.MockClock) -> None:
    block, task = Fault("block"), Fault("task")

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise block

    with pytest.raises(Fault) as raised:
        await serve(body, task)
    assert raised.value is task
    assert raised.value.__cause__ is block


async def test_two_tasks_fail() -> None:
    async def fail_in_the_end(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def two() -> None:
        async with background() as nursery:
            nursery.start_soon(fail_in_the_end, Fault("one"))
            nursery.start_soon(fail_in_the_end, Fault("two"))
            await trio.testing.wait_all_tasks_blocked()

    with pytest.raises(ExceptionGroup) as raised:
        await two()
    assert sorted(str(error) for error in raised.value.exceptions) == ["one", "two"]


async def test_a_scope_further_out_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.CancelScope() as outer:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            outer.cancel()
    await trio.sleep(1)
