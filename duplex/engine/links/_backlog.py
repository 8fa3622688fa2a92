"""Messages and calls of one link that came while there was more to do for it than for one turn."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, final

from duplex._config import Limits
from duplex.engine.tasks import Job
from duplex.transports import Buffer, Frames

#: Bytes that a message counts for beside its own.
_OVERHEAD: Final = 64
#: Bytes of a message that is kept among others, and of all that are kept in one place.
_SMALL: Final = 1024
_PACK: Final = 64 * 1024


@final
class _Pack:
    """Messages of one small frame each, one behind the other: as objects they took three times as much memory."""

    __slots__ = ("_data", "_ends", "_taken")

    def __init__(self) -> None:
        self._data = bytearray()
        #: Where each of them ends.
        self._ends = array("L")
        #: How many were taken out.
        self._taken = 0

    @property
    def is_full(self) -> bool:
        """Whether the next message belongs to another one."""
        return len(self._data) >= _PACK

    @property
    def is_empty(self) -> bool:
        """Whether all were taken out."""
        return self._taken == len(self._ends)

    def add(self, frame: Buffer) -> None:
        """Keep a message."""
        self._data += frame
        self._ends.append(len(self._data))

    def take(self) -> Frames:
        """Take the oldest message out."""
        ends, taken = self._ends, self._taken
        self._taken += 1
        return (bytes(memoryview(self._data)[ends[taken - 1] if taken else 0 : ends[taken]]),)


@final
class Backlog:
    """Messages are kept here, rather than left to the transport, because only what was received tells whose it is: other
    links' messages are behind them. Credit bounds what a peer may have sent, with one message more. What costs no credit is
    the metadata of calls, as many as there may be, and answers, of which peers keep about a window: both at their most at once
    are more than is kept."""

    __slots__ = ("_most", "jobs", "messages", "size")

    def __init__(self, limits: Limits) -> None:
        #: Calls of earlier messages that are not begun, for want of time.
        self.jobs: deque[Job] = deque()
        #: Messages, and packs that hold at least one.
        self.messages: deque[Frames | _Pack] = deque()
        #: Bytes of them.
        self.size = 0
        free = max(limits.link_window, limits.max_channels * limits.max_metadata)
        self._most = limits.link_window + limits.max_message + free

    def add(self, frames: Frames) -> None:
        """Keep a message."""
        self.size += _size(frames)
        if len(frames) != 1 or len(frames[0]) > _SMALL:
            self.messages.append(frames)
            return
        pack = self.messages[-1] if self.messages else None
        if not isinstance(pack, _Pack) or pack.is_full:
            pack = _Pack()
            self.messages.append(pack)
        pack.add(frames[0])

    def take(self) -> Frames:
        """Take the oldest message out."""
        oldest = self.messages[0]
        if isinstance(oldest, _Pack):
            frames = oldest.take()
            if oldest.is_empty:
                self.messages.popleft()
        else:
            frames = oldest
            self.messages.popleft()
        self.size -= _size(frames)
        return frames

    @property
    def is_too_much(self) -> bool:
        """Whether no peer that keeps the rules can have sent so much."""
        return self.size > self._most


def _size(frames: Frames) -> int:
    return _OVERHEAD + sum(map(len, frames))
