"""What is checked of things before they are sent, and of metadata in both directions.

A rule that the other side enforces by breaking the link must not be broken from here, whatever the
application passes in: each function raises before anything has changed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from duplex._errors import InvalidArgument, LocalProtocolError, MessageTooLarge, ResourceExhausted
from duplex._metadata import check_metadata, metadata_size
from duplex._status import StatusCode
from duplex.protocol import _commands as c
from duplex.protocol._events import NO_METADATA
from duplex.protocol._outbox import Buffer, encode

_decode: Final = msgspec.msgpack.Decoder(c.Command).decode
_decode_services: Final = msgspec.msgpack.Decoder(c.Services).decode
_decode_entries: Final = msgspec.msgpack.Decoder(c.EntryMap).decode
_read_bytes: Final = msgspec.msgpack.Decoder(bytes).decode
_read_text: Final = msgspec.msgpack.Decoder(str).decode
#: How to read a metadata value by its first byte; both readers refuse what is neither.
_read_value: Final = [_read_bytes if 0xC4 <= first <= 0xC6 else _read_text for first in range(256)]


def unsent(message: str) -> ResourceExhausted:
    """Make the error for something that the other side would not take, and was not sent."""
    error = ResourceExhausted(message)
    error.may_have_executed = False
    return error


def encoded_size(command: c.Command) -> int:
    """Return a rare command's bytes, having read them as the other side will.

    Raises ``LocalProtocolError`` if it would not understand.
    """
    try:
        encoded = encode(command)
        _decode(encoded)
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as error:
        raise LocalProtocolError(f"{type(command).__name__.upper()} cannot be sent: {error}") from None
    return len(encoded)


def announcement(services: Sequence[c.ServiceInfo]) -> c.Announce:
    """Return the command that announces services. Raises ``LocalProtocolError`` for what nobody would understand."""
    try:
        raw = msgspec.Raw(encode(tuple(services)))
        read_services(raw)
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as error:
        raise LocalProtocolError(f"ANNOUNCE cannot be sent: {error}") from None
    return c.Announce(raw)


def text(message: str) -> str:
    """Return a text for a human as it can travel: cut to the longest allowed, lone surrogates replaced."""
    message = message[: c.MAX_TEXT]
    return message if message.isascii() else message.encode("utf-8", "replace").decode()


# A program calls few methods, each many times.
@functools.lru_cache(maxsize=1024)
def target_size(target: str | int | None) -> int:
    """Return the bytes of OPEN's target, or raise ``LocalProtocolError`` if it is none."""
    if isinstance(target, str):
        try:
            size = len(target) if target.isascii() else len(target.encode())
        except UnicodeEncodeError:
            raise LocalProtocolError(f"the method name {target[:64]!r} is not encodable as UTF-8") from None
        if not 0 < size <= c.MAX_NAME:
            raise LocalProtocolError(
                f"a method name has 1 to {c.MAX_NAME} bytes, not {size}: {target[:64]!r}"
            )
        return size
    if target is not None and not 0 <= target <= c.MAX_INTEGER:
        raise LocalProtocolError(f"a callback's number is from 0 to {c.MAX_INTEGER}, not {target}")
    return 0


def check_open_options(
    window: int | None, parent: int | None, codec: str | None, codecs: Sequence[str]
) -> None:
    """Check OPEN's rarer fields."""
    if window is not None and not 0 <= window <= c.MAX_INTEGER:
        raise LocalProtocolError(f"a window is from 0 to {c.MAX_INTEGER} bytes, not {window}")
    if parent is not None and not 1 <= parent <= c.MAX_INTEGER:
        raise LocalProtocolError(f"a parent is a channel's number, not {parent}")
    if codec is not None and codec not in codecs:
        error = InvalidArgument(f"the peer does not know the codec {codec!r}; it knows {', '.join(codecs)}")
        error.may_have_executed = False
        raise error


def attachments_size(attachments: Sequence[Buffer], limit: int) -> int:
    """Return the bytes of attachments, of which the other side takes ``limit`` in one message."""
    if len(attachments) > limit:
        raise unsent(
            f"a message with {len(attachments)} attachments is over the receiver's limit of {limit}; raise "
            f"Limits(max_attachments=...) there"
        )
    size = 0
    for buffer in attachments:
        view = memoryview(buffer)
        if not view.c_contiguous:
            raise LocalProtocolError("an attachment must be C-contiguous; copy it first")
        size += view.nbytes
    return size


def check_details(details: bytes, payload: bytes | None, attachments: Sequence[Buffer], limit: int) -> None:
    """Check that details fit beside the message that they travel with."""
    size = len(details)
    if payload is not None:
        size += len(payload) + sum([memoryview(buffer).nbytes for buffer in attachments])
    if size > limit:
        raise MessageTooLarge(size, limit)


def outgoing_metadata_size(metadata: Mapping[str, str | bytes], limit: int) -> int:
    """Return the bytes that metadata or trailers count for, having checked them."""
    problem = check_metadata(metadata)
    if problem is not None:
        raise LocalProtocolError(problem)
    if len(metadata) > c.MAX_ENTRIES:
        raise unsent(f"{len(metadata)} entries of metadata are over the limit of {c.MAX_ENTRIES}")
    size = metadata_size(metadata)
    if size > limit:
        raise unsent(
            f"metadata of {size} bytes is over the receiver's limit of {limit} bytes; raise "
            f"Limits(max_metadata=...) there, or pass it as an argument"
        )
    return size


def read_services(services: msgspec.Raw) -> tuple[c.ServiceInfo, ...]:
    """Return received services. Raises msgspec's errors."""
    return _decode_services(services)


def read_metadata(raw: msgspec.Raw, limit: int) -> tuple[Mapping[str, str | bytes], tuple[int, str] | None]:
    """Return received metadata, and the status and the text to refuse it with, or ``None`` if it is fine. Raises
    msgspec's errors for what is no metadata at all."""
    entries = _decode_entries(raw)
    if entries is None:
        return NO_METADATA, None
    metadata: dict[str, str | bytes] = {}
    for key, raw in entries.items():
        try:
            metadata[key] = _read_value[memoryview(raw)[0]](raw)
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
        ):  # which of them bad UTF-8 is depends on msgspec's version
            return NO_METADATA, (
                StatusCode.INVALID_ARGUMENT,
                text(f"metadata {key!r} must be str or bytes"),
            )
    problem = check_metadata(metadata)
    if problem is not None:
        return NO_METADATA, (StatusCode.INVALID_ARGUMENT, text(problem))
    size = metadata_size(metadata)
    if size > limit:
        problem = f"metadata of {size} bytes is over the limit of {limit} (Limits.max_metadata)"
        return NO_METADATA, (StatusCode.RESOURCE_EXHAUSTED, problem)
    return metadata, None
