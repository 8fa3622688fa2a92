"""Calls of every kind, and how arguments find their parameters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, linked
from tests.machine import fail_after

calls = duplex.Service("calls")


@calls.rpc
async def add(a: int, b: int) -> int:
    return a + b


@calls.rpc
async def nothing() -> None:
    pass


@calls.rpc
async def echo(value: Any) -> Any:
    return value


@calls.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@calls.rpc
async def total(numbers: duplex.ReceiveChannel[int]) -> int:
    return sum([number async for number in numbers])


@calls.rpc
async def first_two(numbers: duplex.ReceiveChannel[int], scale: int = 1) -> int:
    return scale * (await numbers.receive() + await numbers.receive())


@calls.rpc
async def shout(words: duplex.ReceiveChannel[str]) -> AsyncIterator[str]:
    async for word in words:
        yield word.upper()


@calls.rpc
async def reverse(channel: duplex.Channel[str, str], prefix: str = "") -> None:
    """Send every word back, and a last one after the caller has ended."""
    async for word in channel:
        await channel.send(prefix + word[::-1])
    await channel.send("end")


@calls.rpc
async def end_first(channel: duplex.Channel[int, int]) -> None:
    """End the output at once, and only then listen; fail if nothing comes."""
    await channel.send_eof()
    if await channel.receive() != 1:
        raise duplex.InvalidArgument("send 1")


@calls.rpc
async def options(a: int, /, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> list[Any]:
    return [a, b, rest, c, d, more]


@calls.rpc(inline=True)
def inline(a: int, b: int = 1) -> int:
    return a * b


@calls.rpc(inline=True)
def inline_count(upto: int) -> Iterator[int]:
    yield from range(upto)


async def test_unary(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair:
        remote = pair.service("calls")
        assert await remote.add(1, 2) == 3
        assert await remote.add(a=1, b=2) == 3
        assert await remote.add(1, b=2) == 3
        assert await remote.nothing() is None
        assert await remote.inline(6, b=7) == 42


async def test_server_streaming(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair:
        async with pair.service("calls").count.open(5) as call:
            assert await collect(call) == [0, 1, 2, 3, 4]
            for _ in range(2):
                with pytest.raises(trio.EndOfChannel):
                    await call.receive()


async def test_client_streaming(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair:
        async with pair.service("calls").total.open() as call:
            for number in range(10):
                await call.send(number)
            assert await call.result() == 45
            assert await call.result() == 45, "the result may be asked for again"


async def test_result_while_another_task_sends(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair, trio.open_nursery() as nursery:
        async with pair.service("calls").total.open() as call:

            async def send() -> None:
                for number in range(100):
                    await call.send(number)
                    await trio.lowlevel.checkpoint()
                await call.send_eof()

            nursery.start_soon(send)
            assert await call.result(end=False) == sum(range(100))
            assert await call.result() == sum(range(100))


async def test_bidirectional(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair:
        async with pair.service("calls").shout.open() as call:
            for word in ("a", "b"):
                await call.send(word)
                assert await call.receive() == word.upper(), "answers come before the input has ended"
            await call.send_eof()
            assert await collect(call) == []


async def test_channel_parameter(endpoint: str) -> None:
    async with linked(calls, endpoint=endpoint) as pair:
        async with pair.service("calls").reverse.open(prefix="-") as call:
            await call.send("abc")
            assert await call.receive() == "-cba"
            await call.send_eof()
            await call.send_eof()
            assert await collect(call) == ["end"], "what comes after the caller's end still arrives"


async def test_handler_ends_its_output_first() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").end_first.open() as call:
            with pytest.raises(trio.EndOfChannel):
                await call.receive()
            await call.send(1)
            await call.send_eof()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()


async def test_handler_takes_part_of_a_stream() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").first_two.open(scale=10) as call:
            for number in (1, 2, 3, 4):
                await call.send(number)
            assert await call.result() == 30
            with pytest.raises(trio.ClosedResourceError):
                await call.send(5)


async def test_send_after_the_handler_has_ended() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").first_two.open() as call:
            await call.send(1)
            await call.send(2)
            await pair.settle()
            with pytest.raises(trio.BrokenResourceError, match="takes nothing more"):
                await call.send(3)
            assert await call.result() == 3


async def test_empty_streams() -> None:
    async with linked(calls) as pair:
        remote = pair.service("calls")
        async with remote.total.open() as call:
            assert await call.result() == 0
        async with remote.count.open(0) as call:
            assert await collect(call) == []


async def test_parameters_of_every_kind() -> None:
    async with linked(calls) as pair:
        method = pair.service("calls").options
        assert await method(1, c=3) == [1, 2, [], 3, 4, {}]
        assert await method(1, 5, c=3) == [1, 5, [], 3, 4, {}]
        assert await method(1, 5, 6, 7, c=8, d=9, e=10) == [1, 5, [6, 7], 8, 9, {"e": 10}]
        assert await method(1, c=3, b=0) == [1, 0, [], 3, 4, {}]
        assert await method(1, c=3, a=0) == [1, 2, [], 3, 4, {"a": 0}]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**63),
        2**64 - 1,
        1.5,
        "text ☺ 😈",
        b"bytes\0",
        [1, [2, [3]]],
        {"a": {"b": 1}, "c": []},
        bytes(200_000),
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:8]}",
)
async def test_plain_values_come_back_as_they_went(value: object) -> None:
    async with linked(calls) as pair:
        assert await pair.service("calls").echo(value) == value


async def test_unary_method_can_be_opened() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").add.open(1, 2) as call:
            assert call.method == "calls.add"
            assert call.peer == "server"
            assert await call.result() == 3


async def test_streaming_method_cannot_be_awaited() -> None:
    async with linked(calls) as pair:
        remote = pair.service("calls")
        for method in (remote.count, remote.total, remote.shout, remote.reverse):
            with pytest.raises((TypeError, duplex.InvalidArgument), match=r"async with .*open\("):
                await method(*([1] if method is remote.count else []))
        assert await remote.add(1, 2) == 3


async def test_single_result_cannot_be_iterated() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").add.open(1, 2) as call:
            with pytest.raises(TypeError, match=r"call\.result\(\)"):
                await call.receive()
            assert await call.result() == 3


async def test_stream_has_no_single_result() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").count.open(2) as call:
            with pytest.raises(TypeError, match="iterate over the call"):
                await call.result()
            assert await collect(call) == [0, 1]
        async with pair.service("calls").count.open(0) as call:
            with pytest.raises(TypeError, match="iterate over the call"):
                await call.result()


async def test_only_one_task_receives() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").shout.open() as call, trio.open_nursery() as nursery:
            nursery.start_soon(collect, call)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await call.receive()
            with pytest.raises(trio.BusyResourceError):
                await call.result()
            nursery.cancel_scope.cancel()


async def test_what_is_opened_without_a_block_says_how_it_is_opened() -> None:
    async with linked(calls) as pair:
        opened: Any = pair.service("calls").add.open(1, 2)
        how = r"calls\.add: open\(\) begins no call, its block does: async with"
        with pytest.raises(AttributeError, match=how):
            await opened.send(1)
        with pytest.raises(TypeError, match=how):
            await opened
        with pytest.raises(TypeError, match=how):
            async for _ in opened:
                pass


async def test_open_gives_a_context_manager_for_one_use() -> None:
    async with linked(calls) as pair:
        opening = pair.service("calls").count.open(1)
        async with opening as call:
            assert await collect(call) == [0]
        with pytest.raises(RuntimeError, match="for one use"):
            async with opening:
                pass  # pragma: no cover


async def test_closing_a_call_is_idempotent() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").shout.open() as call:
            await call.aclose()
            await call.aclose()
            call.cancel()
            with pytest.raises(trio.ClosedResourceError):
                await call.receive()
            with pytest.raises(trio.ClosedResourceError):
                await call.send("a")


async def test_many_calls_at_once_in_both_directions() -> None:
    back = duplex.Service("back")

    @back.rpc
    async def double(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    results: dict[int, int] = {}

    async def call(service: duplex.ServiceProxy, number: int) -> None:
        results[number] = await service.double(number)

    async with linked(back, offers=[back]) as pair, trio.open_nursery() as nursery:
        here, there = pair.link.service("back"), pair.back.service("back")
        for number in range(50):
            nursery.start_soon(call, here if number % 2 else there, number)
    assert results == {number: 2 * number for number in range(50)}


async def test_peer_calls_itself() -> None:
    async with duplex.open_peer(services=[calls]) as peer:
        with fail_after(5):
            await peer.connect(await peer.bind("memory://*"))
            assert await peer.service("calls").add(1, 2) == 3


async def test_outcome_of_a_void_stream_call() -> None:
    """A generator handler sends no result, and ``result()`` on it says so even when it fails later."""
    failing = duplex.Service("failing")

    @failing.rpc
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise duplex.DataLoss("no third")

    async with linked(failing) as pair:
        async with pair.service("failing").numbers.open() as call:
            assert await collect(call, 2) == [1, 2]
            for _ in range(2):
                with pytest.raises(duplex.DataLoss, match="no third") as caught:
                    await call.receive()
        assert caught.value.method == "failing.numbers"
        assert caught.value.peer == "server"


async def test_two_tasks_begin_to_receive_at_once() -> None:
    """One of them waits, the other is told; which, trio decides."""
    async with linked(calls) as pair:
        async with pair.service("calls").shout.open() as call:
            results: list[Any] = []

            async def receive() -> None:
                try:
                    results.append(await call.receive())
                except trio.BusyResourceError as error:
                    results.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                assert [type(result) for result in results] == [trio.BusyResourceError]
                await call.send("a")
            assert results[1] == "A"


async def test_cancelled_receive_took_nothing() -> None:
    async with linked(calls) as pair:
        async with pair.service("calls").shout.open() as call:
            for word in ("a", "b"):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(call.receive)
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()
                await call.send(word)
                assert await call.receive() == word.upper()


async def test_cancelled_result_may_be_asked_for_again() -> None:
    go = trio.Event()
    service = duplex.Service("service")

    @service.rpc
    async def wait() -> int:
        await go.wait()
        return 1

    async with linked(service) as pair:
        async with pair.service("service").wait.open() as call:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call.result)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            go.set()
            assert await call.result() == 1


async def test_handler_closes_its_channel() -> None:
    """Both directions at once: the caller hears the end, and what it sends is dropped."""
    service = duplex.Service("service")
    closed = trio.Event()

    @service.rpc
    async def brief(channel: duplex.Channel[str, str]) -> None:
        await channel.send(await channel.receive())
        await channel.aclose()
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()
        with pytest.raises(trio.ClosedResourceError):
            await channel.send("more")
        closed.set()
        await trio.sleep_forever()

    async with linked(service) as pair:
        async with pair.service("service").brief.open() as call:
            await call.send("a")
            assert await collect(call) == ["a"]
            await closed.wait()
            for _ in range(100):
                await call.send("x" * 100_000)


async def test_a_call_is_as_old_as_the_time_since_it_was_made(mock_clock: trio.testing.MockClock) -> None:
    """Also on a link on which nothing has been said for a while."""
    service = duplex.Service("service")

    @service.rpc
    async def hang() -> None:
        await trio.sleep_forever()

    async with linked(service, within=1000) as pair, trio.open_nursery() as nursery:
        await pair.settle()
        mock_clock.jump(3)
        nursery.start_soon(pair.service("service").hang)
        await pair.settle()
        mock_clock.jump(1)
        for peer in (pair.client, pair.server):
            [call] = peer.calls()
            assert call.age == pytest.approx(1)
        nursery.cancel_scope.cancel()


async def test_a_call_that_was_closed_has_no_result_to_wait_for() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def wait() -> None:
        await trio.sleep_forever()

    async with linked(service) as pair:
        async with pair.service("service").wait.open() as call:
            pass
        with pytest.raises(trio.ClosedResourceError, match="closed for receiving"):
            await call.result()
