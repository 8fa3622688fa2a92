"""Bytes that nobody in his right mind would send: the decoder's only word for them is DecodeError."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import tracemalloc
import uuid
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duplex._errors import DecodeError
from duplex.codec import Buffer, Codec
from duplex.codec._explain import decode_error
from duplex.engine.channels._types import Callback, ReceiveChannel
from tests.codec.helpers import CODEC, JSON, RAW, FakeLive
from tests.codec.test_values import Box, Colour, Item, Level, Options, Order, Place, Refund


class Everything(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0)] = 0
    text: Annotated[str, msgspec.Meta(pattern="^a+$")] = "a"
    when: dt.datetime | None = None
    view: memoryview = memoryview(b"")
    rest: dict[Any, Any] = {}
    inner: list[Everything] = []


PLAIN: list[Any] = [
    *(Any, object, None, bool, int, float, str, bytes, bytearray, memoryview),
    *(
        list[int],
        tuple[int, str],
        tuple[Any, ...],
        set[Any],
        frozenset[bytes],
        dict[str, int],
        dict[Any, Any],
    ),
    *(dict[dt.datetime, int], dict[tuple[int, ...], Any], dict[uuid.UUID, float]),
    *(dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID),
    *(Colour, Level, Place, Options, Item, Box, Order, Order | Refund, int | str | None, Everything),
    *(np.int64, np.float32),
]
MSGPACK: list[Any] = [*PLAIN, np.ndarray, list[np.ndarray | None], Callback[[int], None], ReceiveChannel[int]]
MEMORY = [Any, bytes, bytearray, memoryview, None, bytes | None, Annotated[bytes, msgspec.Meta(max_length=3)]]


def survives(codec: Codec, annotation: Any, payload: bytes, attachments: list[Buffer]) -> None:
    for live in (None, FakeLive()):
        with contextlib.suppress(DecodeError):
            codec.decoder(annotation)(payload, attachments, live)
    for views in (False, True):
        with contextlib.suppress(DecodeError):
            codec.decode_arguments(payload, attachments, FakeLive(), views=views)


_attachments: Any = st.lists(st.binary(max_size=20) | st.just(bytes(70_000)), max_size=3)

#: Bytes that are not quite random: mostly heads of msgpack values, extensions among them.
_heads = st.sampled_from(
    [bytes([head]) for head in range(0x80, 0x100)]
    + [
        b"\xd4\x01\x00",
        b"\xd4\x03\x01",
        b"\xd4\x05\x02",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x09\x02\x93\xa3|u1\x91\x01",
    ]
    + [b"\xd7\xff" + b"\xff" * 8, b"\xc7\x0c\xff" + b"\x7f" * 12, b"\xa2\xff\xfe", b"\x81\x80", b"\x92"]
)
_nearly = st.lists(_heads | st.binary(max_size=4), max_size=12).map(b"".join)


@given(st.sampled_from(MSGPACK), st.binary(max_size=64) | _nearly, _attachments)
@example(dict[dt.datetime, int], b"\x81\xc7\x0c\xff" + b"\xff" * 12 + b"\x01", [])
def test_msgpack(annotation: Any, payload: bytes, attachments: list[Buffer]) -> None:
    survives(CODEC, annotation, payload, attachments)


_json_parts = st.sampled_from(
    [
        *'[]{},:"0-.1eE \n\\',
        "null",
        "true",
        '"a"',
        '"\\ud800"',
        '"\\u0000"',
        "1e999",
        "9" * 5000,
        "NaN",
        '"2024-01-01"',
        '"a":',
    ]
)
_json_text = st.lists(_json_parts, max_size=12).map(lambda parts: "".join(parts).encode())


@given(st.sampled_from(PLAIN), st.binary(max_size=40) | _json_text, _attachments)
def test_json(annotation: Any, payload: bytes, attachments: list[Buffer]) -> None:
    survives(JSON, annotation, payload, attachments)


@given(st.sampled_from(MEMORY), st.binary(max_size=5), _attachments)
def test_raw(annotation: Any, payload: bytes, attachments: list[Buffer]) -> None:
    survives(RAW, annotation, payload, attachments)


@given(st.sampled_from(MSGPACK), st.data())
def test_truncated_and_changed(annotation: Any, data: Any) -> None:
    value = [
        1,
        "text",
        b"bytes",
        {"a": 1.5},
        None,
        bytes(70_000),
        np.arange(3),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    ]
    payload, attachments = CODEC.encode(value)
    changed = bytearray(payload)
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(changed), payload[: data.draw(st.integers(0, len(payload)))]):
        survives(CODEC, annotation, damaged, list(attachments))


@pytest.mark.parametrize(
    ("payload", "annotation", "message"),
    [
        (b"", Any, "Input data was truncated"),
        (b"\x01\x02", Any, "MessagePack data is malformed: trailing characters (byte 1)"),
        (b"\xc1", Any, "MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)"),
        (b"\xa2\xff\xff", Any, "a string is not UTF-8"),
        (b"\xa2a\xff", str, "a string is not UTF-8"),
        (b"\x91" * 100_000, Any, "the value is nested too deeply"),
        (b"\x81\x01" * 60_000, Any, "the value is nested too deeply"),
        (b"\x91" * 100_000, object, "the value is nested too deeply"),
        (b"\x81\x80\x01", Any, "MessagePack data is malformed: map keys must be hashable (byte 3)"),
        (b"\xd4\x06\x05", Any, "extension type 6 holds no time: Expected `datetime`, got `int`"),
        (b"\xd7\xff" + b"\xff" * 8, Any, "Invalid MessagePack timestamp: nanoseconds out of range"),
    ],
)
def test_messages(payload: bytes, annotation: Any, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decoder(annotation)(payload, (), None)
    assert str(caught.value) == message


class Chain(msgspec.Struct):
    next: Chain | None = None


def test_nested_too_deeply_for_a_type() -> None:
    for decoder in (
        CODEC.decoder(Chain),
        CODEC.decoder(dict[str, Chain | None]),
        CODEC.decoder(Callback[..., Any]),
    ):
        with pytest.raises(DecodeError):
            decoder(b"\x81\xa4next" * 100_000, (), None)
    deep: Any = None
    for _ in range(50):
        deep = {"next": deep}
    assert CODEC.convert(deep, Chain) == CODEC.decoder(Chain)(CODEC.encode(deep)[0], (), None)
    endless: dict[str, Any] = {}
    endless["next"] = endless
    with pytest.raises(DecodeError, match=r"^the value is nested too deeply$"):
        CODEC.convert(endless, Chain)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91\xdd\x7f\xff\xff\xff\xc0",
        msgspec.msgpack.encode(msgspec.msgpack.Ext(2, msgspec.msgpack.encode(("|u1", [1 << 40], b"")))),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(2, msgspec.msgpack.encode(("|S2147483647", [9], b"")))),
        msgspec.msgpack.encode([msgspec.msgpack.Ext(1, b"\x00")] * 10_000),
    ],
)
def test_a_few_bytes_never_make_much_memory(payload: bytes) -> None:
    received = [memoryview(bytearray(1 << 20))]
    tracemalloc.start()
    try:
        for annotation in (Any, list[Any], dict[str, int], np.ndarray):
            with pytest.raises(DecodeError):
                CODEC.decoder(annotation)(payload, received, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_text_that_is_not_utf_8_in_the_words_of_each_msgspec() -> None:
    with pytest.raises(UnicodeDecodeError) as older:
        b"\xff".decode()
    for error in (older.value, ValueError("Invalid UTF-8 encoded string")):
        assert str(decode_error(error)) == "a string is not UTF-8"
