"""Whether the other side's host can still be reached, by what the kernel knows.

Nothing here has a thread of its own, so a program that does not run cannot answer; its kernel can. Bytes that come are a sign of
life, and so are the acknowledgements of those that were sent, and the answers to the kernel's probes of an idle connection or of a full
window. A process that ends closes its connections. So what is left to find out is a network, or a machine, that is gone:

=====================================  ============================================================================
a loop is blocked, a process stopped   what is sent is acknowledged, probes are answered: nothing is lost
it does not read, its window is full   the kernel's probes of the window are answered
the network is cut, something is sent  the kernel sends it again, and again, and nothing is acknowledged
the network is cut, nothing is sent    the kernel's probes are not answered
=====================================  ============================================================================
"""

from __future__ import annotations

import math
import socket
import struct
from typing import Final, NamedTuple, Protocol, final

from duplex.transports._base import TransportOptions
from duplex.transports.streams._sockets import Wire

UNREACHABLE: Final = "its host does not answer any more"
#: Seconds.
_LATE: Final = 1.0
#: So many probes or retransmissions without an answer are no accident.
_ENOUGH: Final = 3
#: ``struct tcp_info`` of Linux, as far as it is used: the fifth byte's neighbours are bit fields, then come 32-bit numbers.
_TCP_INFO: Final = struct.Struct("=BBBBBBBB13I")
_RETRANSMITS: Final = 2
_PROBES: Final = 3
_LAST_ACK: Final = 8 + 12


class Signs(NamedTuple):
    """What the kernel knows of a connection."""

    #: Transmissions of what is under way, and probes, that were not answered.
    unanswered: int
    #: Seconds since the other side's kernel acknowledged something.
    since_ack: float


def signs_of(wire: Wire) -> Signs | None:
    """Return what the kernel knows of a connection; ``None`` where it does not say, as on Unix sockets."""
    if wire.family == socket.AF_UNIX:
        return None
    try:
        found = _TCP_INFO.unpack(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except (OSError, struct.error, AttributeError):
        return None
    return Signs(max(found[_RETRANSMITS], found[_PROBES]), found[_LAST_ACK] / 1000)


def patience_with(signs: Signs | None, timeout: float) -> float:
    """Return for how many seconds a connection from which nothing has come is to be waited for.

    Args:
        signs: what the kernel knows of it.
        timeout: seconds without a sign of life after which the other side is lost.

    Returns:
        0 if it is lost, infinity if nothing speaks against it.
    """
    if signs is None or not signs.unanswered:
        return math.inf
    if signs.unanswered < _ENOUGH:
        return max(0.1, timeout - signs.since_ack)
    return max(0.0, timeout - signs.since_ack)


class Watched(Protocol):
    """A connection.

    Attributes:
        wire: its socket.
        seen: bytes that had come when it was looked at last.
        silent_since: when that was the case for the first time.
    """

    wire: Wire
    seen: int
    silent_since: float

    @property
    def received(self) -> int:
        """Bytes that have come in all."""


@final
class LifeWatch:
    """Looks at connections now and then.

    Args:
        options: of the port.
        now: the time.
    """

    __slots__ = ("_interval", "_is_late", "_latest", "_max_silence", "_timeout")

    def __init__(self, options: TransportOptions, now: float) -> None:
        self._interval = options.heartbeat_interval
        self._timeout = options.heartbeat_timeout
        self._max_silence = options.max_silence
        self._latest = now
        self._is_late = False

    def begin(self, now: float) -> None:
        """Begin a look. One that comes late says nothing of silence: what was sent meanwhile is perhaps not read yet."""
        self._is_late = now - self._latest > self._interval + max(self._interval, _LATE)
        self._latest = now

    def look(self, connection: Watched, now: float) -> tuple[str | None, float]:
        """Return why a connection is lost, or ``None``; and in how many seconds it is to be looked at again."""
        if connection.received != connection.seen or self._is_late:
            connection.seen = connection.received
            connection.silent_since = now
            return None, self._interval
        patience = patience_with(signs_of(connection.wire), self._timeout)
        if not patience:
            return UNREACHABLE, 0.0
        if self._max_silence is not None:
            left = connection.silent_since + self._max_silence - now
            if left <= 0:
                return f"nothing has come from it for {self._max_silence:g} s, though its host answers", 0.0
            patience = min(patience, left)
        return None, max(0.01, min(self._interval, patience))
