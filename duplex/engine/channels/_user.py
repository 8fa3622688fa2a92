"""What a link expects of those who use its channels: calls of both directions, and channels that are values."""

from __future__ import annotations

from typing import Protocol

from duplex._errors import RPCError
from duplex._status import StatusCode
from duplex.engine.channels._live_values import CallValues
from duplex.protocol import CancelReceived, ChannelClosed, ItemsReceived, MessageReceived


class ChannelUser(Protocol):
    """The user of one channel of a link: an entry of the link's table.

    The link calls the ``on_...`` methods as events arrive. They wait for nothing.
    """

    #: When it began, as :func:`trio.current_time` counts.
    started: float

    @property
    def channel(self) -> int:
        """The number of the channel."""

    @property
    def opener(self) -> bool:
        """Whether this side opened the channel."""

    @property
    def is_value(self) -> bool:
        """Whether the channel is a value in a message of a call, and no call itself."""

    @property
    def outlives_link(self) -> bool:
        """Whether it goes on when the link is gone."""

    @property
    def delays_drain(self) -> bool:
        """Whether a peer that drains waits for its end."""

    @property
    def root(self) -> CallValues:
        """The call whose end is the end of the values that pass here."""

    # -- for the list of what is under way -------------------------------------------------------------

    @property
    def method(self) -> str:
        """``service.method``."""

    @property
    def deadline(self) -> float | None:
        """When it has to end; ``None`` without a deadline, or if this side does not keep it."""

    @property
    def queued(self) -> int:
        """How many items were received and not taken."""

    @property
    def waiting_senders(self) -> int:
        """How many tasks wait for credit."""

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how it ended."""

    # -- what happens on the link ----------------------------------------------------------------------

    def on_message(self, event: MessageReceived) -> None:
        """A message came."""

    def on_result(self, event: MessageReceived) -> None:
        """A message came that the other side calls the result."""

    def on_items(self, event: ItemsReceived) -> None:
        """Items came, one after the other."""

    def on_end(self) -> None:
        """The other side sends no more."""

    def on_credit(self) -> None:
        """More may be sent."""

    def on_closed(self, event: ChannelClosed) -> None:
        """The other side closed the channel, which this side opened."""

    def on_cancelled(self, event: CancelReceived) -> None:
        """The other side gave the channel up, which it opened."""

    def on_lost(self, error: RPCError) -> None:
        """The link is gone."""

    # -- what the link asks ----------------------------------------------------------------------------

    async def wait_credit(self, *, result: bool) -> None:
        """Wait until more may be sent, even if only a result, or it is over."""

    def cut(self, status: StatusCode, message: str, *, resumable: bool = False) -> None:
        """If it is a call that this side serves, cancel its handler, and answer with this status and message.

        Args:
            status: for the caller.
            message: likewise.
            resumable: only if it is a stream that can go on elsewhere.
        """
