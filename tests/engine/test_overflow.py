"""Streams with an overflow option: their senders do not wait, memory is bounded, what is dropped is counted."""

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

WINDOW = 8 * 1024
OPTIONS: dict[str, Any] = {"limits": duplex.Limits(channel_window=WINDOW)}
PAD = bytes(200)
#: What an item ``[number, PAD]`` costs at most, with the headers of msgpack.
COST = len(PAD) + 6 + MESSAGE_OVERHEAD
COUNT = 500
POLICIES = ["drop_oldest", "drop_newest"]


class Telemetry:
    """Streams in both directions with a policy at the server."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.produced = 0
        self.taken: list[int] = []
        self.go = trio.Event()
        self.statistics: duplex.ChannelStatistics | None = None
        self.problem: BaseException | None = None
        self.service = service = duplex.Service("telemetry")

        @service.rpc(overflow=policy)
        async def watch(count: int = COUNT) -> AsyncIterator[Any]:
            for number in range(count):
                yield number, PAD
                self.produced += 1
            self.statistics = duplex.current_call().statistics()

        @service.rpc
        async def plain(count: int = COUNT) -> AsyncIterator[Any]:
            for number in range(count):
                yield number, PAD
                self.produced += 1

        @service.rpc(overflow=policy)
        async def record(items: duplex.ReceiveChannel[Any]) -> int:
            await self.go.wait()
            try:
                async for number, _ in items:
                    self.taken.append(number)
            except duplex.RPCError as error:
                self.problem = error
                raise
            finally:
                self.statistics = items.statistics()
            return len(self.taken)

        @service.rpc
        async def swallow(items: duplex.ReceiveChannel[Any]) -> int:
            await self.go.wait()
            async for number, _ in items:
                self.taken.append(number)
            return len(self.taken)

        @service.rpc(overflow=policy)
        async def converse(channel: duplex.Channel[Any, Any]) -> None:
            for number in range(COUNT):
                await channel.send((number, PAD))
            self.produced = COUNT
            await channel.send_eof()
            await self.go.wait()
            self.statistics = channel.statistics()


def numbers(items: list[Any]) -> list[int]:
    return [number for number, _ in items]


async def receive_all(call: Any, items: list[Any]) -> None:
    """Receive until that raises, and add what came to a list."""
    while True:
        items.append(await call.receive())


def check_kept(policy: str, found: list[int], windows: int) -> None:
    """What came is in order, at most so many windows full, and of the right end."""
    assert found == sorted(set(found))
    assert windows * (WINDOW // COST - 1) <= len(found) <= windows * (WINDOW // COST + 2)
    if policy == "drop_oldest":
        assert found[-1] == COUNT - 1, "the latest is there"
    else:
        assert found == list(range(len(found))), "the earliest are there"


@pytest.mark.parametrize("policy", POLICIES)
async def test_handler_that_sends_does_not_wait(policy: str) -> None:
    telemetry = Telemetry(policy)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").watch.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            assert telemetry.produced == COUNT, "nobody has received anything"
            found = numbers(await collect(call))
        # The caller's window, and for the oldest to be dropped a queue of the same size.
        check_kept(policy, found, 2 if policy == "drop_oldest" else 1)
        assert telemetry.statistics is not None
        dropped = COUNT - len(found)
        assert telemetry.statistics.dropped == pair.back.statistics().dropped_items == dropped
        assert telemetry.statistics.sent + telemetry.statistics.queued_items == len(found)
        assert telemetry.statistics.queued_bytes <= WINDOW
        assert call.statistics().dropped == pair.link.statistics().dropped_items == 0


async def test_a_queue_takes_all_that_fits() -> None:
    """A window of 32 items, and a queue of as many, to the last byte."""
    item = bytes(WINDOW // 32 - MESSAGE_OVERHEAD - 2)
    service = duplex.Service("service")

    @service.rpc
    async def swallow(items: duplex.ReceiveChannel[bytes]) -> int:
        await trio.testing.wait_all_tasks_blocked()
        return len([each async for each in items])

    options: dict[str, Any] = {"limits": duplex.Limits(channel_window=WINDOW)}
    async with linked(service, client=options, server=options) as pair:
        async with pair.service("service").swallow.with_options(overflow="drop_oldest").open() as call:
            for count in range(65):
                assert call.statistics().queued_items == max(0, count - 32)
                await call.send(item)
            statistics = call.statistics()
            assert (statistics.queued_items, statistics.queued_bytes, statistics.dropped) == (32, WINDOW, 1)
            await call.send_eof()
            assert await call.result() == 64
        (counted,) = pair.client.method_statistics()
        assert 64 * (WINDOW // 32) <= counted.bytes_sent < 65 * (WINDOW // 32), (
            "what was queued was sent, too"
        )


@pytest.mark.parametrize("policy", POLICIES)
async def test_caller_that_sends_does_not_wait(policy: Any) -> None:
    telemetry = Telemetry(None)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").swallow.with_options(overflow=policy).open() as call:
            with fail_after(5):
                for number in range(COUNT):
                    await call.send((number, PAD))
            statistics = call.statistics()
            assert statistics.sent + statistics.queued_items + statistics.dropped == COUNT
            assert statistics.dropped == pair.link.statistics().dropped_items
            assert statistics.queued_bytes <= WINDOW
            assert bool(statistics.queued_items) is (policy == "drop_oldest")
            telemetry.go.set()
            assert await call.result() == len(telemetry.taken) == COUNT - statistics.dropped
        check_kept(policy, telemetry.taken, 2 if policy == "drop_oldest" else 1)


@pytest.mark.parametrize("policy", POLICIES)
async def test_caller_that_receives_does_not_slow_the_sender_down(policy: Any) -> None:
    telemetry = Telemetry(None)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").plain.with_options(overflow=policy).open() as call:
            await until(lambda: telemetry.produced == COUNT)
            await pair.settle()
            statistics = call.statistics()
            assert statistics.buffered_bytes <= WINDOW
            assert statistics.buffered_items + statistics.dropped == COUNT
            assert pair.link.statistics().dropped_items == statistics.dropped
            assert pair.link.statistics().unconsumed == 0, "the sender has its credit back"
            check_kept(policy, numbers(await collect(call)), 1)
            assert call.statistics().received == statistics.buffered_items


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
async def test_handler_that_receives_does_not_slow_the_sender_down(policy: Any, live: bool) -> None:
    """Also if the arguments come in a message of their own, which is never dropped."""
    telemetry = Telemetry(policy)

    @telemetry.service.rpc(overflow=policy)
    async def report(done: duplex.Callback[[int], None], items: duplex.ReceiveChannel[Any]) -> None:
        await telemetry.go.wait()
        telemetry.taken += numbers(await collect(items))
        telemetry.statistics = items.statistics()
        await done(len(telemetry.taken))

    said: list[int] = []
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        remote = pair.service("telemetry")
        async with remote.report.open(said.append) if live else remote.record.open() as call:
            with fail_after(5):
                for number in range(COUNT):
                    await call.send((number, PAD))
            await pair.settle()
            telemetry.go.set()
            result = await call.result()
        assert (said[0] if live else result) == len(telemetry.taken)
        assert telemetry.statistics is not None
        assert telemetry.statistics.dropped == COUNT - len(telemetry.taken)
        assert pair.back.statistics().dropped_items == telemetry.statistics.dropped
        check_kept(policy, telemetry.taken, 1)


async def test_sending_fails_and_the_stream_goes_on() -> None:
    telemetry = Telemetry(None)
    async with linked(telemetry.service, server=OPTIONS) as pair:
        async with pair.service("telemetry").swallow.with_options(overflow="error").open() as call:
            with pytest.raises(duplex.ResourceExhausted, match=r"telemetry.swallow.*channel_window"):
                await feed(call, (0, PAD))
            sent = call.statistics().sent
            assert sent == WINDOW // COST + 1
            telemetry.go.set()
            await until(lambda: len(telemetry.taken) == sent)
            await pair.settle()
            await call.send((COUNT, PAD))
            assert await call.result() == sent + 1


async def test_handler_that_sends_too_much_fails() -> None:
    telemetry = Telemetry("error")
    async with linked(telemetry.service, client=OPTIONS) as pair:
        async with pair.service("telemetry").watch.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            items: list[Any] = []
            with pytest.raises(duplex.ResourceExhausted, match=r"telemetry.watch"):
                await receive_all(call, items)
        check_kept("drop_newest", numbers(items), 1)


async def test_caller_that_receives_too_slowly_fails() -> None:
    telemetry = Telemetry(None)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").plain.with_options(overflow="error").open() as call:
            await trio.testing.wait_all_tasks_blocked()
            assert telemetry.produced < COUNT, "the handler was cancelled"
            items: list[Any] = []
            with pytest.raises(duplex.ResourceExhausted, match=r"telemetry.plain.*channel_window") as caught:
                await receive_all(call, items)
            assert caught.value.cancelled_by == "local"
            assert caught.value.method == "telemetry.plain"
            check_kept("drop_newest", numbers(items), 1)
            assert call.statistics().dropped == 1


async def test_handler_that_receives_too_slowly_is_told() -> None:
    telemetry = Telemetry("error")
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").record.open() as call:
            with fail_after(5):
                for number in range(COUNT):
                    await call.send((number, PAD))
            await pair.settle()
            telemetry.go.set()
            with fail_after(5), pytest.raises(duplex.ResourceExhausted, match=r"telemetry.record"):
                await call.result(end=False)
        assert isinstance(telemetry.problem, duplex.ResourceExhausted)
        check_kept("drop_newest", telemetry.taken, 1)
        assert telemetry.statistics is not None
        assert telemetry.statistics.dropped == COUNT - len(telemetry.taken)


@pytest.mark.parametrize("scheme", ["tcp", "memory"])
async def test_every_item_is_received_or_counted(scheme: str) -> None:
    """Several streams at once on a link that is too small for them, both ends dropping, readers now and then."""
    limits = duplex.Limits(channel_window=4096, link_window=8192, link_buffer=4096)
    tight: dict[str, Any] = {"limits": limits}
    telemetry = Telemetry("drop_oldest")
    produced: list[duplex.ChannelStatistics] = []

    @telemetry.service.rpc(overflow="drop_oldest")
    async def measure() -> AsyncIterator[Any]:
        for number in range(COUNT):
            yield number, PAD
            if not number % 7:
                await trio.lowlevel.checkpoint()
        call = duplex.current_call()
        channel: Any = call._call.end
        await channel.send_queued()
        produced.append(call.statistics())

    async def read(pair: Pair, policy: Any) -> None:
        async with pair.service("telemetry").measure.with_options(overflow=policy).open() as call:
            found = []
            async for number, _ in call:
                found.append(number)
                if not number % 3:
                    await pair.link.ping()
            assert found == sorted(set(found))
            received.append(len(found))
            dropped.append(call.statistics().dropped)

    received: list[int] = []
    dropped: list[int] = []
    endpoint = "tcp://127.0.0.1:*" if scheme == "tcp" else "memory://*"
    async with linked(telemetry.service, endpoint=endpoint, client=tight, server=tight) as pair:
        async with trio.open_nursery() as nursery:
            for policy in (None, None, "drop_oldest", "drop_newest"):
                nursery.start_soon(read, pair, policy)
        for one in produced:
            assert one.sent + one.dropped == COUNT
        assert sum(received) + sum(dropped) == sum(one.sent for one in produced)
        assert pair.link.statistics().dropped_items == sum(dropped)
        assert pair.back.statistics().dropped_items == sum(one.dropped for one in produced)


async def test_waiting_receiver_gets_every_item() -> None:
    """Who receives in time loses nothing."""
    telemetry = Telemetry("drop_oldest")
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        remote = pair.service("telemetry")
        telemetry.go.set()
        async with remote.record.with_options(overflow="drop_newest").open() as call:
            for number in range(COUNT):
                await call.send((number, PAD))
                if not number % 10:
                    await pair.settle()
            assert await call.result() == COUNT
        assert pair.link.statistics().dropped_items == pair.back.statistics().dropped_items == 0


async def test_queue_flows_out_before_the_end() -> None:
    """Ending waits for what is queued; cancelled, it has not ended, and what is queued is there still."""
    telemetry = Telemetry(None)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").swallow.with_options(overflow="drop_oldest").open() as call:
            for number in range(COUNT):
                await call.send((number, PAD))
            queued = call.statistics().queued_items
            with trio.move_on_after(0.01) as scope:
                await call.send_eof()
            assert scope.cancelled_caught
            await call.send((COUNT - 1, b""))
            assert call.statistics().queued_items in (queued, queued + 1), "it is open still"
            telemetry.go.set()
            await call.send_eof()
            assert call.statistics().queued_items == 0
            await call.send_eof()
            with pytest.raises(trio.ClosedResourceError):
                await call.send((0, b""))
            assert await call.result() == len(telemetry.taken)


async def test_handler_ends_its_direction_after_its_queue() -> None:
    telemetry = Telemetry("drop_oldest")
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").converse.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            assert telemetry.produced == COUNT
            check_kept("drop_oldest", numbers(await collect(call)), 2)
            telemetry.go.set()
            assert await call.result() is None
        assert telemetry.statistics is not None
        assert telemetry.statistics.dropped > 0


async def _cancel(pair: Pair, call: Any) -> None:
    call.cancel("enough")


async def _leave(pair: Pair, call: Any) -> None:
    await call.aclose()


async def _lose(pair: Pair, call: Any) -> None:
    await pair.link.aclose()


@pytest.mark.parametrize("end", [_cancel, _leave, _lose])
async def test_end_of_a_call_drops_what_is_queued(end: Any) -> None:
    telemetry = Telemetry("drop_oldest")
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        remote = pair.link.service("telemetry")
        async with (
            remote.watch.open() as watching,
            remote.swallow.with_options(overflow="drop_oldest").open() as feeding,
        ):
            for number in range(COUNT):
                await feeding.send((number, PAD))
            await trio.testing.wait_all_tasks_blocked()
            await end(pair, watching)
            await end(pair, feeding)
            await trio.testing.wait_all_tasks_blocked()
            assert feeding.statistics().queued_items == 0
            assert feeding.statistics().sent + feeding.statistics().dropped == COUNT


async def test_a_deadline_ends_a_handler_that_waits_for_its_queue() -> None:
    telemetry = Telemetry("drop_oldest")
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        remote = pair.service("telemetry").with_options(timeout=0.05)
        with pytest.raises(duplex.DeadlineExceeded):
            async with remote.watch.open():
                await trio.sleep_forever()


async def test_too_large_an_item_is_refused_at_once() -> None:
    small: dict[str, Any] = {"limits": duplex.Limits(channel_window=2048, max_message=4096)}
    telemetry = Telemetry(None)
    async with linked(telemetry.service, server=small) as pair:
        async with pair.service("telemetry").swallow.with_options(overflow="drop_oldest").open() as call:
            for number in range(COUNT):
                await call.send((number, PAD))
            with pytest.raises(duplex.MessageTooLarge):
                await call.send((0, bytes(5000)))
            telemetry.go.set()
            await call.result()


async def test_an_item_larger_than_the_window_takes_its_turn() -> None:
    telemetry = Telemetry(None)
    async with linked(telemetry.service, client=OPTIONS, server=OPTIONS) as pair:
        async with pair.service("telemetry").swallow.with_options(overflow="drop_oldest").open() as call:
            for number in range(4):
                await call.send((number, bytes(3 * WINDOW)))
            assert call.statistics().queued_items == 1
            telemetry.go.set()
            assert await call.result() == 2
            assert telemetry.taken == [0, 3]


async def test_queued_attachments_are_the_streams_own() -> None:
    """A buffer that was sent without a copy may be used again."""
    service = duplex.Service("service")
    go = trio.Event()
    found: list[bytes] = []

    @service.rpc
    async def take(items: duplex.ReceiveChannel[bytes]) -> None:
        await go.wait()
        found.extend(await collect(items))

    async with linked(service, server=OPTIONS) as pair:
        async with pair.service("service").take.with_options(overflow="drop_oldest").open() as call:
            buffer = bytearray(b"a" * 100_000)
            for letter in b"ab":
                buffer[:] = bytes([letter]) * len(buffer)
                await call.send(buffer)
                await pair.settle()
            assert call.statistics().queued_items == 1
            buffer[:] = bytes(len(buffer))
            go.set()
            await call.result()
    assert found[1] == b"b" * 100_000


@pytest.mark.parametrize("policy", POLICIES)
async def test_channels_in_items_that_are_not_sent_are_closed(policy: Any) -> None:
    service = duplex.Service("service")
    go = trio.Event()

    @service.rpc
    async def take(items: duplex.ReceiveChannel[duplex.ReceiveChannel[int]]) -> int:
        await go.wait()
        return sum([(await collect(item))[0] async for item in items])

    small: dict[str, Any] = {"limits": duplex.Limits(channel_window=1024)}
    async with linked(service, client=small, server=small) as pair:
        async with pair.service("service").take.with_options(overflow=policy).open() as call:
            sinks = []
            for _ in range(100):
                sink, source = trio.open_memory_channel[int](1)
                sink.send_nowait(1)
                sink.close()
                sinks.append(source)
                await call.send(source)
            await pair.settle()
            dropped = call.statistics().dropped
            assert dropped > 50
            await until(lambda: sum(_is_closed(source) for source in sinks) >= dropped)
            assert pair.link.statistics().outgoing <= 1 + 100 - dropped
            go.set()
            assert await call.result() == 100 - dropped


def _is_closed(source: trio.MemoryReceiveChannel[int]) -> bool:
    try:
        source.clone().close()
    except trio.ClosedResourceError:
        return True
    return False


@pytest.mark.parametrize("policy", POLICIES)
async def test_channels_in_items_that_nobody_receives_are_closed(policy: Any) -> None:
    """They would stay open until the call ends, one for every item that is dropped."""
    service = duplex.Service("service")
    told: list[str] = []

    @service.rpc
    async def give(count: int) -> AsyncIterator[dict[str, Any]]:
        for _ in range(count):
            sink, source = trio.open_memory_channel[int](0)
            answers, questions = trio.open_memory_channel[int](0)
            yield {"source": source, "sink": answers, "call": told.append}
            del sink, questions

    small: dict[str, Any] = {"limits": duplex.Limits(channel_window=1024)}
    async with linked(service, client=small) as pair:
        async with pair.service("service").give.with_options(overflow=policy).open(100) as call:
            await trio.testing.wait_all_tasks_blocked()
            statistics = call.statistics()
            assert statistics.dropped > 80
            assert pair.link.statistics().incoming == 2 * statistics.buffered_items
            assert len(await collect(call, statistics.buffered_items)) == statistics.buffered_items


async def test_closed_receiving_end_drops_without_counting() -> None:
    service = duplex.Service("service")
    closed, go = trio.Event(), trio.Event()
    statistics: list[duplex.ChannelStatistics] = []

    @service.rpc(overflow="drop_newest")
    async def deaf(items: duplex.ReceiveChannel[bytes]) -> None:
        await items.aclose()
        closed.set()
        await go.wait()
        statistics.append(items.statistics())

    async with linked(service, server=OPTIONS) as pair:
        async with pair.service("service").deaf.open() as call:
            await closed.wait()
            for _ in range(100):
                await call.send(PAD)
            await pair.settle()
            go.set()
            assert await call.result() is None
    assert statistics[0].dropped == statistics[0].buffered_items == 0


async def test_a_call_of_a_single_value_does_not_care() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def add(a: int, b: int) -> int:
        return a + b

    async with linked(service) as pair:
        remote = pair.service("service").with_options(overflow="drop_oldest")
        assert await remote.add(1, 2) == 3
        async with remote.add.open(1, 2) as call:
            assert await call.result() == 3


async def test_a_result_with_live_values_is_not_dropped() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def make() -> Any:
        return lambda: 5

    @service.rpc(overflow="drop_newest")
    async def sum_up(items: duplex.ReceiveChannel[Any]) -> Any:
        total = len(await collect(items))
        return lambda: total

    async with linked(service, client=OPTIONS) as pair:
        remote = pair.service("service").with_options(overflow="drop_newest")
        async with remote.make.open() as call:
            assert await (await call.result())() == 5
        async with remote.sum_up.open() as call:
            await call.send(1)
            assert await (await call.result())() == 1


@pytest.mark.parametrize(
    ("policy", "function", "problem"),
    [
        ("x", "streams", r"overflow must be one of 'drop_oldest', 'drop_newest', 'error' or None, not 'x'"),
        (1, "streams", r"overflow must be one of"),
        ("error", "single", r"overflow is for streams, and this method neither yields nor takes a stream"),
    ],
)
def test_wrong_declarations_are_refused(policy: Any, function: str, problem: str) -> None:
    async def streams() -> AsyncIterator[int]:
        yield 1

    async def single() -> int:
        return 1

    with pytest.raises(duplex.ConfigurationError, match=f"{function}: {problem}"):
        duplex.rpc(overflow=policy)(streams if function == "streams" else single)
    service = duplex.Service("service")
    with pytest.raises(duplex.ConfigurationError, match=f"service.{function}: {problem}"):
        service.add(streams if function == "streams" else single, overflow=policy)


async def test_credit_and_cancellation_in_one_message() -> None:
    """What is queued is not sent on a channel that has ended; the link and its other calls go on."""
    service = duplex.Service("service")

    @service.rpc(overflow="drop_oldest")
    async def flood() -> AsyncIterator[bytes]:
        for _ in range(3000):
            yield bytes(100)
        await trio.sleep_forever()

    @service.rpc
    async def good() -> int:
        return 1

    async with linked(service, server=OPTIONS, client=OPTIONS) as pair:
        remote = pair.service("service")
        async with remote.flood.open() as call:
            await trio.testing.wait_all_tasks_blocked()
            while call.statistics().buffered_items:
                await call.receive()
        assert await remote.good() == 1
