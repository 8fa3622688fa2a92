"""Every limit: what the sender is told, and what becomes of one who ignores it."""

from __future__ import annotations

from typing import Any

import pytest

from duplex._errors import LocalProtocolError, MessageTooLarge, RemoteProtocolError, ResourceExhausted
from duplex._status import StatusCode
from duplex.protocol import (
    END,
    MAX_ENTRIES,
    MAX_INTEGER,
    MAX_NAME,
    MAX_SERVICES,
    MAX_TEXT,
    NOTIFY,
    ChannelState,
    LimitsInfo,
    max_frame,
)
from duplex.protocol._checks import text
from tests.protocol.helpers import (
    ConnectionPair,
    batch,
    cancelled,
    closed,
    hello,
    message,
    opened,
    take_commands,
)

EXHAUSTED = StatusCode.RESOURCE_EXHAUSTED


def dishonest(**limits: Any) -> ConnectionPair:
    """A pair whose a does not know b's limits and so goes over them."""
    pair = ConnectionPair(binding=hello("b", **limits))
    pair.a._remote_limits = LimitsInfo(
        max_message=2**40, max_attachments=1000, max_metadata=2**30, max_channels=99
    )
    pair.a._outbox.max_commands = 2**30
    return pair


#: How a refusal says that the call never began.
NEVER_BEGAN = {"duplex-refused": "1"}


@pytest.mark.parametrize(("max_metadata", "told"), [(0, False), (46, False), (47, True)])
def test_a_refusal_says_so_where_there_is_room(max_metadata: int, told: bool) -> None:
    pair = ConnectionPair(hello("a", max_metadata=max_metadata), hello("b", max_message=1024))
    pair.inject(pair.b, [7, 1, "s.m", 1, bytes(1025)])
    [answer] = take_commands(pair.b)
    assert answer[:3] == [10, 1, EXHAUSTED]
    assert answer[6:] == ([None, NEVER_BEGAN] if told else [])


# -- messages ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attachments", [(), (b"x" * 1000,)])
def test_a_message_too_large_is_refused_by_its_sender(attachments: tuple[bytes, ...]) -> None:
    pair = ConnectionPair(binding=hello("b", max_message=2000))
    channel = pair.open()
    theirs = pair.open(pair.b)
    payload = bytes(2000 - 1000 * len(attachments))
    for action, began in (
        (lambda: pair.a.open("s.m", payload=payload + b"x", attachments=attachments), False),
        (lambda: pair.a.send(channel, payload + b"x", attachments), True),
        (lambda: pair.a.close(theirs, payload=payload + b"x", attachments=attachments), True),
    ):
        before = pair.a.statistics()
        with pytest.raises(MessageTooLarge) as caught:
            action()
        assert (caught.value.size, caught.value.limit) == (2001, 2000)
        assert caught.value.may_have_executed == began
        assert pair.a.statistics() == before
        assert not pair.a.has_data_to_send
    pair.a.send(channel, payload, attachments)
    pair.expect(b=[message(channel, payload, list(attachments) or ())])


def test_open_with_a_message_too_large_is_refused() -> None:
    pair = dishonest(max_message=1024)
    channel = pair.a.open("s.m", payload=bytes(1025))
    text = "a message of 1025 bytes is over the limit of 1024 (Limits.max_message)"
    pair.expect(a=[closed(channel, EXHAUSTED, message=text, trailers=NEVER_BEGAN)])
    assert pair.b.statistics().unconsumed == 0


def test_a_message_too_large_breaks_its_channel() -> None:
    pair = dishonest(max_message=1024)
    channel = pair.open()
    pair.a.send(channel, bytes(1000), [bytes(25)])
    text = "a message of 1025 bytes is over the limit of 1024 (Limits.max_message)"
    pair.expect(a=[closed(channel, EXHAUSTED, message=text)], b=[cancelled(channel, text, closed=True)])
    assert pair.b.statistics().channel_violations == 1
    assert pair.b.statistics().unconsumed == 0


def test_a_result_too_large_becomes_the_error() -> None:
    pair = dishonest(max_message=1024)
    channel = pair.open(pair.b)
    pair.a.close(channel, payload=bytes(1025))
    text = "a message of 1025 bytes is over the limit of 1024 (Limits.max_message)"
    pair.expect(b=[closed(channel, EXHAUSTED, message=text)])
    assert pair.b.statistics().channel_violations == 1
    assert pair.b.statistics().unconsumed == 0
    assert pair.b.channel_state(channel) == ChannelState.OVER


def test_a_message_too_large_for_an_opener_makes_it_cancel() -> None:
    pair = dishonest(max_message=1024)
    channel = pair.open(pair.b)
    pair.a.send(channel, bytes(1025))
    pair.a.send(channel, b"and another")
    text = "a message of 1025 bytes is over the limit of 1024 (Limits.max_message)"
    pair.expect(a=[cancelled(channel, text)], b=[closed(channel, EXHAUSTED, message=text)])
    assert pair.b.channel_state(channel) == ChannelState.CANCELLING
    pair.a.close(channel, StatusCode.CANCELLED)
    pair.expect()
    assert pair.b.channel_state(channel) == ChannelState.OVER


def test_too_many_attachments() -> None:
    pair = ConnectionPair(binding=hello("b", max_attachments=2))
    channel = pair.open()
    with pytest.raises(ResourceExhausted, match="3 attachments is over the receiver's limit of 2") as caught:
        pair.a.send(channel, b"", [b"", b"", b""])
    assert caught.value.may_have_executed
    with pytest.raises(ResourceExhausted, match="3 attachments is over the receiver's limit of 2") as caught:
        pair.a.open("s.m", payload=b"", attachments=[b"", b"", b""])
    assert not caught.value.may_have_executed
    pair.a.send(channel, b"", [b"", b""])
    pair.expect(b=[message(channel, b"", [b"", b""])])


@pytest.mark.parametrize("how", ["open", "send", "close"])
def test_too_many_attachments_anyway(how: str) -> None:
    pair = dishonest(max_attachments=2)
    three = [b"", b"", b""]
    text = "3 attachments are over the limit of 2 (Limits.max_attachments)"
    if how == "open":
        channel = pair.a.open("s.m", payload=b"", attachments=three)
        pair.expect(a=[closed(channel, EXHAUSTED, message=text, trailers=NEVER_BEGAN)])
    elif how == "send":
        channel = pair.open()
        pair.a.send(channel, b"", three)
        pair.expect(a=[closed(channel, EXHAUSTED, message=text)], b=[cancelled(channel, text, closed=True)])
    else:
        channel = pair.open(pair.b)
        pair.a.close(channel, payload=b"", attachments=three)
        pair.expect(b=[closed(channel, EXHAUSTED, message=text)])


# -- details, metadata, trailers -----------------------------------------------------------------------


def test_details_count_as_part_of_the_message() -> None:
    pair = ConnectionPair(hello("a", max_message=1024))
    channel = pair.open()
    too_large: list[dict[str, Any]] = [
        {"details": bytes(1025)},
        {"details": bytes(1000), "payload": bytes(25)},
        {"details": bytes(1000), "payload": bytes(5), "attachments": [bytes(20)]},
    ]
    for fields in too_large:
        with pytest.raises(MessageTooLarge) as caught:
            pair.b.close(channel, 3, **fields)
        assert (caught.value.size, caught.value.limit) == (1025, 1024)
    pair.b.close(channel, 3, details=bytes(1024))
    pair.expect(a=[closed(channel, 3, details=bytes(1024))])


def test_details_too_large_become_the_error() -> None:
    pair = dishonest(max_message=1024)
    channel = pair.open(pair.b)
    pair.a.close(channel, 3, details=bytes(1025))
    text = "a message of 1025 bytes is over the limit of 1024 (Limits.max_message)"
    pair.expect(b=[closed(channel, EXHAUSTED, message=text)])


def test_details_need_no_credit() -> None:
    pair = ConnectionPair(hello("a", link_window=10))
    first, second = pair.open(), pair.open()
    pair.b.send(first, bytes(50))
    pair.flush()
    assert pair.b.link_credit < 0
    with pytest.raises(LocalProtocolError, match="the link's credit is used up"):
        pair.b.close(second, payload=b"")
    pair.b.close(second, 3, details=bytes(100), trailers={"k": "v"})
    pair.expect(a=[closed(second, 3, details=bytes(100), trailers={"k": "v"})])


@pytest.mark.parametrize("what", ["open", "close"])
def test_metadata_too_large_is_refused_by_its_sender(what: str) -> None:
    pair = ConnectionPair(binding=hello("b", max_metadata=100))
    theirs = pair.open(pair.b)

    def act(metadata: dict[str, str | bytes]) -> None:
        if what == "open":
            pair.a.open("s.m", metadata=metadata)
        else:
            pair.a.close(theirs, trailers=metadata)

    with pytest.raises(
        ResourceExhausted, match="metadata of 101 bytes is over the receiver's limit of 100"
    ) as caught:
        act({"key": "é" * 33})
    assert not caught.value.may_have_executed
    assert not pair.a.has_data_to_send
    act({"key": b"x" * 65})
    pair.flush()


def test_metadata_with_too_many_entries_is_refused_by_its_sender() -> None:
    pair = ConnectionPair(binding=hello("b", max_metadata=10**6))
    with pytest.raises(
        ResourceExhausted, match=f"257 entries of metadata are over the limit of {MAX_ENTRIES}"
    ):
        pair.a.open("s.m", metadata={f"k{n}": "" for n in range(MAX_ENTRIES + 1)})
    metadata: dict[str, str | bytes] = {f"k{n}": "" for n in range(MAX_ENTRIES)}
    channel = pair.a.open("s.m", metadata=metadata)
    pair.expect(b=[opened(channel, metadata=metadata)])


BAD_METADATA: list[tuple[Any, int, str]] = [
    ({"k": "v" * 100}, EXHAUSTED, "metadata of 133 bytes is over the limit of 100 (Limits.max_metadata)"),
    ({"K": "v"}, 3, "metadata key 'K' may hold only a-z, 0-9, '-', '_' and '.'"),
    ({"": "v"}, 3, "metadata key '' must be a non-empty str"),
    ({"k": 1}, 3, "metadata 'k' must be str or bytes"),
    ({"k": None}, 3, "metadata 'k' must be str or bytes"),
    ({"k": ["v"]}, 3, "metadata 'k' must be str or bytes"),
    ({"k": {"k": {}}}, 3, "metadata 'k' must be str or bytes"),
    ({"x" * 20_000 + "!": "v"}, 3, "metadata key '" + "x" * (MAX_TEXT - 14)),
]


@pytest.mark.parametrize(("metadata", "status", "text"), BAD_METADATA, ids=range(len(BAD_METADATA)))
def test_bad_metadata_breaks_its_channel(metadata: Any, status: int, text: str) -> None:
    pair = ConnectionPair(hello("a", max_metadata=100), hello("b", max_metadata=100))
    assert pair.inject(pair.b, [7, 1, "s.m", 1, b"payload", 0, None, metadata]) == []
    assert take_commands(pair.b) == [[10, 1, status, None, 0, text, None, NEVER_BEGAN]]
    assert pair.b.statistics().unconsumed == 0
    assert pair.b.channel_state(1) == ChannelState.OVER
    channel = pair.b.open("s.m")
    assert pair.inject(pair.b, [10, channel, 0, b"payload", 0, "", None, metadata]) == [
        closed(channel, status, message=text)
    ]
    assert pair.b.statistics().channel_violations == 1


@pytest.mark.parametrize(
    "raw", [b"\xa1\xff", b"\xc7\x00\x05", b"\xd6\xff\x00\x00\x00\x00", b"\xca\x00\x00\x00\x00"]
)
def test_values_of_metadata_that_are_neither_text_nor_binary(raw: bytes) -> None:
    pair = ConnectionPair()
    frame = b"\x91\x98\x07\x01\xa3s.m\x00\xc0\x00\xc0\x81\xa1k" + raw
    assert pair.b.receive([frame], 0.0) == []
    assert take_commands(pair.b) == [
        [10, 1, 3, None, 0, "metadata 'k' must be str or bytes", None, NEVER_BEGAN]
    ]


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, 65536])
def test_every_encoding_of_metadata_values(length: int) -> None:
    pair = ConnectionPair(hello("a", max_metadata=10**6), hello("b", max_metadata=10**6))
    metadata: dict[str, str | bytes] = {"text": "v" * length, "binary": b"v" * length}
    channel = pair.a.open("s.m", metadata=metadata)
    pair.expect(b=[opened(channel, metadata=metadata)])


# -- channels and commands -----------------------------------------------------------------------------


def test_too_many_channels_are_refused_by_their_opener() -> None:
    pair = ConnectionPair(binding=hello("b", max_channels=2))
    first, _ = pair.open(), pair.open()
    with pytest.raises(ResourceExhausted, match="2 channels are open on this link") as caught:
        pair.a.open("s.m")
    assert not caught.value.may_have_executed
    could = [pair.a.can_open]
    pair.a.cancel(first)
    pair.flush()
    could.append(pair.a.can_open)
    pair.b.close(first)
    pair.flush()
    could.append(pair.a.can_open)
    assert could == [False, False, True], "not while the handler of a cancelled call may still run"
    assert pair.b.can_open


def test_too_many_channels_anyway() -> None:
    pair = dishonest(max_channels=2)
    for _ in range(2):
        pair.open()
    channel = pair.a.open("s.m", payload=b"x")
    text = "2 channels are open on this link, the limit (Limits.max_channels)"
    pair.expect(a=[closed(channel, EXHAUSTED, message=text, trailers=NEVER_BEGAN)])
    assert pair.b.statistics().unconsumed == 0


def test_too_many_commands_break_the_link() -> None:
    pair = dishonest(max_commands=3)
    pair.a.open("s.m")
    for _ in range(3):
        pair.a.open("s.m")
    with pytest.raises(RemoteProtocolError, match="length <= 3"):
        pair.flush()


def test_too_large_a_frame_breaks_the_link() -> None:
    pair = ConnectionPair(binding=hello("b", max_message=1024, max_metadata=0))
    limit = max_frame(pair.b.local.limits)
    assert limit == 1024 + 1024 * 1024
    padding = batch([11, 1, "", b""])
    frame = batch([7, 1, "s.m"], [11, 1, "", bytes(limit - len(padding) - 10)])
    assert len(frame) == limit
    assert len(pair.b.receive([frame], 0.0)) == 2
    pair.b.close(1)
    with pytest.raises(
        RemoteProtocolError, match=f"frame 0 has {limit + 1} bytes, over the limit of {limit}"
    ):
        pair.b.receive([frame + b"\x00"], 0.0)


def test_an_unknown_codec_is_refused() -> None:
    pair = ConnectionPair(hello("a", codecs=("msgpack", "json")), hello("b", codecs=("msgpack",)))
    pair.a._remote_codecs = ("json",)
    channel = pair.a.open("s.m", payload=b"x", codec="json")
    text = "the codec 'json' is not known here, only msgpack"
    pair.expect(a=[closed(channel, StatusCode.INVALID_ARGUMENT, message=text, trailers=NEVER_BEGAN)])
    assert pair.b.statistics().unconsumed == 0


def test_a_refused_notification_is_dropped() -> None:
    pair = dishonest(max_message=1024)
    pair.a.open("s.m", payload=bytes(1025), flags=END | NOTIFY)
    pair.expect()
    assert pair.b.statistics().dropped_commands == 1
    assert pair.b.statistics().unconsumed == 0


# -- shapes: the bounds of every field -----------------------------------------------------------------

NAME, LONG_NAME = "n" * MAX_NAME, "n" * (MAX_NAME + 1)
TEXT, LONG_TEXT = "t" * MAX_TEXT, "t" * (MAX_TEXT + 1)
BIG = MAX_INTEGER + 1

FINE: list[list[Any]] = [
    [2, [{"name": NAME, "version": NAME, "more": [1]}] * MAX_SERVICES],
    [2, [], "more"],
    [3, 0],
    [3, MAX_INTEGER, MAX_INTEGER, {"more": 1}],
    [4, MAX_INTEGER, MAX_INTEGER, None],
    [5, MAX_INTEGER, NAME, TEXT, 1],
    [6, 0, 1, 1],
    [7, 1, NAME],
    [7, 1, 0],
    [7, 1, None, 0, None, 0, 0, {}, 0, 1, "msgpack", "more"],
    [7, MAX_INTEGER, MAX_INTEGER, 7, b"", 0, MAX_INTEGER, None, MAX_INTEGER, MAX_INTEGER, None],
]
WRONG: list[list[Any]] = [
    [],
    ["3", 1],
    [3.0, 1],
    [12],
    [-1],
    [2],
    [2, None],
    [2, {}],
    [2, [{}]],
    [2, [{"name": ""}]],
    [2, [{"name": LONG_NAME}]],
    [2, [{"name": "n", "version": LONG_NAME}]],
    [2, [{"name": "n"}] * (MAX_SERVICES + 1)],
    [3],
    [3, -1],
    [3, BIG],
    [3, True],
    [3, 1.0],
    [3, "1"],
    [3, 1, -1],
    [4],
    [4, 1, None],
    [5, 0],
    [5, 0, ""],
    [5, 0, LONG_NAME],
    [5, 0, "closing", LONG_TEXT],
    [5, -1, "closing"],
    [6, 0],
    [6, 0, 0],
    [6, 0, BIG],
    [6, -1, 1],
    [7, 1],
    [7, 0, "s.m"],
    [7, BIG, "s.m"],
    [7, 1, ""],
    [7, 1, LONG_NAME],
    [7, 1, -1],
    [7, 1, 1.5],
    [7, 1, True],
    [7, 1, b"s.m"],
    [7, 1, "s.m", 8],
    [7, 1, "s.m", -1],
    [7, 1, "s.m", NOTIFY],
    [7, 1, "s.m", NOTIFY, b""],
    [7, 1, "s.m", NOTIFY | END],
    [7, 1, "s.m", 0, "text"],
    [7, 1, "s.m", 0, None, 1],
    [7, 1, "s.m", 0, b"", -1],
    [7, 1, "s.m", 0, b"", 0, -1],
    [7, 1, "s.m", 0, b"", 0, None, []],
    [7, 1, "s.m", 0, b"", 0, None, {1: "v"}],
    [7, 1, "s.m", 0, b"", 0, None, {f"k{n}": "" for n in range(MAX_ENTRIES + 1)}],
    [7, 1, "s.m", 0, b"", 0, None, None, -1],
    [7, 1, "s.m", 0, b"", 0, None, None, None, 0],
    [7, 1, "s.m", 0, b"", 0, None, None, None, None, ""],
    [7, 1, "s.m", 0, b"", 0, None, None, None, None, LONG_NAME],
    [7, 2, "s.m"],
    [8, 2],
    [8, 0, b""],
    [8, 2, None],
    [8, 2, "text"],
    [8, 2, b"", 4],
    [8, 2, b"", 0, -1],
    [8, 2, b"", 0, 1],
    [9],
    [9, 0],
    [10],
    [10, 0],
    [10, 2, -1],
    [10, 2, None],
    [10, 2, 0, "text"],
    [10, 2, 0, None, 1],
    [10, 2, 0, b"", 1],
    [10, 2, 0, b"", 0, LONG_TEXT],
    [10, 2, 0, b"", 0, None],
    [10, 2, 0, b"", 0, "", "text"],
    [10, 2, 0, b"", 0, "", None, []],
    [11],
    [11, 0],
    [11, 1, LONG_TEXT],
    [11, 1, None],
]


@pytest.mark.parametrize("command", FINE, ids=range(len(FINE)))
def test_the_bounds_are_inside(command: list[Any]) -> None:
    pair = ConnectionPair()
    pair.inject(pair.b, command)
    assert pair.b.is_open


@pytest.mark.parametrize("command", WRONG, ids=range(len(WRONG)))
def test_a_command_of_the_wrong_shape_breaks_the_link(command: list[Any]) -> None:
    pair = ConnectionPair()
    assert pair.b.open("s.m") == 2
    with pytest.raises(RemoteProtocolError):
        pair.inject(pair.b, command)
    assert pair.b.is_closed
    assert take_commands(pair.b)[-1][:1] == [5]


def test_credit_overflow_breaks_the_link() -> None:
    pair = ConnectionPair()
    room = MAX_INTEGER - pair.b.statistics().send_credit
    pair.inject(pair.b, [6, 0, room])
    assert pair.b.statistics().send_credit == MAX_INTEGER
    with pytest.raises(RemoteProtocolError, match="CREDIT for channel 0 overflows"):
        pair.inject(pair.b, [6, 0, 1])
    pair = ConnectionPair()
    channel = pair.open()
    with pytest.raises(RemoteProtocolError, match=f"CREDIT for channel {channel} overflows"):
        pair.inject(pair.b, [6, channel, MAX_INTEGER])


def test_numbers_of_channels_belong_to_sides_and_grow() -> None:
    pair = ConnectionPair()
    with pytest.raises(RemoteProtocolError, match="OPEN of channel 1, a number that belongs to this side"):
        pair.inject(pair.a, [7, 1, "s.m"])
    pair = ConnectionPair()
    pair.inject(pair.b, [7, 5, "s.m"])
    with pytest.raises(RemoteProtocolError, match="OPEN of channel 5 after channel 5"):
        pair.inject(pair.b, [7, 5, "s.m"])
    pair = ConnectionPair()
    pair.inject(pair.b, [7, 5, "s.m"])
    with pytest.raises(RemoteProtocolError, match="OPEN of channel 3 after channel 5"):
        pair.inject(pair.b, [7, 3, "s.m"])


def test_attachments_must_be_used_up() -> None:
    pair = ConnectionPair()
    with pytest.raises(RemoteProtocolError, match="1 attachments came, but the commands use 0"):
        pair.inject(pair.b, [7, 1, "s.m", 0, b""], frames=[b"x"])
    pair = ConnectionPair()
    with pytest.raises(RemoteProtocolError, match="commands use 2 attachments, but 1 came"):
        pair.inject(pair.b, [7, 1, "s.m", 0, b"", 2], frames=[b"x"])


def test_a_message_has_frames() -> None:
    pair = ConnectionPair()
    with pytest.raises(RemoteProtocolError, match="a message without frames"):
        pair.b.receive([], 0.0)


def test_an_answer_to_bad_metadata_counts_its_own_bytes() -> None:
    """A receiver that quotes what it did not like must not go over the limits of whom it answers."""
    small = {"max_message": 1024, "max_metadata": 0, "max_commands": 10**6}
    pair = ConnectionPair(hello("a", **small), hello("b"))
    key = "\U0001f40d" * MAX_TEXT
    for channel in range(1, 200, 2):
        pair.inject(pair.b, [7, channel, "s.m", 0, None, 0, None, {key: ""}])
    messages = pair.b.data_to_send()
    assert len(messages) > 1
    assert all(len(frames[0]) <= max_frame(pair.a.local.limits) for frames in messages)


def test_texts_are_cut_to_what_may_travel() -> None:
    assert text("plain") == "plain"
    assert text(LONG_TEXT) == TEXT
