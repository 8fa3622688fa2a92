"""Accepting connections, also when descriptors are short.

The kernel tells a listener of a connection again and again until it is accepted, and without a descriptor it cannot be. A loop that
goes on trying does nothing else. So those who have connected and said nothing give way, one for each who comes. If there are none, a
descriptor is used that the listener keeps in reserve: it is given up, all who wait
are accepted with it, one after the other, and closed at once, so that they know; and then it is taken back. If somebody else was
quicker, the listener pauses.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final, final

#: Connections that are accepted in one turn, and refused at once when there is no descriptor for them.
_MOST: Final = 64
_MOST_REFUSED: Final = 256
#: What the kernel says when it can make no socket. Every other error is one of the connection that was to be accepted.
_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
#: Seconds.
PAUSE: Final = 0.25


@final
class Acceptor:
    """Accepts connections.

    Args:
        listener: listens, and does not block.
        make_room: closes a socket that can be spared; tells whether there was one.

    Attributes:
        refused: connections that were closed at once for want of a descriptor.
    """

    def __init__(self, listener: socket.socket, make_room: Callable[[], bool]) -> None:
        self._listener = listener
        self._make_room = make_room
        self._reserve: int | None = None
        self.refused = 0
        self._take_reserve()

    def _take_reserve(self) -> None:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = None

    def accept(self) -> tuple[list[tuple[socket.socket, Any]], bool]:
        """Return connections that were waiting, with their addresses; and whether descriptors are so short that the listener has
        to pause."""
        accepted: list[tuple[socket.socket, Any]] = []
        for _ in range(_MOST):
            try:
                accepted.append(self._listener.accept())
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _FULL and not self._make_room():
                    return accepted, not self._refuse()
        if self._reserve is None:
            self._take_reserve()
        return accepted, False

    def _refuse(self) -> bool:
        """Close at once all who wait; tell whether that was possible."""
        if self._reserve is None:
            return False
        os.close(self._reserve)
        refused = 0
        try:
            while refused < _MOST_REFUSED:
                self._listener.accept()[0].close()
                refused += 1
        except OSError:
            pass  # nobody waits any more, or another thread has the descriptor
        self.refused += refused
        self._take_reserve()
        return refused > 0 and self._reserve is not None

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
