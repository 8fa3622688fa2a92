"""Channels as values: any trio channel in an argument, a result or a message, in both directions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.channel_service import channels
from tests.engine.helpers import collect, feed, linked, outcome, until


async def test_sending_end_as_an_argument(endpoint: str) -> None:
    async with linked(channels, endpoint=endpoint) as pair:
        sink, source = trio.open_memory_channel[int](0)
        received: list[int] = []

        async def read() -> None:
            received.extend(await collect(source))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            assert await pair.service("channels").fill(sink, 100) == "filled"
        assert received == list(range(100))


async def test_receiving_ends_as_arguments(endpoint: str) -> None:
    async with linked(channels, endpoint=endpoint) as pair:
        ends = [trio.open_memory_channel[int](math.inf) for _ in range(2)]
        for factor, (sink, _) in enumerate(ends, 1):
            for number in range(10):
                sink.send_nowait(number * factor)
            sink.close()
        result = await pair.service("channels").drain(ends[0][1], ends[1][1])
        assert result == [list(range(10)), list(range(0, 20, 2))]


async def test_both_directions_at_once(endpoint: str) -> None:
    async with linked(channels, endpoint=endpoint) as pair:
        answer_sink, answers = trio.open_memory_channel[int](0)
        questions, question_source = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("channels").double, answer_sink, question_source)
            for number in range(5):
                await questions.send(number)
                assert await answers.receive() == 2 * number
            await questions.aclose()
            with pytest.raises(trio.EndOfChannel):
                await answers.receive()


async def test_channel_as_a_result(endpoint: str) -> None:
    async with linked(channels, endpoint=endpoint) as pair:
        async with pair.service("channels").produce.open(50) as call:
            source = await call.result()
            assert isinstance(source, duplex.ReceiveChannel)
            assert await collect(source) == list(range(50))


async def test_two_channels_as_a_result() -> None:
    async with linked(channels) as pair:
        async with pair.service("channels").converse.open() as call:
            result = await call.result()
            for number in range(5):
                await result["ask"].send(number)
                assert await result["answers"].receive() == number + 1
            await result["ask"].aclose()
            assert await collect(result["answers"]) == []


async def test_channel_as_a_result_needs_an_open_call() -> None:
    async with linked(channels) as pair:
        with pytest.raises(TypeError, match=r"call\.result\(\)"):
            await pair.service("channels").produce(3)


async def test_call_with_a_channel_in_its_result_ends_with_it() -> None:
    """The call goes on only as long as the channel does."""
    async with linked(channels) as pair:
        async with pair.service("channels").produce.open(3) as call:
            assert await collect(await call.result()) == [0, 1, 2]
            await until(lambda: not pair.link.statistics().outgoing)


async def test_what_was_sent_arrives_after_the_call_has_ended() -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](0)
        assert await pair.service("channels").fill(sink, 500) == "filled"
        assert await collect(source) == list(range(500))


async def test_sender_stops_when_the_handler_has_had_enough(endpoint: str) -> None:
    async with linked(channels, endpoint=endpoint) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:

            async def keep_on() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await feed(sink, 7)

            nursery.start_soon(keep_on)
            assert await pair.service("channels").first(source) == 7


async def test_handler_closes_its_receiving_end_early() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def taste(source: duplex.ReceiveChannel[int], other: duplex.SendChannel[str]) -> None:
        assert await source.receive() == 1
        await source.aclose()
        await source.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await source.receive()
        await other.send("closed")
        await trio.sleep_forever()

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        notes_sink, notes = trio.open_memory_channel[str](0)
        # The first parameter is passed as a value, so the call's own channel is not used.
        async with pair.service("service").taste.open(source, notes_sink):
            await sink.send(1)
            assert await notes.receive() == "closed"
            with pytest.raises(trio.BrokenResourceError):
                await feed(sink, 2)


async def test_handler_closes_its_sending_end_early() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def brief(sink: duplex.SendChannel[int]) -> None:
        await sink.send(1)
        await sink.aclose()
        await sink.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await sink.send(2)
        await trio.sleep_forever()

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with pair.service("service").brief.open(sink):
            assert await collect(source) == [1], "the end comes though the call goes on"


async def test_send_eof_is_the_end_for_the_other_side() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def brief(sink: duplex.SendChannel[int]) -> None:
        await sink.send(1)
        await sink.send_eof()
        await trio.sleep_forever()

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with pair.service("service").brief.open(sink):
            assert await collect(source) == [1]


async def test_reader_closes_early() -> None:
    """Whoever sends learns it in trio's words, as with any channel whose reader has gone."""
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def persist(sink: duplex.SendChannel[int]) -> None:
        try:
            while True:
                await sink.send(1)
        except Exception as error:
            seen.append(error)

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.service("service").persist, sink)
            assert await source.receive() == 1
            await source.aclose()
    assert [type(error) for error in seen] == [trio.BrokenResourceError]


async def test_reader_of_a_result_closes_early() -> None:
    service = duplex.Service("service")
    seen: list[Any] = []

    @service.rpc
    async def numbers() -> trio.MemoryReceiveChannel[int]:
        sink, source = trio.open_memory_channel[int](0)

        async def keep_on() -> None:
            try:
                await feed(sink, 1)
            except trio.BrokenResourceError as error:
                seen.append(error)

        duplex.current_call().link.peer._inside.spawn(keep_on)
        return source

    async with linked(service) as pair:
        async with pair.service("service").numbers.open() as call:
            source = await call.result()
            assert await collect(source, 3) == [1, 1, 1]
            await source.aclose()
            await until(lambda: seen)


async def test_items_of_a_passed_channel_are_checked() -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[Any](math.inf)
        sink.send_nowait("text")
        with pytest.raises(duplex.InvalidArgument, match=r"streamed item 1"):
            await pair.service("channels").first(source)


async def test_duplex_channel_must_be_passed_as_two() -> None:
    async with linked(channels) as pair:
        ends = trio.testing.memory_stream_pair()
        stapled = trio.StapledStream(*ends)
        with pytest.raises(duplex.EncodeError):
            await pair.service("channels").ignore(stapled)

        class Both(trio.abc.Channel[int]):
            async def send(self, value: int) -> None:
                raise NotImplementedError

            async def receive(self) -> int:
                raise NotImplementedError

            async def aclose(self) -> None:
                raise NotImplementedError

        with pytest.raises(duplex.EncodeError, match="two ends as two channels"):
            await pair.service("channels").ignore(Both())
        assert await pair.service("channels").ignore(1) == "ignored"


async def test_wrong_end() -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](0)
        with pytest.raises(duplex.InvalidArgument, match="'sink'"):
            await pair.service("channels").fill(source, 1)
        with pytest.raises(trio.BrokenResourceError):
            await sink.send(1)
        with pytest.raises(duplex.InvalidArgument, match="'sink'"):
            await pair.service("channels").fill(1, 1)


async def test_channel_passed_through_a_third_peer() -> None:
    """The middle one passes on what it got; items go through both links and so does the end."""
    async with linked(channels, endpoint="memory://far") as far:
        middle = duplex.Service("middle")
        onward = far.client.service("channels")

        @middle.rpc
        async def forward(sink: duplex.SendChannel[int], count: int) -> str:
            result: str = await onward.fill(sink, count)
            return result

        far.client.add_service(middle)
        near = await far.client.bind("memory://*")
        async with duplex.open_peer() as client:
            await client.connect(near)
            sink, source = trio.open_memory_channel[int](math.inf)
            assert await client.service("middle").forward(sink, 20) == "filled"
            assert await collect(source) == list(range(20))


async def test_timeout_covers_what_is_still_to_be_handed_on(autojump_clock: object) -> None:
    """The far peer has answered, but what it sent waits for the near one, which does not read."""
    outcomes: list[Any] = []
    async with linked(channels, endpoint="memory://far", within=1000) as far:
        middle = duplex.Service("middle")
        onward = far.client.service("channels").with_options(timeout=5)

        @middle.rpc
        async def forward(sink: duplex.SendChannel[int], count: int) -> None:
            began = trio.current_time()
            outcomes.append(await outcome(onward.fill(sink, count)))
            outcomes.append(trio.current_time() - began)

        far.client.add_service(middle)
        near = await far.client.bind("memory://*")
        async with duplex.open_peer(limits=duplex.Limits(channel_window=1024)) as client:
            await client.connect(near)
            sink, _source = trio.open_memory_channel[int](0)
            await client.service("middle").forward(sink, 100)
    error, took = outcomes
    assert type(error) is duplex.DeadlineExceeded
    assert (error.method, error.may_have_executed, took) == ("channels.fill", True, 5)


async def test_stream_of_a_call_passed_on_as_a_value() -> None:
    """What comes on a call's own channel may be passed to another call as it is."""
    async with linked(channels, endpoint="memory://far") as far:
        middle = duplex.Service("middle")
        onward = far.client.service("channels")

        @middle.rpc
        async def forward(source: duplex.ReceiveChannel[int]) -> int:
            result: int = await onward.first(source)
            return result

        far.client.add_service(middle)
        near = await far.client.bind("memory://*")
        async with duplex.open_peer() as client:
            await client.connect(near)
            async with client.service("middle").forward.open() as call:
                await call.send(5)
                assert await call.result() == 5


@pytest.mark.parametrize("ends", [False, True], ids=["goes-on", "ends"])
async def test_generator_yields_channels(ends: bool) -> None:
    """They live on when the generator has ended, as one in a single result does."""
    service = duplex.Service("service")

    @service.rpc
    async def groups(count: int) -> AsyncIterator[Any]:
        for group in range(count):
            sink, source = trio.open_memory_channel[int](math.inf)
            for number in range(group):
                sink.send_nowait(number)
            sink.close()
            yield {"group": group, "items": source}
        if not ends:
            await trio.sleep_forever()

    async with linked(service) as pair:
        async with pair.service("service").groups.open(4) as call:
            await pair.settle()
            for group in range(4):
                message = await call.receive()
                assert message["group"] == group
                assert await collect(message["items"]) == list(range(group))
            if ends:
                assert await collect(call) == []


async def test_channel_in_a_dataclass() -> None:
    """Channels travel wherever other values do, or are refused; never is something else sent in their place."""

    @dataclasses.dataclass
    class Request:
        text: str
        reply: Any

    service = duplex.Service("service")

    @service.rpc
    async def answer(request: dict[str, Any]) -> None:
        await request["reply"].send(request["text"])

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[str](1)
        result = await outcome(pair.service("service").answer(Request("hello", sink)))
        if not isinstance(result, duplex.EncodeError):
            assert result is None
            assert await source.receive() == "hello"


async def test_channels_in_a_long_list() -> None:
    service = duplex.Service("service")

    @service.rpc
    async def drain_all(sources: list[Any]) -> list[list[int]]:
        return [await collect(source) for source in sources]

    async with linked(service) as pair:
        sources: list[Any] = []
        for number in range(100):
            sink, source = trio.open_memory_channel[int](1)
            with sink:
                sink.send_nowait(number)
            sources.append(source)
        result = await outcome(pair.service("service").drain_all(sources))
        assert isinstance(result, duplex.EncodeError) or result == [[number] for number in range(100)]


async def test_channel_in_the_details_of_an_error(caplog: pytest.LogCaptureFixture) -> None:
    service = duplex.Service("service")

    @service.rpc
    async def refuse() -> None:
        raise duplex.NotFound("no", details={"more": trio.open_memory_channel[int](0)[1]})

    async with linked(service) as pair:
        with pytest.raises(duplex.NotFound) as caught:
            await pair.service("service").refuse()
        assert caught.value.details is None
        assert "cannot travel" in caplog.text


async def test_two_tasks_receive_from_a_channel() -> None:
    service = duplex.Service("service")
    results: list[Any] = []

    @service.rpc
    async def contend(source: duplex.ReceiveChannel[int], other: duplex.ReceiveChannel[int]) -> None:
        async def receive() -> None:
            try:
                results.append(await source.receive())
            except trio.BusyResourceError as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(receive)

    async with linked(service) as pair:
        sink, source = trio.open_memory_channel[int](0)
        _, other = trio.open_memory_channel[int](0)
        async with pair.service("service").contend.open(source, other) as call:
            await until(lambda: results)
            await sink.send(7)
            assert await call.result() is None
    assert [type(result) for result in results] == [trio.BusyResourceError, int]
