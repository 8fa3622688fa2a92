"""Resumable streams of, and for, those who do not keep the promise of their cursors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any, Final

import msgpack
import pytest
import trio
import trio.testing

import duplex
from duplex.transports import DEFAULT, Carrier, Frames, Port, TransportOptions
from tests.engine.helpers import leftovers, linked, outcome
from tests.engine.raw import HELLO, batch

GREETING: Final = [*HELLO, ["msgpack"], [], {}, [{"name": "log"}]]


class Server:
    """A hostile server. Each time that a stream is opened it says the next thing, the last one again and again."""

    port: Port

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        #: The cursors with which streams were opened.
        self.asked: list[Any] = []
        self.when: list[float] = []

    def carrier_up(self, carrier: Carrier) -> None:
        pass

    def carrier_message(self, carrier: Carrier, frames: Frames) -> None:
        for command in msgpack.unpackb(frames[0], strict_map_key=False):
            if command[0] == 0:
                carrier.send([batch(GREETING)])
            elif command[0] == 3:
                carrier.send([batch([4, command[1]])])
            elif command[0] == 7:
                # Arguments that hold live values come later.
                arguments = (
                    [[], {}] if command[4] is None else msgpack.unpackb(command[4], strict_map_key=False)
                )
                self.asked.append(arguments[1].get("cursor") if len(arguments) > 1 else None)
                self.when.append(trio.current_time())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                said = [[*part[:1], command[1], *part[1:]] for part in answer]
                if said:
                    carrier.send([batch(*said)])
            elif command[0] == 11:
                carrier.send([batch([10, command[1], 1])])

    def carrier_down(self, carrier: Carrier, reason: str) -> None:
        pass


@contextlib.asynccontextmanager
async def served(*answers: list[Any], timeout: float = 10.0) -> AsyncIterator[tuple[Server, duplex.Peer]]:
    server = Server(*answers)
    server.port = DEFAULT.transport_for("memory://").bind("memory://hostile", server, TransportOptions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.port.run)
        async with duplex.open_peer(connect_timeout=timeout) as client:
            await client.connect("memory://hostile")
            yield server, client
            await trio.sleep(1)  # of virtual time
            for link in client.links:
                assert leftovers(link) == []
        server.port.close()


def item(cursor: Any, value: Any = "value") -> list[Any]:
    return [8, msgpack.packb([cursor, value])]


GONE: Final = [10, 14, None, 0, "gone"]


async def take(client: duplex.Peer, count: int = 1) -> tuple[list[Any], Any]:
    """Take items of a resumed stream; return them, and the error that ended it or the cursor."""
    values: list[Any] = []
    async with client.service("log").follow.with_options(resume=True).open() as stream:
        while len(values) < count:
            try:
                values.append(await stream.receive())
            except (duplex.DuplexError, trio.EndOfChannel, TypeError) as error:
                return values, error
        return values, stream.cursor


@pytest.mark.parametrize(
    "cursor",
    [
        2**64 - 1,
        -(2**63),
        -1,
        0,
        None,
        True,
        math.inf,
        "",
        "x" * 100_000,
        "\n\x1b[2J",
        b"",
        bytes(60_000),
        [[[[]]]],
        {"a": {"b": 1}},
        {1: 2},
    ],
    ids=lambda cursor: repr(cursor)[:20],
)
async def test_whatever_a_cursor_is_it_is_handed_back(cursor: Any, autojump_clock: object) -> None:
    async with served([item(cursor, 1), GONE], [item(5, 2), [9], [10, 0]]) as (server, client):
        assert await take(client, 2) == ([1, 2], 5)
        assert server.asked == [None, cursor]


@pytest.mark.parametrize("kind", [3, 4, 5])
async def test_a_cursor_that_lives_does_no_harm(kind: int, autojump_clock: object) -> None:
    """A callback or a channel is no place in a stream: the call that it belongs to is over when it is handed back."""
    channel = [7, 2, None, 0 if kind == 5 else 1, None, 0, None, None, None, 1]
    number = 1 if kind == 3 else 2
    live = [8, b"\x92" + msgpack.packb(msgpack.ExtType(kind, msgpack.packb(number))) + b"\x01"]
    async with served([live, GONE], [item(5, 2)]) as (server, client):
        if kind != 3:
            carrier_message = server.carrier_message

            def open_first(carrier: Carrier, frames: Frames) -> None:
                if server.asked == [] and b"log.follow" in bytes(frames[0]):
                    carrier.send([batch(channel)])
                carrier_message(carrier, frames)

            server.carrier_message = open_first  # type: ignore[method-assign]
        values, end = await take(client, 2)
        if values == [1, 2]:
            assert end == 5
        else:
            assert isinstance(end, (duplex.DuplexError, TypeError)), end


@pytest.mark.parametrize(
    "payload",
    [b"\x01", b"\x90", b"\x91\x01", b"\x81\x01\x02", b"\xc0", b"", b"\xc1", b"\x92\x01"],
)
async def test_items_without_a_cursor_end_the_stream(payload: bytes, autojump_clock: object) -> None:
    """And are not asked for again and again."""
    async with served([[8, payload], item(1), GONE]) as (server, client):
        values, end = await take(client)
        assert values == []
        assert isinstance(end, duplex.DuplexError)
        assert not isinstance(end, duplex.Unavailable)
        assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [[GONE], [[9], GONE], [[10, 14]]])
async def test_who_is_always_gone_is_asked_less_and_less_often(
    answer: list[Any], autojump_clock: object
) -> None:
    async with served([item(1, 1), GONE], answer, timeout=20.0) as (server, client):
        began = trio.current_time()
        values, end = await take(client, 2)
        assert values == [1]
        assert isinstance(end, duplex.Unavailable)
        assert trio.current_time() - began <= 21
        assert 5 <= len(server.asked) <= 20
        gaps = [after - before for before, after in zip(server.when, server.when[1:], strict=False)]
        assert max(gaps) > 2


async def test_who_gives_an_item_each_time_is_followed_at_the_readers_pace(autojump_clock: object) -> None:
    """Even if it is the same one: what cursors mean is the server's promise."""
    async with served([item(7, "again"), GONE]) as (server, client):
        values, cursor = await take(client, 50)
        assert values == ["again"] * 50
        assert cursor == 7
        assert server.asked == [None] + [7] * 49


async def test_a_cursor_that_is_too_large_for_others_is_told(autojump_clock: object) -> None:
    large = bytes(200_000)
    small = [*HELLO, ["msgpack"], [], {"max_message": 1024}, [{"name": "log"}]]
    async with served([item(large, 1), GONE], [item(2, 2)]) as (server, client):
        carrier_message = server.carrier_message

        def greet(carrier: Carrier, frames: Frames) -> None:
            if msgpack.unpackb(frames[0], strict_map_key=False)[0][0] == 0:
                carrier.send([batch(small)])
            else:
                carrier_message(carrier, frames)

        server.carrier_message = greet  # type: ignore[method-assign]
        await client.links[0].aclose()
        await trio.sleep(1)  # of virtual time, until it is linked again
        values, end = await take(client, 2)
        assert values == [1]
        assert isinstance(end, duplex.ResourceExhausted)
        assert "1024" in str(end)
        assert server.asked == [None]


# -- callers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cursor", "opened"),
    [
        (2**64 - 1, True),
        (-(2**63), True),
        (-1, True),
        ("1", False),
        (1.5, False),
        (b"1", False),
        ([1], False),
        ({"cursor": 1}, False),
        (True, False),
        (math.nan, False),
    ],
)
async def test_cursors_are_arguments_like_others(cursor: Any, opened: bool) -> None:
    """What is not of their type is refused; all else is the method's business, which is asked with any number."""
    service = duplex.Service("log")
    asked: list[Any] = []

    @service.rpc(resumable=True)
    async def follow(*, cursor: int | None = None) -> AsyncIterator[duplex.Tracked[int, str]]:
        asked.append(cursor)
        yield duplex.Tracked(1, "one")

    async with linked(service) as pair:
        for resume in (True, False):
            asked.clear()
            remote = pair.service("log").follow.with_options(resume=resume)
            async with remote.open(cursor=cursor) as stream:
                first = await outcome(stream.receive())
            if opened:
                assert asked == [cursor]
            else:
                assert asked == []
                assert type(first) is duplex.InvalidArgument
