"""Every operation is a checkpoint, also when there is nothing to wait for: trio's rule, so that loops can be cancelled.

Items of streams are one now and then only, by design.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.tasks._flush import LONG_PASS, Flusher
from tests.engine.helpers import collect, linked

busy = duplex.Service("busy")


@busy.rpc
async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@busy.rpc
async def total(items: duplex.ReceiveChannel[int]) -> int:
    return sum([item async for item in items])


@busy.rpc
async def one() -> int:
    return 1


async def test_endpoints() -> None:
    async with duplex.open_peer(services=[busy]) as server, duplex.open_peer() as client:
        with trio.testing.assert_checkpoints():
            endpoint = await server.bind("memory://*")
        with trio.testing.assert_checkpoints():
            await client.connect(endpoint)
        with trio.testing.assert_checkpoints():
            await client.disconnect(endpoint)
        with trio.testing.assert_checkpoints():
            await server.unbind(endpoint)


async def test_peers_and_links_that_are_closed_already() -> None:
    async with linked(busy, check=False) as pair:
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                await pair.link.aclose()
        with trio.testing.assert_checkpoints():
            await pair.link.wait_closed()
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                await pair.client.aclose()
        with trio.testing.assert_checkpoints(), pytest.raises(duplex.Unavailable):
            await pair.service("busy").one()


async def test_draining_with_nothing_to_wait_for() -> None:
    async with duplex.open_peer(services=[busy]) as server:
        with trio.testing.assert_checkpoints():
            await server.drain(1.0)


async def test_calls() -> None:
    async with linked(busy) as pair:
        remote = pair.service("busy")
        with trio.testing.assert_checkpoints():
            await remote.one()
        with trio.testing.assert_checkpoints():
            await remote.one.notify()
        with trio.testing.assert_checkpoints(), pytest.raises(duplex.DeadlineExceeded):
            await remote.with_options(timeout=0).one()
        async with remote.total.open() as call:
            await call.send(3)
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    await call.send_eof()
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    assert await call.result() == 3
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    await call.aclose()


async def test_streams() -> None:
    async with linked(busy) as pair:
        async with pair.service("busy").numbers.open(3) as call:
            await pair.settle()
            for number in range(3):
                assert await call.receive() == number
            for _ in range(2):
                with trio.testing.assert_checkpoints(), pytest.raises(trio.EndOfChannel):
                    await call.receive()
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    await call.aclose()


async def test_a_callback_whose_call_is_over() -> None:
    service = duplex.Service("service")
    kept: list[duplex.Callback[[], int]] = []

    @service.rpc
    async def keep(function: duplex.Callback[[], int]) -> None:
        kept.append(function)

    async with linked(service) as pair:
        await pair.service("service").keep(lambda: 1)
        with trio.testing.assert_checkpoints(), pytest.raises(duplex.FailedPrecondition):
            await kept.pop()()


async def test_channels_as_values() -> None:
    service = duplex.Service("service")
    seen: list[int] = []

    @service.rpc
    async def both(items: duplex.ReceiveChannel[int], answers: duplex.SendChannel[int]) -> None:
        for _ in range(2):
            await items.receive()
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                await items.aclose()
        await answers.send(1)
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                await answers.aclose()
        seen.append(1)

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](5)
        back, answers = trio.open_memory_channel[int](5)
        with sink, source, back, answers:
            for number in range(3):
                sink.send_nowait(number)
            await pair.service("service").both(source, back)
            assert await collect(answers) == [1]
    assert seen == [1]


async def test_a_handlers_channel() -> None:
    service = duplex.Service("service")
    closed: list[int] = []

    @service.rpc
    async def both(channel: duplex.Channel[int, int]) -> None:
        for number in range(2):
            with trio.testing.assert_checkpoints():
                await channel.aclose()
            closed.append(number)

    async with linked(service) as pair:
        async with pair.service("service").both.open() as call:
            assert await collect(call) == []
    assert closed == [0, 1]


async def test_asking_everybody() -> None:
    async with linked(busy) as pair:
        remote = pair.service("busy")
        outcomes = remote.one.gather()
        with trio.testing.assert_checkpoints():
            _, outcome = await anext(outcomes)
        assert outcome.result() == 1
        await pair.settle()
        for _ in range(2):
            with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
                await anext(outcomes)
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                await outcomes.aclose()
        two = duplex.open_peer(services=[busy])
        async with two as second:
            await pair.client.connect(await second.bind("memory://*"))
            outcomes = remote.one.gather()
            await anext(outcomes)
            await pair.settle()
            with trio.testing.assert_checkpoints():
                await anext(outcomes)  # it is there


async def test_a_pass_is_long_from_the_first_time_that_it_is_asked(
    mock_clock: trio.testing.MockClock,
) -> None:
    flusher = Flusher()
    for _ in range(2):
        assert not flusher.is_pass_long()
        mock_clock.jump(0.9 * LONG_PASS)
        assert not flusher.is_pass_long()
        mock_clock.jump(0.2 * LONG_PASS)
        assert flusher.is_pass_long()
        flusher.before_io_wait(0)  # another pass begins
