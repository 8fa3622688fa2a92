"""Commands, and the properties of a connection that some of them tell.

::

    command   name's length (1 byte), name, body
    READY     properties: name's length (1 byte), name, value's length (4 bytes), value; one after the other
    ERROR     reason's length (1 byte), reason
    PING      time to live in tenths of a second (2 bytes), context (up to 16 bytes)
    PONG      the context of the PING that it answers
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from duplex.transports.zmtp._errors import ZmtpError
from duplex.transports.zmtp._frames import COMMAND, encode_head

#: What each side tells the other of its socket. Their names are in small letters here, as those on the wire are the same
#: whatever their letters are.
Properties: TypeAlias = Mapping[str, bytes]

#: Properties that are taken.
MOST_PROPERTIES: Final = 64
#: Bytes of what a PING may carry, to come back.
LONGEST_CONTEXT: Final = 16
#: The longest time to live, in tenths of a second.
_MOST_TENTHS: Final = 0xFFFF
_NAME: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")
_COMMAND_NAME: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")
_U32: Final = struct.Struct(">I")
_U16: Final = struct.Struct(">H")


class Command(NamedTuple):
    """A command."""

    name: bytes
    body: bytes


def encode_command(name: bytes, body: bytes = b"") -> bytes:
    """Return a command as one frame."""
    content = bytes((len(name),)) + name + body
    return encode_head(len(content), COMMAND) + content


def decode_command(content: bytes) -> Command:
    """Read the content of a command's frame.

    Raises:
        ZmtpError: it has no name.
    """
    size = content[0] if content else 0
    name = content[1 : 1 + size]
    if not size or len(name) < size or not _COMMAND_NAME.issuperset(name):
        raise ZmtpError("command", f"a command begins with {content[:16]!r}, which is no name")
    return Command(name, content[1 + size :])


def encode_properties(properties: Mapping[str, bytes]) -> bytes:
    """Return the body of ``READY``."""
    return b"".join(
        bytes((len(name),)) + name.encode("ascii") + _U32.pack(len(value)) + value
        for name, value in properties.items()
    )


def decode_properties(body: bytes) -> Properties:
    """Read the body of ``READY``.

    Raises:
        ZmtpError: it is cut off, or there are too many, or one twice, or one whose name is none.
    """
    properties: dict[str, bytes] = {}
    position, end = 0, len(body)
    while position < end:
        size = body[position]
        name = body[position + 1 : position + 1 + size]
        position += 1 + size
        if not size or not _NAME.issuperset(name):
            raise ZmtpError("metadata", f"{name!r} is no name of a property")
        if position + 4 > end:
            raise ZmtpError("metadata", f"the property {name!r} is cut off")
        (length,) = _U32.unpack_from(body, position)
        position += 4
        if position + length > end:
            raise ZmtpError(
                "metadata",
                f"the property {name!r} is cut off: {length} bytes, and {end - position} are there",
            )
        key = name.decode("ascii").lower()
        if key in properties:
            raise ZmtpError("metadata", f"the property {name!r} comes twice")
        if len(properties) == MOST_PROPERTIES:
            raise ZmtpError("metadata", f"there are more than {MOST_PROPERTIES} properties")
        properties[key] = body[position : position + length]
        position += length
    return properties


def decode_refusal(body: bytes) -> str:
    """Return the reason in the body of ``ERROR``.

    Raises:
        ZmtpError: it is cut off.
    """
    size = body[0] if body else 0
    reason = body[1 : 1 + size]
    if not body or len(reason) < size:
        raise ZmtpError("command", f"ERROR has no reason: {body[:16]!r}")
    return reason.decode("latin-1")


def encode_ping(ttl: float, context: bytes = b"") -> bytes:
    """Return a ``PING``.

    Args:
        ttl: seconds of silence after which the other side may end the connection; 0 if it decides itself.
        context: what is to come back, up to 16 bytes.
    """
    return encode_command(b"PING", _U16.pack(min(_MOST_TENTHS, round(ttl * 10))) + context)


def decode_ping(body: bytes) -> tuple[float, bytes]:
    """Read the body of a ``PING``: the time to live in seconds, and the context.

    Raises:
        ZmtpError: its size is none that it can have. (libzmq answers one that is too short with memory of its own.)
    """
    if not 2 <= len(body) <= 2 + LONGEST_CONTEXT:
        raise ZmtpError(
            "command", f"a PING of {len(body)} bytes, and 2 to {2 + LONGEST_CONTEXT} are possible"
        )
    return _U16.unpack_from(body)[0] / 10, body[2:]
