"""No end overtakes what came before it: items of channels that a caller passed are handed on, whatever ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.channel_service import channels
from tests.engine.held import held, late_tasks
from tests.engine.helpers import GUARD, collect, linked, made, outcome, until
from tests.engine.raw import RawRouter
from tests.machine import fail_after

ends = duplex.Service("ends")


@ends.rpc
async def fill_and_fail(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and fail."""
    for number in range(count):
        await sink.send(number)
    raise duplex.NotFound("there are no more")


@ends.rpc
async def fill_and_go(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and end the link."""
    for number in range(count):
        await sink.send(number)
    link: Any = duplex.current_call().link
    await link.aclose()
    await trio.sleep_forever()


@ends.rpc
async def fill_and_wait(sink: duplex.SendChannel[int], count: int) -> None:
    """Send so many numbers, and go on."""
    for number in range(count):
        await sink.send(number)
    await trio.sleep_forever()


@pytest.mark.parametrize("room", [0, 2, math.inf])
@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_items_of_a_passed_channel_come_before_the_task_that_hands_them_on(
    room: float, opened: bool
) -> None:
    """And so does the result."""
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](room)
        with late_tasks(pair.client):
            assert await made(pair.service("channels").fill, sink, 5, opened=opened) == "filled"
        assert await collect(source) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("room", [0, math.inf])
@pytest.mark.parametrize(
    ("method", "error"), [("fill_and_fail", duplex.NotFound), ("fill_and_go", duplex.PeerLost)]
)
@pytest.mark.parametrize("late", [False, True], ids=["in-time", "late"])
async def test_items_that_came_are_handed_on_though_the_call_failed(
    method: str, error: type[duplex.RPCError], room: float, late: bool
) -> None:
    """The caller learns the error from the call, and whoever receives gets what had come before it."""
    async with linked(ends) as pair:
        sink, source = trio.open_memory_channel[int](room)
        failed: list[Any] = []

        async def call() -> None:
            failed.append(await outcome(pair.service("ends")[method](sink, 5)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            if late:
                with late_tasks(pair.client):
                    await trio.testing.wait_all_tasks_blocked()
            else:
                with held(pair.back):
                    await trio.testing.wait_all_tasks_blocked()
                await trio.testing.wait_all_tasks_blocked()
            assert [type(result) for result in failed] == [error]
            assert await collect(source) == [0, 1, 2, 3, 4]


async def test_items_that_came_are_handed_on_though_the_peer_is_closed() -> None:
    """As far as the local channel has room; nobody waits for a reader any more."""
    async with linked(channels, check=False) as pair:
        sink, source = trio.open_memory_channel[int](5)
        assert await pair.service("channels").fill(sink, 5) == "filled"
        await pair.client.aclose()
    assert await collect(source) == [0, 1, 2, 3, 4]


async def test_items_for_which_there_is_no_room_when_the_peer_is_closed_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with linked(channels, check=False) as pair:
        sink, source = trio.open_memory_channel[int](2)
        assert await pair.service("channels").fill(sink, 5) == "filled"
        await pair.client.aclose()
    assert await collect(source) == [0, 1]
    assert "3 items that had come on a channel passed to server were not taken" in caplog.text


async def test_nothing_is_warned_of_when_all_was_handed_on(caplog: pytest.LogCaptureFixture) -> None:
    async with linked(channels, check=False) as pair:
        sink, source = trio.open_memory_channel[int](math.inf)
        assert await pair.service("channels").fill(sink, 5) == "filled"
        assert await collect(source) == [0, 1, 2, 3, 4]
        await pair.client.aclose()
    assert caplog.text == ""


@pytest.mark.parametrize("close", ["reader", "writer"])
async def test_nobody_is_warned_whose_local_channel_was_closed(
    close: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the application itself, when it wants nothing more."""
    async with linked(channels, check=False) as pair:
        sink, source = trio.open_memory_channel[int](5)
        with late_tasks(pair.client):
            assert await pair.service("channels").fill(sink, 5) == "filled"
        (source if close == "reader" else sink).close()
        await pair.client.aclose()
    assert caplog.text == ""


async def test_cancelled_call_hands_on_what_has_come() -> None:
    """What was there before a caller gave up does not depend on how busy its tasks were; see too that nobody waits:
    test_cancelled_call_releases_a_channel_that_nobody_reads()."""
    async with linked(ends) as pair:
        sink, source = trio.open_memory_channel[int](math.inf)
        with late_tasks(pair.client):
            async with pair.service("ends").fill_and_wait.open(sink, 5):
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        assert await collect(source) == [0, 1, 2, 3, 4]


class Flushing(trio.abc.SendChannel[int]):
    """A channel that keeps what it is given, and hands it on when it is closed in order."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.flushed: list[int] = []

    async def send(self, value: int) -> None:
        await trio.lowlevel.checkpoint()
        self.kept.append(value)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.flushed, self.kept = [*self.flushed, *self.kept], []


async def test_passed_channel_is_closed_in_order() -> None:
    """Not as one is closed that is given up, which has no time for what it holds."""
    async with linked(channels) as pair:
        sink = Flushing()
        assert await pair.service("channels").fill(sink, 5) == "filled"
        await trio.testing.wait_all_tasks_blocked()
        assert sink.flushed == [0, 1, 2, 3, 4]


async def test_channel_of_an_own_kind_gets_nothing_when_the_peer_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only of trio's own is known whether it has room."""
    async with linked(channels, check=False) as pair:
        with late_tasks(pair.client):
            assert await pair.service("channels").fill(Flushing(), 5) == "filled"
        await pair.client.aclose()
    assert "5 items that had come on a channel passed to server were not taken" in caplog.text


async def test_item_of_another_type_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """What was to be handed on when the peer was closed may turn out to be no value at all."""
    service = duplex.Service("service")

    @service.rpc
    async def garble(sink: duplex.SendChannel[int]) -> None:
        channel: Any = sink
        await channel.send(1)
        link = channel._channel_end.link
        link.connection.send(channel._channel_end.channel, b"\xc1")
        link.touch()

    async with linked(service, check=False) as pair:
        sink, source = trio.open_memory_channel[int](5)
        with late_tasks(pair.client):
            await pair.service("service").garble(sink)
        await pair.client.aclose()
    assert await collect(source) == [1]


#: What a server says of a passed channel and of the call, in one message, and how many items must come of it.
SAID = {
    "in order": (["item", "item", "end of channel", "end of call"], 2),
    "the channel not at all": (["item", "item", "end of call"], 2),
    "the call fails": (["item", "item", "failure of call"], 2),
    "the call in between": (["item", "end of call", "item", "end of channel"], 1),
}


@pytest.mark.plain_wire("all has to come in one message")
@pytest.mark.parametrize("order", SAID)
@pytest.mark.parametrize("room", [0, math.inf])
@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_items_and_ends_in_other_orders(
    order: str, room: float, opened: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What another implementation says before it ends the call counts, even if it forgets to end the channel before; of
    what it says later, it is told that nobody wants it."""
    said, items = SAID[order]
    with fail_after(GUARD), RawRouter() as server:
        async with duplex.open_peer() as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, server.endpoint)
            await server.shake_hands(services=["raw"])
            await until(lambda: client.links)
            sink, source = trio.open_memory_channel[int](room)
            results: list[Any] = []

            async def call() -> None:
                results.append(await outcome(made(client.service("raw").fill, sink, opened=opened)))

            nursery.start_soon(call)
            await server.commands(8)
            (called, passed) = (command[1] for command in server.received if command[0] == 7)
            commands = {
                "item": [8, passed, b"\x07"],
                "end of channel": [10, passed],
                "end of call": [10, called, 0, b"\x01"],
                "failure of call": [10, called, 5],
            }
            server.say(*(commands[what] for what in said))
            await until(lambda: results)
            assert (await collect(source))[:items] == [7] * items
            assert type(results[0]) is (int if order != "the call fails" else duplex.NotFound)
            late = "ended a call before a channel that was passed with it" in caplog.text
            assert late == (order == "the channel not at all" or (order == "the call in between" and opened))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("opened", [False, True], ids=["awaited", "opened"])
async def test_refused_call_is_told_by_its_error_alone(
    opened: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(channels) as pair:
        sink, source = trio.open_memory_channel[int](0)
        with pytest.raises(duplex.Unimplemented):
            await made(pair.service("channels").empty, sink, opened=opened)
        assert await collect(source) == []
    assert caplog.text == ""
