"""A peer belongs to the event loop that it was opened in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

import duplex
from tests.engine.helpers import linked

service = duplex.Service("service")


@service.rpc
async def double(number: int) -> int:
    return number * 2


@service.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


async def _elsewhere(function: Callable[[], Awaitable[object]]) -> None:
    """Run something in an event loop of its own, in another thread."""
    await trio.to_thread.run_sync(trio.run, function)


async def test_use_from_another_event_loop_is_refused() -> None:
    async with linked(service) as pair:
        remote, pinned = pair.service("service"), pair.link.service("service")
        for call in (
            lambda: remote.double(1),
            lambda: pinned.double(1),
            lambda: remote.double.notify(1),
            lambda: pair.client.connect("memory://elsewhere"),
            lambda: pair.client.service("nobody").call(),
        ):
            with pytest.raises(RuntimeError, match="event loop of another thread"):
                await _elsewhere(call)
        async with remote.count.open(1) as stream:
            assert await stream.receive() == 0
            with pytest.raises(RuntimeError, match="event loop of another thread"):
                await _elsewhere(stream.receive)
        assert await remote.double(2) == 4


async def test_threads_of_the_loop_may_call_through_it() -> None:
    async with linked(service) as pair:
        remote = pair.service("service")
        result = await trio.to_thread.run_sync(lambda: trio.from_thread.run(remote.double, 21))
        assert result == 42
