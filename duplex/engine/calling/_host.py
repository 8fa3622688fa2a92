"""What calls need of the link that they take, and of the peer whose link it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from duplex._errors import RPCError
from duplex.codec._base import Codec
from duplex.engine.calling._caller import Caller
from duplex.engine.calling._outcome import Callee
from duplex.engine.calling._timers import Timers
from duplex.engine.channels import ChannelHost, ChannelOwner, ChannelUser


class Wakeable(Protocol):
    """The turns in which messages come."""

    def probe(self) -> None:
        """End the wait for the next one."""


class Leadership(Protocol):
    """The receiving from the port: see :mod:`duplex.engine.tasks._leader`."""

    @property
    def is_vacant(self) -> bool:
        """Whether nobody receives, and a caller may."""

    def claim(self) -> None:
        """Receive, until :meth:`give_up`."""

    async def wait_turn(self) -> None:
        """Wait until there may be a turn to take."""

    def take(self) -> bool:
        """Take a turn; tell whether to go on."""

    def note_idle_caller(self) -> None:
        """The only call on the link was answered, in the turn that is being taken."""

    def give_up(self, *, alone: bool) -> None:
        """Receive no longer: the call was answered, or is waited for no more."""


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


class CallHost(ChannelHost, Callee, Protocol):
    """The link."""

    @property
    def engine(self) -> CallOwner:
        """This side's engine."""

    @property
    def peer_name(self) -> str:
        """The name of the other one."""

    @property
    def turns(self) -> Wakeable:
        """Those in which messages of the link come."""

    @property
    def lead(self) -> Leadership | None:
        """The receiving from the port, for callers that may do it themselves."""

    @property
    def caller(self) -> Caller:
        """Makes calls over the link."""

    @property
    def is_parted(self) -> bool:
        """Whether this side makes no new calls over it."""

    @property
    def keeps_keys(self) -> bool:
        """Whether the other side keeps idempotency keys."""

    def unavailable(self) -> RPCError:
        """Return the error for a call that cannot begin on the link."""

    async def wait_link_credit(self, channel_end: ChannelUser) -> None:
        """Wait until something may be sent on the link, or the channel end has its outcome."""
