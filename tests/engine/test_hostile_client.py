"""Hostile peers that connect: they cannot end a peer, reach a handler that is not theirs, or disturb others."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from duplex.engine.links._session import Session
from duplex.transports import DEFAULT, Carrier, Frames, Port, TransportOptions
from tests.engine.helpers import leftovers, quiet, until
from tests.engine.hostile import (
    BREAKS_CHANNEL,
    BREAKS_LINK,
    GARBAGE,
    MUTATIONS,
    NO_GREETING,
    NONE,
    ONE,
)
from tests.engine.raw import HELLO, RawDealer, batch
from tests.machine import fail_after

pytestmark = pytest.mark.plain_wire("what breaks the rules depends on the message in which it comes")

LIMITS = duplex.Limits(
    max_message=100_000, channel_window=16_000, link_window=64_000, max_channels=16, max_links=8
)


class Arena:
    """A bound peer, and a client that uses it all the while."""

    def __init__(self, server: duplex.Peer, endpoint: str, link: duplex.Link) -> None:
        self.server = server
        self.endpoint = endpoint
        self.link = link
        #: Calls of the method that nobody ever calls rightly.
        self.victims: list[Any] = []
        self.running = 0
        self.good_calls = 0

    async def go_on(self) -> None:
        """Let the well-behaved client finish some calls that it begins after this."""
        wanted = self.good_calls + 3
        await until(lambda: self.good_calls >= wanted)

    async def hostile_link(self) -> duplex.Link:
        """Wait for the hostile peer to become a link of the server."""
        await until(lambda: len(self.server.links) == 2)
        return next(link for link in self.server.links if link.peer_name == "raw")


@contextlib.asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """Let an attack happen in the block; then check that there is no trace of it."""
    service = duplex.Service("svc")
    place: Arena

    @service.rpc
    async def victim(number: int) -> None:
        place.victims.append(number)

    @service.rpc
    async def good(number: int) -> int:
        return number

    @service.rpc
    async def sleep(items: duplex.ReceiveChannel[Any]) -> None:
        place.running += 1
        try:
            await trio.sleep_forever()
        finally:
            place.running -= 1

    @service.rpc
    async def listen(items: duplex.ReceiveChannel[int]) -> int:
        return sum([item async for item in items])

    @service.rpc
    async def numbers() -> AsyncIterator[int]:
        yield 1

    with fail_after(5):
        async with (
            duplex.open_peer(services=[service], limits=LIMITS, name="server") as server,
            duplex.open_peer(name="client") as client,
            trio.open_nursery() as nursery,
        ):
            endpoint = await server.bind("tcp://127.0.0.1:*")
            link = await client.connect(endpoint)
            place = Arena(server, endpoint, link)

            async def use() -> None:
                remote = link.service("svc")
                while True:
                    assert await remote.good(place.good_calls) == place.good_calls
                    place.good_calls += 1

            nursery.start_soon(use)
            await place.go_on()
            yield place
            await place.go_on()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert place.victims == []
                await until(lambda: len(server.links) == 1)
                await quiet(link, server.links[0])
                assert place.running == 0
                assert all(len(receiver.links) == 1 for receiver in server._inside.ports.receivers)


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_instead_of_a_greeting(name: str) -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            raw.send(*GARBAGE[name])
            refused = await raw.hears_the_end()
            assert refused[:2] == [1, "protocol"]
            assert isinstance(refused[2], str)
            assert len(place.server.links) == 1
            await place.go_on()


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_on_an_open_link(name: str) -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            raw.send(*GARBAGE[name])
            goaway = await raw.hears_the_end()
            assert goaway[0] == 5
            assert goaway[2] == "protocol"
            await link.wait_closed()
            await until(lambda: not _held(link))


@pytest.mark.parametrize("name", NO_GREETING)
async def test_no_proper_greeting(name: str) -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            raw.send(*NO_GREETING[name])
            ended = await raw.hears_the_end()
            assert ended[0] == 1 or ended[2] == "protocol"
            await place.go_on()


@pytest.mark.parametrize("name", BREAKS_LINK)
async def test_against_the_rules_of_the_link(name: str) -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            raw.send(*BREAKS_LINK[name])
            goaway = await raw.hears_the_end()
            assert goaway[0] == 5
            assert goaway[2] == "protocol"
            assert goaway[3]
            await link.wait_closed()
            await until(lambda: not _held(link))


@pytest.mark.parametrize("name", BREAKS_CHANNEL)
async def test_against_the_rules_of_a_channel(name: str) -> None:
    """The channel is over, the link goes on, and has lost nothing."""
    status, frames = BREAKS_CHANNEL[name]
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            raw.send(*frames)
            (closed,) = await raw.commands(10)
            assert closed[1:3] == [1, status], closed
            raw.say([7, 101, "svc.good", 3, ONE])
            closed = (await raw.commands(10, 2))[1]
            assert closed[1:4] == [101, 0, b"\x01"]
            await until(lambda: not place.running)
            await until(lambda: not _held(link))
            assert link.is_open


def _held(link: duplex.Link) -> list[str]:
    """What the link holds; its peer is busy with others, so without the peer's tasks."""
    return [problem for problem in leftovers(link) if ": tasks" not in problem]


@pytest.mark.parametrize("name", MUTATIONS)
async def test_messages_with_a_few_bytes_changed(name: str) -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            raw.send(*MUTATIONS[name])
            raw.say([3, 999])
            await until_any(raw)
        place.victims.clear()  # the bytes that were changed may not have mattered


async def until_any(raw: RawDealer) -> None:
    """Wait until a ping was answered, or the link given up."""
    while not any(command[:2] == [4, 999] or command[0] in (1, 5) for command in raw.received):
        await raw.more()


@pytest.mark.slow
async def test_random_bytes_from_many_connections() -> None:
    source = random.Random(1)
    async with arena() as place:
        for _ in range(40):
            with RawDealer(place.endpoint) as raw:
                if source.random() < 0.5:
                    await raw.shake_hands()
                for _ in range(source.randrange(1, 5)):
                    frames = [source.randbytes(source.randrange(60)) for _ in range(source.randrange(1, 5))]
                    raw.send(*frames)
                await raw.hears_the_end()


async def test_oversized_frame() -> None:
    """libzmq itself cuts the connection, before it has made room for the frame."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            raw.send(bytes(4_000_000))
            await link.wait_closed()
            await place.go_on()


async def test_message_of_thousand_frames() -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            raw.send(batch([3, 1]), *[b"x"] * 1000)
            assert (await raw.hears_the_end())[2] == "protocol"


async def test_silence_after_connecting() -> None:
    """Who says nothing, or nothing that means anything, is no link and costs no more than a connection."""
    async with arena() as place:
        with RawDealer(place.endpoint), RawDealer(place.endpoint) as raw:
            raw.say()
            raw.say()
            await place.go_on()
            assert len(place.server.links) == 1


async def test_goodbye_and_call_in_one_breath() -> None:
    """No handler runs for a peer that has just left: nobody would ever stop it."""
    async with arena() as place:
        for reason in ("closing", "protocol"):
            with RawDealer(place.endpoint) as raw:
                await raw.shake_hands()
                link = await place.hostile_link()
                raw.say(
                    [5, 0, reason],
                    [7, 1, "svc.victim", 3, ONE],
                    [7, 3, "svc.sleep", 0, NONE],
                    [7, 5, "svc.victim", 5, ONE],
                )
                await link.wait_closed()
                await place.go_on()
                assert not link._inside.channels.users
                assert place.running == 0


async def test_calls_before_the_goodbye_are_stopped() -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            raw.say([7, 1, "svc.sleep", 0, NONE], [5, 0, "closing"])
            await link.wait_closed()
            await place.go_on()
            assert place.running == 0


async def test_more_channels_than_allowed() -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            raw.say(*[[7, 1 + 2 * n, "svc.sleep", 0, NONE] for n in range(100)])
            closed = await raw.commands(10, 100 - LIMITS.max_channels)
            assert {command[2] for command in closed} == {8}
            assert [command[1] for command in closed] == list(range(1 + 2 * LIMITS.max_channels, 200, 2))
            await until(lambda: place.running == LIMITS.max_channels)
            raw.say(*[[11, 1 + 2 * n] for n in range(LIMITS.max_channels)])
            await raw.commands(10, 100)
            assert place.running == 0


async def test_more_values_than_allowed() -> None:
    """Channels nested in a call count as channels, and end with it whether or not anybody looked at them."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            nested = [[7, 3 + 2 * n, None, 0, None, 0, None, None, None, 1] for n in range(50)]
            raw.say([7, 1, "svc.sleep", 0, NONE], *nested)
            assert len(await raw.commands(10, 51 - LIMITS.max_channels)) == 51 - LIMITS.max_channels
            assert len(link._inside.channels.users) == LIMITS.max_channels
            raw.say([11, 1])
            await raw.commands(10, 51)
            await until(lambda: not _held(link))


async def test_broken_call_releases_its_values() -> None:
    """A call whose caller breaks the rules is over, and so is all that belongs to it."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            value = [7, 3, None, 0, None, 0, None, None, None, 1]
            raw.say([7, 1, "svc.sleep", 0, NONE], value, [10, 1])
            closed = await raw.commands(10, 2)
            assert {command[1] for command in closed} == {1, 3}
            await until(lambda: not _held(link))


async def test_flood_of_pings_is_answered() -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            for start in range(0, 10_000, 1000):
                raw.say(*[[3, start + n] for n in range(1000)])
            assert len(await raw.commands(4, 10_000)) == 10_000


async def test_flood_of_calls_is_answered() -> None:
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            for n in range(2000):
                raw.say([7, 1 + 2 * n, "svc.good", 3, ONE])
                if n % 10 == 9:
                    await raw.commands(10, n + 1)
            assert {command[2] for command in await raw.commands(10, 2000)} == {0}


async def test_announcements_that_change_all_the_time() -> None:
    """What a peer offers is a name for its own link; it does not take calls away from others."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            for n in range(200):
                raw.say([2, [{"name": f"service-{n}"}, {"name": "duplex.health"}]])
            raw.say([3, 1])
            await raw.commands(4)
            link = await place.hostile_link()
            assert link.services == {"service-199": "0.0.0", "duplex.health": "0.0.0"}


async def test_call_to_a_hostile_peer_that_never_answers() -> None:
    """A server that calls such a client waits as long as it wants to, not longer."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            raw.say([*HELLO, ["msgpack"], [], {}, [{"name": "trap"}]])
            await raw.commands(0)
            link = await place.hostile_link()
            with pytest.raises(duplex.DeadlineExceeded):
                await link.service("trap").with_options(timeout=0.02).step_in()
            cancelled = await raw.commands(11)
            raw.say([10, cancelled[0][1], 1])
            await until(lambda: not _held(link))


@pytest.mark.slow
async def test_many_hostile_connections_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    # Records would be kept, and they hold errors, whose tracebacks hold links.
    caplog.set_level(logging.CRITICAL, logger="duplex")

    def count() -> int:
        gc.collect()
        return sum(isinstance(thing, Session) for thing in gc.get_objects())

    async with arena() as place:
        before = count()
        for n in range(30):
            with RawDealer(place.endpoint) as raw:
                if n % 2:
                    await raw.shake_hands()
                raw.send(b"\xc1")
                await raw.hears_the_end()
        await until(lambda: len(place.server.links) == 1)
        await place.go_on()
        assert count() - before <= 2


class _Silent:
    """Opens connections in memory, says one thing on each, and listens to nothing."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.port: Port

    def carrier_up(self, carrier: Carrier) -> None:
        carrier.send([self.said])

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        pass

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        self.port.close()


@contextlib.asynccontextmanager
async def _ungreeting(number: int) -> AsyncIterator[duplex.Peer]:
    """A peer with so many connections in memory that said something once, and no greeting."""
    async with duplex.open_peer(limits=LIMITS) as server, trio.open_nursery() as nursery:
        endpoint = await server.bind("memory://*")
        for _ in range(number):
            silent = _Silent(batch())
            silent.port = DEFAULT.transport_for(endpoint).connect(endpoint, silent, TransportOptions())
            nursery.start_soon(silent.port.run)
        await trio.testing.wait_all_tasks_blocked()
        yield server
        nursery.cancel_scope.cancel()


def _links_held(server: duplex.Peer) -> int:
    """Links with and without a greeting."""
    return sum(len(receiver.links) for receiver in server._inside.ports.receivers)


async def test_connections_that_never_greet_are_bounded_by_number(mock_clock: trio.testing.MockClock) -> None:
    """However many come before their time to greet is over: what is held does not grow with how many there are."""
    async with _ungreeting(50) as server:
        assert mock_clock.current_time() == 0
        assert LIMITS.max_links < _links_held(server) <= 2 * LIMITS.max_links


async def test_connections_that_never_greet_are_bounded_by_time(autojump_clock: object) -> None:
    async with _ungreeting(LIMITS.max_links) as server:
        assert _links_held(server) == LIMITS.max_links
        await trio.sleep(100)
        assert _links_held(server) == 0
        assert server.links == []


async def test_broken_value_costs_itself_only() -> None:
    """A nested channel whose opener breaks its rules is over; its call goes on."""
    async with arena() as place:
        with RawDealer(place.endpoint) as raw:
            await raw.shake_hands()
            link = await place.hostile_link()
            value = [7, 3, None, 1, None, 0, None, None, None, 1]
            raw.say([7, 1, "svc.listen", 0, NONE], value, [8, 3, b"x"])
            (closed,) = await raw.commands(10)
            assert closed[1:3] == [3, 13]
            raw.say([8, 1, b"\x02"], [9, 1])
            closed = (await raw.commands(10, 2))[1]
            assert closed[1:4] == [1, 0, b"\x02"]
            await until(lambda: not _held(link))
