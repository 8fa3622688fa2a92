"""What a stream does not take yet."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol, final

from duplex.transports.zmtp import LARGE

#: Buffers that are handed to the kernel at once.
_AT_ONCE: Final = 64


class ByteStream(Protocol):
    """What bytes are sent to and received from, without blocking: a socket, or what does as one does."""

    def send(self, data: bytes, /) -> int:
        """Send a part of some bytes, and tell how large it is. Raises ``BlockingIOError`` if that is none, and ``OSError``."""

    def sendmsg(self, buffers: Iterable[bytes | bytearray | memoryview], /) -> int:
        """Do that for several buffers, one after the other."""

    def recv(self, size: int, /) -> bytes:
        """Return up to so many bytes that have come; none at the end. Raises ``BlockingIOError`` if there are none yet."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """The same, into a buffer; tell how many."""


@final
class Unsent:
    """Bytes that wait until a stream takes them, in order. Small ones are put together."""

    __slots__ = ("_last", "_views", "messages")

    def __init__(self) -> None:
        self._views: deque[memoryview] = deque()
        #: The end of what waits, if that may grow: no part of it has been handed over.
        self._last: bytearray | None = None
        #: How many messages were added since it was empty.
        self.messages = 0

    def __bool__(self) -> bool:
        return bool(self._views) or self._last is not None

    def add(self, buffers: Iterable[bytes | bytearray | memoryview], skip: int = 0) -> None:
        """Add a message.

        Args:
            buffers: it. Small ones are copied, as their owners may use them again.
            skip: bytes at its beginning that were sent.
        """
        self.messages += 1
        for buffer in buffers:
            size = len(buffer)
            if skip >= size:
                skip -= size
                continue
            part = memoryview(buffer)[skip:]
            skip = 0
            if len(part) >= LARGE:
                self._seal()
                self._views.append(part)
                continue
            if self._last is None:
                self._last = bytearray()
            self._last += part
            if len(self._last) >= LARGE:
                self._seal()

    def _seal(self) -> None:
        if self._last is not None:
            self._views.append(memoryview(self._last))
            self._last = None

    def send(self, stream: ByteStream) -> bool:
        """Send as much as the stream takes; tell whether that is all. Raises ``OSError``."""
        self._seal()
        views = self._views
        try:
            while views:
                count = stream.sendmsg(list(itertools.islice(views, _AT_ONCE)))
                while views and count >= len(views[0]):
                    count -= len(views.popleft())
                if count:
                    views[0] = views[0][count:]
        except BlockingIOError:
            return False
        self.messages = 0
        return True
