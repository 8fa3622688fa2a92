"""The codec for peers and people that read JSON: everything in one payload, nothing stays connected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import msgspec

from duplex._errors import ConfigurationError, DecodeError
from duplex.codec import _numpy
from duplex.codec._arguments import split_arguments
from duplex.codec._base import Buffer, Decoder, LiveValues
from duplex.codec._buffers import SPECIAL, holds_hollow, replace_buffers
from duplex.codec._changes import refuse_changes
from duplex.codec._elements import MANY_BYTES, check_json, many_objects
from duplex.codec._explain import BAD_BYTES, BAD_VALUE, decode_error, encode_error
from duplex.codec._plain import UnfitError, plain_only
from duplex.codec._types import (
    Converter,
    PerType,
    TypeFacts,
    adapt_local,
    compile_converter,
    filled,
    inspect_type,
)

_HINT: Final = (
    "what travels in json is None, bool, int, float, str, bytes, datetime and its kin, Decimal, UUID, Enum, and "
    "list, tuple, set, dict, dataclass and msgspec.Struct of these; for functions and channels use msgpack"
)
_EMPTY_MAP: Final = b"{}"


def _plain_only(value: Any) -> Any:
    if _numpy.is_array(value):
        raise UnfitError(value, "an array cannot travel in json: use msgpack, or send .tolist()")
    if type(value) is bool:  # only where it is a key
        raise UnfitError(
            value, "a bool cannot be a key in json, where keys are text: use msgpack, or 0 and 1"
        )
    return plain_only(value)


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain_only)


def _encode(value: Any, arguments: bool = False) -> bytes:
    try:
        payload = _encoder.encode(value)
        if _EMPTY_MAP in payload and holds_hollow(value):
            replace_buffers(value, _refuse_hollow)
        refuse_changes(value, payload)
        return payload
    except BAD_VALUE as error:
        raise encode_error(error, value, _HINT, arguments=arguments) from None


def _refuse_hollow(part: Any) -> Any:
    if type(part) not in SPECIAL:
        raise UnfitError(part)
    return part


def _inspect(annotation: Any) -> TypeFacts:
    facts = inspect_type(annotation)
    if facts.foreign or facts.arrays:
        raise ConfigurationError(
            f"values of type {annotation!r} cannot travel in json, as arrays, callbacks and channels cannot: "
            f"use msgpack"
        )
    return facts


def _make_converter(annotation: Any) -> Converter:
    return compile_converter(annotation, _inspect(annotation), base64=True)


def _make_decoder(annotation: Any) -> Decoder:
    facts = _inspect(annotation)
    decode = filled(msgspec.json.Decoder(annotation, dec_hook=adapt_local).decode, facts)

    def decoder(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
        if attachments:
            raise DecodeError("a payload in json has no attachments")
        try:
            if len(payload) <= MANY_BYTES:
                return decode(payload)
            check_json(payload, live)
            with many_objects():
                return decode(payload)
        except BAD_BYTES as error:
            raise decode_error(error, computed=facts.computed) from None

    return decoder


@final
class JsonCodec:
    """Payloads in JSON.

    Bytes travel as text in base64, and come out as bytes only where the type says so. Keys of dicts become text, and
    a dict with two keys of the same text is refused, as are NaN and the infinities, for which JSON has no words.
    """

    name: Final = "json"

    def __init__(self) -> None:
        self._converters = PerType(_make_converter)
        self._decoders = PerType(_make_decoder)

    def encode(self, value: Any, live: LiveValues | None = None) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode`."""
        return _encode(value), ()

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode_arguments`."""
        return _encode((positional, keyword) if keyword else (positional,), arguments=True), ()

    def decoder(self, annotation: Any) -> Decoder:
        """See :meth:`Codec.decoder`."""
        return self._decoders.of(annotation)

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """See :meth:`Codec.convert`."""
        return self._converters.of(annotation)(value)

    def decode_arguments(
        self,
        payload: bytes,
        attachments: Sequence[Buffer],
        live: LiveValues | None = None,
        *,
        views: bool = False,
    ) -> tuple[list[Any], dict[str, Any]]:
        """See :meth:`Codec.decode_arguments`."""
        return split_arguments(self._decoders[Any](payload, attachments, live))
