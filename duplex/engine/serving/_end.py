"""What a run of a handler needs of what is around it.

An :class:`~duplex.engine.serving._invocation.Invocation` knows neither links nor channels. It takes its arguments from a
:class:`CallEnd`, and hands that what came of it: the channel of an ordinary call, or an idempotency key, for which many
channels may wait. The rest it asks of its :class:`Host`, the peer.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from duplex.codec._base import Codec
from duplex.engine._failure import Failure
from duplex.engine._handler import Handler
from duplex.engine._peer_info import PeerInfo
from duplex.engine._public_link import PublicLink
from duplex.engine._runs import EventLoop
from duplex.engine._signal import Signal
from duplex.engine.channels import (
    CallValues,
    ChannelHost,
    ChannelOwner,
    ChannelStatistics,
    Values,
)
from duplex.engine.serving._observer import Observer
from duplex.engine.tasks import Job, Source
from duplex.engine.threads import Threads
from duplex.protocol import ChannelOpened

#: What a handler is called with, by position and by name.
Arguments: TypeAlias = tuple[Sequence[Any], Mapping[str, Any]]
#: The trailers that a handler has set, if any.
Trailers: TypeAlias = Mapping[str, str | bytes] | None


class Port(Protocol):
    """What a handler itself is joined to."""

    def bind_now(self) -> Arguments | None:
        """Return the arguments if they have come, decoded and checked; ``None`` if they have not.

        Raises ``InvalidArgument``.
        """

    async def bind_later(self) -> Arguments:
        """Wait for the arguments, and return them."""

    def send_now(self, item: Any) -> Awaitable[None] | None:
        """Send an item of the stream of results; return what has to be awaited, if anything."""


class CallLink(Source, Protocol):
    """The link that a call came over, as the tasks see it that run the call."""

    @property
    def public(self) -> PublicLink:
        """What its handler sees of the link."""

    @property
    def remote(self) -> PeerInfo:
        """Who is at its other end."""


class CallEnd(Port, Protocol):
    """Where the arguments of a run come from, and where its result or error goes."""

    @property
    def link(self) -> CallLink:
        """The link that the call came over."""

    @property
    def channel(self) -> int:
        """The number of the call's own channel there."""

    @property
    def peer(self) -> PeerInfo:
        """Who calls."""

    @property
    def codec(self) -> Codec:
        """What the caller chose."""

    @property
    def over(self) -> bool:
        """Whether nobody takes a result any more."""

    @property
    def size(self) -> int:
        """Bytes of the arguments, if they came with the call."""

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the call's own channel."""

    def run_in_thread(self, function: Callable[[], Any], threads: Threads) -> Awaitable[Any]:
        """Run a plain function in a thread and return its result. Cancelled, it leaves the thread alone."""

    async def finish_stream(self, trailers: Trailers) -> None:
        """The handler has sent all its items."""

    def answer(self, result: Any, trailers: Trailers) -> Coroutine[Any, Any, None] | None:
        """Answer with a result; return what has to be awaited, if anything. Raises ``EncodeError`` and the like."""

    def finish_notification(self, status: int = 0) -> None:
        """The handler of a call that is not answered has ended, with a status of which nobody but this peer learns."""

    def fail(self, failure: Failure, trailers: Trailers, *, has_begun: bool, was_cut: bool) -> None:
        """Answer with an error. Raises nothing.

        Args:
            failure: what the caller is told.
            trailers: what the handler has set.
            has_begun: whether the handler may have done anything.
            was_cut: whether it was cancelled, rather than that it failed.
        """

    def fail_at_last(self) -> None:
        """Answer with an error that is nobody's, because the one that there is cannot be told. Raises nothing."""

    def note_often(self, kind: str) -> str | None:
        """Note that there is something to log that a caller may cause as often as it likes.

        Returns what to add to the text, or ``None`` if it is not to be logged this time.
        """

    def run_ended(self) -> None:
        """The task that ran the handler goes on to other things."""


class KeepsOrder(Protocol):
    """Where calls wait for their turn to be run."""

    def keep_order(self, link: Source) -> None:
        """Let no call that comes later over a link begin before the handler that was cancelled just now is told."""


class Host(Protocol):
    """What a run needs of the peer."""

    @property
    def debug(self) -> bool:
        """Whether callers are told of unexpected errors."""

    @property
    def loop(self) -> EventLoop:
        """The event loop, as threads may use it."""

    @property
    def threads(self) -> Threads:
        """Those for plain functions."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time, as :func:`trio.current_time` does."""

    @property
    def workers(self) -> KeepsOrder:
        """The tasks that run handlers."""

    @property
    def observer(self) -> Observer | None:
        """Who is told of calls that are answered without being run."""

    @property
    def base_context(self) -> contextvars.Context:
        """What a copy of is the context of each handler."""

    def spawn_here(self, function: Callable[..., Awaitable[object]], *args: Any, name: str) -> None:
        """Run something of the peer's own until it ends or the peer does, in the context of the task that asks for it."""


class ServingPeer(Host, ChannelOwner, Protocol):
    """The peer, as the channels of calls that it serves see it."""

    @property
    def left_behind(self) -> dict[Any, None]:
        """Channels of notifications that run, or are about to, and whose links are gone (an ordered set)."""

    @property
    def call_ended(self) -> Signal:
        """Is notified when a call has ended on a link that is being left."""


class CalledValues(Values, Protocol):
    """What was passed as a value over a link, and is called."""

    def called(self, event: ChannelOpened) -> tuple[Handler, CallValues] | None:
        """Return what the call of a function runs, and the call that it was passed in; ``None`` if there is none."""


class ServingLink(ChannelHost, CallLink, Protocol):
    """The link, as the channels of calls that come over it see it."""

    #: Handlers that run for the other side, but for callbacks; and callbacks.
    running: int
    callbacks: int
    #: Bytes that nobody had taken yet when they were counted last.
    seen_buffered: int

    @property
    def engine(self) -> ServingPeer:
        """This side's engine."""

    @property
    def values(self) -> CalledValues:
        """What was passed as a value over it."""

    def submit(self, job: Job, owner: CallValues | None = None) -> None:
        """Have a worker run a handler, or a callback that was passed in the call ``owner``."""

    def ran(self, owner: CallValues | None = None) -> None:
        """What was submitted has ended."""

    def say_goodbye(self, reason: str, message: str = "") -> None:
        """Tell the other side that the link ends now, and end it."""
