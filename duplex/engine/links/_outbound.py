"""What goes out over one link: commands are queued on its connection, and leave together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

import trio

from duplex._errors import RPCError
from duplex.engine._log import logger
from duplex.engine.tasks import Flusher
from duplex.protocol import Connection
from duplex.transports import Carrier, CarrierDown, Turns

#: Commands queued within one tick that are not held back until its end: the other side can begin.
FLUSH_AT: Final = 32


class SendingLink(Protocol):
    """The link, as far as sending concerns it."""

    #: When the present batch of commands began, in or out, as :func:`trio.current_time` counts.
    now: float

    @property
    def label(self) -> str:
        """Who the other peer is, for the log."""

    @property
    def error(self) -> RPCError | None:
        """Why the link is over, once it is."""

    def lose(self, reason: str) -> None:
        """The link is over."""


@final
class Outbound:
    """Hands the commands of one link to its carrier, at the latest when trio is about to wait for I/O.

    Args:
        link: the link.
        connection: where commands are queued.
        carrier: what moves messages.
        turns: those in which messages of the carrier come.
        flusher: tells when trio is about to wait.
        clock: the present time.

    Attributes:
        is_dirty: something is queued, and the flusher knows of it.
        unsent_channel: the first of this side's channels that was not handed to the transport.
    """

    def __init__(
        self,
        link: SendingLink,
        connection: Connection,
        carrier: Carrier,
        turns: Turns,
        flusher: Flusher,
        clock: Callable[[], float],
    ) -> None:
        self.link = link
        self._connection = connection
        self.carrier = carrier
        self.turns = turns
        self._flusher = flusher
        self._clock = clock
        self.is_dirty = False
        self.unsent_channel = 0

    def touch(self) -> None:
        """Note that something was queued: it goes out at the end of this tick, or now if it is much."""
        if not self.is_dirty:
            self.is_dirty = True
            self.link.now = self._clock()
            self._flusher.dirty.append(self)
        elif self._connection.pending_commands() >= FLUSH_AT:
            self.send_now()
            self.is_dirty = True  # it is on the flusher's list still

    def consumed(self, channel: int, cost: int) -> None:
        """Note that the application took a message, which may make credit go back."""
        self._connection.consumed(channel, cost)
        if not self.is_dirty and self._connection.pending_commands():
            self.touch()

    def transmit(self) -> None:
        """Hand everything that is queued to the carrier."""
        self.is_dirty = False
        connection = self._connection
        for frames in connection.data_to_send():
            try:
                self.carrier.send(frames)
            except CarrierDown:
                return  # the port reports it from its own task
            # Set with the first message, though the rest may fail: which one a channel is in is not known.
            self.unsent_channel = connection.next_channel
        if connection.unread is not None:
            # Not at once: this may be the flusher's, which must not wake any task.
            trio.lowlevel.current_trio_token().run_sync_soon(self._cut)

    def send_now(self) -> None:
        """Transmit outside a flush, where nothing follows that could go into the same message."""
        self.transmit()
        self.turns.sends_done()

    def _cut(self) -> None:
        """End a link whose other side does not read what it asks for."""
        link = self.link
        if link.error is None:
            logger.warning("the link to %s is cut: %s", link.label, self._connection.unread)
            link.lose(f"this side cut it: {self._connection.unread}")
