"""The channels of one link: who uses each, what comes for them, and their ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, final

from duplex._errors import LocalProtocolError
from duplex._status import StatusCode
from duplex.codec._base import Buffer
from duplex.engine.channels import ChannelUser, CreditShare, in_short, is_much_unread
from duplex.engine.links._values import LinkValues, ValuesLink
from duplex.engine.serving import Reception, ServingPeer
from duplex.protocol import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ChannelState,
    CreditReceived,
    EndReceived,
    ItemsReceived,
    MessageReceived,
)


class ChannelsOwner(ServingPeer, Protocol):
    """The peer."""

    @property
    def reception(self) -> Reception:
        """Takes calls."""


class ChannelsLink(ValuesLink, Protocol):
    """The link, as its table of channels sees it."""

    @property
    def values(self) -> LinkValues:
        """What is passed as a value."""

    @property
    def credit(self) -> CreditShare:
        """Who waits for credit."""

    @property
    def is_left(self) -> bool:
        """Whether this side takes no new calls on the link."""

    @property
    def goodbye(self) -> str | None:
        """Why the link ends after the present message, if it does."""


@final
class Channels:
    """Who uses the channels of one link.

    Args:
        link: the link.
        reception: takes calls that come over it.
        note_call_ended: is told of each end on a link that is being left.

    Attributes:
        users: those who use channels, by number.
        dropped_items: items of streams that were dropped here, see :mod:`duplex.engine.channels._overflow`.
    """

    def __init__(self, link: ChannelsLink, reception: Reception, note_call_ended: Callable[[], None]) -> None:
        self._link = link
        self._connection = link.connection
        self._reception = reception
        self._note_call_ended = note_call_ended
        self.users: dict[int, ChannelUser] = {}
        self.dropped_items = 0

    # -- what this side does ---------------------------------------------------------------------------

    def forget(self, channel: int) -> None:
        """Take no more events for a channel."""
        self.users.pop(channel, None)
        if self._link.is_left:
            self._note_call_ended()

    def cancel(self, channel: int, reason: str = "") -> None:
        """Abandon a channel that this side opened, if it is not over."""
        self.forget(channel)
        if self._connection.is_open:
            self._connection.cancel(channel, reason)
            self._link.touch()

    def close(
        self,
        channel: int,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        trailers: Mapping[str, str | bytes] | None = None,
    ) -> None:
        """Close a channel that the other side opened, if the link still stands. Raises as
        :meth:`Connection.close`."""
        link = self._link
        self.users.pop(channel, None)
        if link.is_left:
            self._note_call_ended()
        connection = self._connection
        if connection.is_open:
            if status and is_much_unread(link):
                message, details, trailers = in_short(link, message, trailers)
            try:
                connection.close(channel, status, payload, attachments, message, details, trailers)
            except LocalProtocolError:
                # What came with it, in the same message, has broken the channel, which is told next.
                if connection.channel_state(channel) is not ChannelState.OVER:
                    raise
            link.touch()

    def cut(self, reason: str, *, resumable: bool = False) -> None:
        """Cancel the handlers that run for the other side, whose calls end as ``Unavailable``.

        Args:
            reason: for the caller.
            resumable: only those of streams that go on elsewhere.
        """
        for user in list(self.users.values()):
            user.cut(StatusCode.UNAVAILABLE, reason, resumable=resumable)

    # -- what comes ------------------------------------------------------------------------------------

    def on_opened(self, event: ChannelOpened) -> None:
        """A call came, or a channel that is a value."""
        link = self._link
        if link.goodbye is not None:
            return
        if event.target is None:
            link.values.on_nested(event)
        else:
            self._reception.take(link, event)

    def on_message(self, event: MessageReceived) -> None:
        """A message came on a channel."""
        user = self.users.get(event.channel)
        if user is None:
            self._connection.consumed(event.channel, event.cost)
        elif event.result:
            user.on_result(event)
        else:
            user.on_message(event)

    def on_items(self, event: ItemsReceived) -> None:
        """Items came, one after the other."""
        user = self.users.get(event.channel)
        if user is None:
            self._connection.consumed(event.channel, event.cost)
        else:
            user.on_items(event)

    def on_end(self, event: EndReceived) -> None:
        """The other side sends no more on a channel."""
        user = self.users.get(event.channel)
        if user is not None:
            user.on_end()

    def on_closed(self, event: ChannelClosed) -> None:
        """The other side closed a channel, which this side opened."""
        user = self.users.pop(event.channel, None)
        if user is not None:
            user.on_closed(event)
            if self._link.is_left:
                self._note_call_ended()

    def on_cancelled(self, event: CancelReceived) -> None:
        """The other side gave a channel up, which it opened."""
        user = self.users.get(event.channel)
        if user is not None:
            user.on_cancelled(event)

    def on_credit(self, event: CreditReceived) -> None:
        """More may be sent, on a channel or on the link."""
        if event.channel:
            user = self.users.get(event.channel)
            if user is not None:
                user.on_credit()
        else:
            self._link.credit.has_come = True
