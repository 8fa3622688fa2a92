"""Serves what ``test_ends_processes`` calls in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import trio

import duplex
from tests.engine.helpers import serve_until_eof

quick = duplex.Service("quick")


@quick.rpc
async def fill(sink: duplex.SendChannel[int], count: int) -> int:
    """Send so many numbers down a channel of the caller's, and return how many those were."""
    for number in range(count):
        await sink.send(number)
    return count


@quick.rpc
async def gather(source: duplex.ReceiveChannel[int], more: duplex.ReceiveChannel[int]) -> list[int]:
    """Return all that comes on two channels."""
    return [*[item async for item in source], *[item async for item in more]]


@quick.rpc
async def count(upto: int) -> AsyncIterator[int]:
    """Count."""
    for number in range(upto):
        yield number


@quick.rpc
async def each(upto: int, visit: duplex.Callback[[int], None]) -> int:
    """Call a function of the caller's with every number."""
    for number in range(upto):
        await visit(number)
    return upto


@quick.rpc
async def fill_and_fail(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and fail."""
    await fill(sink, count)
    raise duplex.NotFound("there are no more")


@quick.rpc
async def produce(count: int) -> Any:
    """Return a channel with so many numbers."""
    sink, source = trio.open_memory_channel[int](count)
    for number in range(count):
        sink.send_nowait(number)
    sink.close()
    return source


if __name__ == "__main__":
    trio.run(lambda: serve_until_eof(quick, endpoint=sys.argv[1]))
