"""Channels that were received: what had come on them stays, whatever ends before somebody looks, and only what is
complete ends in order."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.held import Held, held
from tests.engine.helpers import collect, linked, outcome
from tests.engine.test_channels_nested import filled

carry = duplex.Service("carry")


async def turns() -> None:
    """Let all others have their turn, many times."""
    for _ in range(50):
        await trio.lowlevel.checkpoint()


@carry.rpc
async def deliver(outer: duplex.SendChannel[Any], count: int) -> str:
    """Send channels through a channel of the caller's, and end as soon as everything on them was sent."""
    for number in range(count):
        await outer.send({"number": number, "items": filled(list(range(number)))})
    await turns()
    return "delivered"


@carry.rpc
async def deliver_and_go(outer: duplex.SendChannel[Any], count: int) -> None:
    """The same, but end the link."""
    await deliver(outer, count)
    link: Any = duplex.current_call().link
    await link.aclose()
    await trio.sleep_forever()


@carry.rpc
async def deliver_open(outer: duplex.SendChannel[Any]) -> str:
    """Send a channel that does not end, nor is it full."""
    sink, source = trio.open_memory_channel[int](math.inf)
    for number in range(3):
        sink.send_nowait(number)
    await outer.send({"number": 0, "items": source})
    await turns()
    return "delivered"


@pytest.mark.parametrize("method", ["deliver", "deliver_and_go"])
async def test_channel_that_is_complete_outlives_its_call(method: str) -> None:
    """All that was sent on it has come, and that this was all; only nobody had looked yet when the call, or the link,
    ended. On a quiet machine somebody would have."""
    async with linked(carry, check=False) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.service("carry")[method](sink, 4)))

        async with trio.open_nursery() as nursery:
            with held(pair.back):
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
        assert results == ["delivered"] or type(results[0]) is duplex.PeerLost
        for number in range(4):
            item = await source.receive()
            assert item["number"] == number
            assert await collect(item["items"]) == list(range(number))
        assert await collect(source) == []
        assert not pair.link._inside.channels.users


@pytest.mark.parametrize("early", [False, True])
async def test_channel_that_is_not_complete_is_no_orderly_end(early: bool) -> None:
    """Its call has ended and it with it, whether somebody had begun to receive from it or not."""
    async with linked(carry) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(pair.service("carry").deliver_open(sink)))

        async def receive() -> None:
            item = await source.receive()
            results.append(await collect(item["items"], 3))
            with pytest.raises(duplex.CallCancelled, match="the call that carried the channel is over"):
                await item["items"].receive()

        async with trio.open_nursery() as nursery:
            if early:
                nursery.start_soon(receive)
            with held(pair.back):
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
            if not early:
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(receive)
        assert [0, 1, 2] in results
        assert "delivered" in results


async def test_callback_that_comes_with_the_end_of_its_call() -> None:
    """The item that holds it is received; calling it says what is the matter."""
    service = duplex.Service("service")

    @service.rpc
    async def offer(outer: duplex.SendChannel[Any]) -> None:
        await outer.send({"number": 7, "call": lambda: 1})

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        async with trio.open_nursery() as nursery:
            with held(pair.back):
                nursery.start_soon(pair.service("service").offer, sink)
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        item = await source.receive()
        assert item["number"] == 7
        with pytest.raises(duplex.FailedPrecondition, match="is over"):
            await item["call"]()


async def test_request_whose_reply_nobody_waits_for_any_more() -> None:
    """One of many requests in a stream was given up before the handler came to look at it: the others are served."""
    service = duplex.Service("service")
    begin = trio.Event()
    seen: list[Any] = []

    @service.rpc
    async def answer(requests: duplex.ReceiveChannel[Any]) -> str:
        await begin.wait()
        async for request in requests:
            try:
                await request["reply"].send(2 * request["value"])
                await request["reply"].aclose()
                seen.append(request["value"])
            except trio.BrokenResourceError as error:
                seen.append(str(error))
        return "done"

    class GoneSink(trio.abc.SendChannel[int]):
        async def send(self, value: int) -> None:
            raise trio.BrokenResourceError

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with linked(service) as pair:
        async with pair.service("service").answer.open() as call:
            replies = []
            for value in range(3):
                sink, source = trio.open_memory_channel[int](1)
                replies.append(source)
                await call.send({"value": value, "reply": sink})
            await call.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            # As a requester's own end does when what it is fed with fails.
            given_up: Any = [child for child in call._call.children.values() if child.opener][1]
            given_up._give_up("the requester has gone")
            await pair.settle()
            begin.set()
            assert await call.result() == "done"
            assert [await collect(reply) for reply in replies] == [[0], [], [4]]
        assert seen == [0, "the requester has gone", 2]


@pytest.mark.plain_wire("all has to come in one turn")
async def test_handler_ends_while_its_channel_is_received_elsewhere() -> None:
    """What comes after that is dropped, so whoever receives must not take what there was for all."""
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def keep(source: duplex.ReceiveChannel[int]) -> str:
        duplex.current_call().link.peer._inside.spawn(gather, source)
        return "kept"

    async def gather(source: duplex.ReceiveChannel[int]) -> None:
        await turns()
        try:
            while True:
                seen.append(await source.receive())
        except duplex.CallCancelled as error:
            seen.append(error.message)
        except trio.EndOfChannel:
            seen.append("end")

    async with linked(service) as pair:
        for ended, expected in [(False, "the call that carried the channel is over"), (True, "end")]:
            sink, source = trio.open_memory_channel[int](math.inf)
            for number in range(3):
                sink.send_nowait(number)
            if ended:
                sink.close()
            with held(pair.link) as hold:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pair.service("service").keep, source)
                    await trio.testing.wait_all_tasks_blocked()
                    hold.release()
            await trio.testing.wait_all_tasks_blocked()
            assert seen == [0, 1, 2, expected]
            seen.clear()


async def test_complete_input_survives_the_link() -> None:
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def keep(source: duplex.ReceiveChannel[int]) -> None:
        with trio.CancelScope(shield=True):
            seen.append(await source.receive())
            await turns()
            seen.extend(await collect(source))

    async with linked(service, check=False) as pair:
        sink, source = trio.open_memory_channel[int](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, pair.service("service").keep(source))
            await trio.testing.wait_all_tasks_blocked()
            with held(pair.link):
                for number in range(3):
                    sink.send_nowait(number)
                sink.close()
                await trio.testing.wait_all_tasks_blocked()
                await pair.link.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [0, 1, 2]


@carry.rpc
async def give_up(outer: duplex.SendChannel[Any], counts: duplex.ReceiveChannel[int]) -> None:
    """Send channels with so many items each, and then one that cannot travel, which ends them."""
    async for count in counts:
        await outer.send(filled([*range(count), object()]))
    await turns()
    await outer.aclose()
    await trio.sleep_forever()


@pytest.mark.plain_wire("all has to come in one turn")
async def test_channels_that_ended_unseen_are_bounded_in_bytes() -> None:
    """Credit for what is in them went back when they ended. What is dropped is told."""
    async with linked(carry, client={"limits": duplex.Limits(channel_window=1024)}) as pair:
        sink, source = trio.open_memory_channel[Any](0)
        hold = Held(pair.back)
        async with pair.service("carry").give_up.open(sink, filled([3] * 8)):
            await trio.testing.wait_all_tasks_blocked()
            hold.release()
            results = []
            for _ in range(8):
                inner = await source.receive()
                with contextlib.suppress(duplex.ResourceExhausted):
                    results.append(await collect(inner, 3))
                    with pytest.raises(duplex.CallCancelled):
                        await inner.receive()
            assert results == [[0, 1, 2]] * 5, "65 bytes an item"


async def test_room_for_channels_that_ended_unseen_comes_back() -> None:
    async with linked(carry, client={"limits": duplex.Limits(channel_window=1024)}) as pair:
        sink, source = trio.open_memory_channel[Any](0)
        counts, counts_source = trio.open_memory_channel[int](0)
        async with pair.service("carry").give_up.open(sink, counts_source):
            for _ in range(5):
                await counts.send(10)
                await pair.settle()
                inner = await source.receive()
                assert await collect(inner, 10) == list(range(10))
                with pytest.raises(duplex.CallCancelled):
                    await inner.receive()


@pytest.mark.plain_wire("each has to end before the next one comes")
async def test_channels_that_ended_unseen_are_bounded_in_number(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(carry, client={"limits": duplex.Limits(max_channels=4)}) as pair:
        sink, source = trio.open_memory_channel[Any](0)
        counts, counts_source = trio.open_memory_channel[int](0)
        async with pair.service("carry").give_up.open(sink, counts_source):
            for _ in range(8):
                await counts.send(1)
                await trio.testing.wait_all_tasks_blocked()
            found = await collect(source)
            assert 3 <= len(found) < 8
            for inner in found:
                assert await inner.receive() == 0
    assert "there is no channel" in caplog.text


async def test_channel_is_named_by_one_value_only() -> None:
    """Also one that is over."""
    async with linked(carry) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        assert await pair.service("carry").deliver(sink, 2) == "delivered"
        channel = (await source.receive())["items"]._channel_end
        with pytest.raises(duplex.DecodeError, match="taken already"):
            channel.root.claim(channel.channel)
