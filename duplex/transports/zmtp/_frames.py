"""Frames as bytes.

::

    flags   1 byte: MORE (another frame of the message follows), LONG (the size takes 8 bytes), COMMAND
    size    1 byte, or 8 with LONG, the highest first
    body
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

#: What a frame may be that is to be sent.
Buffer: TypeAlias = bytes | bytearray | memoryview

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4
#: What no flag may be.
RESERVED: Final = 0xF8
#: Frames from this size on, in bytes, are neither joined with others to be sent nor received in pieces that are joined.
LARGE: Final = 64 * 1024
#: Sizes that take one byte.
_SHORT: Final = 256
U64: Final = struct.Struct(">Q")

#: The heads of short frames, by their sizes: of those that end their message, and of the others.
_LAST: Final = tuple(bytes((0, size)) for size in range(_SHORT))
_MORE: Final = tuple(bytes((MORE, size)) for size in range(_SHORT))


def encode_head(size: int, flags: int) -> bytes:
    """Return what stands before the body of a frame."""
    return bytes((flags, size)) if size < _SHORT else bytes((flags | LONG,)) + U64.pack(size)


def encode_frame(body: bytes) -> bytes:
    """Return a message of one frame."""
    size = len(body)
    return _LAST[size] + body if size < _SHORT else b"\x02" + U64.pack(size) + body


def encode_message(frames: Sequence[Buffer]) -> list[Buffer]:
    """Return a message as buffers that follow one another.

    Frames from :data:`LARGE` bytes on are not copied: they stand among them as they are. All others are.

    Raises:
        ValueError: there is no frame.
        TypeError: one is no buffer. Nothing is returned then that could be sent in part.
    """
    last = len(frames) - 1
    if last < 0:
        raise ValueError("a message needs at least one frame")
    buffers: list[Buffer] = []
    small: list[Buffer] = []
    for index, frame in enumerate(frames):
        if type(frame) is bytes:
            size = len(frame)
        else:
            view = memoryview(frame)
            size = view.nbytes
            # What is in rows or in steps comes in the order in which it is meant.
            frame = view.cast("B") if view.c_contiguous else view.tobytes()
        if size < _SHORT:
            small.append(_LAST[size] if index == last else _MORE[size])
        else:
            small.append(encode_head(size, 0 if index == last else MORE))
        if size < LARGE:
            small.append(frame)
        else:
            buffers.append(b"".join(small))
            buffers.append(frame)
            small = []
    if small:
        buffers.append(b"".join(small))
    return buffers
