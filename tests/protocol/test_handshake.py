"""HELLO and REFUSE: who says what first, and every reason for which no link comes about."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from duplex._config import Limits
from duplex._errors import LocalProtocolError, RemoteProtocolError
from duplex.protocol import (
    MAX_SERVICES,
    MAX_TEXT,
    Connection,
    HelloReceived,
    LimitsInfo,
    LinkOpened,
    LinkRefused,
    LinkState,
    ServiceInfo,
    ServicesAnnounced,
    limits_info,
    max_frame,
)
from tests.protocol.helpers import ConnectionPair, batch, hello, take_commands


def test_both_sides_say_hello() -> None:
    mine = hello("a", name="left", services=(ServiceInfo("calc", "1.2.3"),), credentials=b"token")
    theirs = hello("b", name="right", codecs=("json", "msgpack"), features=("future",), max_message=2048)
    pair = ConnectionPair(mine, theirs, handshake=False)
    pair.a.greet()
    assert pair.a.statistics().state == LinkState.GREETED
    pair.expect(b=[HelloReceived(mine)])
    assert pair.b.remote == mine
    assert pair.b.statistics().state == LinkState.ASKED
    pair.b.accept()
    assert pair.b.is_open
    pair.expect(a=[LinkOpened(theirs)])
    assert pair.a.is_open
    assert pair.a.remote == theirs
    assert pair.a.max_message == 2048
    assert pair.b.max_message == LimitsInfo().max_message
    assert pair.a.max_attachments == LimitsInfo().max_attachments


def test_the_smallest_hello_means_the_defaults() -> None:
    connection = Connection(hello("b"), connecting=False, now=0.0)
    (event,) = connection.receive([batch([0, "DMTP", 1, 1, "a"])], 0.0)
    assert event == HelloReceived(hello("a"))
    assert hello("a").codecs == ("msgpack",)
    assert hello("a").limits == limits_info(Limits()), "the wire's defaults are the configuration's"


def test_commands_may_follow_the_answer_in_the_same_batch() -> None:
    pair = ConnectionPair(handshake=False)
    pair.a.greet()
    pair.flush()
    pair.b.accept()
    channel = pair.b.open("s.m")
    at_a, _ = pair.flush()
    assert [type(event).__name__ for event in at_a] == ["LinkOpened", "ChannelOpened"]
    assert channel == 2


def test_nothing_may_follow_the_question() -> None:
    connection = Connection(hello("b"), connecting=False, now=0.0)
    with pytest.raises(RemoteProtocolError, match="OPEN while the link is ASKED"):
        connection.receive([batch([0, "DMTP", 1, 1, "a"], [7, 1, "s.m"])], 0.0)
    assert take_commands(connection) == [[1, "protocol", "OPEN while the link is ASKED"]]


@pytest.mark.parametrize("reason", ["auth", "limit", "draining"])
def test_refused_by_the_binding_side(reason: str) -> None:
    pair = ConnectionPair(handshake=False)
    pair.a.greet()
    pair.flush()
    pair.b.refuse(reason, "not today \ud800")
    assert pair.b.is_closed
    pair.expect(a=[LinkRefused(reason, "not today ?")])
    assert pair.a.is_closed


VERSION_CASES = [
    ((1, 1), (2, 3), False),
    ((2, 3), (1, 1), False),
    ((1, 2), (2, 5), True),
    ((1, 9), (3, 4), True),
]


@pytest.mark.parametrize(("mine", "theirs", "fine"), VERSION_CASES)
def test_versions_must_overlap(mine: tuple[int, int], theirs: tuple[int, int], fine: bool) -> None:
    pair = ConnectionPair(
        hello("a", lowest_version=mine[0], highest_version=mine[1]),
        hello("b", lowest_version=theirs[0], highest_version=theirs[1]),
        handshake=False,
    )
    pair.a.greet()
    if fine:
        _, (event,) = pair.flush()
        assert isinstance(event, HelloReceived)
        return
    text = f"versions {theirs[0]} to {theirs[1]} are spoken here, {mine[0]} to {mine[1]} there"
    pair.expect(a=[LinkRefused("version", text)], b=[LinkRefused("version", text)])
    assert pair.a.is_closed
    assert pair.b.is_closed


def test_a_codec_must_be_common() -> None:
    pair = ConnectionPair(
        hello("a", codecs=("json",)), hello("b", codecs=("msgpack", "raw")), handshake=False
    )
    pair.a.greet()
    text = "codecs msgpack, raw are known here, json there"
    pair.expect(a=[LinkRefused("codec", text)], b=[LinkRefused("codec", text)])


def test_a_refusal_that_quotes_the_other_side_is_cut_to_what_may_be_said() -> None:
    pair = ConnectionPair(hello("a", codecs=tuple(f"{n:0255}" for n in range(32))), handshake=False)
    pair.a.greet()
    (at_a,), (at_b,) = pair.flush()
    assert at_a == at_b
    assert isinstance(at_a, LinkRefused)
    assert len(at_a.message) == MAX_TEXT


def test_the_connecting_side_says_why_it_does_not_like_the_answer() -> None:
    connection = Connection(hello("a"), connecting=True, now=0.0)
    connection.greet()
    connection.data_to_send()
    (event,) = connection.receive([batch([0, "DMTP", 7, 8, "b"])], 0.0)
    text = "versions 1 to 1 are spoken here, 7 to 8 there"
    assert event == LinkRefused("version", text)
    assert connection.is_closed
    assert take_commands(connection) == [[5, 0, "protocol", f"version: {text}"]]


def test_another_protocol_is_told_at_once() -> None:
    connection = Connection(hello("b"), connecting=False, now=0.0)
    with pytest.raises(RemoteProtocolError, match="speaks 'ZRPC', not 'DMTP'"):
        connection.receive([batch([0, "ZRPC", 1, 1, "a"])], 0.0)
    assert take_commands(connection)[0][:2] == [1, "protocol"]


def test_hello_must_come_first() -> None:
    connection = Connection(hello("b"), connecting=False, now=0.0)
    with pytest.raises(RemoteProtocolError, match="PING while the link is IDLE; HELLO must come first"):
        connection.receive([batch([3, 1])], 0.0)


def test_hello_comes_once() -> None:
    pair = ConnectionPair()
    with pytest.raises(RemoteProtocolError, match="HELLO after the handshake"):
        pair.inject(pair.b, [0, "DMTP", 1, 1, "a"])
    at_a, _ = pair.flush()
    assert pair.a.is_closed
    assert len(at_a) == 1


def test_what_was_queued_before_the_link_broke_is_still_said() -> None:
    """Or the other side, which waits for HELLO, would not understand the GOAWAY."""
    pair = ConnectionPair(handshake=False)
    pair.a.greet()
    pair.flush()
    pair.b.accept()
    with pytest.raises(RemoteProtocolError):
        pair.b.receive([b"\xc1"], 0.0)
    at_a, _ = pair.flush()
    assert [type(event).__name__ for event in at_a] == ["LinkOpened", "GoawayReceived"]


def test_services_are_announced_later() -> None:
    pair = ConnectionPair()
    pair.b.announce([ServiceInfo("calc"), ServiceInfo("clock", "2.0.0")])
    pair.expect(a=[ServicesAnnounced((ServiceInfo("calc", "0.0.0"), ServiceInfo("clock", "2.0.0")))])
    pair.b.announce([])
    pair.expect(a=[ServicesAnnounced(())])


class Word(str):
    __slots__ = ()


class Bytes(bytes):
    __slots__ = ()


class Choice(enum.StrEnum):
    GREEN = "green"


def test_derived_classes_of_plain_values_travel_as_those() -> None:
    pair = ConnectionPair(hello("a", name=Word("left"), credentials=Bytes(b"secret")), handshake=False)
    pair.a.greet()
    _, (event,) = pair.flush()
    assert isinstance(event, HelloReceived)
    assert event.remote.name == "left"
    pair.b.accept()
    pair.flush()
    metadata: dict[str, str | bytes] = {Word("k"): Word("v"), "b": Bytes(b"b"), "c": Choice.GREEN}
    channel = pair.a.open(Word("s.m"), metadata=metadata)
    _, (event,) = pair.flush()
    assert event.metadata == {"k": "v", "b": b"b", "c": "green"}  # type: ignore[union-attr]
    pair.b.close(channel, Status.LOST)
    (event,), _ = pair.flush()
    assert event.status == 15  # type: ignore[union-attr]


class Number(int):
    pass


def test_a_derived_integer_travels() -> None:
    pair = ConnectionPair()
    pair.a.open(Number(3), parent=Number(7))
    _, (event,) = pair.flush()
    assert (event.target, event.parent) == (3, 7)  # type: ignore[union-attr]


class Status(enum.IntEnum):
    LOST = 15


def test_things_of_other_kinds_cannot_be_part_of_a_command() -> None:
    with pytest.raises(
        LocalProtocolError, match="HELLO cannot be sent: a complex cannot be part of a command"
    ):
        Connection(hello("a", name=1j), connecting=True, now=0.0)


BAD_HELLOS: list[dict[str, Any]] = [
    {"peer_id": ""},
    {"peer_id": "x" * 256},
    {"name": "\ud800"},
    {"codecs": ()},
    {"codecs": ("x",) * 33},
    {"features": ("x",) * 65},
    {"services": (ServiceInfo("s"),) * (MAX_SERVICES + 1)},
    {"credentials": bytes(8193)},
    {"max_message": 1023},
    {"link_window": 0},
    {"max_channels": 2**53},
    {"max_commands": 2**65},
]


@pytest.mark.parametrize("fields", BAD_HELLOS, ids=lambda fields: next(iter(fields)))
def test_a_hello_that_nobody_could_read_is_refused_where_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="HELLO cannot be sent"):
        Connection(hello(**{"name": "a", **fields}), connecting=True, now=0.0)


def test_what_cannot_be_read_is_not_said_and_changes_nothing() -> None:
    pair = ConnectionPair()
    with pytest.raises(LocalProtocolError, match="GOAWAY cannot be sent"):
        pair.a.leave("")
    assert not pair.a.leaving
    with pytest.raises(LocalProtocolError, match="ANNOUNCE cannot be sent"):
        pair.a.announce([ServiceInfo("s")] * (MAX_SERVICES + 1))
    connection = Connection(hello("b"), connecting=False, now=0.0)
    connection.receive([batch([0, "DMTP", 1, 1, "a"])], 0.0)
    with pytest.raises(LocalProtocolError, match="REFUSE cannot be sent"):
        connection.refuse("x" * 256, "")
    assert connection.state == LinkState.ASKED
    assert not connection.has_data_to_send


def test_the_largest_hello_fits_the_smallest_frame() -> None:
    largest = hello(
        "p" * 255,
        name="n" * 255,
        codecs=("msgpack", *("c" * 255 for _ in range(31))),
        features=tuple("f" * 255 for _ in range(64)),
        services=tuple(ServiceInfo(f"{n:0255}", "v" * 255) for n in range(MAX_SERVICES)),
        credentials=bytes(8192),
    )
    pair = ConnectionPair(largest, hello("b", max_message=1024, max_metadata=0), handshake=False)
    pair.a.greet()
    ((frame,),) = pair.a.data_to_send()
    assert len(frame) < max_frame(pair.b.local.limits)
    (event,) = pair.b.receive([frame], 0.0)
    assert event == HelloReceived(largest)


def test_statistics_of_a_link_on_which_nothing_has_happened() -> None:
    pair = ConnectionPair()
    for connection in (pair.a, pair.b):
        statistics = connection.statistics()
        assert statistics.channels_opened_here == statistics.channels_opened_there == 0
        assert statistics.dropped_commands == statistics.channel_violations == statistics.unconsumed == 0
