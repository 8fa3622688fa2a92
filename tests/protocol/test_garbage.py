"""Whatever comes in: events, or ``RemoteProtocolError``, and nothing else. The connection's accounts hold."""

from __future__ import annotations

import random
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duplex._errors import RemoteProtocolError
from duplex.protocol import LimitsInfo, MessageReceived
from tests.protocol.helpers import (
    ConnectionPair,
    batch,
    check_accounts,
    closed,
    hello,
    one_by_one,
    pair_in_use,
)

pytestmark = pytest.mark.unmeasured("random bytes for what other tests try one by one")

common = settings(deadline=None, suppress_health_check=list(HealthCheck))


def feed(frames: list[bytes], *more: list[bytes]) -> None:
    """Let both ends of a pair have it."""
    pair = pair_in_use()
    for connection in (pair.a, pair.b):
        for message in (frames, *more):
            try:
                for event in one_by_one(connection.receive(message, 0.0)):
                    if isinstance(event, MessageReceived):
                        connection.consumed(event.channel, event.cost)
            except RemoteProtocolError:
                assert connection.is_closed
            check_accounts(connection)
            for sent in connection.data_to_send():
                assert len(sent[0]) < 2**20


frames_of = st.lists(st.binary(max_size=40), max_size=3)


@given(st.binary(max_size=200), frames_of)
@common
def test_random_bytes(frame: bytes, attachments: list[bytes]) -> None:
    feed([frame, *attachments])


@given(st.binary(max_size=60))
@common
def test_random_bytes_inside_a_batch(tail: bytes) -> None:
    feed([b"\x91" + tail])
    feed([b"\x92\x93\x07\x09\xa1m" + tail])


integers = st.one_of(
    st.integers(-1, 12), st.sampled_from([2**31, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1, -(2**63)])
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=10),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=12)),
    st.builds(msgpack.Timestamp, st.integers(0, 2**34), st.integers(0, 10**9 - 1)),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3) | integers, inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(values, frames_of)
@settings(common, max_examples=60)
def test_any_value_as_a_batch(value: Any, attachments: list[bytes]) -> None:
    feed([msgpack.packb(value), *attachments])


@pytest.mark.slow
@given(st.lists(st.lists(values, max_size=11), max_size=6), frames_of)
@settings(common, max_examples=60)
def test_any_values_as_commands(commands: list[Any], attachments: list[bytes]) -> None:
    feed([msgpack.packb(commands), *attachments])


numbers = st.integers(1, 9)
flags = st.integers(0, 8)
payloads = st.binary(max_size=300)
counts = st.integers(0, 3)
plausible = st.one_of(
    st.tuples(st.just(2), st.lists(st.fixed_dictionaries({"name": st.text(max_size=3)}), max_size=2)),
    st.tuples(st.just(3), integers),
    st.tuples(st.just(4), integers, integers),
    st.tuples(st.just(5), numbers, st.sampled_from(["draining", "closing", "protocol", ""])),
    st.tuples(st.just(6), st.integers(0, 9), integers),
    st.tuples(
        st.just(7),
        st.integers(1, 30),
        st.sampled_from(["s.m", "", 3, None]),
        flags,
        st.none() | payloads,
        counts,
        st.none() | integers,
        st.none() | st.dictionaries(st.sampled_from(["k", "K", "long-key"]), scalars, max_size=3),
        st.none() | integers,
        st.none() | numbers,
        st.sampled_from([None, "msgpack", "json"]),
    ),
    st.tuples(st.just(8), numbers, payloads, flags, counts),
    st.tuples(st.just(9), numbers),
    st.tuples(st.just(10), numbers, integers, st.none() | payloads, counts, st.text(max_size=5)),
    st.tuples(st.just(11), numbers, st.text(max_size=5)),
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.lists(plausible, max_size=6), frames_of), max_size=8))
@settings(common, max_examples=200)
def test_plausible_conversations(messages: list[tuple[list[Any], list[bytes]]]) -> None:
    encoded = [[msgpack.packb(commands), *attachments] for commands, attachments in messages]
    feed(*(encoded or [[b"\x90"]]))


@pytest.mark.slow
@given(st.randoms(use_true_random=False), st.lists(plausible, min_size=1, max_size=4))
@settings(common, max_examples=200)
def test_mutated_batches(chance: random.Random, commands: list[Any]) -> None:
    frame = bytearray(msgpack.packb(commands))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(frame))
        match chance.randrange(4):
            case 0:
                frame[place] = chance.randrange(256)
            case 1:
                del frame[place : place + chance.randint(1, 4)]
            case 2:
                frame[place:place] = chance.randbytes(chance.randint(1, 4))
            case _:
                frame[place] ^= 1 << chance.randrange(8)
        frame = frame or bytearray(b"\x90")
    feed([bytes(frame)])


HUGE = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdd\x7f\xff\xff\xff" + b"\x91" * 50,
]


@pytest.mark.parametrize("header", HUGE, ids=[header[:1].hex() for header in HUGE[:-1]] + ["nested"])
@pytest.mark.parametrize(
    "where", [b"", b"\x91", b"\x91\x93\x09\x01", b"\x91\x9b\x07\x09\xa1m\x00\xc0\x00\xc0\x81\xa1k"]
)
def test_huge_lengths_cost_nothing(header: bytes, where: bytes) -> None:
    feed([where + header])


DEEP = [b"\x91", b"\x81\xa1k", b"\xdd\x00\x00\x00\x01", b"\x81\x91\x91"]


@pytest.mark.parametrize("level", DEEP, ids=[level.hex() for level in DEEP])
@pytest.mark.parametrize(
    "where",
    [b"", b"\x91\x93\x09\x01", b"\x91\x98\x07\x09\xa1m\x00\xc0\x00\xc0\x81\xa1k", b"\x91\x92\x02"],
    ids=["batch", "beyond the last field", "metadata", "services"],
)
def test_deep_nesting_is_refused(level: bytes, where: bytes) -> None:
    pair = ConnectionPair(binding=hello("b", max_message=2**21))
    with pytest.raises(RemoteProtocolError):
        pair.b.receive([where + level * 100_000], 0.0)
    assert pair.b.is_closed


def test_a_peer_with_the_smallest_windows_survives_everything_allowed() -> None:
    tiny = dict.fromkeys(LimitsInfo.__struct_fields__, 1) | {"max_message": 1024, "max_metadata": 0}
    pair = ConnectionPair(hello("a", **tiny), hello("b", **tiny))
    channel = pair.open(payload=bytes(1024))
    _, at_b = pair.flush()
    assert at_b == []
    pair.b.consumed(channel, 1088)
    pair.flush()
    pair.a.send(channel, b"", [b"x"])
    pair.b.close(channel, payload=b"")
    pair.flush()
    assert pair.a.statistics().unconsumed == pair.b.statistics().unconsumed == 0


def test_numbers_that_only_look_like_integers() -> None:
    for number in (1.0, True, "1", b"1", struct.pack(">d", 1.0)):
        pair = ConnectionPair()
        with pytest.raises(RemoteProtocolError, match="malformed command"):
            pair.b.receive([batch([3, number])], 0.0)


def test_what_came_before_a_broken_rule_is_told() -> None:
    """Whatever is in the same message as something that breaks the link has had its effect, if it came before."""
    pair = ConnectionPair()
    channel = pair.open()
    pair.flush()
    with pytest.raises(RemoteProtocolError, match="channel 99, which was never opened") as caught:
        pair.inject(pair.a, [10, channel, 0, b"result"], [9, 99], [10, channel])
    assert caught.value.events == [closed(channel, payload=b"result")]
    assert pair.a.is_closed
