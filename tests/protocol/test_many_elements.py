"""Batches of very many things: what a command holds is made when it is the command's turn, and never all at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, Final

import pytest

from duplex._elements import holds_more
from duplex._errors import LocalProtocolError, RemoteProtocolError
from duplex.protocol import (
    MAX_ENTRIES,
    MAX_SERVICES,
    Connection,
    ServiceInfo,
    ServicesAnnounced,
)
from duplex.protocol._commands import MAX_ELEMENTS
from duplex.protocol._outbox import BATCH_BYTES
from tests.protocol.helpers import ConnectionPair, batch, hello

#: Events that an engine acts upon in a turn.
TURN: Final = 64
#: Bytes of memory, of a few hundred objects and more.
LITTLE: Final = 1_000_000

SERVICES: Final = [{"name": "x"}] * MAX_SERVICES
ENTRIES: Final = {f"{number}": "" for number in range(MAX_ENTRIES)}
GREETING: Final = [0, "DMTP", 1, 1, "id", "", ["msgpack"], [], {}, SERVICES]


def many(command: Callable[[int], list[Any]], size: int = BATCH_BYTES) -> bytes:
    """As many commands as there may be in a batch of so many bytes."""
    one = len(batch(command(2000)))
    return batch(*[command(number) for number in range(min(1024, size // one))])


#: By name: whether the link is open, and the batch.
BATCHES: Final[dict[str, tuple[bool, bytes]]] = {
    "announcements": (True, many(lambda _: [2, SERVICES])),
    "metadata": (True, many(lambda n: [7, 1 + 2 * n, "s.m", 0, None, 0, None, ENTRIES])),
    "trailers": (True, many(lambda _: [10, 2, 0, None, 0, "", None, ENTRIES])),
    "greetings": (True, many(lambda _: GREETING)),
    "greetings at the beginning": (False, many(lambda _: GREETING)),
    "calls at the beginning": (False, many(lambda n: [7, 1 + 2 * n, "s.m", 0, None, 0, None, ENTRIES])),
    "what means nothing": (True, batch([3, 1, 0, [[]] * (BATCH_BYTES - 20)])),
}
#: The same, as large as frame 0 may be.
LARGE: Final[dict[str, tuple[bool, bytes]]] = {
    "announcements": (True, many(lambda _: [2, SERVICES], 16_000_000)),
    "metadata": (True, many(lambda n: [7, 1 + 2 * n, "s.m", 0, None, 0, None, ENTRIES], 16_000_000)),
    "greetings at the beginning": (False, many(lambda _: GREETING, 16_000_000)),
    "what means nothing": (True, batch([3, 1, 0, [[]] * 16_000_000])),
    "nothing in nothing": (
        True,
        b"\x91\x94\x03\x01\x00\xdd" + (17_000).to_bytes(4, "big") + (b"\x91" * 900 + b"\xc0") * 17_000,
    ),
    "long numbers": (True, b"\x91\x94\x03\x01\x00\xdd\x00\x10\x00\x00" + (b"\xd2" + bytes(4)) * 2**20),
    "lengths that take more bytes than they need": (
        True,
        b"\x91\x94\x03\x01\x00\xdd\x00\x10\x00\x00" + b"\xdd\x00\x00\x00\x00" * 2**20,
    ),
    "bytes of an extension type": (
        True,
        b"\x91\x94\x03\x01\x00\xdd\x00\x10\x00\x00" + b"\xd4\x01\x00" * 2**20,
    ),
}


def receiver(opened: bool) -> Connection:
    if not opened:
        return Connection(hello("b"), connecting=False, now=0.0)
    pair = ConnectionPair()
    assert pair.b.open("s.m") == 2
    return pair.b


def memory_of(action: Callable[[], object]) -> int:
    assert not holds_more(bytes(MAX_ELEMENTS + 1), MAX_ELEMENTS + 1)
    assert holds_more(bytes(MAX_ELEMENTS + 1), MAX_ELEMENTS)  # what it needs is made once for all
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BATCHES)
def test_a_part_of_a_batch_makes_no_more_objects_than_a_few_commands_have(name: str) -> None:
    opened, frame = BATCHES[name]
    connection = receiver(opened)

    def take() -> None:
        try:
            connection.receive([frame], 0.0, TURN)
        except RemoteProtocolError:
            assert "greetings" in name or "calls" in name

    assert memory_of(take) < LITTLE


@pytest.mark.parametrize("name", LARGE)
def test_a_large_frame_of_very_many_elements_breaks_the_link_before_any_is_made(name: str) -> None:
    opened, frame = LARGE[name]
    assert BATCH_BYTES < len(frame) < 16 * 2**20 + 8192 + 2**20
    connection = receiver(opened)

    def take() -> None:
        with pytest.raises(RemoteProtocolError, match=f"more than the {MAX_ELEMENTS} elements"):
            connection.receive([frame], 0.0, TURN)

    assert memory_of(take) < 100_000
    assert connection.is_closed


def test_as_many_elements_as_there_may_be() -> None:
    connection = receiver(True)
    filler = bytes(BATCH_BYTES)
    elements = 1 + 1 + 3 + 1 + 1  # the batch, the command and its fields, the filler and the array
    for rest, is_broken in ((MAX_ELEMENTS - elements - 15, False), (MAX_ELEMENTS - elements + 1, True)):
        frame = batch([3, 1, 0, filler, [1] * rest])
        if is_broken:
            with pytest.raises(RemoteProtocolError):
                connection.receive([frame], 0.0)
        else:
            assert len(connection.receive([frame], 0.0)) == 1


def test_a_large_message_costs_no_more_than_itself() -> None:
    """What is counted are elements and not bytes."""
    connection = receiver(True)
    frame = batch([7, 1, "s.m", 0, bytes(16_000_000)])
    events: list[Any] = []
    assert memory_of(lambda: events.extend(connection.receive([frame], 0.0))) < len(frame) + 100_000
    assert len(events) == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ([2, 5], "Expected `array`"),
        ([2, [{"name": ""}]], "length >= 1"),
        ([2, [{"nam": "x"}]], "missing required field `name`"),
        ([2, [{"name": "x"}] * 1025], "length <= 1024"),
        ([2], "at least length 2"),
        ([7, 3, "s.m", 0, None, 0, None, 5], "Expected `object | null`"),
        ([7, 3, "s.m", 0, None, 0, None, {1: "x"}], "Expected `str`"),
        ([7, 3, "s.m", 0, None, 0, None, {f"k{n}": "" for n in range(257)}], "length <= 256"),
        ([7, 3, "s.m", 0, None, 0, None, [1]], "Expected `object | null`"),
        ([10, 1, 0, None, 0, "", None, 5], "Expected `object | null`"),
        # Of a call that is over, or refused for another reason.
        ([10, 2, 0, None, 0, "", None, 5], "Expected `object | null`"),
        ([7, 3, "s.m", 0, None, 0, None, {1: 1}, None, None, "unknown"], "Expected `str`"),
    ],
)
def test_what_is_looked_at_in_its_turn_breaks_the_link_all_the_same(command: list[Any], why: str) -> None:
    pair = ConnectionPair()
    pair.b.open("over.here")
    pair.b.cancel(2)
    pair.b.data_to_send()
    before = [7, 1, "s.m"]
    with pytest.raises(
        RemoteProtocolError, match="malformed command: .*" + why.replace("|", "[|]")
    ) as caught:
        pair.b.receive([batch(before, command)], 0.0)
    # What stood before it has come.
    assert [type(event).__name__ for event in caught.value.events] == (
        [] if command == [2] else ["ChannelOpened"]
    )
    assert pair.b.is_closed


def test_text_that_is_none_breaks_the_link_in_its_turn() -> None:
    connection = receiver(True)
    frame = b"\x91\x98\x07\x01\xa3s.m\x00\xc0\x00\xc0\x81\xa2\xc3\x28\xa1x"
    with pytest.raises(RemoteProtocolError, match="not a msgpack array of commands"):
        connection.receive([frame], 0.0)
    assert connection.is_closed


@pytest.mark.parametrize("command", [2, 7])
def test_nil_is_no_metadata(command: int) -> None:
    pair = ConnectionPair()
    if command == 7:
        (event,) = pair.b.receive([batch([7, 1, "s.m", 0, None, 0, None, None, 7])], 0.0)
        assert event.metadata == {}  # type: ignore[union-attr]
    else:
        pair.b.open("s.m")
        (event,) = pair.b.receive([batch([10, 2, 0, None, 0, "", None, None])], 0.0)
        assert event.trailers == {}  # type: ignore[union-attr]


def test_many_services_are_as_much_as_several_commands() -> None:
    """So that a turn does not take longer when they come."""
    connection = receiver(True)
    frame = batch(*[[2, SERVICES]] * 10)
    events = connection.receive([frame], 0.0, TURN)
    parts = [len(events)]
    while connection.is_unfinished:
        more = connection.go_on(0.0, TURN)
        parts.append(len(more))
        events += more
    assert parts == [4, 4, 2]
    assert all(isinstance(event, ServicesAnnounced) for event in events)
    frame = batch(*[[2, [{"name": "x"}]]] * 10)
    assert len(connection.receive([frame], 0.0, TURN)) == 10


def test_services_travel() -> None:
    pair = ConnectionPair()
    services = (ServiceInfo("a", "1.2.3"), ServiceInfo("b"))
    pair.a.announce(services)
    pair.expect(b=[ServicesAnnounced(services)])


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", 5])
def test_services_that_nobody_would_understand_are_not_sent(name: Any) -> None:
    pair = ConnectionPair()
    with pytest.raises(LocalProtocolError, match="ANNOUNCE cannot be sent"):
        pair.a.announce([ServiceInfo(name)])
    assert not pair.a.has_data_to_send
