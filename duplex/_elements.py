"""Elements of msgpack, counted before there are any objects.

A byte for each empty list becomes objects of sixty times its size, and while they are made, or only passed over, nothing
else runs. So a peer that decodes what another one has sent looks first at how many there are.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

#: What counts as so many elements: values that are made by a function of Python, so arrays, callbacks and channels,
#: and those that only look long, of which there could otherwise be enough to keep the count itself busy for long.
COSTLY: Final = 16

#: How many values are tried at once.
_RUNS: Final = (1, 16, 256, 4096)


@enum.unique
class _Kind(enum.IntEnum):
    """What the length of a value counts: for containers, elements."""

    EXTENSION = -1
    BYTES = 0
    ARRAY = 1
    MAP = 2


#: The types that are looked at one by one: how many bytes tell the length, what it is of, and the length of the
#: longest value of a shorter type.
_LONG: Final = {
    0xC5: (2, _Kind.BYTES, 0xFF),
    0xC6: (4, _Kind.BYTES, 0xFFFF),
    0xC7: (1, _Kind.EXTENSION, 0),
    0xC8: (2, _Kind.EXTENSION, 0),
    0xC9: (4, _Kind.EXTENSION, 0),
    0xD9: (1, _Kind.BYTES, 0x1F),
    0xDA: (2, _Kind.BYTES, 0xFF),
    0xDB: (4, _Kind.BYTES, 0xFFFF),
    0xDC: (2, _Kind.ARRAY, 0x0F),
    0xDD: (4, _Kind.ARRAY, 0xFFFF),
    0xDE: (2, _Kind.MAP, 0x0F),
    0xDF: (4, _Kind.MAP, 0xFFFF),
}
_FIXED_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


@functools.cache
def _run(count: int) -> Callable[[Buffer, int], re.Match[bytes] | None]:
    """Return what matches so many values of all other types: of a few bytes, or text and bytes below 256. For a
    container this is its first byte, as what it holds is counted for itself."""

    def of_length(head: bytes, lengths: range) -> bytes:
        return head + b"(?:%s)" % b"|".join(re.escape(bytes([n])) + b".{%d}" % n for n in lengths)

    kinds = [
        rb"[\x00-\x9f\xc0\xc2\xc3\xe0-\xff]",
        rb"[\xcb\xcf\xd3].{8}",
        *(re.escape(bytes([0xA0 + n])) + b".{%d}" % n for n in range(32)),
        rb"[\xca\xce\xd2].{4}",
        rb"[\xcd\xd1].{2}",
        rb"[\xcc\xd0].",
        rb"\xd6\xff.{4}|\xd7\xff.{8}|\xc7\x0c\xff.{12}",  # timestamps
        rb"\xc7\x14\x06.{20}|\xc7\x1b\x06.{27}",  # dates and times without a time zone
        of_length(rb"\xd9", range(32, 256)),
        of_length(rb"\xc4", range(256)),
    ]
    return re.compile(b"(?:%s){%d}+" % (b"|".join(kinds), count), re.DOTALL).match


def holds_more(data: Buffer, limit: int) -> bool:
    """Return whether msgpack holds more than so many elements. Of what is not msgpack at all only what stands before
    the first fault is counted.

    Every value counts as one, each key and each value of a map, and arrays and maps themselves. No element takes less
    than a byte, so only what has more bytes than the limit is looked at.
    """
    size = len(data)
    if size <= limit:
        return False
    at = count = speed = 0
    while at < size:
        found = _run(_RUNS[speed])(data, at)
        if found is not None:
            at = found.end()
            count += _RUNS[speed]
            speed = min(speed + 1, len(_RUNS) - 1)
        elif speed:
            speed -= 1
        else:
            found_long = _measure(data, at)
            if found_long is None:
                return False
            step, cost, within = found_long
            at += step
            count += cost
            if count + within > limit:
                return True
        if count > limit:
            return True
    return False


def _measure(data: Buffer, at: int) -> tuple[int, int, int] | None:
    """Return of a value of one of the long types: how many bytes it takes, without what it holds; as how many
    elements it counts; how many it says that it holds. ``None`` if it is no such value."""
    head = data[at]
    if head in _FIXED_EXTENSIONS:
        return 2 + _FIXED_EXTENSIONS[head], COSTLY, 0
    if head not in _LONG:
        return None
    width, kind, short = _LONG[head]
    length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    cost = 1 if length > short else COSTLY
    if kind is _Kind.EXTENSION:
        return 2 + width + length, COSTLY, 0
    if kind is _Kind.BYTES:
        return 1 + width + length, cost, 0
    return 1 + width, cost, length * kind
