"""Hostile peers that are connected to: whatever they answer, the calls to them end, and all others go on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import duplex
from tests.engine.helpers import collect, leftovers, outcome, quiet, until
from tests.engine.hostile import GARBAGE, NONE, ONE
from tests.engine.raw import HELLO, RawRouter, batch
from tests.machine import fail_after, within

pytestmark = pytest.mark.plain_wire("what breaks the rules depends on the message in which it comes")

#: Instead of an answer to ``HELLO``.
NO_ANSWER: dict[str, list[bytes]] = {
    "call": [batch([7, 2, "own.victim", 3, ONE])],
    "goodbye": [batch([5, 0, "closing"])],
    "pong": [batch([4, 1])],
    "two greetings": [batch(HELLO, HELLO)],
    "greeting and attachment": [batch(HELLO), b"x"],
    "another protocol": [batch([0, "HTTP", 1, 1, "id"])],
    "another version": [batch([0, "DMTP", 9, 9, "id"])],
    "unknown codec": [batch([*HELLO, ["pickle"]])],
    "refusal without a reason": [batch([1])],
    "refusal that is too long": [batch([1, "auth", "x" * 10_000])],
}
#: Refusals, and the reason that the application sees.
REFUSALS: dict[str, tuple[str, list[bytes]]] = {
    "auth": ("auth", [batch([1, "auth", "who are you?"])]),
    "limit": ("limit", [batch([1, "limit"])]),
    "new word": ("because", [batch([1, "because", "so"])]),
}
#: After the handshake: the link ends.
BREAKS_LINK: dict[str, list[bytes]] = {
    "refuse": [batch([1, "auth", "too late"])],
    "greeting": [batch(HELLO)],
    "our own number": [batch([7, 3, "own.victim", 3, ONE])],
    "close of a channel that is not open": [batch([10, 99])],
    "data on a channel that is not open": [batch([8, 99, b"x"])],
    "cancel of a channel that is not open": [batch([11, 98])],
    "notify without end": [batch([7, 2, "own.victim", 4, ONE])],
    "attachments for a result that did not come": [batch([10, 1, 0, ONE, 2])],
    "more than the window": [batch(*[[10, 1, 0, bytes(30_000)] for _ in range(40)])],
    "protocol goodbye": [batch([5, 0, "protocol", "you did wrong"])],
}
#: What is said to the call on channel 1, and what its caller gets.
ANSWERS: dict[str, tuple[Any, list[bytes]]] = {
    "garbage": (duplex.Internal, [batch([10, 1, 0, b"\xc1"])]),
    "nothing": (duplex.Internal, [batch([10, 1, 0, b""])]),
    "trailing bytes": (duplex.Internal, [batch([10, 1, 0, b"\x01\x01"])]),
    "deep": (duplex.Internal, [batch([10, 1, 0, b"\x91" * 50_000 + b"\xc0"])]),
    "attachment": (duplex.Internal, [batch([10, 1, 0, b"\x01", 1]), b"x"]),
    "unknown extension": (duplex.Internal, [batch([10, 1, 0, b"\xd4\x63\x01"])]),
    "channel that is not there": (duplex.Internal, [batch([10, 1, 0, b"\xd4\x05\x07"])]),
    # Worth nothing, as the call is over that it belongs to.
    "callback after the end": ((duplex.Internal, duplex.Callback), [batch([10, 1, 0, b"\xd4\x03\x07"])]),
    "too large": (duplex.ResourceExhausted, [batch([10, 1, 0, bytes(200_000)])]),
    "new status": (duplex.Unknown, [batch([10, 1, 4711, None, 0, "from the future"])]),
    "details that are garbage": (duplex.NotFound, [batch([10, 1, 5, None, 0, "m", b"\xc1"])]),
    "status with a payload": (duplex.NotFound, [batch([10, 1, 5, ONE, 0, "m"])]),
    "trailers that are wrong": (duplex.DuplexError, [batch([10, 1, 0, b"\x01", 0, "", None, {"A": 1}])]),
    "no payload": (TypeError, [batch([10, 1])]),
    "cancelled": (duplex.CallCancelled, [batch([10, 1, 1])]),
    "item": (TypeError, [batch([8, 1, b"\x01"])]),
    "two items": (TypeError, [batch([8, 1, b"\x01"], [8, 1, b"\x02"])]),
    "callback": (TypeError, [batch([8, 1, b"\xd4\x03\x07", 2])]),
    "item that is too large": (duplex.ResourceExhausted, [batch([8, 1, bytes(200_000)])]),
    "cancel by the responder": (duplex.Internal, [batch([11, 1])]),
}


class Arena:
    """A peer that is linked to a hostile one and to a good one."""

    def __init__(self, client: duplex.Peer, router: RawRouter, nursery: trio.Nursery) -> None:
        self.client = client
        self.router = router
        self.nursery = nursery
        self.good: duplex.Link
        self.victims: list[int] = []

    async def check(self) -> None:
        """The good link goes on."""
        assert await self.good.service("good").echo(1) == 1

    async def hostile_link(self) -> duplex.Link:
        """Connect to the hostile peer, which keeps the rules as yet."""
        self.nursery.start_soon(self.client.connect, self.router.endpoint)
        await self.router.shake_hands(services=["raw"])
        await until(lambda: len(self.client.links) == 2)
        return self.client.links[1]


@contextlib.asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """Let a hostile server do its worst, and check that nothing is left of it."""
    own = duplex.Service("own")
    good = duplex.Service("good")
    place: Arena

    @own.rpc
    async def victim(number: int) -> None:
        place.victims.append(number)

    @good.rpc
    async def echo(value: Any) -> Any:
        return value

    limits = duplex.Limits(max_message=100_000, channel_window=50_000, link_window=500_000)
    with fail_after(5):
        with RawRouter() as router:
            async with (
                duplex.open_peer(services=[good], name="good") as server,
                duplex.open_peer(services=[own], name="client", limits=limits) as client,
                trio.open_nursery() as nursery,
            ):
                place = Arena(client, router, nursery)
                place.good = await client.connect(await server.bind("tcp://127.0.0.1:*"))
                await place.check()
                yield place
                await place.check()
                assert place.victims == []
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await quiet(place.good, *server.links)


async def _connect(place: Arena) -> Any:
    return await outcome(place.client.connect(place.router.endpoint, timeout=1))


@pytest.mark.parametrize("name", [*GARBAGE, *NO_ANSWER])
async def test_no_proper_answer_to_the_greeting(name: str) -> None:
    """Connecting fails at once, and says that the protocol was broken."""
    async with arena() as place:
        results: list[Any] = []

        async def connect() -> None:
            results.append(await _connect(place))

        place.nursery.start_soon(connect)
        await place.router.commands(0)
        place.router.send(*(GARBAGE | NO_ANSWER)[name])
        await until(lambda: results)
        assert isinstance(results[0], duplex.HandshakeError), results
        assert results[0].reason in ("protocol", "version", "codec")
        assert len(place.client.links) == 1


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusal(name: str) -> None:
    reason, frames = REFUSALS[name]
    async with arena() as place:
        results: list[Any] = []

        async def connect() -> None:
            results.append(await _connect(place))

        place.nursery.start_soon(connect)
        await place.router.commands(0)
        place.router.send(*frames)
        await until(lambda: results)
        assert isinstance(results[0], duplex.HandshakeError)
        assert results[0].reason == reason
        assert f"handshake refused ({reason})" in str(results[0])


async def test_no_answer_at_all() -> None:
    async with arena() as place:
        error = await outcome(place.client.connect(place.router.endpoint, timeout=within(0.2)))
        assert type(error) is duplex.ConnectError
        assert "has not greeted" in str(error)
        assert place.router.endpoint in str(error)


@pytest.mark.parametrize("name", [*GARBAGE, *BREAKS_LINK])
async def test_link_that_breaks_during_calls(name: str) -> None:
    """All that runs on it ends at once."""
    async with arena() as place:
        link = await place.hostile_link()
        results: dict[str, Any] = {}

        async def unary() -> None:
            results["unary"] = await outcome(link.service("raw").method())

        async def stream() -> None:
            async with link.service("raw").method.open() as call:
                results["stream"] = await outcome(collect(call))

        place.nursery.start_soon(unary)
        await place.router.commands(7)
        place.nursery.start_soon(stream)
        await place.router.commands(7, 2)
        place.router.send(*(GARBAGE | BREAKS_LINK)[name])
        await until(lambda: len(results) == 2)
        for error in results.values():
            assert isinstance(error, duplex.PeerLost) or "window" in name, results
        assert not link.is_open
        assert not link._inside.channels.users


@pytest.mark.parametrize("name", ANSWERS)
async def test_answer_to_a_unary_call(name: str) -> None:
    expected, frames = ANSWERS[name]
    async with arena() as place:
        link = await place.hostile_link()
        results: list[Any] = []

        async def call() -> None:
            try:
                results.append(await link.service("raw").method())
            except Exception as error:
                results.append(error)

        place.nursery.start_soon(call)
        await place.router.commands(7)
        place.router.send(*frames)
        await until(lambda: results)
        assert isinstance(results[0], expected), results
        await _settled(place, link)


@pytest.mark.parametrize("name", ANSWERS)
async def test_answer_to_an_open_call(name: str) -> None:
    """Nothing that a server says keeps a reader waiting once the call is over."""
    _, frames = ANSWERS[name]
    async with arena() as place:
        link = await place.hostile_link()
        async with link.service("raw").method.open() as call:
            await place.router.commands(7)
            place.router.send(*frames)
            place.router.say([9, 1], [10, 1])
            with contextlib.suppress(Exception):
                await collect(call)
            with contextlib.suppress(Exception):
                await call.result()
        await _settled(place, link)


async def _settled(place: Arena, link: duplex.Link) -> None:
    """Answer what is still open, as even a hostile server might; then nothing must be left over."""
    place.router.say([3, 5])
    await place.router.commands(4)
    for command in [command for command in place.router.received if command[0] == 11]:
        place.router.say([10, command[1], 1])
    place.router.say([3, 6])
    await place.router.commands(4, 2)
    await until(lambda: not [problem for problem in leftovers(link) if ": tasks" not in problem])
    assert link.is_open


async def test_channel_nested_in_a_unary_call() -> None:
    """A server may pass channels in results of calls that cannot hold them; they are given up again."""
    async with arena() as place:
        link = await place.hostile_link()
        results: list[Any] = []

        async def call() -> None:
            results.append(await outcome(link.service("raw").method()))

        place.nursery.start_soon(call)
        await place.router.commands(7)
        nested = [[7, 2 + 2 * n, None, 0, None, 0, None, None, None, 1] for n in range(10)]
        place.router.say(*nested, [10, 1, 0, b"\x01"])
        await until(lambda: results)
        assert results == [1]
        await place.router.commands(10, 10)
        await _settled(place, link)


async def test_calls_of_a_server_to_its_client() -> None:
    """It may call what the client offers, and nothing else; wrong calls are refused as anybody's."""
    async with arena() as place:
        link = await place.hostile_link()
        place.router.say(
            [7, 2, "own.gone", 3, ONE],
            [7, 4, "own.victim", 3, NONE],
            [7, 6, "own.victim", 3, b"\x91\x91\xa1x"],
            [7, 8, 1, 3, ONE],
        )
        closed = await place.router.commands(10, 4)
        assert sorted(command[1:3] for command in closed) == [[2, 12], [4, 3], [6, 3], [8, 9]]
        await _settled(place, link)


async def test_callback_that_was_never_passed() -> None:
    """A server calls numbers at random while a callback is there; only the right one works."""
    async with arena() as place:
        link = await place.hostile_link()
        called: list[str] = []

        async def function() -> None:
            called.append("called")

        async with link.service("raw").method.open(function):
            await place.router.commands(8)
            place.router.say(*[[7, 2 + 2 * n, n, 3, NONE, 0, None, None, None, 1] for n in range(20)])
            closed = await place.router.commands(10, 20)
            assert called == ["called"]
            assert sorted(command[2] for command in closed) == [0] + [9] * 19
            place.router.say([10, 1, 0, b"\xc0"])
        called.clear()
        place.router.say([3, 1])
        await place.router.commands(4)
        place.router.say(*[[7, 100 + 2 * n, n, 3, NONE] for n in range(20)])
        assert {command[2] for command in (await place.router.commands(10, 40))[20:]} == {9}
        assert called == []
        await _settled(place, link)


async def test_server_that_grants_no_window() -> None:
    """A call to it waits for credit as long as its caller likes."""
    async with arena() as place:
        place.nursery.start_soon(place.client.connect, place.router.endpoint)
        await place.router.commands(0)
        limits = {"channel_window": 1, "link_window": 1}
        place.router.say([*HELLO, ["msgpack"], [], limits, [{"name": "raw"}]])
        await until(lambda: len(place.client.links) == 2)
        link = place.client.links[1]
        remote = link.service("raw").with_options(timeout=0.02)
        for _ in range(2):
            with pytest.raises(duplex.DeadlineExceeded):
                await remote.method(bytes(100))
        with pytest.raises(duplex.DeadlineExceeded):
            async with remote.method.open():
                await trio.sleep_forever()
        with trio.move_on_after(0.02) as scope:
            await remote.method.notify()
        assert scope.cancelled_caught
        assert not link._inside.credit.waiters
        assert not link._inside.channels.users
