"""The types that people write in annotations: channels and callbacks.

They follow :mod:`trio.abc`, so that code written for trio's channels takes ours, and add what a remote
other end makes necessary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, final, runtime_checkable

import msgspec
import trio

SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)
P = ParamSpec("P")
R = TypeVar("R", covariant=True)


@final
class ChannelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one channel, seen from one end. Bytes count as credit does: payload, attachments, and 64
    for each message."""

    #: Bytes this side may send on the channel before the other side's application takes some. A message may be
    #: sent while it is above zero; 0 when the channel is over.
    send_credit: int
    #: Bytes that this side may send now on all channels of the link together.
    link_credit: int
    #: Items that came and were not taken.
    buffered_items: int
    buffered_bytes: int
    #: Items that wait at this side to be sent, or to be dropped for later ones; with ``overflow="drop_oldest"``
    #: only.
    queued_items: int
    queued_bytes: int
    #: Tasks that wait in ``send()`` for credit.
    waiting_senders: int
    #: Items that were sent, those of waiting senders included.
    sent: int
    #: Items that were taken.
    received: int
    #: Items that this side dropped, sending or receiving, because a window was full.
    dropped: int


class SendChannel(trio.abc.SendChannel[SendT]):
    """The sending end of a channel to another peer."""

    __slots__ = ()

    @abstractmethod
    async def send(self, value: SendT) -> None:
        """Send one item; waits while the other side's window is full.

        Raises:
            trio.ClosedResourceError: you closed this end, or ended it with :meth:`send_eof`.
            trio.BrokenResourceError: the other side takes nothing more, though the call goes on or
                ended well.
            RPCError: the call failed, with its outcome.
            EncodeError: the item cannot travel; the channel stays usable.

        Cancelled means not sent.

        A stream with an ``overflow`` option does not wait: see :meth:`duplex.ServiceProxy.with_options`.
        """

    @abstractmethod
    async def send_eof(self) -> None:
        """Tell the other side that no more items come; what it sends is still received. Idempotent.

        Waits for items that are queued with ``overflow="drop_oldest"``. Cancelled means not ended.
        """

    @abstractmethod
    def statistics(self) -> ChannelStatistics:
        """Return a snapshot: credit, items that wait, items that were dropped."""


class ReceiveChannel(trio.abc.ReceiveChannel[ReceiveT]):
    """The receiving end of a channel from another peer; ``async for`` gives its items."""

    __slots__ = ()

    @abstractmethod
    async def receive(self) -> ReceiveT:
        """Return the next item.

        Raises:
            trio.EndOfChannel: the other side ended well and all items were received.
            trio.ClosedResourceError: you closed this end.
            trio.BusyResourceError: another task is receiving.
            RPCError: the call failed, with its outcome, after the items that came before. A reader that is slow
                learns late of a lost link; ``call.link.wait_closed()`` returns at once.

        Cancelled means no item was taken.
        """

    @abstractmethod
    def statistics(self) -> ChannelStatistics:
        """Return a snapshot: credit, items that wait, items that were dropped."""


class Channel(SendChannel[SendT], ReceiveChannel[ReceiveT]):
    """Both ends in one: sends ``SendT``, receives ``ReceiveT``. A handler's parameter of this type is the
    call's own channel, seen from the handler."""

    __slots__ = ()


if TYPE_CHECKING:

    @runtime_checkable
    class Callback(Protocol[P, R]):
        """Any async function, for type checkers: what is passed and what arrives are the same to them."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            """Call the function where it lives and return what it returns."""

else:

    class Callback(Generic[P, R]):
        """A function of another peer, received as a value: ``Callback[[int], str]`` takes an int, gives a str.

        It can be called until the call that brought it has ended; then calling raises
        ``FailedPrecondition``. Errors are those of any call. The caller passes a function; type
        checkers take async functions for it.
        """

        __slots__ = ()

        def __init__(self) -> None:
            raise TypeError("callbacks come from another peer; pass a plain function where one is expected")

        @abstractmethod
        def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
            """Call the function where it lives and return what it returns."""
