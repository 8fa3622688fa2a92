"""The default codec: msgpack by msgspec, with extension types for what msgpack lacks.

Most values are small and plain, so both ways begin with the assumption that this one is: one pass of msgspec,
without context. What turns out to hold a large buffer, an array, a callback or a channel is done again with a
context, :class:`Outgoing` or :class:`Incoming`. The first attempt leaves no trace: it exports and imports
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, final

import msgspec

from duplex.codec._arguments import join_arguments, split_arguments
from duplex.codec._base import Buffer, Decoder, LiveValues
from duplex.codec._buffers import BYTES_LIKE, is_large, may_hold_large, replace_buffers
from duplex.codec._explain import BAD_BYTES, BAD_VALUE, decode_error, encode_error
from duplex.codec._extensions import LARGE
from duplex.codec._incoming import Incoming
from duplex.codec._outgoing import Outgoing
from duplex.codec._plain import UnfitError, plain_only
from duplex.codec._types import Converter, PerType, adapt, adapt_plain, compile_converter, inspect_type

_HINT: Final = (
    "what travels is None, bool, int, float, str, bytes, datetime and its kin, Decimal, UUID, Enum, arrays, and "
    "list, tuple, set, dict, dataclass and msgspec.Struct of these"
)
_NOT_LIVE: Final = "; functions and channels travel only while a call lives"

#: msgspec would otherwise take text for bytes in base64, which the single pass does not.
_OWN_TYPES: Final = (bytes, bytearray, memoryview)

_encode: Final = msgspec.msgpack.Encoder(enc_hook=plain_only).encode


@final
class _ExtensionFoundError(Exception):
    """The payload holds an extension type, so it takes two phases."""


def _stop(code: int, body: memoryview) -> NoReturn:
    raise _ExtensionFoundError


@final
class _Compiled(NamedTuple):
    """What is known of a type."""

    convert: Converter
    #: Both phases in one; ``None`` if that cannot do.
    decode: Callable[[bytes], Any] | None
    #: Whether large buffers come out best as views, which then become what the type asks for.
    views: bool
    #: Whether a view is welcome as it is.
    keeps_view: bool


def _compile(annotation: Any) -> _Compiled:
    facts = inspect_type(annotation)
    decode = None
    if not facts.foreign and not facts.arrays:
        decode = msgspec.msgpack.Decoder(annotation, dec_hook=adapt_plain, ext_hook=_stop).decode
    convert = compile_converter(annotation, _OWN_TYPES)
    return _Compiled(convert, decode, facts.view and not facts.any, facts.view)


@final
class MsgpackCodec:
    """Payloads in msgpack, with the extension types of drpc.md for buffers, arrays, callbacks and channels.

    Args:
        max_attachments: of one message; further buffers go into the payload, whatever their size.
    """

    name: Final = "msgpack"

    def __init__(self, *, max_attachments: int = 64) -> None:
        self._max_attachments = max_attachments
        self._compiled = PerType(_compile)
        self._decoders = PerType(self._make_decoder)

    def encode(self, value: Any, live: LiveValues | None = None) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode`. A large buffer inside of ``value`` is copied once, though not sent twice:
        only ``value`` itself is looked at before the first attempt."""
        if type(value) in BYTES_LIKE and is_large(value):
            return self._encode_with_context(value, live)
        return self._encode(value, live)

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode_arguments`. As in :meth:`encode`, it is the arguments themselves that are
        never copied."""
        value = join_arguments(positional, keyword)
        for argument in positional:
            if type(argument) in BYTES_LIKE and is_large(argument):
                return self._encode_with_context(value, live, arguments=True)
        if keyword and any(is_large(argument) for argument in keyword.values()):
            return self._encode_with_context(value, live, arguments=True)
        return self._encode(value, live, arguments=True)

    def _encode(
        self, value: Any, live: LiveValues | None, arguments: bool = False
    ) -> tuple[bytes, Sequence[Buffer]]:
        try:
            payload = _encode(value)
        except (UnfitError, BufferError):
            return self._encode_with_context(value, live, arguments)
        except BAD_VALUE as error:
            raise encode_error(error, value, _HINT, arguments=arguments) from None
        if len(payload) >= LARGE and may_hold_large(payload):
            return self._encode_with_context(value, live, arguments)
        return payload, ()

    def _encode_with_context(
        self, value: Any, live: LiveValues | None, arguments: bool = False
    ) -> tuple[bytes, Sequence[Buffer]]:
        outgoing = Outgoing(live, self._max_attachments)
        try:
            return outgoing.encode(value), outgoing.attachments
        except BAD_VALUE as error:
            hint = _HINT + _NOT_LIVE if live is None else _HINT
            raise encode_error(error, value, hint, arguments=arguments) from None

    def decoder(self, annotation: Any) -> Decoder:
        """See :meth:`Codec.decoder`."""
        return self._decoders.of(annotation)

    def _make_decoder(self, annotation: Any) -> Decoder:
        convert, decode, views, _ = self._compiled.of(annotation)

        def decode_twice(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            value = Incoming(attachments, live, views=views).decode(payload)
            return convert(value, lambda kind, part: adapt(live, kind, part))

        if decode is None:
            return decode_twice

        def decode_once(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
            if not attachments:
                try:
                    return decode(payload)
                except _ExtensionFoundError:
                    pass
                except BAD_BYTES as error:
                    if "got `ext`" not in str(error):
                        raise decode_error(error) from None
            return decode_twice(payload, attachments, live)

        return decode_once

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """See :meth:`Codec.convert`."""
        compiled = self._compiled.of(annotation)
        if type(value) is memoryview and not compiled.keeps_view:
            value = bytes(value)
        return compiled.convert(value, lambda kind, part: adapt(live, kind, part))

    def decode_arguments(
        self,
        payload: bytes,
        attachments: Sequence[Buffer],
        live: LiveValues | None = None,
        *,
        views: bool = False,
    ) -> tuple[list[Any], dict[str, Any]]:
        """See :meth:`Codec.decode_arguments`."""
        if not attachments:
            return split_arguments(self._decoders[Any](payload, (), live))
        incoming = Incoming(attachments, live, views=views)
        positional, keyword = split_arguments(incoming.decode(payload))
        arguments = [*positional, *keyword.values()]
        if incoming.buffers > sum(type(argument) is memoryview for argument in arguments):
            # Those within an argument may be anywhere in it, so its type cannot be asked yet.
            positional = [_copy_views(argument) for argument in positional]
            keyword = {name: _copy_views(argument) for name, argument in keyword.items()}
        return positional, keyword


def _copy_views(argument: Any) -> Any:
    return argument if type(argument) is memoryview else replace_buffers(argument, bytes)
