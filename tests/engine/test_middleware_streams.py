"""Items that pass through middleware, both ways."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import duplex
from tests.engine.helpers import collect, linked
from tests.engine.layered import STREAMED, STREAMING, every_kind, through, use


@pytest.mark.parametrize("method", [*STREAMED, *STREAMING])
async def test_what_was_wrapped_first_is_nearest_to_the_caller(method: str) -> None:
    async with linked(every_kind(through("outer"), through("inner"))) as pair:
        first, last = await use(pair, method)
        received = "" if method in STREAMED else ">outer>inner"
        sent = "" if method == "collected" else ">inner>outer"
        assert (first, last) == (f"word{received}{sent}", f"None None nothing{sent}")


@pytest.mark.parametrize("method", STREAMING)
async def test_items_may_be_dropped_and_added(method: str) -> None:
    async def only_even(receive: Any) -> str:
        while int(item := await receive()) % 2:
            pass
        return str(item)

    async def twice(item: str, send: Any) -> None:
        if item != "4":
            await send(item)
            await send(item)

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_receive(only_even)
        call.wrap_send(twice)
        return await next(call)

    async with linked(every_kind(middleware)) as pair:
        async with getattr(pair.service("svc"), method).open() as call:
            for number in range(7):
                await call.send(str(number))
            await call.send_eof()
            items = list(await call.result()) if method == "collected" else await collect(call)
        expected = ["0", "2", "4", "6"] if method == "collected" else ["0", "0", "2", "2", "6", "6"]
        assert items[: len(expected)] == expected


async def test_many_items_pass_when_a_window_is_full() -> None:
    seen = 0

    async def count(item: str, send: Any) -> None:
        nonlocal seen
        seen += 1
        await send(item)

    async def middleware(call: duplex.ServedCall, next: duplex.Next) -> Any:
        call.wrap_send(count)
        return await next(call)

    limits = duplex.Limits(channel_window=2000, link_window=4000)
    async with linked(every_kind(middleware), client={"limits": limits}) as pair:
        async with pair.service("svc").both.open() as call, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def feed() -> None:
                for number in range(500):
                    await call.send(str(number))
                await call.send_eof()

            assert (await collect(call))[:500] == [str(number) for number in range(500)]
    assert seen == 501


async def test_a_channel_that_is_passed_for_the_stream_is_wrapped_too() -> None:
    sink, source = trio.open_memory_channel[str](2)
    sink.send_nowait("word")
    sink.close()
    async with linked(every_kind(through("name"))) as pair:
        assert await pair.service("svc").collected(source) == ["word>name", "None None nothing"]


@pytest.mark.parametrize("method", ["collected", "channel"])
async def test_wrapped_streams_are_what_streams_are(method: str) -> None:
    """They can be closed, ended, and asked."""
    service = duplex.Service("svc", middleware=[through("name")])

    @service.rpc
    async def collected(words: duplex.ReceiveChannel[str]) -> int:
        await words.receive()
        buffered = words.statistics().buffered_items
        await words.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await words.receive()
        return buffered

    @service.rpc
    async def channel(words: duplex.Channel[int, str]) -> None:
        await words.receive()
        await words.send(words.statistics().buffered_items)
        await words.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await words.send(1)
        await words.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await words.receive()

    async def sending(item: int, send: Any) -> None:
        await send(item)

    async with linked(service) as pair:
        async with getattr(pair.service("svc"), method).open() as call:
            for _ in range(3):
                await call.send("word")
            await pair.settle()
            result = await call.result() if method == "collected" else str((await collect(call))[0])
        assert result == (2 if method == "collected" else "2>name")
