"""The default codec: msgpack by msgspec, with extension types for what msgpack lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, final

import msgspec

from duplex._errors import DecodeError, EncodeError
from duplex.codec._arguments import split_arguments
from duplex.codec._base import Buffer, Decoder, LiveValues
from duplex.codec._explain import decode_error, encode_error
from duplex.codec._extensions import LARGE
from duplex.codec._incoming import Incoming, adapt
from duplex.codec._large import is_large, may_hold_large
from duplex.codec._outgoing import NotPlain, Outgoing, plain_only
from duplex.codec._types import Converter, compile_converter, inspect_type

_encode: Final = msgspec.msgpack.Encoder(enc_hook=plain_only).encode
_BAD_VALUE: Final = (TypeError, ValueError, OverflowError, RecursionError, BufferError, NotPlain)
_BAD_BYTES: Final = (TypeError, ValueError, OverflowError, RecursionError)


@final
class _NeedsContext(Exception):  # noqa: N818 - not an error
    """The payload holds an extension type, so it is decoded in two phases."""


def _stop(code: int, body: memoryview) -> NoReturn:
    raise _NeedsContext


class _Compiled(NamedTuple):
    """What is known of a type."""

    convert: Converter
    #: ``None`` if the type holds others that msgspec does not know.
    decode: Callable[[bytes], Any] | None
    views: bool


@final
class MsgpackCodec:
    """Payloads in msgpack; the types of drpc.md for buffers, arrays, callbacks and channels.

    Args:
        max_attachments: buffers beyond this number go into the payload, whatever their size.
    """

    name: Final = "msgpack"

    def __init__(self, *, max_attachments: int = 64) -> None:
        self._max_attachments = max_attachments
        self._compiled: dict[Any, _Compiled] = {}
        self._decoders: dict[Any, Decoder] = {}
        self._arguments: dict[Any, Decoder] = {}

    def encode(self, value: Any, live: LiveValues | None = None) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode`."""
        if is_large(value):
            return self._encode_rich(value, live)
        try:
            payload = _encode(value)
        except (NotPlain, BufferError):
            return self._encode_rich(value, live)
        except _BAD_VALUE as error:
            raise encode_error(error, value, live) from None
        if len(payload) >= LARGE and may_hold_large(payload):
            return self._encode_rich(value, live)
        return payload, ()

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode_arguments`."""
        value = (positional, keyword) if keyword else (positional,)
        for argument in positional:
            # Noticed before the first attempt: it would copy the buffer for nothing.
            if is_large(argument):
                return self._encode_rich(value, live)
        return self.encode(value, live)

    def _encode_rich(self, value: Any, live: LiveValues | None) -> tuple[bytes, Sequence[Buffer]]:
        outgoing = Outgoing(live, self._max_attachments)
        try:
            payload = outgoing.encode(value)
        except _BAD_VALUE as error:
            raise encode_error(error, value, live) from None
        return payload, outgoing.attachments

    def decoder(self, annotation: Any) -> Decoder:
        """See :meth:`Codec.decoder`."""
        try:
            return self._decoders[annotation]
        except KeyError:
            decoder = self._decoders[annotation] = self._make_decoder(annotation)
            return decoder

    def _make_decoder(self, annotation: Any) -> Decoder:
        convert, decode, views = self._compile(annotation)

        def decode_twice(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            incoming = Incoming(attachments, live, views=views)
            return convert(incoming.decode(payload), incoming.adapt)

        if decode is None:
            return decode_twice

        def decode_once(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            if attachments:
                return decode_twice(payload, attachments, live)
            try:
                return decode(payload)
            except _NeedsContext:
                pass
            except _BAD_BYTES as error:
                if "got `ext`" not in str(error):
                    raise decode_error(error) from None
            return decode_twice(payload, attachments, live)

        return decode_once

    def _compile(self, annotation: Any) -> _Compiled:
        try:
            return self._compiled[annotation]
        except KeyError:
            facts = inspect_type(annotation)
            decode = None if facts.custom else msgspec.msgpack.Decoder(annotation, ext_hook=_stop).decode
            compiled = _Compiled(compile_converter(annotation), decode, facts.view and not facts.any)
            self._compiled[annotation] = compiled
            return compiled

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """See :meth:`Codec.convert`."""
        if annotation is Any:
            return value
        return self._compile(annotation).convert(value, lambda kind, part: adapt(live, kind, part))

    def decode_arguments(
        self, payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """See :meth:`Codec.decode_arguments`."""
        return split_arguments(self.decoder(Any)(payload, attachments, live))

    def arguments_decoder(self, positional: Any) -> Decoder:
        """See :meth:`Codec.arguments_decoder`."""
        try:
            return self._arguments[positional]
        except KeyError:
            decoder = self._arguments[positional] = self._make_arguments_decoder(positional)
            return decoder

    def _make_arguments_decoder(self, positional: Any) -> Decoder:
        convert, decode, views = self._compile(tuple[positional])

        def decode_twice(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            incoming = Incoming(attachments, live, views=views)
            value = incoming.decode(payload)
            try:
                return convert(value, incoming.adapt)[0]
            except DecodeError:
                return split_arguments(value)

        if decode is None:
            return decode_twice

        def decode_once(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            if not attachments:
                try:
                    return decode(payload)[0]
                except (_NeedsContext, *_BAD_BYTES):
                    pass
            return decode_twice(payload, attachments, live)

        return decode_once
