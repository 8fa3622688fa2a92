"""The raw codec: bytes in, bytes out."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from duplex._errors import ConfigurationError, DecodeError, EncodeError
from tests.codec.helpers import LARGE, RAW

BIG = bytes(range(256)) * (LARGE // 256)


class Blob(bytes):
    pass


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), memoryview(b"x"), Blob(b"x"), memoryview(b"xyz")[::5]]
)
def test_small_ones_are_the_payload(value: Any) -> None:
    payload, attachments = RAW.encode(value)
    assert (type(payload), payload, attachments) == (bytes, b"x", ())


def test_large_ones_are_an_attachment() -> None:
    payload, attachments = RAW.encode(BIG)
    assert payload == b""
    assert attachments[0] is BIG
    assert RAW.encode(BIG[:-1]) == (BIG[:-1], ())
    numbers = memoryview(bytearray(BIG)).cast("d")
    payload, (view,) = RAW.encode(numbers)
    assert isinstance(view, memoryview)
    assert (payload, view.obj, len(view)) == (b"", numbers.obj, LARGE)
    payload, attachments = RAW.encode(memoryview(BIG + BIG)[::2])
    assert (payload, attachments) == (b"", ((BIG + BIG)[::2],))


@pytest.mark.parametrize("data", [b"", b"abc", BIG])
def test_every_form_of_bytes(data: bytes) -> None:
    payload, attachments = RAW.encode(data)
    for received in (attachments, [memoryview(bytearray(part)) for part in attachments]):
        exact: list[Any] = [bytes, bytearray, memoryview]
        for annotation in exact:
            back = RAW.decoder(annotation)(payload, received, None)
            assert (type(back), back) == (annotation, data)
        others: list[Any] = [Any, object, bytes | None, Annotated[bytes, "doc"]]
        others += [Annotated[bytes, msgspec.Meta(title="The data")]]
        for annotation in others:
            back = RAW.decoder(annotation)(payload, received, None)
            assert (type(back), back) == (bytes, data)
        view = RAW.decoder(memoryview)(payload, received, None)
        assert view.readonly
        if received:
            assert view.obj is getattr(received[0], "obj", received[0])


def test_convert() -> None:
    assert RAW.convert(b"x", memoryview) == b"x"
    assert type(RAW.convert(memoryview(b"x"), Any)) is bytes
    with pytest.raises(DecodeError, match=r"^Expected `bytes`, got `int`$"):
        RAW.convert(5, bytes)
    with pytest.raises(DecodeError, match=r"^Expected `bytes`, got `str`$"):
        RAW.convert("YWJj", bytes)


def test_limits_on_length() -> None:
    decoder = RAW.decoder(Annotated[bytes, msgspec.Meta(max_length=3)])
    assert decoder(b"abc", (), None) == b"abc"
    with pytest.raises(DecodeError, match=r"^Expected `bytes` of length <= 3$"):
        decoder(b"abcd", (), None)


def test_nothing() -> None:
    assert RAW.encode(None) == (b"", ())
    assert RAW.decoder(None)(b"", (), None) is None
    assert RAW.decoder(type(None))(b"", (), None) is None
    assert RAW.convert(None, None) is None
    with pytest.raises(DecodeError, match=r"^Expected nothing, got 1 bytes$"):
        RAW.decoder(None)(b"x", (), None)
    with pytest.raises(DecodeError, match=r"^Expected `null`, got `int`$"):
        RAW.convert(5, None)


@pytest.mark.parametrize("value", [1, "x", [b"x"], {}, object(), print])
def test_other_values(value: Any) -> None:
    with pytest.raises(
        EncodeError, match=f"^the raw codec carries bytes, not a {type(value).__name__}: use msgpack"
    ):
        RAW.encode(value)


@pytest.mark.parametrize("annotation", [int, str, list[bytes], dict[str, Any], int | None])
def test_other_types(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^the raw codec carries bytes, not "):
        RAW.decoder(annotation)


@pytest.mark.parametrize(("payload", "attachments"), [(b"x", [b"y"]), (b"", [b"x", b"y"])])
def test_more_than_one(payload: bytes, attachments: list[bytes]) -> None:
    for function in (RAW.decoder(bytes), RAW.decode_arguments):
        with pytest.raises(
            DecodeError, match=r"^raw bytes are the payload, or one attachment beside an empty"
        ):
            function(payload, attachments, None)
