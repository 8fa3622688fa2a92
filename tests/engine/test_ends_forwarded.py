"""Channels that are passed on to a third peer: an end at one link overtakes nothing on the other, and none is taken for
an orderly end that is not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.channel_service import channels
from tests.engine.helpers import Pair, collect, linked, outcome, until

#: So narrow that only a few items are ever on the way to a near peer which does not read.
NARROW = duplex.Limits(channel_window=1024)

far_service = duplex.Service("far")


@far_service.rpc
async def fill_and_count(sink: duplex.SendChannel[int], count: int) -> AsyncIterator[int]:
    """Send so many numbers, and stream how many those were."""
    for number in range(count):
        await sink.send(number)
    yield count


@far_service.rpc
async def fill_and_fail(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and fail."""
    for number in range(count):
        await sink.send(number)
    raise duplex.NotFound("there are no more")


@far_service.rpc
async def fill_and_wait(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and go on."""
    for number in range(count):
        await sink.send(number)
    await trio.sleep_forever()


@contextlib.asynccontextmanager
async def chain(
    handle: Callable[..., Awaitable[Any]], *services: duplex.Service, limits: duplex.Limits = NARROW
) -> AsyncIterator[tuple[Pair, duplex.Peer]]:
    """A near peer, a middle one whose ``middle.handle`` is the function, and a far one with the services."""
    middle = duplex.Service("middle")
    middle.rpc(name="handle")(handle)
    async with linked(*services, endpoint="memory://*") as far:
        far.client.add_service(middle)
        address = await far.client.bind("memory://*")
        async with duplex.open_peer(name="near", limits=limits) as near:
            await near.connect(address)
            yield far, near


@pytest.mark.parametrize("manner", ["result", "stream", "receive"])
async def test_call_has_ended_when_everything_was_passed_on(manner: str) -> None:
    """In whatever manner it was made. The handler in the middle ends when it has, and its caller's channel with it."""

    async def handle(sink: duplex.SendChannel[int], count: int) -> str:
        if manner == "result":
            async with far.client.service("channels").fill.open(sink, count) as call:
                assert await call.result() == "filled"
            return "done"
        async with far.client.service("far").fill_and_count.open(sink, count) as call:
            if manner == "stream":
                assert [item async for item in call] == [count]
            else:
                assert await collect(call) == [count]
        return "done"

    async with chain(handle, channels, far_service) as (far, near):
        sink, source = trio.open_memory_channel[int](0)
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(near.service("middle").handle(sink, 100)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            assert await collect(source) == list(range(100))
        assert results == ["done"]


async def test_stream_whose_call_goes_on_ends_at_once() -> None:
    """A handler that went on after its stream may be about to wait for whoever has received the end of it."""
    service = duplex.Service("service")

    @service.rpc
    async def go_on(sink: duplex.SendChannel[int], both: duplex.Channel[Any, str]) -> None:
        await both.send("first")
        await both.send_eof()
        assert await both.receive() == "go on"
        await sink.send(1)

    async def handle(sink: duplex.SendChannel[int]) -> None:
        async with far.client.service("service").go_on.open(sink) as call:
            assert [item async for item in call] == ["first"]
            await call.send("go on")
            assert await call.result() is None

    async with chain(handle, service) as (far, near):
        sink, source = trio.open_memory_channel[int](math.inf)
        await near.service("middle").handle(sink)
        assert await collect(source) == [1]


async def test_what_came_before_an_error_is_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that can do without the rest keeps what there was. That it is not all is told to whoever passed the
    channel, whose own kind of channel knows no other end than an orderly one."""

    async def handle(sink: duplex.SendChannel[int]) -> str:
        with pytest.raises(duplex.NotFound):
            await far.client.service("far").fill_and_fail(sink, 5)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await sink.send(5)
        return "enough"

    async with chain(handle, far_service) as (far, near):
        sink, source = trio.open_memory_channel[int](math.inf)
        assert await near.service("middle").handle(sink) == "enough"
        assert await collect(source) == [0, 1, 2, 3, 4]
    assert (
        "a channel passed to client was cut short: the call that the channel was passed to has failed"
        in caplog.text
    )


async def test_a_call_that_was_given_up_cuts_short_what_it_was_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(sink: duplex.SendChannel[int]) -> str:
        async with far.client.service("far").fill_and_wait.open(sink, 3):
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        return "enough"

    async with chain(handle, far_service) as (far, near):
        sink, source = trio.open_memory_channel[int](math.inf)
        assert await near.service("middle").handle(sink) == "enough"
        assert await collect(source) == [0, 1, 2]
    assert (
        "a channel passed to client was cut short: the call that carried the channel is over" in caplog.text
    )


async def test_item_that_is_no_value_cuts_short_what_it_came_on(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def garble(sink: duplex.SendChannel[int]) -> str:
        channel: Any = sink
        await channel.send(1)
        link = channel._channel_end.link
        link.connection.send(channel._channel_end.channel, b"\xc1")
        link.touch()
        return "garbled"

    async def handle(sink: duplex.SendChannel[int]) -> Any:
        return await far.client.service("service").garble(sink)

    async with chain(handle, service) as (far, near):
        sink, source = trio.open_memory_channel[int](math.inf)
        assert await near.service("middle").handle(sink) == "garbled"
        assert await collect(source) == [1]
    assert "a channel passed to client was cut short: streamed item 2" in caplog.text


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["passed", "own"])
async def test_handler_that_ends_while_another_still_receives(own: bool, ended: bool) -> None:
    """The far peer must not take for all what came before the channel ended with its call in the middle; but all is
    all, if it had come before."""
    seen: list[Any] = []
    service = duplex.Service("service")

    @service.rpc
    async def gather(source: duplex.ReceiveChannel[int]) -> None:
        try:
            while True:
                seen.append(await source.receive())
        except duplex.CallCancelled as error:
            seen.append(error.message)
        except trio.EndOfChannel:
            seen.append("end")

    async def handle(source: duplex.ReceiveChannel[int]) -> str:
        far.client._inside.spawn(far.client.service("service").gather, source)
        await trio.testing.wait_all_tasks_blocked()
        return "done"

    async with chain(handle, service) as (far, near):
        if own:  # the call's own stream
            async with near.service("middle").handle.open() as call:
                for number in range(3):
                    await call.send(number)
                if ended:
                    await call.send_eof()
                await until(lambda: call._call.over)
                assert await call.result() == "done"
        else:
            sink, source = trio.open_memory_channel[int](math.inf)
            for number in range(3):
                sink.send_nowait(number)
            if ended:
                sink.close()
            assert await near.service("middle").handle(source) == "done"
        await trio.testing.wait_all_tasks_blocked()
        over = (
            "the handler has ended, and the call with it"
            if own
            else "the call that carried the channel is over"
        )
        assert seen == [0, 1, 2, "end" if ended else over]
