"""Channels as values when something goes wrong: cancelled, lost, faulty, or not sent after all."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.channel_service import channels
from tests.engine.helpers import collect, feed, linked, outcome, stray_tasks, until
from tests.machine import fail_after


@pytest.mark.parametrize("direction", ["send", "receive"])
async def test_cancelled_call_releases_its_channels(direction: str) -> None:
    """The other end of the caller's channel is told, whichever it is."""
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](0)
        passed: Any = sink if direction == "send" else source
        async with pair.service("channels").hang.open(passed) as call:
            await pair.settle()
            assert pair.back.statistics().incoming == 2
            call.cancel()
            if direction == "send":
                assert await collect(source) == []
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await sink.send(1)


async def test_cancelled_call_releases_a_channel_that_nobody_reads(autojump_clock: object) -> None:
    """Items that came and were not taken keep no task waiting once their call was cancelled."""
    service = duplex.Service("service")

    @service.rpc
    async def flood(sink: duplex.SendChannel[int]) -> None:
        while True:
            await sink.send(1)

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with pair.service("service").flood.open(sink):
            await trio.testing.wait_all_tasks_blocked()
        await until_no_strays(pair.client)
        with source:
            pass


async def until_no_strays(peer: duplex.Peer) -> None:
    for _ in range(100):
        if not stray_tasks(peer):
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError(f"tasks that should have ended: {stray_tasks(peer)}")


async def test_unread_channels_do_not_hold_a_call() -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](math.inf)
        for number in range(1000):
            sink.send_nowait(number)
        assert await pair.service("channels").ignore([source, {"deep": [source.clone()]}]) == "ignored"
        with pytest.raises(trio.BrokenResourceError):
            await feed(sink, 0)


async def test_lost_link_ends_channels(endpoint: str) -> None:
    """Local code at the other end of a channel hears of it; code in the handler gets the error."""
    service = duplex.Service("service")
    seen: list[Any] = []
    began = trio.Event()

    @service.rpc
    async def listen(source: duplex.ReceiveChannel[int], sink: duplex.SendChannel[int]) -> None:
        began.set()
        with trio.CancelScope(shield=True):
            seen.append(await outcome(source.receive()))
            seen.append(await outcome(sink.send(1)))

    async with linked(service, endpoint=endpoint, check=False) as pair:
        sink, source = trio.open_memory_channel[int](0)
        back_sink, back_source = trio.open_memory_channel[int](0)
        error = None
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                nonlocal error
                error = await outcome(pair.link.service("service").listen(source, back_sink))

            nursery.start_soon(call)
            await began.wait()
            await pair.link.aclose()
            with pytest.raises(trio.BrokenResourceError):
                await sink.send(1)
            with pytest.raises(trio.EndOfChannel):
                await back_source.receive()
        assert type(error) is duplex.PeerLost
        await until(lambda: len(seen) == 2)
        assert [type(item) for item in seen] == [duplex.PeerLost, duplex.PeerLost], seen


@pytest.mark.parametrize("blocked", [False, True])
async def test_local_reader_hears_when_the_own_peer_is_closed(autojump_clock: object, blocked: bool) -> None:
    """Also when there are items for it that it had not taken."""
    service = duplex.Service("service")

    @service.rpc
    async def send(sink: duplex.SendChannel[int]) -> None:
        if blocked:
            await sink.send(1)
        await trio.sleep_forever()

    sink, source = trio.open_memory_channel[int](0)
    with fail_after(60):
        async with duplex.open_peer(services=[service]) as server:
            endpoint = await server.bind("memory://*")
            async with duplex.open_peer() as client:
                await client.connect(endpoint)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outcome, client.service("service").send(sink))
                    await trio.testing.wait_all_tasks_blocked()
                    await client.aclose()
                    await trio.testing.wait_all_tasks_blocked()
        with fail_after(1):
            await collect(source)


async def test_a_channel_that_fails_ends_its_own_call_only() -> None:
    """A channel of the application's own kind may raise anything; the peer goes on."""

    class Faulty(trio.abc.ReceiveChannel[int]):
        async def receive(self) -> int:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError("in the application's channel")

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with linked(channels) as pair:
        result = await outcome(pair.service("channels").first(Faulty()))
        assert isinstance(result, duplex.RPCError)
        assert await pair.service("channels").ignore(1) == "ignored"


async def test_a_sink_that_fails_ends_its_own_call_only() -> None:
    class Faulty(trio.abc.SendChannel[int]):
        async def send(self, value: int) -> None:
            await trio.lowlevel.checkpoint()
            raise ZeroDivisionError("in the application's channel")

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with linked(channels) as pair:
        await outcome(pair.service("channels").fill(Faulty(), 10))
        assert await pair.service("channels").ignore(1) == "ignored"


async def test_item_that_cannot_travel_ends_the_channel() -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        sink.send_nowait(object())
        result = await outcome(pair.service("channels").first(source))
        assert isinstance(result, duplex.RPCError)
        with pytest.raises(trio.BrokenResourceError):
            await sink.send(1)
        assert await pair.service("channels").ignore(1) == "ignored"


async def test_item_that_holds_a_channel_and_cannot_travel() -> None:
    """The item was not sent, so nothing becomes of the channel in it, and the stream goes on."""
    async with linked(channels) as pair:
        async with pair.service("channels").relay.open() as call:
            sink, source = trio.open_memory_channel[int](math.inf)
            with pytest.raises(duplex.EncodeError):
                await call.send([source, object()])
            for number in range(3):
                sink.send_nowait(number)
            sink.close()
            await call.send(source)
            assert await call.result() == [[0, 1, 2]]


@pytest.mark.parametrize("blocked", [False, True])
async def test_local_reader_hears_when_the_block_of_the_peer_is_left(
    autojump_clock: object, blocked: bool
) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def send(sink: duplex.SendChannel[int]) -> None:
        if blocked:
            await sink.send(1)
        await trio.sleep_forever()

    sink, source = trio.open_memory_channel[int](0)
    with fail_after(60):
        async with duplex.open_peer(services=[service]) as server, trio.open_nursery() as nursery:
            endpoint = await server.bind("memory://*")
            async with duplex.open_peer() as client:
                await client.connect(endpoint)
                nursery.start_soon(outcome, client.service("service").send(sink))
                await trio.testing.wait_all_tasks_blocked()
        with fail_after(1):
            await collect(source)


async def test_result_that_cannot_be_sent_releases_its_channel() -> None:
    """Whoever feeds a channel that was in a lost result must not wait for ever: nobody else could close it."""
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def numbers() -> list[Any]:
        sink, source = trio.open_memory_channel[int](0)

        async def keep_on() -> None:
            try:
                await feed(sink, 1)
            except trio.BrokenResourceError as error:
                seen.append(error)

        duplex.current_call().link.peer._inside.spawn(keep_on)
        return [source, object()]

    async with linked(service) as pair:
        async with pair.service("service").numbers.open() as call:
            with pytest.raises(duplex.Internal):
                await call.result()
        await until_no_strays(pair.server)
        assert seen


async def test_channel_that_fails_to_close(caplog: pytest.LogCaptureFixture) -> None:
    """Even that is the trouble of its own call only, passed or not."""

    class Faulty(trio.abc.ReceiveChannel[int]):
        async def receive(self) -> int:
            await trio.lowlevel.checkpoint()
            raise trio.EndOfChannel

        async def aclose(self) -> None:
            raise ZeroDivisionError("in closing")

    service = duplex.Service("service")

    @service.rpc
    async def lost() -> list[Any]:
        return [Faulty(), object()]

    async with linked(channels, service) as pair:
        await outcome(pair.service("channels").first(Faulty()))
        with pytest.raises(duplex.Internal):
            await pair.service("service").lost()
        assert await pair.service("channels").ignore(1) == "ignored"
