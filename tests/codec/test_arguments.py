"""The arguments of a call."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex._errors import DecodeError, EncodeError
from duplex.codec import Buffer
from tests.codec.helpers import CODEC, JSON, RAW

BIG = bytes(70_000)


def delivered(attachments: Any) -> list[Buffer]:
    """As a transport may deliver them: in memory of its own that can be written."""
    return [memoryview(bytearray(attachment)) for attachment in attachments]


@pytest.mark.parametrize("codec", [CODEC, JSON], ids=["msgpack", "json"])
def test_the_form(codec: Any) -> None:
    untyped = codec.decoder(Any)
    payload, attachments = codec.encode_arguments((1, "x"), {})
    assert untyped(payload, attachments, None) == [[1, "x"]]
    assert codec.decode_arguments(payload, attachments) == ([1, "x"], {})
    payload, attachments = codec.encode_arguments([], {"a": 1})
    assert untyped(payload, attachments, None) == [[], {"a": 1}]
    assert codec.decode_arguments(payload, attachments, None) == ([], {"a": 1})
    payload, attachments = codec.encode([[1], {}])
    assert codec.decode_arguments(payload, attachments) == ([1], {})


@pytest.mark.parametrize("codec", [CODEC, JSON], ids=["msgpack", "json"])
@pytest.mark.parametrize(
    "value", [None, 1, "[]", [], {}, [1], [{}], ["x"], [[], []], [[], None], [[], {}, 1], [{}, []]]
)
def test_what_are_no_arguments(codec: Any, value: Any) -> None:
    payload, attachments = codec.encode(value)
    with pytest.raises(DecodeError, match=r"^arguments must be an array of an array and"):
        codec.decode_arguments(payload, attachments)


def test_names_are_text() -> None:
    payload, attachments = CODEC.encode([[], {1: 2}])
    with pytest.raises(DecodeError, match=r"a map with text as keys$"):
        CODEC.decode_arguments(payload, attachments)


def test_one_pass_for_a_whole_signature() -> None:
    # What the service layer does for ordinary signatures.
    positional = msgspec.defstruct("Positional", [("a", int), ("b", str)], array_like=True)
    wanted = msgspec.defstruct("Arguments", [("positional", positional)], array_like=True)
    payload, attachments = CODEC.encode_arguments((1, "x"), {})
    back: Any = CODEC.decoder(wanted)(payload, attachments, None)
    assert (back.positional.a, back.positional.b) == (1, "x")


@pytest.mark.parametrize("where", ["positional", "keyword", "both"])
def test_large_arguments_are_attachments(where: str) -> None:
    positional = [] if where == "keyword" else [1, BIG]
    keyword = {} if where == "positional" else {"x": BIG, "y": 2}
    payload, attachments = CODEC.encode_arguments(positional, keyword)
    assert len(payload) < 30
    assert all(attachment is BIG for attachment in attachments)
    assert CODEC.decode_arguments(payload, attachments) == (positional, keyword)
    back = CODEC.decode_arguments(payload, delivered(attachments))
    assert back == (positional, keyword)
    assert {type(part) for part in (*back[0], *back[1].values())} == {int, bytes}


def test_views_of_whole_arguments() -> None:
    class Inner(msgspec.Struct):
        data: bytes

    positional = [1, BIG, {"a": [BIG, b"small"]}]
    payload, attachments = CODEC.encode_arguments(positional, {"x": BIG, "y": Inner(BIG)})
    received = delivered(attachments)
    back, named = CODEC.decode_arguments(payload, received, views=True)
    assert back == positional
    assert [type(back[1]), type(named["x"])] == [memoryview, memoryview]
    assert back[1].readonly
    assert back[1].obj in [part.obj for part in received]  # type: ignore[union-attr]
    # What lies deeper is bytes, since its type may not say anything of it.
    assert [type(part) for part in back[2]["a"]] == [bytes, bytes]
    assert type(named["y"]["data"]) is bytes

    view = CODEC.convert(back[1], memoryview)
    assert view.obj is back[1].obj
    for annotation in (Any, object, bytes, bytes | None):
        converted = CODEC.convert(back[1], annotation)
        assert (type(converted), converted) == (bytes, BIG)
    assert type(CODEC.convert(back[1], bytearray)) is bytearray
    with pytest.raises(DecodeError, match=r"^Expected `int`, got `bytes`$"):
        CODEC.convert(back[1], int)


def test_views_where_there_are_no_others() -> None:
    payload, attachments = CODEC.encode_arguments((BIG, 1), {})
    (view, one), _ = CODEC.decode_arguments(payload, delivered(attachments), views=True)
    assert (type(view), one) == (memoryview, 1)
    payload, attachments = CODEC.encode_arguments((b"small",), {})
    assert CODEC.decode_arguments(payload, attachments, views=True) == ([b"small"], {})


@pytest.mark.parametrize("data", [b"", b"x", BIG])
def test_raw_arguments(data: bytes) -> None:
    payload, attachments = RAW.encode_arguments((data,), {})
    for received in (attachments, delivered(attachments)):
        (back,), keyword = RAW.decode_arguments(payload, received)
        assert (type(back), back, keyword) == (bytes, data, {})
        (back,), _ = RAW.decode_arguments(payload, received, views=True)
        assert (type(back), back, back.readonly) == (memoryview, data, True)


@pytest.mark.parametrize(
    ("positional", "keyword"),
    [((), {}), ((b"x", b"y"), {}), ((), {"x": b""}), ((b"",), {"x": b""}), ((None,), {})],
)
def test_what_raw_cannot_carry(positional: Any, keyword: Any) -> None:
    with pytest.raises(EncodeError, match=r"^the raw codec carries exactly one argument, bytes, by position"):
        RAW.encode_arguments(positional, keyword)


_values = (
    st.integers(-10, 10)
    | st.text(max_size=5)
    | st.just(BIG)
    | st.lists(st.just(BIG) | st.booleans(), max_size=3)
)


@given(
    st.lists(_values, max_size=4), st.dictionaries(st.text(max_size=5), _values, max_size=3), st.booleans()
)
def test_all_arguments_come_back(positional: list[Any], keyword: dict[str, Any], views: bool) -> None:
    payload, attachments = CODEC.encode_arguments(positional, keyword)
    assert CODEC.decode_arguments(payload, attachments, views=views) == (positional, keyword)
