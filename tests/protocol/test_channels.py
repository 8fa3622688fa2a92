"""What channels carry, how they end, and what becomes of commands that cross."""

from __future__ import annotations

from typing import Any

import pytest

from duplex._errors import InvalidArgument, LocalProtocolError
from duplex._status import StatusCode
from duplex.protocol import (
    END,
    MAX_INTEGER,
    MAX_TEXT,
    NOTIFY,
    RESULT,
    UNARY,
    ChannelClosed,
    ChannelOpened,
    ChannelState,
    EndReceived,
)
from tests.protocol.helpers import (
    ConnectionPair,
    cancelled,
    closed,
    hello,
    message,
    opened,
    take_commands,
)


def test_a_unary_call_is_one_command_each_way() -> None:
    pair = ConnectionPair()
    channel = pair.a.open("calc.add", payload=b"[1,2]", flags=END | UNARY)
    pair.expect(b=[opened(channel, "calc.add", payload=b"[1,2]", end=True, unary=True)])
    pair.b.consumed(channel, 69)
    pair.b.close(channel, payload=b"3")
    pair.expect(a=[closed(channel, payload=b"3")])
    for connection in (pair.a, pair.b):
        assert connection.channel_state(channel) == ChannelState.OVER


def test_numbers_tell_who_opened() -> None:
    pair = ConnectionPair()
    assert [pair.a.open("s.m") for _ in range(3)] == [1, 3, 5]
    assert [pair.b.open("s.m") for _ in range(3)] == [2, 4, 6]


def test_open_carries_everything() -> None:
    pair = ConnectionPair(hello("a"), hello("b", codecs=("msgpack", "json")))
    parent = pair.open()
    channel = pair.a.open(
        17,
        payload=b"p",
        attachments=[b"one", bytearray(b"two")],
        timeout=1.5,
        metadata={"trace-id": "abc", "blob": b"\x00"},
        window=1000,
        parent=parent,
        codec="json",
    )
    pair.expect(
        b=[
            opened(
                channel,
                17,
                payload=b"p",
                attachments=[b"one", b"two"],
                timeout=1.5,
                metadata={"trace-id": "abc", "blob": b"\x00"},
                parent=parent,
                codec="json",
            )
        ]
    )
    assert pair.b.credit(channel) == 1000
    assert pair.a.credit(channel) == 1024 * 1024 - 71


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [7, 1, "s.m", 0, None]),
        ({"flags": 3, "payload": b"p"}, [7, 1, "s.m", 3, b"p"]),
        ({"timeout": 0.0001}, [7, 1, "s.m", 0, None, 0, 1]),
        ({"timeout": -5.0}, [7, 1, "s.m", 0, None, 0, 1]),
        ({"timeout": 2.0006}, [7, 1, "s.m", 0, None, 0, 2001]),
        ({"timeout": 2.0001}, [7, 1, "s.m", 0, None, 0, 2001]),
        ({"timeout": 1.1}, [7, 1, "s.m", 0, None, 0, 1100]),
        ({"timeout": float("inf")}, [7, 1, "s.m", 0, None, 0, MAX_INTEGER]),
        ({"metadata": {"k": "v"}}, [7, 1, "s.m", 0, None, 0, None, {"k": "v"}, None, None, None]),
        ({"metadata": {}}, [7, 1, "s.m", 0, None]),
        ({"window": 0}, [7, 1, "s.m", 0, None, 0, None, None, 0, None, None]),
        ({"parent": 8}, [7, 1, "s.m", 0, None, 0, None, None, None, 8, None]),
        ({"codec": "msgpack"}, [7, 1, "s.m", 0, None, 0, None, None, None, None, "msgpack"]),
    ],
)
def test_open_on_the_wire(fields: dict[str, Any], expected: list[Any]) -> None:
    pair = ConnectionPair()
    pair.a.open("s.m", **fields)
    assert take_commands(pair.a) == [expected]


BAD_OPENS: list[tuple[dict[str, Any], str]] = [
    ({"target": ""}, "1 to 255 bytes, not 0"),
    ({"target": "é" * 128}, "1 to 255 bytes, not 256"),
    ({"target": "x" * 256}, "1 to 255 bytes, not 256"),
    ({"target": "s.\ud800"}, "not encodable"),
    ({"target": -1}, "from 0 to"),
    ({"target": MAX_INTEGER + 1}, "from 0 to"),
    ({"flags": 8}, "no flags 8"),
    ({"flags": -1}, "no flags -1"),
    ({"flags": NOTIFY | END}, "needs a message"),
    ({"flags": NOTIFY, "payload": b""}, "needs END"),
    ({"attachments": [b"x"]}, "needs a message"),
    ({"window": -1}, "a window is from 0"),
    ({"window": MAX_INTEGER + 1}, "a window is from 0"),
    ({"parent": 0}, "a parent is"),
    ({"parent": MAX_INTEGER + 1}, "a parent is"),
    ({"metadata": {"Key": "v"}}, "may hold only"),
    ({"metadata": {"": "v"}}, "non-empty"),
    ({"metadata": {"k": 1}}, "must be str or bytes"),
    ({"metadata": {"k": "\ud800"}}, "not encodable"),
    ({"payload": b"", "attachments": [memoryview(b"abcd")[::2]]}, "C-contiguous"),
]


@pytest.mark.parametrize(("fields", "text"), BAD_OPENS)
def test_a_bad_open_is_refused_here_and_changes_nothing(fields: dict[str, Any], text: str) -> None:
    pair = ConnectionPair()
    before = pair.a.statistics()
    with pytest.raises(LocalProtocolError, match=text):
        pair.a.open(**{"target": "s.m", **fields})
    assert pair.a.statistics() == before
    assert not pair.a.has_data_to_send
    assert pair.a.open("s.m") == 1


def test_a_codec_that_the_other_side_does_not_know_is_refused_here() -> None:
    pair = ConnectionPair()
    with pytest.raises(InvalidArgument, match="does not know the codec 'yaml'; it knows msgpack") as caught:
        pair.a.open("s.m", codec="yaml")
    assert not caught.value.may_have_executed
    assert not pair.a.has_data_to_send


def test_messages_both_ways_and_half_close() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.send(channel, b"1")
    pair.a.send(channel, b"2", flags=END)
    pair.b.send(channel, b"3")
    pair.expect(
        a=[message(channel, b"3")],
        b=[message(channel, b"1"), message(channel, b"2"), EndReceived(channel)],
    )
    assert pair.a.channel_state(channel) == ChannelState.LOCAL_ENDED
    assert pair.b.channel_state(channel) == ChannelState.REMOTE_ENDED
    pair.b.send(channel, b"4")
    pair.b.end(channel)
    pair.expect(a=[message(channel, b"4"), EndReceived(channel)])
    assert pair.a.channel_state(channel) == pair.b.channel_state(channel) == ChannelState.BOTH_ENDED
    pair.b.close(channel, StatusCode.OUT_OF_RANGE, message="past the end")
    pair.expect(a=[closed(channel, StatusCode.OUT_OF_RANGE, message="past the end")])


def test_send_on_the_wire() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.b.send(channel, b"p")
    pair.b.send(channel, b"p", flags=RESULT)
    pair.b.send(channel, b"p", [b"q"])
    pair.b.send(channel, b"p", [b"q"], END)
    assert take_commands(pair.b) == [
        [8, channel, b"p"],
        [8, channel, b"p", RESULT],
        [8, channel, b"p", 0, 1],
        [8, channel, b"p", END, 1],
    ]


def test_a_result_that_stays_alive() -> None:
    pair = ConnectionPair()
    channel = pair.open(flags=UNARY)
    pair.b.send(channel, b"r", flags=RESULT)
    pair.expect(a=[message(channel, b"r", result=True)])
    pair.a.end(channel)
    pair.expect(b=[EndReceived(channel)])
    pair.b.close(channel)
    pair.expect(a=[closed(channel)])


def test_close_on_the_wire() -> None:
    cases: list[tuple[dict[str, Any], list[Any]]] = [
        ({}, [10, 1, 0, None]),
        ({"status": StatusCode.NOT_FOUND}, [10, 1, 5, None]),
        ({"payload": b"p", "attachments": [b"q"]}, [10, 1, 0, b"p", 1, "", None, None]),
        ({"status": 3, "message": "m"}, [10, 1, 3, None, 0, "m", None, None]),
        ({"details": b""}, [10, 1, 0, None, 0, "", b"", None]),
        ({"trailers": {"k": b"v"}}, [10, 1, 0, None, 0, "", None, {"k": b"v"}]),
    ]
    for fields, expected in cases:
        pair = ConnectionPair()
        pair.open()
        pair.b.close(1, **fields)
        assert take_commands(pair.b) == [expected]


def test_close_carries_everything() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.b.close(
        channel,
        StatusCode.ABORTED,
        payload=b"p",
        attachments=[b"q"],
        message="m",
        details=b"d",
        trailers={"k": "v"},
    )
    pair.expect(
        a=[
            closed(
                channel,
                StatusCode.ABORTED,
                payload=b"p",
                attachments=[b"q"],
                message="m",
                details=b"d",
                trailers={"k": "v"},
            )
        ]
    )


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT + 1), "lone \ud800 surrogate", "ordinary ✓"])
def test_texts_for_humans_never_break_anything(text: str) -> None:
    pair = ConnectionPair()
    first, second = pair.open(), pair.open()
    pair.b.close(first, StatusCode.INTERNAL, message=text)
    pair.a.cancel(second, text)
    pair.b.leave(message=text)
    at_a, at_b = pair.flush()
    expected = text[:MAX_TEXT].replace("\ud800", "?")
    assert at_a[0] == closed(first, StatusCode.INTERNAL, message=expected)
    assert at_a[1].message == expected  # type: ignore[union-attr]
    assert at_b == [cancelled(second, expected)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"status": -1}, "a status is from 0"),
        ({"status": MAX_INTEGER + 1}, "a status is from 0"),
        ({"attachments": [b"x"]}, "need a message"),
        ({"trailers": {"K": "v"}}, "may hold only"),
    ],
)
def test_a_bad_close_is_refused_here_and_changes_nothing(fields: dict[str, Any], text: str) -> None:
    pair = ConnectionPair()
    channel = pair.open()
    with pytest.raises(LocalProtocolError, match=text):
        pair.b.close(channel, **fields)
    assert not pair.b.has_data_to_send
    assert pair.b.channel_state(channel) == ChannelState.OPEN


@pytest.mark.parametrize("flags", [4, -1])
def test_data_has_no_other_flags(flags: int) -> None:
    pair = ConnectionPair()
    channel = pair.open()
    with pytest.raises(LocalProtocolError, match="DATA has no flags"):
        pair.a.send(channel, b"", flags=flags)
    assert not pair.a.has_data_to_send


def test_each_side_cancels_only_what_it_opened() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    with pytest.raises(LocalProtocolError, match="cannot send CANCEL"):
        pair.b.cancel(channel)
    pair.b.close(channel)
    with pytest.raises(LocalProtocolError, match="not opened by this side"):
        pair.b.cancel(channel)
    with pytest.raises(LocalProtocolError, match="not opened by this side"):
        pair.a.cancel(99)


# -- crossing ------------------------------------------------------------------------------------------


def test_every_cancel_is_answered() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.cancel(channel, "no longer needed")
    pair.a.cancel(channel, "said twice")
    pair.expect(b=[cancelled(channel, "no longer needed")])
    assert pair.a.channel_state(channel) == ChannelState.CANCELLING
    assert pair.b.channel_state(channel) == ChannelState.CANCELLED
    assert pair.a.statistics().channels_opened_here == 1, "its handler may still run"
    pair.b.close(channel, StatusCode.CANCELLED)
    pair.expect()
    assert pair.a.channel_state(channel) == ChannelState.OVER
    assert pair.a.statistics().channels_opened_here == 0


def test_cancel_and_close_cross() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.cancel(channel)
    pair.b.send(channel, b"late")
    pair.b.end(channel)
    pair.b.close(channel, payload=b"result")
    pair.expect()
    assert pair.a.statistics().dropped_commands == 2, "the message and END; CLOSE is the answer"
    assert pair.b.statistics().dropped_commands == 1, "CANCEL"
    assert pair.a.statistics().unconsumed == pair.b.statistics().unconsumed == 0


def test_data_and_close_cross() -> None:
    pair = ConnectionPair()
    channel = pair.open()
    pair.a.send(channel, b"x" * 1000)
    pair.a.end(channel)
    pair.b.close(channel)
    pair.expect(a=[closed(channel)])
    assert pair.b.statistics().dropped_commands == 2
    assert pair.b.statistics().unconsumed == 0


def test_credit_and_close_cross() -> None:
    pair = ConnectionPair(hello("a", channel_window=64))
    channel = pair.open()
    pair.b.send(channel, b"x")
    pair.flush()
    pair.a.consumed(channel, 65)
    pair.b.close(channel)
    pair.expect(a=[closed(channel)])
    assert pair.b.statistics().dropped_commands == 1


def test_late_commands_for_a_refused_channel_are_dropped() -> None:
    pair = ConnectionPair(binding=hello("b", max_metadata=40))
    pair.a._remote_limits = hello("b").limits
    channel = pair.a.open("s.m", payload=b"first", metadata={"k": "v" * 20})
    pair.a.send(channel, b"second")
    pair.a.end(channel)
    at_a, at_b = pair.flush()
    assert at_b == []
    assert isinstance(at_a[0], ChannelClosed)
    assert at_a[0].status == StatusCode.RESOURCE_EXHAUSTED
    assert pair.b.statistics().dropped_commands == 2
    assert pair.b.statistics().unconsumed == 0


def test_numbers_may_be_skipped_but_not_reused() -> None:
    pair = ConnectionPair()
    assert isinstance(pair.inject(pair.b, [7, 5, "s.m"])[0], ChannelOpened)
    assert pair.inject(pair.b, [9, 3]) == [], "a channel that was skipped counts as over"
    assert pair.b.statistics().dropped_commands == 1


# -- NOTIFY --------------------------------------------------------------------------------------------


def test_a_notification_is_over_as_soon_as_it_is_open() -> None:
    pair = ConnectionPair()
    channel = pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    assert pair.a.channel_state(channel) == ChannelState.OVER
    pair.expect(b=[opened(channel, payload=b"x", end=True, notify=True)])
    assert pair.b.channel_state(channel) == ChannelState.OVER
    for connection in (pair.a, pair.b):
        statistics = connection.statistics()
        assert statistics.channels_opened_here == statistics.channels_opened_there == 0
    with pytest.raises(LocalProtocolError):
        pair.b.close(channel)


def test_its_credit_comes_back_when_its_handler_has_ended_and_not_before() -> None:
    pair = ConnectionPair()
    channel = pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    pair.flush()
    pair.b.consumed(channel, 4097)
    assert pair.b.statistics().unconsumed == 4097
    pair.b.finish(channel)
    assert pair.b.statistics().unconsumed == 0
    pair.b.finish(channel)
    assert pair.b.statistics().unconsumed == 0


@pytest.mark.parametrize("command", [[8, 1, b"x"], [9, 1], [10, 1], [11, 1], [6, 1, 5]])
def test_nothing_said_about_a_notification_changes_it(command: list[Any]) -> None:
    """Least of all CANCEL, which would give its credit back while the handler runs."""
    pair = ConnectionPair()
    channel = pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    pair.flush()
    assert pair.inject(pair.b, command) == []
    statistics = pair.b.statistics()
    assert statistics.dropped_commands == 1
    assert statistics.unconsumed == 4097
    assert statistics.channels_opened_there == 0
    assert not pair.b.has_data_to_send
    pair.b.finish(channel)
    assert pair.b.statistics().unconsumed == 0


def test_notifications_do_not_count_as_channels() -> None:
    pair = ConnectionPair(binding=hello("b", max_channels=1))
    pair.open()
    for _ in range(5):
        pair.a.open("s.m", payload=b"x", flags=END | NOTIFY)
    _, at_b = pair.flush()
    assert len(at_b) == 5
