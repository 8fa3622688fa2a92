"""Pings of one link: how long the other side's event loop takes to answer, and how late it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio

from duplex.engine._signal import Signal
from duplex.protocol import Connection, PingReceived, PongReceived


@final
class Pings:
    """The pings of one link.

    Args:
        connection: where they are queued.
        touch: notes that something was queued.
        note_delay: is told how late the other side's event loop ran a timer, in seconds.
        answered: is told of answers.

    Attributes:
        heard_at: when the other side's latest ping came, as :func:`trio.current_time` counts; ``None`` before the first.
        round_trip: seconds that the latest ping took there and back; ``None`` before the first answer.
        remote_delay: seconds by which the other side's event loop ran a timer late, as it said last; ``None`` if it has not.
    """

    __slots__ = (
        "_answered",
        "_connection",
        "_note_delay",
        "_pong",
        "_touch",
        "heard_at",
        "remote_delay",
        "round_trip",
    )

    def __init__(
        self,
        connection: Connection,
        touch: Callable[[], None],
        note_delay: Callable[[float], None],
        answered: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._touch = touch
        self._note_delay = note_delay
        self._answered = answered
        self.heard_at: float | None = None
        self.round_trip: float | None = None
        self.remote_delay: float | None = None
        self._pong = Signal()

    async def ping(self) -> float | None:
        """Wait for the answer to a new ping, or for the end of the link; return the latest round trip, if there was one."""
        token = self._connection.ping(trio.current_time())
        self._touch()
        while self._connection.is_open and self._connection.awaits_pong(token):
            await self._pong.wait()
        return self.round_trip

    def send(self, delay: float) -> None:
        """Send a ping, so that a transport that knows the other side to be gone says so.

        Args:
            delay: seconds by which this side's event loop ran a timer late, which the other side is told.
        """
        if self._connection.is_open:
            self._connection.ping(trio.current_time(), delay)
            self._touch()

    def end(self) -> None:
        """The link is over: nobody waits any more."""
        self._pong.notify()

    def on_ping(self, event: PingReceived) -> None:
        """The other side sent a ping, which the protocol has answered."""
        self.heard_at = trio.current_time()
        self.remote_delay = event.delay
        self._note_delay(event.delay or 0.0)

    def on_pong(self, event: PongReceived) -> None:
        """The other side has answered one."""
        self.round_trip = event.round_trip
        self.remote_delay = event.delay
        self._note_delay(event.delay or 0.0)
        self._answered()
        self._pong.notify()
