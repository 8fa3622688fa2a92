"""Ends of channels that are dropped without being closed: nothing waits for them for ever, and somebody is told."""

from __future__ import annotations

import gc
import logging
import math
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import trio

import duplex
from duplex.engine.channels._dropped import is_left_alone
from tests.engine.helpers import collect, linked, outcome, stray_tasks, until

pytestmark = pytest.mark.usefixtures("others_out_of_sight")

#: Seconds after which a peer has looked after its links, and after what was dropped a while before.
LOOKED = 15.0


@pytest.fixture(autouse=True)
def told() -> Iterator[None]:
    """Warnings are no errors here."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always", ResourceWarning)
        yield


class Keeps:
    """A service whose handlers are told what to do with the channels that they get."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.errors: list[Any] = []
        self.kept: list[Any] = []
        self.service = service = duplex.Service("keeps")

        @service.rpc
        async def send(sink: duplex.SendChannel[int], count: int) -> str:
            try:
                for number in range(count):
                    await sink.send(number)
                await sink.aclose()
            except (trio.BrokenResourceError, duplex.RPCError) as error:
                self.errors.append(error)
            return "sent"

        @service.rpc
        async def take(source: duplex.ReceiveChannel[int]) -> Any:
            try:
                return await collect(source)
            except duplex.RPCError as error:
                self.errors.append(error)
                return "failed"

        @service.rpc
        async def pass_over(channels: duplex.ReceiveChannel[Any]) -> str:
            try:
                while True:
                    await channels.receive()
            except trio.EndOfChannel:
                await self.go.wait()
                return "done"

        @service.rpc
        async def keep(channels: duplex.ReceiveChannel[Any]) -> str:
            self.kept = await collect(channels)
            await self.go.wait()
            return "done"

        @service.rpc
        async def forget(source: duplex.ReceiveChannel[int]) -> str:
            del source
            await self.go.wait()
            return "done"

        @service.rpc
        async def forget_sink(sink: duplex.SendChannel[int]) -> str:
            await sink.send(1)
            del sink
            await self.go.wait()
            return "done"


@pytest.mark.parametrize("count", [1, 3])
async def test_a_reader_that_was_dropped_holds_no_task_once_the_call_is_over(
    count: int, autojump_clock: object
) -> None:
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair:
        sink, source = trio.open_memory_channel[int](0)
        assert await pair.service("keeps").send(sink, count) == "sent"
        del sink, source
        gc.collect()
        assert len(stray_tasks(pair.client)) == 1
        await trio.sleep(LOOKED)
        assert stray_tasks(pair.client) == []
        assert not pair.client._inside.dropped._pumped
    assert keeps.errors == []


async def test_who_sends_to_a_reader_that_was_dropped_is_told(autojump_clock: object) -> None:
    """Its items would come to nobody, and it would wait until its deadline, if it has one."""
    keeps = Keeps()
    limits = duplex.Limits(channel_window=2000)
    async with linked(keeps.service, within=1000, client={"limits": limits}) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("keeps").send, sink, 1_000_000)
            await source.receive()
            del sink, source
            gc.collect()
        (error,) = keeps.errors
        assert "receiving end was dropped" in str(error)


async def test_who_reads_what_nobody_can_send_any_more_is_told(autojump_clock: object) -> None:
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair:
        sink, source = trio.open_memory_channel[int](5)
        sink.send_nowait(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("keeps").take, source)
            await pair.settle()
            del sink, source
            gc.collect()
        (error,) = keeps.errors
        assert "sending end was dropped" in str(error)


async def test_what_still_waits_in_a_channel_whose_sender_was_dropped_comes(autojump_clock: object) -> None:
    keeps = Keeps()
    limits = duplex.Limits(channel_window=1024)
    async with linked(keeps.service, within=1000, server={"limits": limits}) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        for _ in range(10):
            sink.send_nowait(bytes(500))
        async with pair.service("keeps").pass_over.open() as call:
            # The handler does not read it, so most of it waits here.
            await call.send(source)
            await pair.settle()
            waiting = source.statistics().current_buffer_used
            assert waiting
            del sink
            gc.collect()
            pair.client._inside.dropped.look(trio.current_time())
            assert pair.client._inside.dropped._pumped
            assert source.statistics().current_buffer_used == waiting
            del source
            await call.send_eof()
            keeps.go.set()
            assert await call.result() == "done"


@pytest.mark.parametrize("closes", [True, False])
async def test_the_last_item_that_waits_for_credit_comes(closes: bool, autojump_clock: object) -> None:
    """It was taken from the memory channel, so that is empty."""
    go, items = trio.Event(), list[bytes]()
    service = duplex.Service("late")

    @service.rpc
    async def take(source: duplex.ReceiveChannel[bytes]) -> None:
        await go.wait()
        try:
            async for item in source:
                items.append(item[-1:])  # those before an error count
        except duplex.RPCError as error:
            items.append(str(error).encode())

    limits = duplex.Limits(channel_window=1024)
    async with (
        linked(service, within=1000, server={"limits": limits}) as pair,
        trio.open_nursery() as nursery,
    ):
        sink, source = trio.open_memory_channel[bytes](math.inf)
        for number in range(3):
            sink.send_nowait(bytes(500) + bytes([number]))
        if closes:
            sink.close()
        del sink
        nursery.start_soon(pair.service("late").take, source)
        while source.statistics().current_buffer_used:
            await trio.lowlevel.checkpoint()
        del source
        gc.collect()
        await trio.sleep(LOOKED)
        go.set()
        await trio.sleep(LOOKED)
        assert len(items) == (3 if closes else 4)
    assert items[:3] == [b"\0", b"\1", b"\2"]
    assert closes or b"sending end was dropped" in items[3]


async def test_channels_that_came_and_were_dropped_are_closed_while_the_call_goes_on(
    autojump_clock: object,
) -> None:
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair:
        sinks = []
        async with pair.service("keeps").pass_over.open() as call:
            for _ in range(20):
                sink, source = trio.open_memory_channel[int](0)
                sinks.append(sink)
                await call.send(source)
            await pair.settle()
            assert len(stray_tasks(pair.client)) == 20
            assert len(pair.back._inside.channels.users) == 21
            await trio.sleep(LOOKED)
            assert stray_tasks(pair.client) == []
            assert len(pair.back._inside.channels.users) == len(pair.link._inside.channels.users) == 1
            for sink in sinks:
                with pytest.raises(trio.BrokenResourceError):
                    await sink.send(1)
            await call.send_eof()
            keeps.go.set()
            assert await call.result() == "done"


@pytest.mark.parametrize("method", ["forget", "forget_sink"])
async def test_a_handler_that_drops_its_channel(method: str, autojump_clock: object) -> None:
    """As if it had closed it."""
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair, trio.open_nursery() as nursery:
        sink, source = trio.open_memory_channel[int](10)
        passed, kept = (source, sink) if method == "forget" else (sink, source)
        del sink, source
        results: list[Any] = []

        async def call(passed: Any) -> None:
            results.append(await outcome(pair.service("keeps")[method](passed)))

        nursery.start_soon(call, passed)
        del passed
        await pair.settle()
        await trio.sleep(LOOKED)
        assert stray_tasks(pair.client) == []
        if isinstance(kept, trio.MemoryReceiveChannel):
            assert await collect(kept) == [1]
        else:
            with pytest.raises(trio.BrokenResourceError):
                kept.send_nowait(1)
        keeps.go.set()
        await until(lambda: results)
        assert results == ["done"]


async def test_who_only_takes_his_time_has_dropped_nothing(autojump_clock: object) -> None:
    keeps = Keeps()
    async with linked(keeps.service, within=100_000) as pair:
        sink, source = trio.open_memory_channel[int](0)
        clone = source.clone()
        del source
        assert await pair.service("keeps").send(sink, 3) == "sent"
        del sink
        for number in range(3):
            await trio.sleep(3600)
            gc.collect()
            assert await clone.receive() == number
        with pytest.raises(trio.EndOfChannel):
            await clone.receive()
    assert not pair.client._inside.dropped._pumped


async def test_ends_that_go_with_their_call_are_no_mistake(autojump_clock: object) -> None:
    """A handler that returns may leave its channels to the call's end."""
    service = duplex.Service("service")

    @service.rpc
    async def one(sink: duplex.SendChannel[int], source: duplex.ReceiveChannel[int]) -> int:
        await sink.send(1)
        return await source.receive()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with linked(service, within=1000) as pair:
            sink, results = trio.open_memory_channel[int](1)
            items, source = trio.open_memory_channel[int](1)
            items.send_nowait(2)
            assert await pair.service("service").one(sink, source) == 2
            assert await results.receive() == 1
            await trio.sleep(LOOKED)
            assert not pair.server._inside.dropped._channels
            results.close()
            items.close()


@pytest.mark.parametrize("is_error", [False, True])
async def test_the_program_is_told(
    is_error: bool, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """By a warning, or by the log where warnings are errors: nobody could catch one."""
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair:
        async with pair.service("keeps").pass_over.open() as call:
            sink, source = trio.open_memory_channel[int](0)
            await call.send(source)
            await pair.settle()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("error" if is_error else "always", ResourceWarning)
                with caplog.at_level(logging.WARNING, "duplex"):
                    await trio.sleep(LOOKED)
            told = [str(warning.message) for warning in caught] + [
                record.getMessage() for record in caplog.records
            ]
            assert told == ["a channel from client was dropped without being closed"]
            sink.close()
            await call.send_eof()
            keeps.go.set()
            await call.result()


async def test_ends_may_be_dropped_by_any_thread(autojump_clock: object) -> None:
    """The garbage collector runs where it likes."""
    keeps = Keeps()
    async with linked(keeps.service, within=1000) as pair:
        async with pair.service("keeps").keep.open() as call:
            sinks = []
            for _ in range(3):
                sink, source = trio.open_memory_channel[int](0)
                sinks.append(sink)
                await call.send(source)
            await call.send_eof()
            await until(lambda: len(keeps.kept) == 3)
            await trio.sleep(LOOKED)
            assert len(stray_tasks(pair.client)) == 3
            thread = threading.Thread(target=keeps.kept.clear)
            thread.start()
            thread.join()
            await trio.sleep(LOOKED)
            assert stray_tasks(pair.client) == []
            keeps.go.set()
            assert await call.result() == "done"


async def test_ends_of_memory_channels_are_told_apart() -> None:
    sink, source = trio.open_memory_channel[int](0)
    assert not is_left_alone(sink)
    assert not is_left_alone(source)
    clone = sink.clone()
    del source
    assert not is_left_alone(sink), "its clone may be where it is taken from, for all that is known"
    del clone
    assert is_left_alone(sink)


async def test_an_end_whose_other_one_was_closed_is_not_left_alone() -> None:
    sink, source = trio.open_memory_channel[int](1)
    source.close()
    del source
    assert not is_left_alone(sink)
    sink, source = trio.open_memory_channel[int](1)
    sink.send_nowait(1)
    sink.close()
    del sink
    assert not is_left_alone(source)
    assert await source.receive() == 1
    assert not is_left_alone(source), "what was taken may be under way"
