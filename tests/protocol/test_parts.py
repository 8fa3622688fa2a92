"""A message may be looked at in parts: it then means what it would as a whole."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex._errors import RemoteProtocolError
from duplex.protocol import Connection, Event, HelloReceived, LinkOpened, PingReceived
from tests.protocol.helpers import ConnectionPair, batch, check_accounts, hello, one_by_one

CHANNELS = st.sampled_from([1, 3, 5])
#: Commands that a link survives, most of the time, after OPEN of three channels.
COMMANDS = st.one_of(
    st.tuples(st.just(3), st.integers(0, 9)),
    st.tuples(st.just(6), st.just(0), st.integers(1, 100)),
    st.tuples(st.just(8), CHANNELS, st.binary(max_size=5)),
    st.tuples(st.just(8), CHANNELS, st.binary(max_size=5), st.just(0), st.just(1)),
    st.tuples(st.just(9), CHANNELS),
    st.tuples(st.just(11), CHANNELS),
    st.tuples(st.just(2), st.just(())),
    st.tuples(st.just(10), CHANNELS),
)
OPENS = [(7, channel, "s.m") for channel in (1, 3, 5)]


def _receiver() -> ConnectionPair:
    return ConnectionPair(hello("a"), hello("b", channel_window=30), link_buffer=100)


def _state(connection: Connection) -> list[Any]:
    window = connection._incoming
    return [
        connection.statistics(),
        connection.unconsumed_total,
        [(key, connection.channel_state(key), connection.unconsumed(key)) for key in (1, 3, 5)],
        window.balance,
        connection.data_to_send(),
    ]


def _in_parts(connection: Connection, frames: list[bytes], most: int) -> list[Event]:
    events = connection.receive(frames, 1.0, most)
    assert len(events) <= most
    all_events = list(events)
    while connection.is_unfinished:
        events = connection.go_on(1.0, most)
        assert len(events) <= most
        check_accounts(connection)
        all_events += events
    return all_events


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("connecting", [True, False])
def test_hello_counts_as_a_part(connecting: bool, most: int) -> None:
    """So that whoever has to find out first who the other side is can leave the rest for later."""
    connection = Connection(hello("b"), connecting=connecting, now=0.0)
    if connecting:
        connection.greet()
        connection.data_to_send()
    more = [(3, 1), (3, 2)] if connecting else []
    events = connection.receive([batch([0, "DMTP", 1, 1, "a"], *more)], 0.0, most)
    assert [type(event) for event in events] == [LinkOpened if connecting else HelloReceived] + [
        PingReceived
    ] * len(more[: most - 1])
    assert connection.is_unfinished is (most <= 1 + len(more))
    rest = _drain(connection)
    assert len(events) + len(rest) == 1 + len(more)


def _drain(connection: Connection) -> list[Event]:
    events: list[Event] = []
    while connection.is_unfinished:
        events += connection.go_on(1.0, 1)
    return events


@given(st.lists(COMMANDS, max_size=30), st.integers(1, 4))
def test_parts_are_the_whole(commands: list[Any], most: int) -> None:
    attachments = [b"a"] * sum(command[0] == 8 and len(command) == 5 for command in commands)
    frames = [batch(*OPENS, *commands), *attachments]
    whole, parts = _receiver(), _receiver()
    error = None
    try:
        expected = whole.b.receive(frames, 1.0)
    except RemoteProtocolError as broken:
        error = str(broken)
        with pytest.raises(RemoteProtocolError, match=f"^{re.escape(error)}$"):
            _in_parts(parts.b, frames, most)
    else:
        assert one_by_one(_in_parts(parts.b, frames, most)) == one_by_one(expected)
        assert _state(parts.b)[:3] == _state(whole.b)[:3]
    assert parts.b.is_closed == whole.b.is_closed
    assert not parts.b.is_unfinished


def test_attachments_that_nobody_uses_are_found_at_the_end() -> None:
    pair = _receiver()
    assert len(pair.b.receive([batch(*OPENS), b"a"], 1.0, 2)) == 2
    assert pair.b.is_unfinished
    with pytest.raises(RemoteProtocolError, match="1 attachments came, but the commands use 0"):
        pair.b.go_on(1.0)
    assert not pair.b.is_unfinished


def test_a_message_that_ends_where_the_part_does_is_finished() -> None:
    """Or sixteen calls that come together, which are usual, would wait for another turn of which nothing is left."""
    pair = ConnectionPair()
    assert len(pair.b.receive([batch(*OPENS)], 1.0, len(OPENS))) == len(OPENS)
    assert not pair.b.is_unfinished
    items = [[8, 1, b"x"], [8, 1, b"y"]]
    assert len(pair.b.receive([batch(*items)], 1.0, 1)) == 1, "one event, of two items"
    assert not pair.b.is_unfinished


def test_the_rest_of_a_message_is_dropped_once_the_link_is_closed() -> None:
    pair = _receiver()
    pair.b.receive([batch(*OPENS, *[[3, n] for n in range(10)])], 1.0, 2)
    pair.b.terminate()
    assert pair.b.is_unfinished
    assert pair.b.go_on(1.0) == []
    assert not pair.b.is_unfinished


def test_what_this_side_does_between_the_parts_is_as_between_messages() -> None:
    pair = _receiver()
    pair.b.receive([batch(*OPENS, [8, 1, b"x"], [8, 3, b"y"], [11, 5])], 1.0, 3)
    pair.b.close(1)
    run = pair.b.begin_items(3)
    assert run is not None
    assert run.add(b"z")
    events = one_by_one(pair.b.go_on(2.0))
    assert [(type(event).__name__, event.channel) for event in events] == [  # type: ignore[union-attr]
        ("MessageReceived", 3),
        ("CancelReceived", 5),
    ]
    assert pair.b.statistics().dropped_commands == 1, "what came for the channel that is over"


def _with_attachment(block: bytearray, *more: Any) -> list[Any]:
    return [batch(OPENS[0], (8, 1, b"x", 0, 1), *more), memoryview(block)]


def _is_held(block: bytearray) -> bool:
    """Whether anybody has a view of a block: then its length cannot be changed."""
    try:
        block.append(0)
    except BufferError:
        return True
    return False


@pytest.mark.parametrize("most", [1, 100])
def test_attachments_are_let_go_of_once_they_were_passed_on(most: int) -> None:
    block = bytearray(1000)
    receiver = _receiver().b
    _in_parts(receiver, _with_attachment(block, (3, 1)), most)
    assert receiver.is_open
    assert not _is_held(block)


@pytest.mark.parametrize("most", [1, 100])
def test_attachments_are_let_go_of_by_a_link_that_breaks(most: int) -> None:
    block = bytearray(1000)
    receiver = _receiver().b
    with pytest.raises(RemoteProtocolError) as caught:
        _in_parts(receiver, _with_attachment(block, (10, 999), (3, 1)), most)
    del caught
    assert not receiver.is_open
    assert not _is_held(block)


def test_attachments_are_let_go_of_by_a_link_that_is_closed_in_the_middle_of_a_message() -> None:
    block = bytearray(1000)
    receiver = _receiver().b
    receiver.receive(_with_attachment(block, (3, 1)), 1.0, 1)
    assert receiver.is_unfinished
    assert _is_held(block)
    receiver.terminate()
    assert receiver.go_on(1.0, 1) == []
    assert not _is_held(block)


def test_commands_that_mean_nothing_count_too() -> None:
    receiver = _receiver().b
    receiver.receive([batch(*OPENS, *[(9, 1)] * 2)], 0.0)
    before = receiver.statistics().dropped_commands
    parts = [receiver.receive([batch((11, 5), *[(9, 5)] * 9)], 1.0, 4)]
    sizes = [receiver.looked_at]
    while receiver.is_unfinished:
        parts.append(receiver.go_on(1.0, 4))
        sizes.append(receiver.looked_at)
    assert sizes == [4, 4, 2]
    assert sum(map(len, parts)) == 1
    assert receiver.statistics().dropped_commands == before + 9
