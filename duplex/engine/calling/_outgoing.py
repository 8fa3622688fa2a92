"""Calls that were opened: channels to send arguments and to receive results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import trio

from duplex._config import Overflow
from duplex._errors import DecodeError, Internal, ResourceExhausted, RPCError, as_text, error_for_status
from duplex._metadata import Metadata
from duplex.engine._public_link import PublicLink
from duplex.engine.calling._channel import open_channel
from duplex.engine.calling._outcome import blame, outcome_error
from duplex.engine.calling._request import Request
from duplex.engine.calling._timers import Timer, cancel_timer
from duplex.engine.channels import (
    NOTHING,
    Channel,
    ChannelEnd,
    ChannelStatistics,
    Overflowing,
    OverflowState,
    message_bytes,
)
from duplex.engine.threads import told_by_own, wait_rescheduled
from duplex.protocol import ChannelClosed, MessageReceived

if TYPE_CHECKING:
    from duplex.engine.calling._host import CallHost

#: Seconds without an item until the other side is asked whether the method streams any, and those that it has to say so.
SUSPICIOUS: Final = 0.5
ASKING: Final = 5.0

SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)


class OutgoingChannelEnd(ChannelEnd):
    """The channel under an :class:`OutgoingCall`."""

    __slots__ = (
        "_timer",
        "_is_single",
        "closed",
        "ended",
        "is_watched",
        "request",
        "result_message",
        "timeout",
    )

    link: CallHost  # type: ignore[mutable-override]  # set once, in __init__
    opener = True

    def __init__(self, link: CallHost, request: Request) -> None:
        super().__init__(link, 0, request.codec, request.result_type)
        self.request = request
        self.closed: ChannelClosed | None = None
        self.timeout: float | None = None
        self.result_message: MessageReceived | None = None
        #: The other side ended its direction, before it closed the call.
        self.ended = False
        #: Somebody has waited for an item.
        self.is_watched = False
        #: The method turned out to return one value.
        self._is_single = False
        self._timer: Timer | None = None

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.request.method

    @property
    def close_received(self) -> ChannelClosed | None:
        """See :attr:`CallValues.close_received`."""
        return self.closed

    @property
    def deadline(self) -> float | None:
        """See :attr:`UnaryCall.deadline`."""
        return None if self.timeout is None else self.started + self.timeout

    def on_end(self) -> None:
        self.ended = True
        super().on_end()

    def ensure_open(self) -> int:
        if not self.channel:
            self.timeout = self.request.time_left()
            self.channel = open_channel(self.link, self, self.request, self.timeout)
        return self.channel

    def on_result(self, event: MessageReceived) -> None:
        if self.result_message is None:
            self.bytes_in += event.cost
            self.result_message = event
            self._ended = True
            self.link.consumed(self.channel, event.cost)
            self.wake_receiver()
        else:
            super().on_result(event)

    def on_closed(self, event: ChannelClosed) -> None:
        self.closed = event
        self.finish(outcome_error(event, self.codec) if event.status else None)

    # -- items that cannot come ------------------------------------------------------------------------

    def watch(self) -> None:
        """Somebody is about to wait for an item: have it looked into whether the method streams any.

        One that takes a stream and returns one value waits for the caller's items, and so they would wait for each
        other.
        """
        self.is_watched = True
        if self.request.single:
            self._is_single = not self._inbox
        elif self._waits_in_vain:
            peer = self.link.engine
            self._timer = peer.timers.add(peer.clock() + SUSPICIOUS, self)

    @property
    def _waits_in_vain(self) -> bool:
        """Whether that may be, as far as is known here."""
        return not (self.over or self._ended or self._closed_send or self._received or self._inbox)

    def expire(self) -> None:
        """Nothing has come for a while."""
        if self._waits_in_vain:
            self.link.engine.spawn(self._ask_kind)

    async def _ask_kind(self) -> None:
        request = self.request
        service, _, method = request.method.rpartition(".")
        describe = "duplex.reflection.describe"
        asked = Request(describe, describe, self.link.engine.default_codec, timeout=ASKING)
        try:
            described = await self.link.caller.unary(asked, (service, method), {})
            kind = described["methods"][0]["kind"]
        except (RPCError, LookupError, TypeError):
            return  # a peer need not say what it offers; then the caller waits, as it asked to
        # The other side may say anything, an array too, which is compared item by item.
        if isinstance(kind, str) and kind in ("unary", "client_streaming"):
            self._is_single = True
            self.wake_receiver()

    def check_can_receive(self) -> None:
        super().check_can_receive()
        if self._is_single and not self.over and not self._closed_send:
            raise self.returns_one()

    def returns_one(self) -> TypeError:
        """Return the error for who waits for items of a method that returns one value."""
        return TypeError(
            f"{self.method} returns one value: use `await call.result()`, or await the method itself"
        )

    @property
    def is_untouched(self) -> bool:
        """Whether no item has come, and none was sent or is about to be."""
        return not (self._received or self._inbox or self._sent or self._credit_waiters)

    @property
    def has_ended_sending(self) -> bool:
        """Whether the input stream was ended."""
        return self._closed_send

    def finish(self, error: RPCError | None) -> None:
        if self._timer is not None:
            cancel_timer(self._timer)
        if not self.over:
            self._count(0 if error is None else error.code)
        super().finish(error)

    def _count(self, status: int) -> None:
        peer = self.link.engine
        if peer.counting is not None and self.channel:
            seconds = peer.clock() - self.started if self.started else 0.0
            received = self.bytes_in
            if (closed := self.closed) is not None and closed.payload is not None:
                received += message_bytes(closed.payload, closed.attachments)
            sent = self.bytes_out + self._sending.cost
            peer.counting.made[self.method].ended(status, seconds, received, sent)

    def bad_item(self, error: DecodeError) -> RPCError:
        return blame(Internal(f"a result is not of the expected type: {error}"), self.method, self.link)

    def error_for_caller(self) -> RPCError:
        return blame(super().error_for_caller(), self.method, self.link)


@final
class OverflowingChannelEnd(OutgoingChannelEnd, Overflowing):
    """The channel end of a call with an overflow option."""

    __slots__ = ("overflow",)

    def __init__(self, link: CallHost, request: Request, policy: Overflow) -> None:
        super().__init__(link, request)
        self.overflow = OverflowState(policy, link.engine.limits.channel_window)

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def is_untouched(self) -> bool:
        return super().is_untouched and not self.overflow.queue

    def fail_receiving(self, error: ResourceExhausted) -> None:
        error.cancelled_by = "local"
        self.link.channels.cancel(self.channel, error.message)
        self.finish(error)


@final
class OutgoingCall(Channel[SendT, ReceiveT]):
    """A call that was opened: a channel to send arguments and receive results, and its end.

    Made by ``async with remote.method.open(...) as call``. Leaving the block cancels a call that goes on.
    """

    __slots__ = ("_call", "_make_again", "_note_success", "_value")

    def __init__(self, channel_end: OutgoingChannelEnd) -> None:
        self._call = channel_end
        self._value: Any = _NONE
        self._make_again: Callable[[RPCError], Awaitable[OutgoingCall[Any, Any]]] | None = None
        self._note_success: Callable[[], None] | None = None

    @property
    def method(self) -> str:
        """``service.method``."""
        return self._call.request.method

    @property
    def trailers(self) -> Metadata:
        """What came with the status; empty before the call has ended."""
        return {} if self._call.closed is None else self._call.closed.trailers

    @property
    def peer(self) -> str:
        """The name of the peer that was called."""
        return self._call.link.peer_name

    @property
    def link(self) -> PublicLink:
        """The link that the call takes."""
        return self._call.link.public

    async def __anext__(self) -> ReceiveT:
        call = self._call
        item: ReceiveT = call.receive_now()
        if item is not NOTHING:
            return item
        if not call.is_watched:
            call.watch()
        try:
            item = await call.receive_item()
        except trio.EndOfChannel:
            self._check_streams()
            self._has_succeeded()
            await call.wait_forwarded()
            raise StopAsyncIteration from None
        except RPCError as error:
            await self._failed(error)
            return await self.__anext__()
        self._has_succeeded()
        return item

    def _check_streams(self) -> None:
        call = self._call
        if call.result_message is not None or (call.closed is not None and call.closed.payload is not None):
            raise call.returns_one() from None

    async def receive(self) -> ReceiveT:
        """Return the next result. See :meth:`duplex.ReceiveChannel.receive`.

        Raises:
            TypeError: the method returns a single value: use :meth:`result`. Told at once if the caller's class says so;
                else the other side is asked when nothing has come for half a second, and a peer without reflection
                says nothing.
        """
        if not self._call.is_watched:
            self._call.watch()
        try:
            item: ReceiveT = await self._call.receive_item()
        except trio.EndOfChannel:
            self._check_streams()
            self._has_succeeded()
            await self._call.wait_forwarded()
            raise
        except RPCError as error:
            await self._failed(error)
            return await self.receive()
        self._has_succeeded()
        return item

    async def _failed(self, error: RPCError) -> None:
        """Raise the error that the call has failed with, or make it again, if it can be as if it had not been."""
        call = self._call
        await told_by_own(error, call.deadline)
        if self._make_again is None or not call.is_untouched:
            raise error
        try:
            made = await self._make_again(error)
        except RPCError:
            self._make_again = None  # that is how it has ended, also if it is asked again
            raise
        if call.has_ended_sending:
            made._call.end_now()
        self._call = made._call

    def _has_succeeded(self) -> None:
        if self._note_success is not None:
            self._note_success()
            self._note_success = None

    @trio.lowlevel.enable_ki_protection
    async def send(self, value: SendT) -> None:
        """Send one item of the method's input stream. See :meth:`duplex.SendChannel.send`."""
        try:
            if (rest := self._call.send_now(value)) is not None:
                await rest
        except RPCError as error:
            await told_by_own(error, self._call.deadline)
            raise

    async def send_eof(self) -> None:
        """End the input stream. Idempotent. See :meth:`duplex.SendChannel.send_eof`."""
        self._call.link.engine.check_thread()
        await trio.lowlevel.checkpoint()
        await self._call.send_queued()
        self._call.end_now()

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot: credit, items that wait, items that were dropped."""
        return self._call.statistics()

    async def result(self, *, end: bool = True) -> ReceiveT:
        """Wait for the call's single result and return it. May be asked again for the same value.

        After the end of a stream whose handler went on (it called ``send_eof``), this waits for the handler and
        returns ``None``. Cancelling it leaves the call as it is, but for the end of the input stream.

        Args:
            end: whether to end the input stream first, if that was not done. ``False`` is for a call on which
                another task still sends: that one ends the stream.

        Raises:
            RPCError: with the outcome of the call.
            TypeError: the method streams its results and they were not received.
        """
        call = self._call
        if self._value is not _NONE:
            await trio.lowlevel.checkpoint()
            return cast("ReceiveT", self._value)
        ChannelEnd.check_can_receive(call)  # a single result is what is asked for
        if end:
            call.end_now()
        try:
            message: Any = await self._wait_result()
        except RPCError as error:
            await self._failed(error)
            return await self.result(end=end)
        self._has_succeeded()
        if message is None:
            await call.wait_forwarded()
            return cast("ReceiveT", None)
        try:
            self._value = call.codec.decoder(call.request.result_type)(
                message.payload, message.attachments, call
            )
        except DecodeError as error:
            raise call.bad_item(error) from None
        await call.wait_forwarded()
        return cast("ReceiveT", self._value)

    async def _wait_result(self) -> ChannelClosed | MessageReceived | None:
        call = self._call
        while call.result_message is None and not call.over and not call.queued:
            with _until_woken(call):
                await wait_rescheduled(call._abort_receive)
        if call.result_message is not None:
            return call.result_message
        if call.error is not None:
            raise call.error_for_caller()
        if call.ended and not call.queued and call.closed is not None and call.closed.payload is None:
            return None
        if call.queued or call.closed is None or call.closed.payload is None:
            raise TypeError(f"{self.method} streams its results: iterate over the call instead")
        return call.closed

    def cancel(self, reason: str = "") -> None:
        """Abandon the call: the remote handler is cancelled, and what still comes is dropped. Idempotent."""
        call = self._call
        if not call.over:
            call.link.engine.check_thread()
            reason = as_text(reason)
            call.link.channels.cancel(call.channel, reason)
            error = error_for_status(1, reason or "cancelled by the caller")
            error.cancelled_by = "local"
            call.finish(error)
        call.drop_inbox()

    async def aclose(self) -> None:
        """Abandon the call if it goes on, and close both directions. Idempotent."""
        close_now(self)
        await trio.lowlevel.checkpoint()


# What the callers around a call need of it, and its user does not.


def close_now(call: OutgoingCall[Any, Any]) -> None:
    """Do what :meth:`OutgoingCall.aclose` does, without a checkpoint."""
    call.cancel()
    call._call.close_ends()


def ending_of(call: OutgoingCall[Any, Any]) -> tuple[bool, RPCError | None]:
    """Return whether the other side, or the link, has ended a call, and the error that it has ended with."""
    channel_end = call._call
    error = channel_end.error
    return channel_end.over and (error is None or error.cancelled_by != "local"), error


def with_retry(
    call: OutgoingCall[SendT, ReceiveT],
    make_again: Callable[[RPCError], Awaitable[OutgoingCall[Any, Any]]],
    note_success: Callable[[], None],
) -> OutgoingCall[SendT, ReceiveT]:
    """Return an object for the same call, which makes it again if it fails before anything came of it.

    Args:
        call: the first attempt.
        make_again: makes it after it has failed so, or raises the error.
        note_success: told once, when something has come or the call has succeeded.
    """
    retried = OutgoingCall[SendT, ReceiveT](call._call)
    retried._make_again = make_again
    retried._note_success = note_success
    return retried


_NONE: Final = object()


class _until_woken:
    """Make the task the channel end's waiting receiver for one wait."""

    __slots__ = ("_call",)

    def __init__(self, call: ChannelEnd) -> None:
        self._call = call

    def __enter__(self) -> None:
        if self._call._receiver is not None:
            raise trio.BusyResourceError("another task is receiving from this call")
        self._call._receiver = trio.lowlevel.current_task()

    def __exit__(self, *_: object) -> None:
        self._call._receiver = None
