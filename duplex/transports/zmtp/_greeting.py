"""The first 64 bytes of each side.

::

    signature  version  mechanism                  as-server  filler
    FF 8* 7F   03 01    20, ASCII, padded with 0   00 or 01   31, ignored

They are looked at as they come, since the other side may send ten and wait for ours, as libzmq does; and a peer that does not
speak ZMTP at all is known by its first byte.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from duplex.transports.zmtp._errors import ZmtpError

#: Bytes.
SIZE: Final = 64
#: What this side speaks; and the oldest that it understands.
VERSION: Final = (3, 1)
_OLDEST: Final = 3
_FIRST: Final = 0xFF
_SIGNATURE_END: Final = 9
_MAJOR: Final = 10
_MECHANISM: Final = slice(12, 32)
_AS_SERVER: Final = 32
_LONGEST_NAME: Final = 20
_NAME: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+")
ZMTP: Final = "ZMTP"
TLS: Final = "TLS"
#: How others begin, who have the wrong port.
_STRANGERS: Final = (
    (b"\x16\x03", TLS),  # a handshake
    (b"\x15\x03", TLS),  # an alert: what such a server says to a greeting of ours
    (b"HTTP/", "HTTP"),
    (b"GET ", "HTTP"),
    (b"POST ", "HTTP"),
    (b"PUT ", "HTTP"),
    (b"HEAD ", "HTTP"),
    (b"PRI * HTTP/2", "HTTP/2"),
    (b"SSH-", "SSH"),
    (b"220 ", "SMTP or FTP"),
)


class Greeting(NamedTuple):
    """What the other side is, as it says."""

    #: Major and minor number of the protocol.
    version: tuple[int, int]
    #: How it wants to be known: ``NULL``, ``PLAIN``, ``CURVE``.
    mechanism: str
    #: Whether it is the server of the mechanism. libzmq does not say so when it is.
    as_server: bool


def encode_greeting(mechanism: bytes, *, as_server: bool) -> bytes:
    """Return the greeting of this side."""
    name = mechanism.ljust(_LONGEST_NAME, b"\0")
    return b"\xff" + bytes(8) + b"\x7f" + bytes(VERSION) + name + bytes((as_server,)) + bytes(31)


def decode_greeting(data: bytes) -> Greeting | None:
    """Read a greeting, of which perhaps not all has come.

    Args:
        data: what has come so far.

    Returns:
        The greeting; ``None`` if more of it has to come.

    Raises:
        ZmtpError: it is none, or of a version that is too old. Said as soon as it can be.
    """
    if not data:
        return None
    if data[0] != _FIRST or (len(data) > _SIGNATURE_END and data[_SIGNATURE_END] != 0x7F):
        raise ZmtpError("greeting", _what_it_speaks(data))
    if len(data) > _MAJOR and data[_MAJOR] < _OLDEST:
        raise ZmtpError(
            "version",
            f"the other side speaks ZMTP {_old_version(data[_MAJOR])}, and 3.0 is the oldest that is understood here",
        )
    if len(data) < SIZE:
        return None
    mechanism = data[_MECHANISM].rstrip(b"\0")
    if not mechanism or not _NAME.issuperset(mechanism):
        raise ZmtpError("greeting", f"{mechanism!r} is no name of a security mechanism")
    if data[_AS_SERVER] > 1:
        raise ZmtpError("greeting", f"as-server is neither 0 nor 1, but {data[_AS_SERVER]}")
    return Greeting((data[_MAJOR], data[_MAJOR + 1]), mechanism.decode("ascii"), bool(data[_AS_SERVER]))


def _old_version(revision: int) -> str:
    return "2.0" if revision == 1 else f"1.0 or 2.0 (revision {revision})"


def protocol_of(data: bytes) -> str | None:
    """Return the name of the protocol that begins like this, as far as it is known here; :data:`ZMTP` is one of them."""
    if data.startswith(b"\xff"):
        return ZMTP
    return next((name for beginning, name in _STRANGERS if data.startswith(beginning)), None)


def _what_it_speaks(data: bytes) -> str:
    name = protocol_of(data)
    if name == TLS:
        return "the other side speaks TLS, and this one does not: both need tls://, or both tcp://"
    if name not in (None, ZMTP):
        return f"the other side speaks {name}, and this is a ZeroMQ endpoint: one of the two is the wrong one"
    if name == ZMTP:
        return "the other side speaks ZMTP 1.0, and 3.0 is the oldest that is understood here"
    return f"the other side does not speak ZMTP: it begins with {data[:16]!r}"
