"""The codec for bytes as they are: no encoding at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import msgspec

from duplex._errors import ConfigurationError, DecodeError, EncodeError
from duplex.codec._base import Buffer, Decoder, LiveValues
from duplex.codec._buffers import BYTES_LIKE
from duplex.codec._extensions import LARGE
from duplex.codec._types import (
    BYTES_TYPES,
    Converter,
    PerType,
    TypeFacts,
    compile_converter,
    inspect_type,
)

_CARRIED: Final = (msgspec.inspect.AnyType, *BYTES_TYPES)


def _carries_bytes(node: msgspec.inspect.Type) -> bool:
    if isinstance(node, msgspec.inspect.Metadata):
        return _carries_bytes(node.type)
    if isinstance(node, msgspec.inspect.UnionType):
        return any(_carries_bytes(part) for part in node.types)
    return isinstance(node, _CARRIED) or (isinstance(node, msgspec.inspect.CustomType) and node.cls is object)


@final
class _Type:
    """What is known of a type."""

    __slots__ = ("_convert", "_nothing", "_views")

    def __init__(self, annotation: Any) -> None:
        facts: TypeFacts = inspect_type(annotation)
        self._nothing = isinstance(facts.root, msgspec.inspect.NoneType)
        if not self._nothing and not _carries_bytes(facts.root):
            raise ConfigurationError(f"the raw codec carries bytes, not {annotation!r}: use msgpack")
        self._views = facts.view and not facts.any
        self._convert: Converter = compile_converter(annotation, facts, base64=False)

    def convert(self, data: Any) -> Any:
        """Return ``data`` as this type. Raises ``DecodeError``."""
        if self._nothing and type(data) in BYTES_LIKE:
            if len(data):
                raise DecodeError(f"Expected nothing, got {len(data)} bytes")
            return None
        if type(data) in BYTES_LIKE:
            data = memoryview(data).toreadonly() if self._views else bytes(data)
        return self._convert(data)


def _only_buffer(payload: bytes, attachments: Sequence[Buffer]) -> Buffer:
    if not attachments:
        return payload
    if payload or len(attachments) > 1:
        raise DecodeError("raw bytes are the payload, or one attachment beside an empty payload")
    return attachments[0]


@final
class RawCodec:
    """The payload is the bytes themselves; large ones are an attachment beside an empty payload.

    What travels is one ``bytes``, ``bytearray`` or ``memoryview``, and ``None`` as no bytes at all, for
    methods that return nothing. A call has exactly one argument, by position.
    """

    name: Final = "raw"

    def __init__(self) -> None:
        self._types = PerType(_Type)
        self._decoders = PerType(self._make_decoder)

    def encode(self, value: Any, live: LiveValues | None = None) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode`."""
        if value is None:
            return b"", ()
        if isinstance(value, (bytes, bytearray, memoryview)):
            view = memoryview(value)
            if view.nbytes < LARGE or (live is not None and not live.max_attachments):
                return value if type(value) is bytes else view.tobytes(), ()
            if type(value) is bytes:
                return b"", (value,)
            return b"", (view.cast("B") if view.c_contiguous else view.tobytes(),)
        raise EncodeError(f"the raw codec carries bytes, not a {type(value).__name__}: use msgpack")

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode_arguments`."""
        if keyword or len(positional) != 1 or positional[0] is None:
            raise EncodeError("the raw codec carries exactly one argument, bytes, by position: use msgpack")
        return self.encode(positional[0], live)

    def decoder(self, annotation: Any) -> Decoder:
        """See :meth:`Codec.decoder`."""
        return self._decoders.of(annotation)

    def _make_decoder(self, annotation: Any) -> Decoder:
        convert = self._types.of(annotation).convert

        def decoder(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            return convert(_only_buffer(payload, attachments))

        return decoder

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """See :meth:`Codec.convert`."""
        return self._types.of(annotation).convert(value)

    def decode_arguments(
        self,
        payload: bytes,
        attachments: Sequence[Buffer],
        live: LiveValues | None = None,
        *,
        views: bool = False,
    ) -> tuple[list[Any], dict[str, Any]]:
        """See :meth:`Codec.decode_arguments`."""
        data = _only_buffer(payload, attachments)
        return [memoryview(data).toreadonly() if views else bytes(data)], {}
