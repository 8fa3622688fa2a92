"""What channels need of the link that they are on, and of the peer whose link it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from duplex._config import Limits
from duplex._errors import RPCError
from duplex.codec._base import Buffer
from duplex.engine._counting import Counting
from duplex.engine._public_link import PublicLink
from duplex.engine._throttle import Throttle
from duplex.engine.channels._credit import CreditShare
from duplex.engine.channels._dropped import Dropped
from duplex.engine.channels._live_values import ValuesHost
from duplex.engine.channels._returns import CreditReturns
from duplex.engine.channels._user import ChannelUser


class Pass(Protocol):
    """A pass of the event loop."""

    def is_pass_long(self) -> bool:
        """Whether streams should let other tasks run; asked so, the time begins anew."""


class ChannelOwner(Protocol):
    """The peer."""

    @property
    def limits(self) -> Limits:
        """What it takes and holds."""

    @property
    def flusher(self) -> Pass:
        """The pass of the event loop that it is in."""

    @property
    def counting(self) -> Counting | None:
        """What is counted of its calls; ``None`` if nothing is."""

    @property
    def dropped(self) -> Dropped:
        """Looks after ends that nobody holds any more."""

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` in any other thread than its own."""

    def spawn(self, function: Callable[..., Awaitable[object]], /, *args: Any) -> None:
        """Run something until it ends or the peer does."""


class ChannelTable(Protocol):
    """The channels of a link."""

    #: Who uses each, by its number.
    users: dict[int, ChannelUser]
    #: Items of streams that were dropped.
    dropped_items: int

    def forget(self, channel: int) -> None:
        """Take no more events for a channel."""

    def cancel(self, channel: int, reason: str = "") -> None:
        """Abandon a channel that this side opened, if it is not over."""

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
        """Close a channel that the other side opened, if the link still stands."""


class ChannelHost(ValuesHost, Protocol):
    """The link."""

    #: When the present batch of commands began, in or out, as :func:`trio.current_time` counts.
    now: float
    #: Why the link is over, once it is.
    error: RPCError | None

    @property
    def throttle(self) -> Throttle:
        """Counts warnings."""

    @property
    def returns(self) -> CreditReturns:
        """What this side owes of credit."""

    @property
    def engine(self) -> ChannelOwner:
        """This side's engine."""

    @property
    def public(self) -> PublicLink:
        """What the program sees of the link."""

    @property
    def peer_name(self) -> str:
        """The name of the other one."""

    @property
    def credit(self) -> CreditShare:
        """Who waits for credit of the link."""

    @property
    def channels(self) -> ChannelTable:
        """Who uses its channels."""

    def touch(self) -> None:
        """Note that something was queued."""

    def consumed(self, channel: int, cost: int) -> None:
        """Note that the application took a message."""
