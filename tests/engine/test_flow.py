"""Flow control: a slow reader slows its sender, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.protocol import MESSAGE_OVERHEAD
from tests.engine.helpers import Pair, collect, feed, linked, until
from tests.machine import fail_after

#: Small windows, so that little has to be sent to fill them.
LIMITS = duplex.Limits(channel_window=16 * 1024, link_window=64 * 1024)
OPTIONS: dict[str, Any] = {"limits": LIMITS}
ITEM = bytes(936)
#: What one item costs: itself, its msgpack header, and the overhead of a message.
COST = len(ITEM) + 3 + MESSAGE_OVERHEAD
#: Items that fit a channel's window, with the one that may go over it.
FIT = LIMITS.channel_window // COST + 1


class Streams:
    """A service that counts what it sends and takes."""

    def __init__(self) -> None:
        self.sent = 0
        self.taken = 0
        self.go = trio.Event()
        self.service = service = duplex.Service("streams")

        @service.rpc
        async def good(value: Any = None) -> Any:
            return value

        @service.rpc
        async def flood(count: int) -> AsyncIterator[bytes]:
            for _ in range(count):
                yield ITEM
                self.sent += 1

        @service.rpc
        async def swallow(items: duplex.ReceiveChannel[bytes]) -> int:
            """Take nothing before ``go``."""
            await self.go.wait()
            async for _ in items:
                self.taken += 1
            return self.taken

        @service.rpc
        async def leave(items: duplex.ReceiveChannel[bytes]) -> None:
            """Take nothing at all, and end."""
            await self.go.wait()

        @service.rpc
        async def echo(items: duplex.ReceiveChannel[bytes]) -> AsyncIterator[bytes]:
            async for item in items:
                yield item

        @service.rpc
        async def fill(sink: duplex.SendChannel[bytes], count: int) -> None:
            for _ in range(count):
                await sink.send(ITEM)
                self.sent += 1

        @service.rpc
        async def big(size: int) -> bytes:
            return bytes(size)


@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_sender_stops_within_the_window(scheme: str) -> None:
    streams = Streams()
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    async with linked(streams.service, endpoint=endpoint, client=OPTIONS) as pair:
        async with pair.service("streams").flood.open(1000) as call:
            await until(lambda: streams.sent >= FIT - 1)
            for _ in range(20):
                await pair.settle()
                assert await pair.service("streams").good(1) == 1, "other calls on the link go on"
            assert streams.sent <= FIT
            assert pair.link.statistics().unconsumed <= LIMITS.channel_window + COST
            assert len(await collect(call)) == 1000
        assert streams.sent == 1000


async def test_caller_stops_within_the_window() -> None:
    streams = Streams()
    sent = 0

    async with linked(streams.service, server=OPTIONS) as pair:
        async with pair.service("streams").swallow.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                nonlocal sent
                for _ in range(500):
                    await call.send(ITEM)
                    sent += 1
                await call.send_eof()

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            assert FIT - 1 <= sent <= FIT
            assert pair.back.statistics().unconsumed == sent * COST
            assert await pair.service("streams").good(2) == 2
            streams.go.set()
            await until(lambda: sent == 500)
            assert await call.result() == 500


async def test_slow_reader_gets_everything_bit_by_bit() -> None:
    """Taking one item at a time lets the sender go on by as much as was taken, never more."""
    streams = Streams()
    async with linked(streams.service, client=OPTIONS) as pair:
        async with pair.service("streams").flood.open(200) as call:
            for taken in range(1, 201):
                assert await call.receive() == ITEM
                await trio.testing.wait_all_tasks_blocked()
                assert streams.sent <= taken + FIT
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_cancelling_a_slow_reader_frees_the_link() -> None:
    streams = Streams()
    async with linked(streams.service, client=OPTIONS) as pair:
        opened = [pair.service("streams").flood.open(100) for _ in range(8)]
        for one in opened:
            await one.__aenter__()
        await trio.testing.wait_all_tasks_blocked()
        for one in opened:
            await one.__aexit__(None, None, None)
        assert await pair.service("streams").good(4) == 4
        assert len(await _all(pair, 300)) == 300


async def _all(pair: Pair, count: int) -> list[Any]:
    async with pair.service("streams").flood.open(count) as call:
        return await collect(call)


async def test_handler_that_takes_nothing_gives_the_credit_back() -> None:
    streams = Streams()
    async with linked(streams.service, server=OPTIONS) as pair:
        for _ in range(10):
            async with pair.service("streams").leave.open() as call:
                for _ in range(FIT):
                    await call.send(ITEM)
                streams.go.set()
                assert await call.result() is None


async def test_credit_of_items_that_came_after_the_call_was_given_up() -> None:
    streams = Streams()
    async with linked(streams.service, client=OPTIONS, endpoint="tcp://127.0.0.1:*") as pair:
        for _ in range(20):
            async with pair.service("streams").flood.open(10_000) as call:
                assert await call.receive() == ITEM


async def test_full_circle() -> None:
    """Both directions of one call are full, and each waits for the other: it goes on as soon as one reads."""
    streams = Streams()
    async with linked(streams.service, server=OPTIONS, client=OPTIONS) as pair:
        async with pair.service("streams").echo.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                for _ in range(300):
                    await call.send(ITEM)
                await call.send_eof()

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            assert len(await collect(call)) == 300


async def test_channels_that_are_values_have_windows_of_their_own() -> None:
    streams = Streams()
    async with linked(streams.service, client=OPTIONS) as pair:
        sink, source = trio.open_memory_channel[bytes](0)
        async with pair.service("streams").fill.open(sink, 200) as call:
            await trio.testing.wait_all_tasks_blocked()
            assert streams.sent <= FIT + 1
            assert await pair.service("streams").good(5) == 5
            assert len(await collect(source, 200)) == 200
            assert await call.result() is None


@pytest.mark.parametrize("size", [LIMITS.channel_window * 3, LIMITS.link_window * 3])
async def test_message_larger_than_the_window(size: int) -> None:
    """It takes what credit there is and more, and is paid off before the next one."""
    streams = Streams()
    async with linked(streams.service, server=OPTIONS, client=OPTIONS) as pair:
        remote = pair.service("streams")
        for _ in range(3):
            assert await remote.good(bytes(size)) == bytes(size)
            assert len(await remote.big(size)) == size
        async with remote.echo.open() as call:
            for _ in range(3):
                await call.send(bytes(size))
                assert len(await call.receive()) == size


async def test_smallest_windows() -> None:
    """One message at a time, and still everything arrives."""
    tiny: dict[str, Any] = {"limits": duplex.Limits(channel_window=1024, link_window=1024)}
    streams = Streams()
    async with linked(streams.service, server=tiny, client=tiny) as pair:
        assert len(await _all(pair, 50)) == 50
        async with pair.service("streams").echo.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                for _ in range(50):
                    await call.send(ITEM)
                await call.send_eof()

            nursery.start_soon(send)
            assert len(await collect(call)) == 50


async def test_several_tasks_send_on_one_call() -> None:
    streams = Streams()
    streams.go.set()
    async with linked(streams.service, server=OPTIONS) as pair:
        async with pair.service("streams").swallow.open() as call:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    for _ in range(100):
                        await call.send(ITEM)

                for _ in range(5):
                    nursery.start_soon(send)
            assert await call.result() == 500


async def test_cancelled_send_was_not_sent() -> None:
    streams = Streams()
    async with linked(streams.service, server=OPTIONS) as pair:
        async with pair.service("streams").swallow.open() as call:
            sent = 0
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def send() -> None:
                        nonlocal sent
                        while True:
                            await call.send(ITEM)
                            sent += 1

                    nursery.start_soon(send)
                    nursery.start_soon(send)
                    await trio.testing.wait_all_tasks_blocked()
                    assert call.statistics().waiting_senders == 2
                    scope.cancel()
            streams.go.set()
            assert await call.result() == sent


async def test_ending_wakes_a_sender_that_waits() -> None:
    streams = Streams()
    async with linked(streams.service, server=OPTIONS) as pair:
        async with pair.service("streams").swallow.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await feed(call, ITEM)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            await call.send_eof()
            streams.go.set()


async def test_end_of_the_call_wakes_a_sender_that_waits() -> None:
    streams = Streams()
    async with linked(streams.service, server=OPTIONS) as pair:
        async with pair.service("streams").leave.open() as call, trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await feed(call, ITEM)

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            streams.go.set()


async def test_closed_receiving_end_drops_and_pays_back() -> None:
    """Who takes no more items from a stream does not stop its sender with a window that stays full."""
    service = duplex.Service("service")
    closed = trio.Event()
    ends: list[Any] = []

    @service.rpc
    async def deaf(items: duplex.ReceiveChannel[bytes]) -> None:
        await items.receive()
        await items.aclose()
        closed.set()
        ends.append(items)
        await trio.sleep_forever()

    async with linked(service, server=OPTIONS) as pair:
        async with pair.service("service").deaf.open() as call:
            for _ in range(10 * FIT):
                await call.send(ITEM)
            await closed.wait()
            await pair.settle()
            assert not ends[0]._channel_end._inbox, "what is dropped is not kept"


async def test_empty_items_cost_something_too() -> None:
    service = duplex.Service("service")
    sent = 0

    @service.rpc
    async def nothings() -> AsyncIterator[None]:
        nonlocal sent
        while True:
            yield None
            sent += 1

    async with linked(service, client=OPTIONS) as pair:
        async with pair.service("service").nothings.open():
            await trio.testing.wait_all_tasks_blocked()
            assert 0 < sent <= LIMITS.channel_window // MESSAGE_OVERHEAD + 1


async def test_credit_of_what_was_taken_is_not_kept_back() -> None:
    """Who has taken most of a stream may go on to something else on the same link, which needs credit too."""
    limits = duplex.Limits(channel_window=16 * 1024, link_window=16 * 1024, link_buffer=0)
    streams = Streams()
    async with linked(streams.service, client={"limits": limits}) as pair:
        async with pair.service("streams").flood.open(FIT) as call:
            await trio.testing.wait_all_tasks_blocked()
            assert pair.back.statistics().send_credit <= limits.link_window // 8, "streams take no more of it"
            assert len(await collect(call, FIT - 3)) == FIT - 3
            with fail_after(1):
                assert await pair.service("streams").good(6) == 6


async def test_number_of_a_bad_item() -> None:
    """It counts items, not attempts to receive one."""
    service = duplex.Service("service")
    problems: list[str] = []
    tried = trio.Event()

    @service.rpc
    async def picky(items: duplex.ReceiveChannel[int]) -> None:
        for _ in range(3):
            with trio.move_on_after(0):
                await items.receive()
        tried.set()
        await items.receive()
        try:
            await items.receive()
        except duplex.InvalidArgument as error:
            problems.append(error.message)

    async with linked(service) as pair:
        async with pair.service("service").picky.open() as call:
            await tried.wait()
            await call.send(1)
            await call.send("text")
            assert await call.result() is None
    assert problems[0].startswith("streamed item 2:")
