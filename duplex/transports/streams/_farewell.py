"""A connection that this side has ended, until the other side has all that was sent before."""

from __future__ import annotations

import socket
from typing import Final, final

from duplex.transports.streams._sockets import Wire, is_delivered
from duplex.transports.streams._unsent import Unsent

#: Seconds for which what was sent before the end is still transmitted.
LINGER: Final = 1.0
_CHUNK: Final = 64 * 1024
#: Chunks that are thrown away in one go.
_CHUNKS: Final = 16


@final
class Farewell:
    """What is left to do before a socket is closed: send the rest, say that this was all, and hear the other side out.

    To close a TCP socket at once may lose what is under way; see :func:`is_delivered`.

    Args:
        wire: the socket.
        unsent: what has to be sent.
        until: when it is over in any case.
        waits: let the other side end the connection, until then. The last message says why it is over, and libzmq throws away what
            its application has not read yet when a connection ends that it does not make anew.
        hears: bytes that it may send meanwhile, more or less; ``None``: as many as it likes.
    """

    def __init__(
        self,
        wire: Wire,
        unsent: Unsent,
        until: float,
        *,
        waits: bool = False,
        hears: int | None = None,
    ) -> None:
        self.wire = wire
        self._hears = hears
        self._waits = waits
        self.until = until
        self._unsent = unsent
        self._has_ended = False

    @property
    def wants_to_write(self) -> bool:
        """Whether to wait until the socket takes something."""
        return bool(self._unsent)

    def hurry(self) -> None:
        """Do not leave the end to the other side any more."""
        self._waits = False

    def go_on(self) -> bool:
        """Do what can be done now; tell whether it is over, and the socket to be closed."""
        try:
            if not self._unsent.send(self.wire):
                return False
            if not self._has_ended and not self._waits:
                if is_delivered(self.wire):
                    return True
                self._has_ended = True
                self.wire.shutdown(socket.SHUT_WR)
            return self._hear_out()
        except OSError:
            return True  # the other side has ended it, and nothing can be done any more

    def _hear_out(self) -> bool:
        """Throw away what comes; tell whether that was all."""
        try:
            for _ in range(_CHUNKS):
                data = self.wire.recv(_CHUNK)
                if not data:
                    return True
                if self._hears is not None:
                    self._hears -= len(data)
                    if self._hears < 0:
                        return True
        except BlockingIOError:
            pass  # there is more to come
        return False


def end(wire: Wire) -> None:
    """Close a socket, and end its connection, also if a forked child has the socket too."""
    for how in (socket.SHUT_WR, socket.SHUT_RDWR):
        try:
            wire.shutdown(how)
        except OSError:
            pass  # the other side has ended it
    wire.close()
