"""The codecs there are, and the contract that all of them keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from duplex._errors import ConfigurationError
from duplex.codec import CODECS, Buffer, Codec, JsonCodec, LiveValues, MsgpackCodec, RawCodec, get_codec
from duplex.testing._check_codec import check_codec


def test_the_codecs() -> None:
    assert list(CODECS) == ["msgpack", "json", "raw"]
    assert all(codec.name == name for name, codec in CODECS.items())
    for name, codec in CODECS.items():
        assert get_codec(name) is codec
    with pytest.raises(TypeError):
        CODECS["x"] = MsgpackCodec()  # type: ignore[index]


@pytest.mark.parametrize("name", ["pickle", "", "MSGPACK"])
def test_a_codec_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^there is no codec '{name}', only msgpack, json, raw$"):
        get_codec(name)


def test_msgpack_conforms() -> None:
    check_codec(MsgpackCodec())
    check_codec(MsgpackCodec(max_attachments=1))


def test_json_conforms() -> None:
    check_codec(JsonCodec(), arrays=False, live=False)


def test_raw_conforms() -> None:
    check_codec(RawCodec(), structured=False)


# -- the suite finds what is wrong -------------------------------------------------------------------------


class Wrapped:
    """A codec in which a test can break something."""

    def __init__(self) -> None:
        self._codec = MsgpackCodec()

    @property
    def name(self) -> str:
        return self._codec.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)


def complaint(codec: Any, **options: bool) -> str:
    with pytest.raises(AssertionError) as caught:
        check_codec(codec, **options)
    return str(caught.value)


def test_the_suite_accepts_the_wrapper() -> None:
    wrapped: Any = Wrapped()
    check_codec(wrapped)


def test_a_codec_that_leaks_errors() -> None:
    class Leaking(Wrapped):
        def decoder(self, annotation: Any) -> Any:
            inner = self._codec.decoder(annotation)

            def decode(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
                if not payload:
                    raise IndexError("payload")
                return inner(payload, attachments, live)

            self.__dict__.setdefault("made", {})
            return self.made.setdefault(annotation, decode)

    assert "hostile bytes with the codec 'msgpack': b'' as typing.Any raised IndexError" in complaint(
        Leaking()
    )


def test_a_codec_that_changes_values() -> None:
    class Lossy(Wrapped):
        def encode(self, value: Any, live: LiveValues | None = None) -> Any:
            return self._codec.encode(value[:100] if isinstance(value, bytes) else value, live)

    assert "255 bytes in a bytes did not come back as bytes" in complaint(Lossy())


def test_a_codec_with_a_bad_name() -> None:
    class Nameless(Wrapped):
        name = ""

    assert complaint(Nameless()) == "name with the codec '': the name is ''"


def test_a_codec_that_refuses_too_much() -> None:
    codec: Codec = JsonCodec()
    assert "unexpected EncodeError: an array cannot travel in json" in complaint(codec, live=False)
    assert complaint(RawCodec()) == "values with the codec 'raw': None came back as b''"


def test_a_codec_that_accepts_too_much() -> None:
    class Lax(Wrapped):
        def encode(self, value: Any, live: LiveValues | None = None) -> Any:
            return self._codec.encode(str(value) if type(value) is object else value, live)

    assert "refusals with the codec 'msgpack': expected EncodeError, got (" in complaint(Lax())


def test_a_codec_with_other_errors() -> None:
    class Rude(Wrapped):
        def encode(self, value: Any, live: LiveValues | None = None) -> Any:
            if type(value) is object:
                raise TypeError("no objects")
            return self._codec.encode(value, live)

    assert "expected EncodeError, got TypeError: no objects" in complaint(Rude())


def test_a_codec_with_other_errors_for_arguments() -> None:
    class Rude(Wrapped):
        def decode_arguments(self, payload: bytes, *rest: Any, **options: Any) -> Any:
            if payload[:1] == b"\xff":
                raise KeyError(payload)
            return self._codec.decode_arguments(payload, *rest, **options)

    assert "as arguments raised KeyError" in complaint(Rude())


def test_a_codec_with_state() -> None:
    class Shared(Wrapped):
        last: Any = None

        def encode(self, value: Any, live: LiveValues | None = None) -> Any:
            payload, attachments = self._codec.encode(value, live)
            if type(value).__name__ == "_Order":
                self.count = getattr(self, "count", 0) + 1
                if self.count > 60:
                    return self._codec.encode(None)
            return payload, attachments

    assert complaint(Shared()).startswith("threads with the codec 'msgpack': in one of four threads: ")
