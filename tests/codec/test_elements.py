"""Payloads of too many elements are refused before there are objects."""

from __future__ import annotations

import datetime as dt
import gc
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from duplex._config import Limits
from duplex._elements import COSTLY
from duplex._errors import ConfigurationError, DecodeError
from duplex.codec import LiveKind
from duplex.codec._base import Unconnected
from duplex.codec._elements import MANY_BYTES, check_json, check_msgpack, many_objects
from duplex.engine.channels._types import Callback
from tests.codec.helpers import CODEC, JSON, FakeLive

MANY = 1_000_000
#: One more element, so that a payload has more bytes than it may have elements.
PAD = b"\xda" + struct.pack(">H", 2000) + bytes(2000)
TOO_MANY = (
    r"^the payload holds more than \d+ elements, the receiver's limit \(Limits\.max_elements\): send it in"
)


def bounds(limit: int) -> Unconnected:
    return Unconnected(64, limit)


def elements(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(elements, value))
    if isinstance(value, dict):
        return 1 + sum(elements(key) + elements(item) for key, item in value.items())
    return 1


def is_refused(check: Callable[[bytes, Any], None], payload: bytes, limit: int) -> bool:
    try:
        check(payload, bounds(limit))
    except DecodeError:
        return True
    return False


_texts = st.text(max_size=40) | st.integers(0, 70_000).map(lambda size: "x" * size)
_numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.booleans() | st.none()
_values = st.recursive(
    _numbers | _texts | st.binary(max_size=300) | st.datetimes(timezones=st.timezones()),
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(_texts | st.integers(0, 2**64 - 1), inner, max_size=20)
    ),
    max_leaves=60,
)


@given(_values)
def test_what_is_counted_in_msgpack(value: Any) -> None:
    payload = msgspec.msgpack.encode(value)
    count = elements(value)
    # What has no more bytes than it may have elements is not looked at.
    assert is_refused(check_msgpack, payload, count - 1) == (len(payload) > count - 1)
    assert not is_refused(check_msgpack, payload, count)


@given(st.lists(_numbers | st.just([]) | st.just({}), min_size=1, max_size=20), st.integers(1, 9000))
def test_many_values_are_counted_one_by_one(some: list[Any], size: int) -> None:
    value = (some * size)[:size]
    payload = msgspec.msgpack.encode(value) + PAD
    count = len(value) + 2
    assert is_refused(check_msgpack, payload, count - 1)
    assert not is_refused(check_msgpack, payload, count)


_plain = st.recursive(
    _numbers | st.text(alphabet='ab,:[{"\\'),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.text(alphabet=',"\\'), inner, min_size=1),
    max_leaves=40,
)


@given(_plain)
def test_what_is_counted_in_json(value: Any) -> None:
    payload = msgspec.json.encode(value)
    count = elements(value)
    assert is_refused(check_json, payload, count - 1) == (len(payload) > count - 1)
    assert not is_refused(check_json, payload, count)


@pytest.mark.parametrize(
    "payload", [b'["a', b'"' + b'\\"' * 50_000, b'[1,"' + b'\\"a' * 50_000 + b"\\"], ids=len
)
def test_text_in_json_that_does_not_end(payload: bytes) -> None:
    assert not is_refused(check_json, payload, 3)


@pytest.mark.parametrize(
    ("one", "cost"),
    [
        (b"\xd9\x1f" + bytes(31), COSTLY),
        (b"\xd9\x20" + bytes(32), 1),
        (b"\xda\x00\xff" + bytes(255), COSTLY),
        (b"\xda\x01\x00" + bytes(256), 1),
        (b"\xdb\x00\x00\xff\xff" + bytes(0xFFFF), COSTLY),
        (b"\xdb\x00\x01\x00\x00" + bytes(0x10000), 1),
        (b"\xc4\x00", 1),
        (b"\xc4\xff" + bytes(255), 1),
        (b"\xc5\x00\xff" + bytes(255), COSTLY),
        (b"\xc5\x01\x00" + bytes(256), 1),
        (b"\xc6\x00\x00\xff\xff" + bytes(0xFFFF), COSTLY),
        (b"\xc6\x00\x01\x00\x00" + bytes(0x10000), 1),
        (b"\xdc\x00\x0f" + bytes(15), COSTLY + 15),
        (b"\xdc\x00\x10" + bytes(16), 17),
        (b"\xdd\x00\x00\x00\x10" + bytes(16), COSTLY + 16),
        (b"\xde\x00\x01\x00\x00", COSTLY + 2),
        (b"\xde\x00\x10" + bytes(32), 33),
        (b"\xdf\x00\x00\x00\x01\x00\x00", COSTLY + 2),
        *((head + size + bytes(int.from_bytes(size, "big") + 1), COSTLY)
          for head, size in [(b"\xc7", b"\x05"), (b"\xc8", b"\x00\x05"), (b"\xc9", b"\x00\x00\x00\x05")]),
        *((bytes([head]) + bytes(1 + size), COSTLY)
          for head, size in [(0xD4, 1), (0xD5, 2), (0xD6, 4), (0xD7, 8), (0xD8, 16)]),
        (b"\xd6\xff" + bytes(4), 1),
        (b"\xd7\xff" + bytes(8), 1),
        (b"\xc7\x0c\xff" + bytes(12), 1),
        (b"\xc7\x14\x06\xb3" + b"2024-01-02T03:04:05", 1),
        (b"\xc7\x1b\x06\xba" + b"2024-01-02T03:04:05.000006", 1),
        (b"\x81\x01\x02", 3),
        (b"\x91\x01", 2),
    ],
    ids=lambda part: part[:4].hex() if isinstance(part, bytes) else str(part),
)  # fmt: skip
def test_what_counts_as_how_many(one: bytes, cost: int) -> None:
    payload = b"\xdc\x00\x20" + one * 32 + PAD
    assert is_refused(check_msgpack, payload, 32 * cost)
    assert not is_refused(check_msgpack, payload, 32 * cost + 2)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\xd9", b"\xcb\0\0", b"\xdd\0", b"\xdb\xff\xff\xff\xff", b"\xc7"]
)
def test_what_is_no_msgpack_is_left_to_the_decoder(payload: bytes) -> None:
    payload = b"\xcc\x80" * 100 + payload
    assert not is_refused(check_msgpack, payload, 100 + COSTLY)
    with pytest.raises(DecodeError, match=r"truncated|malformed"):
        CODEC.decoder(Any)(payload, (), None)


BOMBS = {
    "lists": b"\x91\x91\xdd" + struct.pack(">I", MANY) + b"\x90" * MANY,
    "maps": b"\x91\x91\xdd" + struct.pack(">I", MANY) + b"\x80" * MANY,
    "zeros": b"\x91\x91\xdd" + struct.pack(">I", MANY) + b"\0" * MANY,
    "pairs": b"\x91\x91\xdd" + struct.pack(">I", 500_000) + b"\x91\x90" * 500_000,
    "keys": b"\x91\x91\xdf" + struct.pack(">I", 400_000) + b"\xa3abc\0" * 400_000,
    "a false length": b"\x91\x91\xdd\xff\xff\xff\xff" + b"\xdb\0\x10\0\0" + bytes(1 << 20),
}


class Empty(msgspec.Struct):
    pass


@pytest.mark.parametrize(
    "annotation", [Any, list[list[list[Any]]], list[list[Callback[..., Any]]], NDArray[Any], str]
)
@pytest.mark.parametrize("bomb", BOMBS)
def test_too_many_elements_are_refused_before_they_take_memory(bomb: str, annotation: Any) -> None:
    payload = BOMBS[bomb]
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=TOO_MANY):
            CODEC.decoder(annotation)(payload, (), FakeLive())
        with pytest.raises(DecodeError, match=TOO_MANY):
            CODEC.decode_arguments(payload, (), None)
        with pytest.raises(DecodeError, match=TOO_MANY):
            CODEC.decode_arguments(payload, (b"an attachment",), FakeLive())
        with pytest.raises(DecodeError, match=TOO_MANY):
            CODEC.decoder(annotation)(payload, (b"an attachment",), None)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_too_many_elements_of_json() -> None:
    payload = b"[[" + b"[]," * 600_000 + b"1]]"
    for annotation in (Any, list[list[Any]], list[Empty]):
        with pytest.raises(DecodeError, match=TOO_MANY):
            JSON.decoder(annotation)(payload, (), None)
    with pytest.raises(DecodeError, match=TOO_MANY):
        JSON.decode_arguments(payload, (), None)
    text = JSON.encode([",[" * 600_000])[0]
    assert JSON.decoder(list[str])(text, (), None) == [",[" * 600_000]


def test_the_receivers_limit_holds() -> None:
    value = [0] * 600_000
    for codec in (CODEC, JSON):
        payload = codec.encode(value)[0]
        with pytest.raises(DecodeError, match="131072"):
            codec.decoder(Any)(payload, (), None)
        with pytest.raises(DecodeError, match="600000"):
            codec.decoder(list[int])(payload, (), bounds(600_000))
        assert codec.decoder(list[int])(payload, (), bounds(600_001)) == value
    assert CODEC.decoder(list[list[int]] | None)(*CODEC.encode([value[:130_000]]), None) == [value[:130_000]]


def test_extension_types_are_few() -> None:
    live = FakeLive()
    callbacks = b"\xdc\x13\x88" + b"\xd4\x03\x00" * 5000  # fewer bytes than elements that are allowed
    with pytest.raises(DecodeError, match=TOO_MANY):
        CODEC.decoder(list[Callback[..., Any]])(callbacks, (), Numberless())
    payload, attachments = CODEC.encode([np.zeros(1)] * 4095, live)
    assert len(CODEC.decoder(list[NDArray[Any]])(payload, attachments, live)) == 4095
    payload, attachments = CODEC.encode([np.zeros(1)] * 4097, live)
    with pytest.raises(DecodeError, match=TOO_MANY):
        CODEC.decoder(list[NDArray[Any]])(payload, attachments, live)

    payload, attachments = CODEC.encode([dt.datetime(2024, 1, 2)] * 16_384)
    assert len(CODEC.decoder(Any)(payload, attachments, live)) == 16_384
    with pytest.raises(DecodeError, match=TOO_MANY):
        CODEC.decoder(Any)(*CODEC.encode([dt.datetime(2024, 1, 2)] * 16_385), live)


class Numberless(FakeLive):
    """Imports a number more than once."""

    def import_(self, kind: LiveKind, number: int) -> Any:
        """See :class:`LiveValues`."""
        return print


def test_where_nothing_is_connected() -> None:
    nothing = bounds(70_000)
    payload, _ = CODEC.encode([print], FakeLive())
    with pytest.raises(DecodeError, match=r"^a callback arrived where none can be used$"):
        CODEC.decoder(Any)(payload, (), nothing)
    with pytest.raises(DecodeError, match=r"^Expected `Callback`, which only a call can carry, got `int`"):
        CODEC.decoder(list[Callback[..., Any]])(CODEC.encode([1])[0], (), nothing)
    assert nothing.export(print) is None


def test_the_collector_rests_while_many_objects_are_made() -> None:
    payload = CODEC.encode([[] for _ in range(MANY_BYTES)])[0]
    seen: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(phase)

    class Noting(msgspec.Struct):
        def __post_init__(self) -> None:
            seen.append(str(gc.isenabled()))

    gc.collect()
    gc.callbacks.append(note)
    try:
        CODEC.decoder(list[list[int]])(payload, (), None)
        assert len(seen) <= 2  # one when it may again
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
    seen.clear()
    padded = {"x": "x" * MANY_BYTES}
    for codec in (CODEC, JSON):
        codec.decoder(Noting)(*codec.encode(padded), None)
        codec.decoder(Noting)(*codec.encode({}), None)
    assert seen == ["False", "True"] * 2
    assert gc.isenabled()
    gc.disable()
    try:
        with many_objects():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("wrong", [65_535, 0, 1.0e6, True, None])
def test_limits_that_are_none(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Limits.max_elements must be a whole number from 65536 "):
        Limits(max_elements=wrong)
