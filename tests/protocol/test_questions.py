"""What a connection answers when it is asked: limits of the other side, numbers, pings, channels."""

from __future__ import annotations

import pytest

from duplex._errors import MessageTooLarge, ResourceExhausted
from duplex.protocol import END, MESSAGE_OVERHEAD, NOTIFY, ChannelOpened
from tests.protocol.helpers import ConnectionPair, hello


def test_the_limits_are_those_of_the_other_side() -> None:
    pair = ConnectionPair(
        hello("a", max_metadata=3000, max_attachments=7), hello("b", max_metadata=2000, max_attachments=5)
    )
    assert (pair.a.max_metadata, pair.a.max_attachments) == (2000, 5)
    assert (pair.b.max_metadata, pair.b.max_attachments) == (3000, 7)


def test_what_a_message_is_going_to_cost() -> None:
    pair = ConnectionPair(hello("a"), hello("b", max_message=2000, max_attachments=2))
    cost = pair.a.message_cost(b"12345", [b"123", bytearray(2)])
    assert cost == 10 + MESSAGE_OVERHEAD
    channel = pair.open()
    before = pair.a.link_credit
    pair.a.send(channel, b"12345", [b"123", bytearray(2)])
    assert before - pair.a.link_credit == cost
    assert pair.a.message_cost(bytes(1997), [b"123"]) == 2000 + MESSAGE_OVERHEAD


def test_what_a_message_would_cost_that_the_other_side_does_not_take() -> None:
    pair = ConnectionPair(hello("a"), hello("b", max_message=2000, max_attachments=2))
    with pytest.raises(MessageTooLarge, match="2001"):
        pair.a.message_cost(bytes(1998), [b"123"])
    with pytest.raises(ResourceExhausted, match="attachments"):
        pair.a.message_cost(b"", [b"1", b"2", b"3"])
    assert not pair.a.has_data_to_send


def test_channels_are_counted_until_they_are_over_and_notifications_until_they_are_finished() -> None:
    pair = ConnectionPair()
    assert pair.b.channels == 0
    channel = pair.open()
    pair.a.open("s.m", payload=b"123", flags=NOTIFY | END)
    (opened,) = pair.flush()[1]
    assert isinstance(opened, ChannelOpened)
    assert (pair.a.channels, pair.b.channels) == (1, 2)
    pair.b.finish(opened.channel)
    assert pair.b.channels == 1
    pair.b.close(channel)
    pair.flush()
    assert (pair.a.channels, pair.b.channels) == (0, 0)


def test_every_channel_that_begins_is_noticed_on_both_sides() -> None:
    pair = ConnectionPair()
    for opener in (pair.a, pair.b, pair.b, pair.a):
        before = pair.a.channels_begun, pair.b.channels_begun
        number = opener.next_channel
        assert pair.open(opener) == number
        assert opener.next_channel == number + 2
        assert pair.a.channels_begun > before[0]
        assert pair.b.channels_begun > before[1]


def test_a_channel_runs_until_it_is_over_whoever_opened_it() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    assert pair.a.runs(channel)
    assert pair.b.runs(channel)
    pair.b.close(channel)
    assert not pair.b.runs(channel)
    assert pair.a.runs(channel), "it does not know yet"
    pair.flush()
    assert not pair.a.runs(channel)
    assert not pair.a.runs(pair.a.next_channel)


def test_the_oldest_ping_without_an_answer() -> None:
    pair = ConnectionPair()
    assert pair.a.unanswered_for(5.0) is None
    first, second = pair.a.ping(1.0), pair.a.ping(3.0)
    assert pair.a.unanswered_for(5.0) == 4.0
    assert pair.a.awaits_pong(first)
    assert pair.a.awaits_pong(second)
    assert not pair.a.awaits_pong(second + 1)
    pair.inject(pair.a, [4, first, 0])
    assert not pair.a.awaits_pong(first)
    assert pair.a.awaits_pong(second)
    assert pair.a.unanswered_for(5.0) == 2.0
    pair.inject(pair.a, [4, second, 0])
    assert pair.a.unanswered_for(5.0) is None
