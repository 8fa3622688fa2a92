"""The types that people write in annotations: channels and callbacks.

They follow :mod:`trio.abc`, so that code written for trio's channels takes ours, and add what a remote
other end makes necessary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    final,
    overload,
    runtime_checkable,
)

import msgspec
import trio

from duplex._config import Overflow
from duplex._metadata import Metadata
from duplex.codec import Codec

if TYPE_CHECKING:
    from duplex.engine._tracked import ResumableStream
    from duplex.engine.calling._outgoing import OutgoingCall

SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)
SendT_ = TypeVar("SendT_", contravariant=True)
P = ParamSpec("P")
R = TypeVar("R", covariant=True)


@final
class ChannelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of one channel, seen from one end. Bytes count as credit does: payload, attachments, and 64
    for each message."""

    #: Bytes this side may send on the channel before the other side's application takes some. A message may be
    #: sent while it is above zero; 0 when the channel is over.
    send_credit: int
    #: The same for all channels of the link together.
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
        ``FailedPrecondition``. Errors are those of any call. Whoever passes one passes a function; type
        checkers take async functions for it.
        """

        __slots__ = ()

        def __init__(self) -> None:
            raise TypeError("callbacks come from another peer; pass a plain function where one is expected")

        @abstractmethod
        def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
            """Call the function where it lives and return what it returns."""


class OtherOptions(TypedDict, total=False):
    """The options of a call that do not change what opening it gives."""

    timeout: float | None
    metadata: Metadata | None
    codec: str | Codec
    wait_for_ready: bool
    idempotency_key: str | None
    overflow: Overflow | None


class CallOptions(OtherOptions, total=False):
    """What ``with_options`` takes, for those who pass options on: see :meth:`duplex.ServiceProxy.with_options`."""

    resume: bool


class Unary(Protocol[P, R]):
    """The static type of a remote unary method, for attributes of a class given to ``peer.service(cls)``::

        class Calc(Protocol):
            add: duplex.Unary[[int, int], int]

    Declaring ``async def add(self, a: int, b: int) -> int`` does the same, without the methods below.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the method and return its result."""

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[OutgoingCall[Never, R]]:
        """Open the call, whose ``result()`` is the method's."""

    def notify(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]:
        """Call the method without waiting for its outcome."""

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return the method with other options."""


class Streaming(Protocol[P, SendT_, R]):
    """The static type of a remote streaming method, for attributes of a class given to ``peer.service(cls)``::

    class Calc(Protocol):
        count: duplex.Streaming[[int], Never, int]      # arguments, items sent, items received
        total: duplex.Streaming[[], int, int]           # the result counts as received

    For a resumable method that is opened with ``resume=True``, declare the type of the values.
    """

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[OutgoingCall[SendT_, R]]:
        """Open the call."""

    @overload
    def with_options(  # type: ignore[overload-overlap] # resume=True is one of CallOptions' as well
        self, *, resume: Literal[True], **options: Unpack[OtherOptions]
    ) -> Resuming[P, R]: ...

    @overload
    def with_options(self, **options: Unpack[CallOptions]) -> Self: ...

    def with_options(self, **options: Any) -> Any:
        """Return the method with other options."""


class Resuming(Protocol[P, R]):
    """The static type of ``method.with_options(resume=True)``; see :class:`Streaming`."""

    def open(self, *args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[ResumableStream[R]]:
        """Open a stream that goes on after a lost link."""
