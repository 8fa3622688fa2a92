"""Large buffers that are used again.

A fresh buffer of a megabyte costs more than the copy that fills it: the C library gets its pages from the kernel and gives them
back each time, and each page is a fault. So buffers are kept here, and are free again when nobody but the pool refers to
them, which their count of references tells: views of a buffer hold it, and so does what is made of them.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Final, final

import trio

KiB: Final = 1024
#: Bytes that one event loop keeps.
MOST_KEPT: Final = 32 * KiB * KiB
#: Sizes are whole multiples of this where the next power of two is much more than is needed.
_STEP: Final = 64 * KiB
#: Buffers that are looked at before another one is made.
_TRIES: Final = 8


def _references(buffers: deque[bytearray]) -> int:
    """Return how often the first buffer is referred to."""
    return sys.getrefcount(buffers[0])


#: What that is for a buffer to which nothing else refers; interpreters count differently.
_ALONE: Final = _references(deque([bytearray()]))


def room_for(size: int) -> int:
    """Return how large a buffer for so many bytes is: buffers of few sizes are used again more often."""
    power = 1 << (size - 1).bit_length()
    return power if power <= size + size // 4 else -(-size // _STEP) * _STEP


@final
class BufferPool:
    """Buffers for large frames.

    Args:
        most: bytes that it keeps.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept = 0
        #: By size, that which was asked for last at the end.
        self._buffers: dict[int, deque[bytearray]] = {}

    def get(self, size: int) -> bytearray:
        """Return a buffer of at least so many bytes to which nobody else refers. What is in it means nothing."""
        room = room_for(size)
        buffers = self._buffers.pop(room, None) or deque()
        self._buffers[room] = buffers
        for _ in range(min(len(buffers), _TRIES)):
            is_free = _references(buffers) == _ALONE
            buffers.rotate(-1)
            if is_free:
                return buffers[-1]
        buffer = bytearray(room)
        if room <= self._most:
            self._make_room(room)
            buffers.append(buffer)
            self._kept += room
        return buffer

    def _make_room(self, size: int) -> None:
        """Forget buffers of the sizes that were not asked for lately. Those in use stay with their users."""
        while self._kept + size > self._most:
            room, buffers = next(iter(self._buffers.items()))
            if buffers:
                buffers.popleft()
                self._kept -= room
            else:
                del self._buffers[room]


_pool: Final = trio.lowlevel.RunVar[BufferPool]("duplex buffers")


def get_pool() -> BufferPool:
    """Return the pool of the running event loop."""
    try:
        return _pool.get()
    except LookupError:
        pool = BufferPool()
        _pool.set(pool)
        return pool
