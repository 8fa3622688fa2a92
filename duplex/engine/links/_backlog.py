"""Messages and calls of one link that came while there was more to do for it than for one turn."""

from __future__ import annotations

from collections import deque
from typing import Final, final

from duplex._config import Limits
from duplex.engine.tasks import Job
from duplex.transports import Frames

#: Bytes that a message counts for beside its own.
_OVERHEAD: Final = 64


@final
class Backlog:
    """Messages are kept here, rather than left to the transport, because only what was received tells whose it is: other
    links' messages are behind them. Credit bounds what a peer may have sent, and the number of channels the metadata of
    its calls, which costs none; what else costs none is less than as much again as credit allows."""

    __slots__ = ("_most", "jobs", "messages", "size")

    def __init__(self, limits: Limits) -> None:
        #: Calls of earlier messages that are not begun, for want of time.
        self.jobs: deque[Job] = deque()
        self.messages: deque[Frames] = deque()
        #: Bytes of them.
        self.size = 0
        self._most = 2 * limits.link_window + limits.max_message + limits.max_channels * limits.max_metadata

    def add(self, frames: Frames) -> None:
        """Keep a message."""
        self.messages.append(frames)
        self.size += _OVERHEAD + sum(map(len, frames))

    def take(self) -> Frames:
        """Take the oldest message out."""
        frames = self.messages.popleft()
        self.size -= _OVERHEAD + sum(map(len, frames))
        return frames

    @property
    def is_too_much(self) -> bool:
        """Whether no peer that keeps the rules can have sent so much."""
        return self.size > self._most
