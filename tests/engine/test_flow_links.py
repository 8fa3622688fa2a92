"""Flow control of whole links: what nobody reads holds up nobody else, whatever it is and however much."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.serving import ServedChannel
from duplex.protocol import MESSAGE_OVERHEAD
from tests.engine.helpers import Pair, collect, linked, made, until
from tests.engine.raw import HELLO, RawDealer, batch
from tests.sizes import size

pytestmark = pytest.mark.unmeasured("fills links as other tests fill channels")

KIB = 1024
LIMITS = duplex.Limits(channel_window=16 * KIB, link_window=64 * KIB, link_buffer=128 * KIB)
OPTIONS: dict[str, Any] = {"limits": LIMITS}
ITEM = bytes(936)
COST = len(ITEM) + 3 + MESSAGE_OVERHEAD
FIT = LIMITS.channel_window // COST + 1


class Load:
    """A service that streams without end, and counts what it sends."""

    def __init__(self, size: int = len(ITEM)) -> None:
        self.sent = 0
        self.stopped = 0
        self.service = service = duplex.Service("load")

        @service.rpc
        async def good(value: Any = None) -> Any:
            return value

        @service.rpc
        async def bad() -> None:
            raise duplex.NotFound("nothing", details="x" * 1000)

        @service.rpc
        async def flood(count: int | None = None) -> AsyncIterator[bytes]:
            try:
                while count is None or count > 0:
                    yield bytes(size)
                    self.sent += 1
                    count = None if count is None else count - 1
            finally:
                self.stopped += 1

        @service.rpc
        async def deaf(items: duplex.ReceiveChannel[bytes]) -> None:
            """Never receive anything."""
            await trio.sleep_forever()

        @service.rpc
        async def ask(callback: duplex.Callback[[], None]) -> None:
            await callback()


async def _stall(pair: Pair, stack: AsyncExitStack, count: int) -> list[Any]:
    """Open so many streams that nobody reads, and let them go as far as they can."""
    remote = pair.service("load")
    calls = [await stack.enter_async_context(remote.flood.open()) for _ in range(count)]
    await trio.testing.wait_all_tasks_blocked()
    return calls


@pytest.mark.parametrize("stalled", [1, 2, 3, 4, 6])
async def test_streams_that_nobody_reads_hold_up_nobody(stalled: int) -> None:
    """Their windows together may be larger than the link's."""
    load = Load()
    async with linked(load.service, client=OPTIONS) as pair, AsyncExitStack() as stack:
        calls = await _stall(pair, stack, stalled)
        assert load.sent == stalled * FIT, "each has its own window"
        for call in calls:
            assert call.statistics().buffered_bytes == FIT * COST
        remote = pair.service("load")
        for _ in range(200):
            assert len(await remote.good(bytes(1000))) == 1000
        async with remote.flood.open(500) as moving:
            assert len(await collect(moving)) == 500


async def test_the_default_link_moves_beside_sixteen_full_windows() -> None:
    load = Load(64 * KIB - 100)
    async with linked(load.service) as pair, AsyncExitStack() as stack:
        await _stall(pair, stack, 16)
        assert pair.link.statistics().unconsumed >= 16 * duplex.Limits().channel_window
        remote = pair.service("load")
        assert await remote.good(1) == 1
        async with remote.flood.open(40) as moving:
            assert len(await collect(moving)) == 40


async def test_calls_go_on_when_streams_have_filled_the_buffer_too() -> None:
    """Then other streams wait, but calls, their results, errors, cancellation and ends do not."""
    load = Load()
    async with linked(load.service, client=OPTIONS) as pair, AsyncExitStack() as stack:
        calls = await _stall(pair, stack, 20)
        statistics = pair.link.statistics()
        assert statistics.unconsumed <= LIMITS.link_window + LIMITS.link_buffer + COST
        assert load.sent * COST == statistics.unconsumed
        assert 0 < pair.back.statistics().send_credit <= LIMITS.link_window // 8
        remote = pair.service("load")
        for number in range(200):
            assert await remote.good(number) == number
            with pytest.raises(duplex.NotFound):
                await remote.bad()
        assert len(await remote.good(bytes(5000))) == 5000
        async with remote.flood.open(1) as waiting:
            with trio.move_on_after(0.01) as scope:
                await waiting.receive()
            assert scope.cancelled_caught, "the only one that is held up"
            for call in calls[:12]:
                call.cancel()
            await until(lambda: load.stopped >= 12)
            assert await waiting.receive() == bytes(len(ITEM))


async def test_callers_that_send_are_held_apart_as_well() -> None:
    load = Load()
    async with linked(load.service, server=OPTIONS) as pair, AsyncExitStack() as stack:
        remote = pair.service("load")
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                call = await stack.enter_async_context(remote.deaf.open())
                nursery.start_soon(_feed_until_cancelled, call)
            await trio.testing.wait_all_tasks_blocked()
            held = pair.back.statistics().unconsumed
            assert held <= LIMITS.link_window + LIMITS.link_buffer + COST
            for number in range(100):
                assert await remote.good(number) == number
            nursery.cancel_scope.cancel()


async def _feed_until_cancelled(call: Any) -> None:
    while True:
        await call.send(ITEM)


@pytest.mark.in_memory("sockets have buffers, which are kept to be used again")
async def test_memory_held_for_a_slow_reader_is_its_window() -> None:
    """At both ends together, in one process: the window and one message, and at the sender another, as a
    value and as bytes; with some room for all the objects around them."""
    size = 64 * KIB - 100
    window = 1024 * KIB
    load = Load(size)
    async with linked(load.service, client={"limits": duplex.Limits(channel_window=window)}) as pair:
        remote = pair.service("load")
        async with remote.flood.open(3) as call:
            await collect(call)
        gc.collect()
        tracemalloc.start()
        try:
            async with remote.flood.open() as call:
                await trio.testing.wait_all_tasks_blocked()
                gc.collect()
                held = tracemalloc.get_traced_memory()[0]
                statistics = call.statistics()
                assert window <= statistics.buffered_bytes <= window + size + 100
                assert window <= held <= window + 4 * size
                # However long it goes on, as slow as it is.
                for _ in range(100):
                    await call.receive()
                    await trio.testing.wait_all_tasks_blocked()
                gc.collect()
                assert tracemalloc.get_traced_memory()[0] <= window + 4 * size
                assert load.sent >= 100
        finally:
            tracemalloc.stop()


async def test_a_callback_that_never_returns_stops_nobody() -> None:
    load = Load()
    entered = trio.Event()

    async def never() -> None:
        entered.set()
        await trio.sleep_forever()

    async with linked(load.service, server=OPTIONS, client=OPTIONS) as pair:
        remote = pair.service("load")
        async with remote.ask.open(never), remote.deaf.open() as deaf, remote.flood.open():
            await entered.wait()
            with trio.move_on_after(0.01) as scope:
                await _feed_until_cancelled(deaf)
            assert scope.cancelled_caught
            assert deaf.statistics().send_credit <= 0
            assert deaf.statistics().waiting_senders == 0
            for number in range(100):
                assert await remote.good(number) == number
            await pair.settle()


async def test_statistics_tell_who_waits_for_whom() -> None:
    load = Load()
    async with linked(load.service, server=OPTIONS, client=OPTIONS) as pair:
        remote = pair.service("load")
        async with remote.deaf.open() as call, trio.open_nursery() as nursery:
            assert call.statistics() == duplex.ChannelStatistics(
                send_credit=LIMITS.channel_window - MESSAGE_OVERHEAD - 2,
                link_credit=pair.link.statistics().send_credit,
                buffered_items=0,
                buffered_bytes=0,
                queued_items=0,
                queued_bytes=0,
                waiting_senders=0,
                sent=0,
                received=0,
                dropped=0,
            )
            nursery.start_soon(_feed_until_cancelled, call)
            await trio.testing.wait_all_tasks_blocked()
            statistics = call.statistics()
            assert statistics.waiting_senders == 1
            assert statistics.send_credit <= 0 < statistics.link_credit
            nursery.cancel_scope.cancel()
        after = call.statistics()
        assert after.waiting_senders == 0
        assert after.sent == FIT, "the one that was cancelled does not count"


async def test_ends_that_handlers_and_callers_hold_have_statistics() -> None:
    service = duplex.Service("service")
    found: list[duplex.ChannelStatistics] = []

    @service.rpc
    async def fill(sink: duplex.SendChannel[int]) -> None:
        await sink.send(1)
        found.append(sink.statistics())

    @service.rpc
    async def talk(channel: duplex.Channel[int, int]) -> None:
        await channel.send(await channel.receive())
        found.append(channel.statistics())
        found.append(duplex.current_call().statistics())

    @service.rpc
    async def drain(items: duplex.ReceiveChannel[int]) -> None:
        await collect(items)
        found.append(items.statistics())

    async with linked(service) as pair:
        remote = pair.service("service")
        sink, source = trio.open_memory_channel[int](1)
        async with remote.fill.open(sink) as call:
            assert await source.receive() == 1
            await call.result()
        async with remote.talk.open() as call:
            await call.send(1)
            assert await collect(call) == [1]
        async with remote.drain.open() as call:
            await call.send(1)
            await call.result()
    assert [(one.sent, one.received) for one in found] == [(1, 0), (1, 1), (1, 1), (0, 1)]


@pytest.mark.slow
async def test_thousands_of_streams_opened_and_abandoned_leave_nothing() -> None:
    load = Load()
    async with linked(load.service, client=OPTIONS, server=OPTIONS, within=60) as pair:
        remote = pair.service("load")
        for number in range(size(2000, 10_000)):
            async with remote.flood.open() if number % 2 else remote.deaf.open() as call:
                if number % 3 == 0:
                    await trio.lowlevel.checkpoint()
                if number % 2 == 0:
                    await call.send(ITEM)


@pytest.mark.slow
async def test_thousands_of_channels_in_one_call_leave_nothing() -> None:
    """Each is a value in a stream that goes on; none is kept until the call ends."""
    service = duplex.Service("service")

    @service.rpc
    async def take(items: duplex.ReceiveChannel[duplex.ReceiveChannel[int]]) -> AsyncIterator[int]:
        async for item in items:
            async with item:
                yield await item.receive()

    async with linked(service, within=60) as pair:
        async with pair.service("service").take.open() as call:
            for number in range(size(2000, 10_000)):
                sink, source = trio.open_memory_channel[int](2)
                sink.send_nowait(number)
                sink.send_nowait(number)
                await call.send(source)
                assert await call.receive() == number
            await pair.settle()
            assert pair.link.statistics().outgoing == 1
            assert not call._call._children
            (incoming,) = pair.back._inside.channels.users.values()
            assert isinstance(incoming, ServedChannel)
            assert not incoming._children


async def test_arguments_that_were_taken_hold_no_credit_while_their_call_runs() -> None:
    service = duplex.Service("service")
    limits = duplex.Limits(channel_window=64 * KIB, link_window=64 * KIB, link_buffer=0)
    running = trio.Event()

    @service.rpc
    async def hang(block: bytes) -> None:
        running.set()
        await trio.sleep_forever()

    async with linked(service, server={"limits": limits}) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.service("service").hang, bytes(48 * KIB))
        await running.wait()
        await pair.settle()
        assert pair.link.statistics().send_credit > 60 * KIB
        nursery.cancel_scope.cancel()


async def test_credit_goes_back_for_many_small_items_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def ticks() -> AsyncIterator[int]:
        for number in range(200):
            yield number
            await trio.sleep(0.01)  # so that each is a message of its own

    async with linked(service, within=100) as pair:
        given_back = []
        consumed = pair.link._inside.consumed

        def note(channel: int, cost: int) -> None:
            given_back.append(cost)
            consumed(channel, cost)

        async with pair.service("service").ticks.open() as call:
            await trio.sleep(10)
            monkeypatch.setattr(pair.link._inside, "consumed", note)
            for number in range(199):
                assert await call.receive() == number
            assert len(given_back) <= 2
            monkeypatch.undo()
            assert await collect(call) == [199]


class _Steps(trio.abc.Instrument):
    """Counts the steps of all tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


@pytest.mark.plain_wire("says what it likes")
async def test_credit_that_is_not_enough_wakes_nobody() -> None:
    """A grant of one byte must not cost as much as there are streams that wait."""
    load = Load()
    async with duplex.open_peer(services=[load.service]) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        with RawDealer(endpoint) as raw:
            raw.say([*HELLO, ["msgpack"], [], {"link_window": 1024, "channel_window": 1000}])
            await raw.commands(0)
            raw.say(*[[7, 2 * number + 1, "load.flood", 1, batch([])] for number in range(200)])
            (link,) = peer.links
            await until(lambda: len(link._inside.credit.waiters) == 200)
            steps = _Steps()
            trio.lowlevel.add_instrument(steps)
            raw.say(*[[6, 0, 1]] * 20, [3, 7])
            await raw.commands(4)
            trio.lowlevel.remove_instrument(steps)
            assert steps.count < 100
            # What is enough is for all.
            raw.say([6, 0, 200 * COST + 4096])
            while len({command[1] for command in raw.received if command[0] == 8}) < 200:
                await raw.more()


@pytest.mark.plain_wire("says what it likes")
async def test_credit_that_is_enough_for_one_wakes_one() -> None:
    load = Load()
    async with duplex.open_peer(services=[load.service]) as peer:
        endpoint = await peer.bind("tcp://127.0.0.1:*")
        with RawDealer(endpoint) as raw:
            raw.say([*HELLO, ["msgpack"], [], {"link_window": 1, "channel_window": 1000}])
            await raw.commands(0)
            raw.say(*[[7, 2 * number + 1, "load.flood", 1, batch([])] for number in range(200)])
            (link,) = peer.links
            await until(lambda: len(link._inside.credit.waiters) == 200)
            while not any(command[0] == 8 for command in raw.received):
                await raw.more()  # the first item needs no more than there is
            steps = _Steps()
            trio.lowlevel.add_instrument(steps)
            served = []
            for _ in range(5):
                seen = len(raw.received)
                raw.say([6, 0, COST])
                while not any(command[0] == 8 for command in raw.received[seen:]):
                    await raw.more()
                served += [command[1] for command in raw.received[seen:] if command[0] == 8]
            trio.lowlevel.remove_instrument(steps)
            assert len(set(served)) == len(served) == 5, "each in its turn"
            assert steps.count < 300


@pytest.mark.parametrize("opened", [False, True])
async def test_a_call_begins_with_the_credit_that_streams_leave(opened: bool) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    async with linked(service) as pair, trio.open_nursery() as nursery:
        connection = pair.link._inside.connection
        window = connection._outgoing
        granted, window.balance = window.balance, 0
        results: list[int] = []

        async def call() -> None:
            results.append(await made(pair.service("service").double, 4, opened=opened))

        nursery.start_soon(call)
        await until(lambda: pair.link._inside.credit.waiters)
        window.balance = 1
        assert connection.stream_credit <= 0
        pair.link._inside.credit.share()
        await until(lambda: results)
        window.balance += granted - 1
        assert results == [8]
