"""Where the json codec differs from msgpack."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex._errors import DecodeError, EncodeError
from duplex.codec import JsonCodec
from tests.codec.helpers import JSON
from tests.codec.test_values import VALUES


@pytest.mark.parametrize(("value", "annotation"), VALUES, ids=lambda part: repr(part)[:40])
def test_typed_values_come_back(value: Any, annotation: Any) -> None:
    if isinstance(value, dict) and isinstance(next(iter(value)), tuple):
        with pytest.raises(EncodeError):
            JSON.encode(value)
        return
    payload, attachments = JSON.encode(value)
    assert not attachments
    assert JSON.decoder(annotation)(payload, attachments, None) == value
    plain = JSON.decoder(Any)(payload, attachments, None)
    assert JSON.convert(plain, annotation) == value


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_plain)
def test_it_is_json(value: Any) -> None:
    payload, _ = JSON.encode(value)
    assert json.loads(payload) == value
    assert JSON.decoder(Any)(payload, (), None) == value


def test_bytes_are_base64() -> None:
    payload, attachments = JSON.encode({"data": b"\xff" * 100_000})
    assert not attachments
    assert JSON.decoder(dict[str, bytes])(payload, (), None) == {"data": b"\xff" * 100_000}
    assert JSON.convert("YWJj", bytes) == b"abc"
    assert JSON.decoder(memoryview)(b'"YWJj"', (), None) == b"abc"
    assert JSON.decoder(Any)(b'"YWJj"', (), None) == "YWJj"


class Reading(msgspec.Struct):
    value: float | None
    next: Any = None


class Real(float):
    pass


class Grade(enum.Enum):
    ONE = 1


ODD = dt.timezone(dt.timedelta(hours=1, seconds=30))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "NaN and the infinities cannot travel in json: use msgpack, or send None"),
        ([None, -math.inf], "NaN and the infinities .* - at `\\$\\[1\\]`"),
        ({"a": Reading(None, Reading(math.inf))}, "NaN and .* - at `\\$.a.next.value`"),
        ([Real("nan")], "NaN and"),
        (np.float32("inf"), "NaN and"),
        ([2**70, math.nan], "NaN and"),
        (
            {"x": {1: "a", "1": "b"}},
            "two keys of a dict are the same text in json, as 1 and '1' are.* - at `\\$.x`",
        ),
        ([{1.0: "a", "1.0": "b"}], "two keys"),
        ({dt.date(2024, 1, 2): "a", "2024-01-02": "b"}, "two keys"),
        ({np.int64(1): "a", Grade.ONE: "b"}, "two keys"),
        ({None: {True: 1}}, "values of type NoneType cannot travel"),
        ({True: 1}, "a bool cannot be a key in json"),
        (
            dt.datetime(2024, 1, 2, tzinfo=ODD),
            "an offset from UTC with seconds cannot travel in json: send .astim",
        ),
        ([{dt.time(1, tzinfo=ODD)}], "an offset from UTC .* - at `\\$\\[0\\]\\[0\\]`"),
    ],
)
def test_what_json_would_change_is_refused(value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=f"^{message}"):
        JSON.encode(value)
    with pytest.raises(EncodeError, match=f"^argument 1: {message.partition(' - at ')[0]}"):
        JSON.encode_arguments((value,), {})


@pytest.mark.parametrize(
    "value",
    [
        {"1": None, "2": [None, 1e300, -0.0]},
        {1: "a", "b": {2.5: None}},
        {"at": dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-2, minutes=-30)))},
        [dt.time(1, tzinfo=dt.UTC), dt.datetime(2024, 1, 2), b"\xcb\x7f\xff", None, 2**70],
        {"01:00:00+01:00": {"text": "12:00+01:00"}},
    ],
)
def test_what_only_looks_as_if_json_changed_it(value: Any) -> None:
    assert JSON.decoder(Any)(*JSON.encode(value), None) == json.loads(JSON.encode(value)[0])


def test_what_json_has_no_words_for() -> None:
    assert JSON.encode({1: dt.date(2024, 1, 2), np.int64(3): {1.5}}) == (b'{"1":"2024-01-02","3":[1.5]}', ())
    with pytest.raises(
        EncodeError, match=r"^an array cannot travel in json: use msgpack, or send .tolist\(\) - at"
    ):
        JSON.encode([np.zeros(3)])


def test_no_attachments() -> None:
    with pytest.raises(DecodeError, match=r"^a payload in json has no attachments$"):
        JSON.decoder(Any)(b"1", [b"x"], None)
    with pytest.raises(DecodeError, match=r"^a payload in json has no attachments$"):
        JSON.decode_arguments(b"[[]]", [b"x"])


@pytest.mark.parametrize(
    ("payload", "annotation", "message"),
    [
        (b"", Any, "Input data was truncated"),
        (b"[1,", Any, "Input data was truncated"),
        (b"1 2", Any, "JSON is malformed: trailing characters (byte 3)"),
        (b'"\xff"', Any, "a string is not UTF-8"),
        (b"[" * 100_000, Any, "the value is nested too deeply"),
        (b'{"a":[1,"x"]}', dict[str, list[int]], "Expected `int`, got `str` - at `$[...][1]`"),
        (b"5", np.int8, None),
        (b"500", np.int8, "Expected `int8`: Python integer 500 out of bounds for int8"),
        (b"5", object, None),
    ],
)
def test_messages(payload: bytes, annotation: Any, message: str | None) -> None:
    if message is None:
        assert JSON.decoder(annotation)(payload, (), None) == 5
        return
    with pytest.raises(DecodeError) as caught:
        JSON.decoder(annotation)(payload, (), None)
    assert str(caught.value) == message


def test_instances_are_alike() -> None:
    assert JsonCodec().name == JSON.name == "json"
