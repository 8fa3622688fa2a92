"""Items of streams go out, come in and are taken many at a time; nobody may notice but by the time it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.codec import MsgpackCodec
from duplex.protocol import MESSAGE_OVERHEAD
from tests.engine.helpers import collect, linked, until

#: More than a task sends, and takes, without a checkpoint.
MANY = 300


class Items:
    """A service that streams without waiting for anything."""

    def __init__(self) -> None:
        self.sent = 0
        self.others = 0
        self.service = service = duplex.Service("items")

        @service.rpc
        async def numbers(count: int) -> AsyncIterator[int]:
            for number in range(count):
                yield number
                self.sent = number + 1

        @service.rpc(inline=True)
        def plain(count: int) -> Iterator[int]:
            yield from range(count)

        @service.rpc
        async def mixed() -> AsyncIterator[Any]:
            """Small and large items in turn; the large ones travel beside the others."""
            for number in range(MANY):
                yield bytes([number % 256]) * (100_000 if number % 7 == 3 else 10)

        @service.rpc
        async def unfit() -> AsyncIterator[Any]:
            for number in range(10):
                yield number
            yield object()

        @service.rpc
        async def total(items: duplex.ReceiveChannel[int]) -> int:
            return sum([item async for item in items])

        @service.rpc
        async def other() -> int:
            self.others += 1
            return self.others


class Turns:
    """Another task, and how often it had its turn."""

    counted = 0

    async def count(self) -> None:
        while True:
            self.counted += 1
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("method", ["numbers", "plain"])
@pytest.mark.parametrize("scheme", ["memory", "tcp"])
async def test_all_items_come_in_order(method: str, scheme: str) -> None:
    endpoint = {"memory": "memory://*", "tcp": "tcp://127.0.0.1:*"}[scheme]
    async with linked(Items().service, endpoint=endpoint) as pair:
        async with getattr(pair.service("items"), method).open(10_000) as call:
            assert await collect(call) == list(range(10_000))


async def test_large_items_keep_their_place() -> None:
    async with linked(Items().service) as pair:
        async with pair.service("items").mixed.open() as call:
            items = await collect(call)
    assert [item[0] for item in items] == [number % 256 for number in range(MANY)]
    assert [len(item) for item in items] == [100_000 if number % 7 == 3 else 10 for number in range(MANY)]


@pytest.mark.plain_wire("counts passes of the event loop")
async def test_other_calls_get_their_turn_between() -> None:
    """On the side that sends and on the one that takes: neither waits for anything here."""
    items = Items()
    async with linked(items.service) as pair:
        remote = pair.service("items")
        others: list[int] = []

        async def call_others() -> None:
            while True:
                others.append(await remote.other())

        async with trio.open_nursery() as nursery, remote.numbers.open(5000) as call:
            nursery.start_soon(call_others)
            assert await collect(call) == list(range(5000))
            assert len(others) >= 8, "a call takes a few passes of the loop"
            nursery.cancel_scope.cancel()


@pytest.mark.plain_wire("counts passes of the event loop")
async def test_items_that_take_long_to_make_are_not_kept_back() -> None:
    service = duplex.Service("service")
    sent = 0

    @service.rpc
    async def slowly() -> AsyncIterator[int]:
        nonlocal sent
        for number in range(100):
            time.sleep(0.002)  # work that keeps the event loop waiting
            sent = number + 1
            yield number

    async with linked(service) as pair, pair.service("service").slowly.open() as call:
        assert await call.receive() == 0
        assert sent < 40, "a few passes of the loop, and not all of a message"
        assert await collect(call) == list(range(1, 100))


@pytest.mark.parametrize("kind", ["small", "large", "callback", "in turn"])
async def test_who_sends_items_slowly_lets_others_have_their_turn(kind: str) -> None:
    """Whatever the items are, and however many streams one task sends to in turn."""
    wide = {"limits": duplex.Limits(channel_window=64 * 1024 * 1024, link_window=128 * 1024 * 1024)}
    item: Any = {"large": bytes(70_000), "callback": lambda: 1}.get(kind, 1)
    service = duplex.Service("service")

    @service.rpc
    async def swallow(items: duplex.ReceiveChannel[Any]) -> None:
        async for _ in items:
            pass

    turns = Turns()
    async with linked(service, server=wide, client=wide) as pair, contextlib.AsyncExitStack() as stack:
        calls = [
            await stack.enter_async_context(pair.service("service").swallow.open())
            for _ in range(5 if kind == "in turn" else 1)
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.count)
            for number in range(100):
                time.sleep(0.001)  # work that keeps the event loop waiting
                await calls[number % len(calls)].send(item)
            assert turns.counted >= 10
            nursery.cancel_scope.cancel()
        for call in calls:
            await call.result()


async def test_who_takes_items_slowly_lets_others_have_their_turn() -> None:
    async with linked(Items().service) as pair:
        turns = Turns()
        async with trio.open_nursery() as nursery, pair.service("items").numbers.open(MANY) as call:
            await until(lambda: call.statistics().buffered_items == MANY)
            nursery.start_soon(turns.count)
            async for _ in call:
                time.sleep(0.0001)  # work that keeps the event loop waiting
            assert turns.counted >= MANY // 32 - 1
            nursery.cancel_scope.cancel()


async def test_statistics_count_items_one_by_one() -> None:
    async with linked(Items().service) as pair:
        async with pair.service("items").numbers.open(40) as call:
            assert [await call.receive() for _ in range(5)] == [0, 1, 2, 3, 4]
            await until(lambda: call.statistics().buffered_items == 35)
            statistics = call.statistics()
            assert statistics.received == 5
            assert statistics.buffered_bytes == 35 * (MESSAGE_OVERHEAD + 1)
            assert await collect(call) == list(range(5, 40))
            assert call.statistics().received == 40
            assert call.statistics().buffered_items == 0


@pytest.mark.parametrize("taken", [0, 1, 40, 150])
async def test_what_is_not_taken_is_given_back(taken: int) -> None:
    """``linked`` checks that all credit comes back."""
    async with linked(Items().service) as pair:
        async with pair.service("items").numbers.open(MANY) as call:
            for number in range(taken):
                assert await call.receive() == number
        assert call.statistics().received == taken
        assert await pair.service("items").other() == 1


async def test_an_error_tells_which_item_it_was() -> None:
    async with linked(Items().service) as pair:
        async with pair.service("items").total.open() as call:
            for number in range(20):
                await call.send(number)
            await call.send("no number")
            await call.send(21)
            with pytest.raises(duplex.InvalidArgument, match=r"streamed item 21:"):
                await call.result()


async def test_items_before_one_that_cannot_travel_come() -> None:
    async with linked(Items().service) as pair:
        async with pair.service("items").unfit.open() as call:
            assert [await call.receive() for _ in range(10)] == list(range(10))
            with pytest.raises(duplex.Internal):
                await call.receive()


async def test_a_call_that_is_cancelled_amid_a_run_ends() -> None:
    items = Items()
    async with linked(items.service) as pair:
        with trio.CancelScope() as scope:
            async with pair.service("items").numbers.open(10**9) as call:
                async for number in call:
                    if number == 1000:
                        scope.cancel()
        assert scope.cancelled_caught
        await until(lambda: pair.back.statistics().incoming == 0)
        # Cancelled at the next checkpoint, and the window bounds what is sent ahead.
        assert items.sent < 100_000


async def test_two_streams_of_one_task_take_turns() -> None:
    """A run ends when anything else is sent on the link, and begins anew."""
    async with linked(Items().service) as pair:
        remote = pair.service("items")
        async with remote.total.open() as odd, remote.total.open() as even:
            for number in range(1000):
                await (odd if number % 2 else even).send(number)
            assert await odd.result() == sum(range(1, 1000, 2))
            assert await even.result() == sum(range(0, 1000, 2))


async def test_sending_after_the_other_side_has_ended_fails() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def first(items: duplex.ReceiveChannel[int]) -> int:
        return await items.receive()

    async with linked(service) as pair:
        async with pair.service("service").first.open() as call:
            for number in range(10):
                await call.send(number)
            await until(lambda: not pair.link.statistics().outgoing)
            with pytest.raises(trio.BrokenResourceError):
                await call.send(10)
            assert await call.result() == 0
        with pytest.raises(trio.ClosedResourceError):
            await call.send(11)


async def test_an_interrupt_does_not_come_between_passing_a_value_and_sending_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a callback could be called by the other side, though sending it has failed."""
    encode = MsgpackCodec.encode
    protected = []

    def note(self: MsgpackCodec, *arguments: Any, **options: Any) -> Any:
        protected.append(trio.lowlevel.currently_ki_protected())
        return encode(self, *arguments, **options)

    async with linked(Items().service) as pair, pair.service("items").total.open() as call:
        monkeypatch.setattr(MsgpackCodec, "encode", note)
        for number in range(3):
            await call.send(number)
        monkeypatch.undo()
        assert await call.result() == 3
    assert protected == [True] * 3
