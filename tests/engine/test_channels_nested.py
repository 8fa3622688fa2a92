"""Channels within channels, over any number of levels and in both directions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, feed, linked, outcome

nested = duplex.Service("nested")


@nested.rpc
async def first_then_all(
    outer: duplex.ReceiveChannel[Any], unused: duplex.ReceiveChannel[int] | None = None
) -> list[list[int]]:
    """Receive the inner channels until the outer has ended, and only then their items."""
    inners = [inner async for inner in outer]
    return [await collect(inner) for inner in inners]


@nested.rpc
async def one_by_one(outer: duplex.ReceiveChannel[Any]) -> list[list[int]]:
    """Receive each inner channel as it comes."""
    return [await collect(inner) async for inner in outer]


@nested.rpc
async def deliver(outer: duplex.SendChannel[Any], count: int) -> None:
    """Send channels through a channel of the caller's, and items through those."""
    for number in range(count):
        sink, source = trio.open_memory_channel[int](math.inf)
        for item in range(number):
            sink.send_nowait(item)
        sink.close()
        await outer.send(source)
    await trio.sleep_forever()


@nested.rpc
async def answer(requests: duplex.ReceiveChannel[Any]) -> None:
    """Each request brings the channel to answer on: request and response without a call for each."""
    async for request in requests:
        await request["reply"].send(request["value"] * 2)
        await request["reply"].aclose()


def filled(items: list[Any]) -> trio.MemoryReceiveChannel[Any]:
    """A channel that gives some items and ends."""
    sink, source = trio.open_memory_channel[Any](math.inf)
    for item in items:
        sink.send_nowait(item)
    sink.close()
    return source


@pytest.mark.parametrize("method", ["first_then_all", "one_by_one"])
async def test_channel_over_the_calls_own_channel(method: str, endpoint: str) -> None:
    async with linked(nested, endpoint=endpoint) as pair:
        async with pair.service("nested")[method].open() as call:
            for number in range(4):
                await call.send(filled(list(range(number))))
            assert await call.result() == [list(range(number)) for number in range(4)]


@pytest.mark.parametrize("method", ["first_then_all", "one_by_one"])
async def test_channel_over_a_channel_that_is_a_value(method: str, endpoint: str) -> None:
    async with linked(nested, endpoint=endpoint) as pair:
        outer = filled([filled(list(range(number))) for number in range(4)])
        result = await pair.service("nested")[method](outer)
        assert result == [list(range(number)) for number in range(4)]


@pytest.mark.parametrize("method", ["first_then_all", "one_by_one"])
async def test_inner_channel_outlives_the_outer(method: str) -> None:
    """It lives as long as the call: nothing sent on it is lost when the outer channel ends first."""
    async with linked(nested) as pair:
        inner_sink, inner = trio.open_memory_channel[int](0)
        result: Any = None

        async def call() -> None:
            nonlocal result
            result = await outcome(pair.service("nested")[method](filled([inner])))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            for _ in range(10):
                await pair.settle()  # the outer channel has ended on both sides
            for number in range(5):
                await inner_sink.send(number)
            await inner_sink.aclose()
        assert result == [[0, 1, 2, 3, 4]]


async def test_channels_sent_by_the_handler(endpoint: str) -> None:
    async with linked(nested, endpoint=endpoint) as pair:
        sink, source = trio.open_memory_channel[Any](0)
        async with pair.service("nested").deliver.open(sink, 4):
            for number in range(4):
                assert await collect(await source.receive()) == list(range(number))


async def test_reply_channels() -> None:
    """libchan's way to make requests: every message brings the channel for its answer."""
    async with linked(nested) as pair:
        async with pair.service("nested").answer.open() as call:
            for value in range(5):
                sink, source = trio.open_memory_channel[int](0)
                await call.send({"value": value, "reply": sink})
                assert await collect(source) == [2 * value]
            await call.send_eof()
            assert await call.result() is None


async def test_three_levels() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def dig(a: duplex.ReceiveChannel[Any]) -> list[Any]:
        b = await a.receive()
        c = await b.receive()
        return await collect(c)

    async with linked(service) as pair:
        assert await pair.service("service").dig(filled([filled([filled([1, 2, 3])])])) == [1, 2, 3]


async def test_sending_end_over_a_sending_end() -> None:
    """The handler gets a channel to send to, and sends through it a channel that the caller sends to."""
    service = duplex.Service("service")

    @service.rpc
    async def offer(outer: duplex.SendChannel[Any]) -> list[int]:
        sink, source = trio.open_memory_channel[int](0)
        await outer.send(sink)
        return await collect(source)

    async with linked(service) as pair:
        outer_sink, outer_source = trio.open_memory_channel[Any](0)
        result: Any = None

        async def call() -> None:
            nonlocal result
            result = await pair.service("service").offer(outer_sink)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            sink = await outer_source.receive()
            for number in range(5):
                await sink.send(number)
            await sink.aclose()
        assert result == [0, 1, 2, 3, 4]


async def test_callback_over_a_channel() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def use(source: duplex.ReceiveChannel[Any]) -> list[int]:
        return [await function(10) async for function in source]

    async with linked(service) as pair:
        passed = filled([lambda n: n + 1, lambda n: n * 2])
        assert await pair.service("service").use(passed) == [11, 20]


async def test_cancelled_call_releases_all_levels() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def hang(source: duplex.ReceiveChannel[Any]) -> None:
        inner = await source.receive()
        await collect(inner)

    async with linked(service) as pair:
        inner_sink, inner = trio.open_memory_channel[int](0)
        outer_sink, outer = trio.open_memory_channel[Any](0)
        async with pair.service("service").hang.open(outer) as call:
            await outer_sink.send(inner)
            await inner_sink.send(1)
            call.cancel()
            with pytest.raises(trio.BrokenResourceError):
                await feed(inner_sink, 2)
            with pytest.raises(trio.BrokenResourceError):
                await feed(outer_sink, None)
