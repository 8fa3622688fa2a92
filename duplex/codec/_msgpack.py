"""The default codec: msgpack by msgspec, with extension types for what msgpack lacks.

Most values are small and plain, so both ways begin with the assumption that this one is: one pass of msgspec,
without context. What turns out to hold a large buffer, an array, a callback or a channel is done again with a
context, :class:`Outgoing` or :class:`Incoming`. The first attempt leaves no trace: it exports and imports
nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, final

import msgspec

from duplex.codec._arguments import split_arguments
from duplex.codec._base import Buffer, Decoder, LiveValues
from duplex.codec._buffers import (
    BYTES_LIKE,
    holds_hollow,
    is_large,
    may_hold_large,
    may_hold_local_time,
    replace_buffers,
)
from duplex.codec._elements import MANY_BYTES, check_msgpack, many_objects
from duplex.codec._explain import BAD_BYTES, BAD_VALUE, decode_error, encode_error
from duplex.codec._extensions import LARGE
from duplex.codec._incoming import Incoming
from duplex.codec._outgoing import Outgoing
from duplex.codec._plain import UnfitError, plain_only
from duplex.codec._types import PerType, adapt, adapt_local, compile_converter, filled, inspect_type

_HINT: Final = (
    "what travels is None, bool, int, float, str, bytes, datetime and its kin, Decimal, UUID, Enum, arrays, and "
    "list, tuple, set, dict, dataclass and msgspec.Struct of these"
)
_NOT_LIVE: Final = "; functions and channels travel only while a call lives"

_EMPTY_MAP: Final = 0x80
_T: Final = ord("T")

_encode: Final = msgspec.msgpack.Encoder(enc_hook=plain_only).encode


@final
class _ExtensionFoundError(Exception):
    """The payload holds an extension type, so it takes two phases."""


def _stop(code: int, body: memoryview) -> NoReturn:
    raise _ExtensionFoundError


@final
class _Compiled(NamedTuple):
    """What is made for a type, once."""

    decode: Decoder
    convert: Callable[[Any, LiveValues | None], Any]


def _compile(annotation: Any) -> _Compiled:
    facts = inspect_type(annotation)
    run = compile_converter(annotation, facts, base64=False)
    # Where anything is welcome, a view would be passed on as it is.
    views = facts.view and not facts.any

    def convert(value: Any, live: LiveValues | None) -> Any:
        if type(value) is memoryview and not facts.view:
            value = bytes(value)
        return run(value, functools.partial(adapt, live)) if facts.foreign else run(value)

    def decode_twice(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
        return convert(Incoming(attachments, live, views=views).decode(payload), live)

    def decode_twice_checked(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
        if len(payload) <= MANY_BYTES:
            return decode_twice(payload, attachments, live)
        check_msgpack(payload, live)
        with many_objects():
            return decode_twice(payload, attachments, live)

    if facts.foreign or facts.arrays:
        return _Compiled(decode_twice_checked, convert)
    decode = filled(msgspec.msgpack.Decoder(annotation, dec_hook=adapt_local, ext_hook=_stop).decode, facts)

    def decode_once(payload: bytes, attachments: Sequence[Buffer], live: LiveValues | None) -> Any:
        if attachments:
            return decode_twice_checked(payload, attachments, live)
        try:
            if len(payload) <= MANY_BYTES:
                return decode(payload)
            check_msgpack(payload, live)
            with many_objects():
                return decode(payload)
        except _ExtensionFoundError:
            pass
        except BAD_BYTES as error:
            if "got `ext`" not in str(error):
                raise decode_error(error, computed=facts.computed) from None
        return decode_twice(payload, attachments, live)

    return _Compiled(decode_once, convert)


@final
class MsgpackCodec:
    """Payloads in msgpack, with the extension types of drpc.md for buffers, arrays, callbacks and channels.

    Args:
        max_attachments: of one message; further buffers go into the payload, whatever their size. What the receiver
            says that it takes bounds them too.
    """

    name: Final = "msgpack"

    def __init__(self, *, max_attachments: int = 64) -> None:
        self._max_attachments = max_attachments
        self._types = PerType(_compile)

    def encode(
        self, value: Any, live: LiveValues | None = None, arguments: bool = False
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode`. With ``arguments``, an error tells of arguments.

        Only ``value`` itself is looked at before the first attempt: a large ``bytes`` inside of it is copied
        in that, and travels uncopied nevertheless.
        """
        if type(value) in BYTES_LIKE and is_large(value):
            return self._encode_with_context(value, live)
        try:
            payload = _encode(value)
        except (UnfitError, BufferError):
            return self._encode_with_context(value, live, arguments)
        except BAD_VALUE as error:
            raise encode_error(error, value, _HINT, arguments=arguments) from None
        if len(payload) >= LARGE and may_hold_large(payload):
            return self._encode_with_context(value, live, arguments)
        # Every local time has a "T". Looking for that costs a tenth of a search, and most values have none.
        if _T in payload and may_hold_local_time(payload):
            return self._encode_with_context(value, live, arguments)
        if _EMPTY_MAP in payload and holds_hollow(value):
            return self._encode_with_context(value, live, arguments)
        return payload, ()

    def encode_arguments(
        self, positional: Sequence[Any], keyword: Mapping[str, Any], live: LiveValues | None = None
    ) -> tuple[bytes, Sequence[Buffer]]:
        """See :meth:`Codec.encode_arguments`. The arguments themselves are looked at first, as in
        :meth:`encode`."""
        value = (positional, keyword) if keyword else (positional,)
        for argument in positional:
            if type(argument) in BYTES_LIKE and is_large(argument):
                return self._encode_with_context(value, live, arguments=True)
        if keyword and any(is_large(argument) for argument in keyword.values()):
            return self._encode_with_context(value, live, arguments=True)
        return self.encode(value, live, True)

    def _encode_with_context(
        self, value: Any, live: LiveValues | None, arguments: bool = False
    ) -> tuple[bytes, Sequence[Buffer]]:
        most = self._max_attachments if live is None else min(self._max_attachments, live.max_attachments)
        outgoing = Outgoing(live, most)
        try:
            return outgoing.encode(value), outgoing.attachments
        except BAD_VALUE as error:
            hint = _HINT + _NOT_LIVE if live is None else _HINT
            raise encode_error(error, value, hint, arguments=arguments) from None

    def decoder(self, annotation: Any) -> Decoder:
        """See :meth:`Codec.decoder`."""
        return self._types.of(annotation).decode

    def convert(self, value: Any, annotation: Any, live: LiveValues | None = None) -> Any:
        """See :meth:`Codec.convert`."""
        return self._types.of(annotation).convert(value, live)

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
            return split_arguments(self._types[Any].decode(payload, (), live))
        if len(payload) > LARGE:
            check_msgpack(payload, live)
        incoming = Incoming(attachments, live, views=views)
        positional, keyword = split_arguments(incoming.decode(payload))
        arguments = (*positional, *keyword.values())
        if incoming.buffers > sum(type(argument) is memoryview for argument in arguments):
            # Views within an argument may be anywhere in it, also where its type says nothing of them.
            positional = [_without_views(argument) for argument in positional]
            keyword = {name: _without_views(argument) for name, argument in keyword.items()}
        return positional, keyword


def _without_views(argument: Any) -> Any:
    return argument if type(argument) is memoryview else replace_buffers(argument, _without_view)


def _without_view(part: Any) -> Any:
    return bytes(part) if type(part) in BYTES_LIKE else part
