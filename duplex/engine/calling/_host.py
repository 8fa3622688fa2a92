"""What calls need of the link that they take, and of the peer whose link it is."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Protocol

from duplex._errors import RPCError
from duplex.codec._base import Codec
from duplex.engine._host import ChannelHost, ChannelOwner
from duplex.engine._public_link import PublicLink
from duplex.engine._table import ChannelUser
from duplex.engine.calling._caller import Caller
from duplex.engine.calling._outcome import Callee
from duplex.engine.calling._timers import Timers
from duplex.transports import Turns


class Wakeable(Protocol):
    """The port of the link."""

    def probe(self) -> None:
        """End the wait of whoever waits for its next turn."""


class Leadership(Protocol):
    """The receiving from the port: see :mod:`duplex.engine._lead`."""

    is_vacant: bool
    has_idle_caller: bool
    is_turn_due: bool

    @property
    def turns(self) -> Turns:
        """The turns of the port."""

    @property
    def backlog(self) -> Sized:
        """Links for which there is more to do than was done in a turn."""

    def take(self) -> bool:
        """Take a turn; tell whether to go on."""

    def give_up(self, *, alone: bool) -> None:
        """Leave the lead, as a caller who is answered, or waits no more."""


class CallOwner(ChannelOwner, Protocol):
    """The peer."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time, as :func:`trio.current_time` does."""

    @property
    def timers(self) -> Timers:
        """The time limits of its calls."""

    @property
    def default_codec(self) -> Codec:
        """The codec of calls that ask for no other."""


class CallHost(ChannelHost, Callee, PublicLink, Protocol):
    """The link."""

    @property
    def peer(self) -> CallOwner:
        """This side's peer."""

    @property
    def peer_name(self) -> str:
        """The name of the other one."""

    @property
    def port(self) -> Wakeable:
        """The port that the link is on."""

    @property
    def lead(self) -> Leadership | None:
        """The receiving from the port, for callers that may do it themselves."""

    @property
    def caller(self) -> Caller:
        """Makes calls over the link."""

    @property
    def conversations(self) -> dict[int, ChannelUser]:
        """Those that use channels of the link, by number."""

    @property
    def keeps_keys(self) -> bool:
        """Whether the other side keeps idempotency keys."""

    def unavailable(self) -> RPCError:
        """Return the error for a call that cannot begin on the link."""

    async def wait_link_credit(self, conversation: ChannelUser) -> None:
        """Wait until something may be sent on the link, or the conversation has its outcome."""
