"""What the tests of channels as values call."""

from __future__ import annotations

import math
from typing import Any

import trio
import trio.testing

import duplex
from tests.engine.helpers import collect

channels = duplex.Service("channels")


@channels.rpc
async def fill(sink: duplex.SendChannel[int], count: int) -> str:
    """Send so many numbers to the caller's channel."""
    for number in range(count):
        await sink.send(number)
    return "filled"


@channels.rpc
async def drain(source: duplex.ReceiveChannel[int], extra: duplex.ReceiveChannel[int]) -> list[list[int]]:
    """Receive all of two channels."""
    return [[item async for item in source], [item async for item in extra]]


@channels.rpc
async def first(source: duplex.ReceiveChannel[int]) -> int:
    """Receive one item only."""
    return await source.receive()


@channels.rpc
async def double(sink: duplex.SendChannel[int], source: duplex.ReceiveChannel[int]) -> None:
    """Answer on one channel what comes on the other."""
    async for number in source:
        await sink.send(2 * number)
    await sink.aclose()


@channels.rpc
async def ignore(values: Any) -> str:
    """Look at nothing."""
    return "ignored"


@channels.rpc
async def produce(count: int) -> trio.MemoryReceiveChannel[int]:
    """Return a channel that gives numbers."""
    sink, source = trio.open_memory_channel[int](math.inf)
    for number in range(count):
        sink.send_nowait(number)
    sink.close()
    return source


@channels.rpc
async def converse() -> dict[str, Any]:
    """Return a channel to send to, and one to receive from."""
    question_sink, question_source = trio.open_memory_channel[int](0)
    answer_sink, answer_source = trio.open_memory_channel[int](0)

    async def answer() -> None:
        async with question_source, answer_sink:
            async for number in question_source:
                await answer_sink.send(number + 1)

    duplex.current_call().link.peer._inside.spawn(answer)
    return {"ask": question_sink, "answers": answer_source}


@channels.rpc
async def hang(*values: Any) -> None:
    await trio.sleep_forever()


@channels.rpc
async def relay(sources: duplex.ReceiveChannel[Any]) -> list[list[int]]:
    """Receive everything from every channel that comes on the call's own."""
    return [await collect(source) async for source in sources]
