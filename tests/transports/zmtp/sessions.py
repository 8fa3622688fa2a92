"""What the other side of a connection says, byte by byte as RFC 37 has it and not by our own code; and connections that hear it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from duplex.transports.zmtp import Bounds, Null, ZmtpConnection

KiB: Final = 1024
BEFORE: Final = Bounds(frame=64 * KiB, frames=1, message=64 * KiB, commands=8)
AFTER: Final = Bounds(frame=200 * KiB, frames=16, message=300 * KiB, commands=8)


def greeting(
    *,
    mechanism: bytes = b"NULL",
    version: tuple[int, int] = (3, 1),
    as_server: int = 0,
    padding: bytes = bytes(8),
) -> bytes:
    """The first 64 bytes."""
    return (
        b"\xff"
        + padding
        + b"\x7f"
        + bytes(version)
        + mechanism.ljust(20, b"\0")
        + bytes([as_server])
        + bytes(31)
    )


def frame(body: bytes, flags: int = 0, *, long: bool = False) -> bytes:
    """One frame; ``long`` has a short one's size in eight bytes, too."""
    if long or len(body) > 255:
        return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


def message(*frames: bytes) -> bytes:
    """A message."""
    return b"".join(frame(body, int(index < len(frames) - 1)) for index, body in enumerate(frames))


def command(name: bytes, body: bytes = b"") -> bytes:
    """A command."""
    return frame(bytes([len(name)]) + name + body, 4)


def prop(name: bytes, value: bytes) -> bytes:
    """A property."""
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def ready(socket_type: bytes = b"DEALER", *more: bytes) -> bytes:
    """The command ``READY``."""
    return command(b"READY", prop(b"Socket-Type", socket_type) + b"".join(more))


#: All that comes before the first message.
OPENING: Final = greeting() + ready()


def connection(
    socket_type: str = "ROUTER", *, before: Bounds = BEFORE, after: Bounds = AFTER, trusts: bool = False
) -> ZmtpConnection:
    """A connection to which nothing has come."""
    made = ZmtpConnection(socket_type=socket_type, mechanism=Null(), before=before, after=after)
    if trusts:
        made.trust()
    return made


def opened(*, trusts: bool = True, after: Bounds = AFTER) -> ZmtpConnection:
    """A connection after its handshake, with nothing to be sent."""
    made = connection(after=after)
    assert list(made.receive(OPENING)) == []
    made.data_to_send()
    if trusts:
        made.trust()
    return made


def plain(messages: Iterable[Sequence[bytes | memoryview]]) -> list[list[bytes]]:
    """Messages as bytes."""
    return [[bytes(part) for part in parts] for parts in messages]


def pieces(data: bytes, *cuts: int) -> list[bytes]:
    """What was sent, in several pieces."""
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]
