"""Calls from this side: unary ones as one await, all others as an :class:`OutgoingCall`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import msgspec
import trio

from duplex._config import Overflow
from duplex._errors import (
    DeadlineExceeded,
    DecodeError,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    RPCError,
    Unavailable,
    Unknown,
    error_for_status,
)
from duplex._metadata import Metadata, read_retry_after
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._conversation import Conversation
from duplex.engine._deadlines import remaining, thread_call
from duplex.engine._live import CallValues
from duplex.engine._overflow import Overflowing, OverflowState
from duplex.engine._types import Callback, Channel, ChannelStatistics
from duplex.protocol import END, NOTIFY, UNARY, CancelReceived, ChannelClosed, MessageReceived

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink
    from duplex.engine._nested import NestedChannel

SendT = TypeVar("SendT", contravariant=True)
ReceiveT = TypeVar("ReceiveT", covariant=True)


@final
class Request(msgspec.Struct, frozen=True):
    """What is to be called and how, whatever the kind of call."""

    #: ``service.method``, or the number of a callback.
    target: str | int
    #: For error messages.
    method: str
    codec: Codec
    #: The type of the result, or of each item.
    result_type: Any = Any
    #: Seconds, beside the deadline of the trio cancel scopes around the call.
    timeout: float | None = None
    metadata: Metadata | None = None
    parent: int | None = None
    #: What becomes of items when a window is full; ``None``: senders wait.
    overflow: Overflow | None = None

    @property
    def codec_name(self) -> str | None:
        """The codec as ``OPEN`` names it."""
        name = self.codec.name
        return None if name == "msgpack" else name


#: Who ended a call that ended with these statuses.
_CUT_SHORT_BY: Final = {int(StatusCode.CANCELLED): "remote", int(StatusCode.DEADLINE_EXCEEDED): "deadline"}


def outcome_error(event: ChannelClosed, codec: Codec) -> RPCError:
    """Return the error that a status other than OK stands for."""
    details: Any = None
    if event.details is not None:
        try:
            details = codec.decoder(Any)(event.details, (), None)
        except DecodeError:
            details = None
    error = error_for_status(event.status, event.message, details)
    error.metadata = event.trailers
    if event.trailers:
        error.retry_after = read_retry_after(event.trailers)
    error.may_have_executed = event.may_have_executed
    error.cancelled_by = _CUT_SHORT_BY.get(event.status)
    if isinstance(details, dict) and isinstance(details.get("traceback"), str):
        error.add_note(f"Remote traceback:\n{details['traceback']}")
    return error


def _blame(error: RPCError, request: Request, link: BaseLink) -> RPCError:
    error.method = request.method
    error.peer = link.peer_name
    return error


@final
class UnaryCall(CallValues):
    """A call with one message each way, while it is under way: as little as can be."""

    __slots__ = ("_request", "_result", "_task", "_timeout", "passed_channels", "started")

    opener = True
    holds_up = True

    def __init__(self, link: BaseLink, request: Request) -> None:
        super().__init__()
        self.link = link
        self.channel = 0
        self.over = False
        self.started = 0.0
        self.passed_channels = False
        self._timeout: float | None = None
        self._request = request
        self._task: trio.lowlevel.Task | None = None
        self._result: ChannelClosed | MessageReceived | RPCError | None = None

    @property
    def method(self) -> str:
        """``service.method``, or which callback it is."""
        return self._request.method

    @property
    def deadline(self) -> float | None:
        """When the call has to end; ``None`` without a deadline, or before the call was sent."""
        return None if self._timeout is None else self.started + self._timeout

    def adopt(self, child: NestedChannel) -> None:
        """See :meth:`CallValues.adopt`."""
        self.passed_channels = True
        super().adopt(child)

    def ensure_open(self) -> int:
        """The arguments hold a live value, so the channel comes first and they follow in a message."""
        if not self.channel:
            request = self._request
            self._timeout = remaining()
            self.channel = self.link.open_channel(
                self,
                request.target,
                flags=UNARY,
                timeout=self._timeout,
                metadata=request.metadata,
                parent=request.parent,
                codec=request.codec_name,
            )
        return self.channel

    async def run(self, positional: Sequence[Any], keyword: Mapping[str, Any]) -> Any:
        """Make the call and return its result."""
        link = self.link
        request = self._request
        codec = request.codec
        try:
            payload, attachments = codec.encode_arguments(positional, keyword, self)
            if link.connection.link_credit <= 0:
                await link.wait_link_credit(self)
            if self._result is not None:
                return self._take_result()
            if self.channel:
                link.connection.send(self.channel, payload, attachments, END)
                link.touch()
                self.commit_exports()
            else:
                self._timeout = remaining()
                self.channel = link.open_channel(
                    self,
                    request.target,
                    payload=payload,
                    attachments=attachments,
                    flags=END | UNARY,
                    timeout=self._timeout,
                    metadata=request.metadata,
                    parent=request.parent,
                    codec=request.codec_name,
                )
            self.started = link.now
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            result = self._take_result()
            if self._children is not None:
                await self.wait_forwarded()
            return result
        except RPCError as error:
            self.abandon(str(error))
            _blame(error, request, link)
            raise
        except BaseException:
            self.abandon("cancelled")
            raise
        finally:
            self.over = True
            if self._fresh is not None:
                self.revoke_exports()
            self.release()

    def _take_result(self) -> Any:
        result = self._result
        if type(result) is ChannelClosed:
            if result.status:
                raise outcome_error(result, self._request.codec)
            if result.payload is None:
                raise TypeError(
                    f"{self._request.method} streams its results: use `async with ....open(...)` on it"
                )
            try:
                return self._request.codec.decoder(self._request.result_type)(
                    result.payload, result.attachments, self
                )
            except DecodeError as error:
                raise Internal(f"the result is not of the expected type: {error}") from None
        if isinstance(result, RPCError):
            raise result
        raise TypeError(
            f"{self._request.method} returns a callback or a channel, which live as long as the call: use "
            f"`async with ....open(...) as call` and `await call.result()` on it"
        )

    def abandon(self, reason: str) -> None:
        """Cancel the call if it is still under way."""
        if self.channel and self._result is None:
            self.link.cancel_channel(self.channel, reason)

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how the call ended."""
        return self._result is not None

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait_credit(self) -> None:
        """Wait until link credit comes, or the link is lost."""
        waiters = self.link.credit_waiters
        waiters[self] = None
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            waiters.pop(self, None)

    def on_closed(self, event: ChannelClosed) -> None:
        """The result, or the error."""
        self._result = event
        self._wake()

    def on_message(self, event: MessageReceived) -> None:
        """A message where none was expected: see :meth:`_take_result`."""
        self.link.cancel_channel(self.channel, "the caller expected a single result in CLOSE")
        self._result = event
        self._wake()

    def on_end(self) -> None:
        """Nothing to do: CLOSE follows."""

    def on_credit(self) -> None:
        """Link credit came."""
        if self in self.link.credit_waiters:
            self._wake()

    def on_cancelled(self, event: CancelReceived) -> None:
        """Not for an opener."""
        raise AssertionError("only a responder's channel is cancelled by the other side")  # pragma: no cover

    def on_lost(self, error: RPCError) -> None:
        """The link is gone."""
        self._result = error
        self._wake()


async def call_unary(
    link: BaseLink,
    request: Request,
    positional: Sequence[Any],
    keyword: Mapping[str, Any],
    again: Callable[..., Awaitable[Any]] | None = None,
) -> Any:
    """Make a unary call and return its result.

    Args:
        link: the link that the call takes.
        request: what is called.
        positional: its arguments by position.
        keyword: its arguments by name.
        again: makes the call anew, over whichever link there is then, if this one turns out to have been
            unusable before anything was executed. Called with the arguments, at most once.

    Raises ``RPCError`` with the outcome; ``EncodeError`` if an argument cannot travel. Cancelling it cancels
    the remote handler.
    """
    call = UnaryCall(link, request)
    try:
        if request.timeout is None and thread_call.get() is None:
            return await call.run(positional, keyword)
        return await _run_within(time_limit(request.timeout), call, link, request, positional, keyword)
    except Unavailable as error:
        # Channels that were passed belong to the failed attempt.
        if again is None or error.may_have_executed or call.passed_channels:
            raise
    return await again(positional, keyword)


async def _run_within(
    timeout: float | None,
    call: UnaryCall,
    link: BaseLink,
    request: Request,
    positional: Sequence[Any],
    keyword: Mapping[str, Any],
) -> Any:
    """Make a unary call that has a time limit of its own, in seconds."""
    if timeout is None:
        return await call.run(positional, keyword)
    if timeout <= 0:
        await trio.lowlevel.checkpoint()
        raise deadline_exceeded(request, timeout, link, sent=False)
    with trio.CancelScope(deadline=trio.current_time() + timeout):
        return await call.run(positional, keyword)
    raise deadline_exceeded(request, timeout, link, sent=bool(call.channel))


def time_limit(timeout: float | None) -> float | None:
    """Return the seconds that a call may take beside what trio's scopes allow: its own timeout, and, made by
    a thread that serves a call, what remains of that one's deadline."""
    serving = thread_call.get()
    return timeout if serving is None else serving.limit(timeout)


def deadline_exceeded(
    request: Request, timeout: float, link: BaseLink | None = None, *, sent: bool
) -> DeadlineExceeded:
    """Return the error for a call whose own time limit passed.

    Args:
        request: what was called.
        timeout: the limit in seconds.
        link: the link that it took, if there was one.
        sent: whether the other side may have learned of it.
    """
    text = f"the call did not end within {timeout:g} s"
    if not sent:
        text += ", and was not sent"
    elif link is not None and link.watch.is_slow:
        unanswered = link.connection.unanswered_for(trio.current_time()) or 0.0
        text += f"; its peer is slow: it has not answered a ping for {unanswered:.1f} s"
    error = DeadlineExceeded(text)
    error.method = request.method
    error.peer = None if link is None else link.peer_name
    error.cancelled_by = "deadline"
    error.may_have_executed = sent
    return error


async def notify(
    link: BaseLink, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any]
) -> None:
    """Call a method without waiting for, or learning of, its outcome.

    Returns when the call is queued on the link, which may mean waiting for credit.
    """
    link.peer.check_thread()
    call = UnaryCall(link, request)
    try:
        payload, attachments = request.codec.encode_arguments(positional, keyword, None)
        await trio.lowlevel.checkpoint()
        await link.wait_link_credit(call)
        link.open_channel(
            call,
            request.target,
            payload=payload,
            attachments=attachments,
            flags=END | NOTIFY,
            timeout=remaining(),
            metadata=request.metadata,
            parent=request.parent,
            codec=request.codec_name,
        )
    except RPCError as error:
        _blame(error, request, link)
        raise


class _OutgoingConversation(Conversation):
    """The channel under an :class:`OutgoingCall`."""

    __slots__ = ("closed", "ended", "request", "result_message", "timeout")

    opener = True

    def __init__(self, link: BaseLink, request: Request) -> None:
        super().__init__(link, 0, request.codec, request.result_type)
        self.request = request
        self.closed: ChannelClosed | None = None
        self.timeout: float | None = None
        self.result_message: MessageReceived | None = None
        #: The other side ended its direction, before it closed the call.
        self.ended = False

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.request.method

    @property
    def deadline(self) -> float | None:
        """See :attr:`UnaryCall.deadline`."""
        return None if self.timeout is None else self.started + self.timeout

    def on_end(self) -> None:
        self.ended = True
        super().on_end()

    def ensure_open(self) -> int:
        if not self.channel:
            request = self.request
            self.timeout = remaining()
            self.channel = self.link.open_channel(
                self,
                request.target,
                timeout=self.timeout,
                metadata=request.metadata,
                parent=request.parent,
                codec=request.codec_name,
            )
        return self.channel

    def on_message(self, event: MessageReceived) -> None:
        if event.result and self.result_message is None:
            self.result_message = event
            self._ended = True
            self.link.consumed(self.channel, event.cost)
            self.wake_receiver()
        else:
            super().on_message(event)

    def on_closed(self, event: ChannelClosed) -> None:
        self.closed = event
        self.finish(outcome_error(event, self.codec) if event.status else None)

    def bad_item(self, error: DecodeError) -> RPCError:
        return _blame(Internal(f"a result is not of the expected type: {error}"), self.request, self.link)

    def error_for_caller(self) -> RPCError:
        return _blame(super().error_for_caller(), self.request, self.link)


@final
class _OverflowingConversation(_OutgoingConversation, Overflowing):
    """The same for a call with an overflow option."""

    __slots__ = ("overflow",)

    def __init__(self, link: BaseLink, request: Request, policy: Overflow) -> None:
        super().__init__(link, request)
        self.overflow = OverflowState(policy, link.peer.limits.channel_window)

    @property
    def method(self) -> str:
        return self.request.method

    def fail_receiving(self, error: ResourceExhausted) -> None:
        error.cancelled_by = "local"
        self.link.cancel_channel(self.channel, error.message)
        self.finish(error)


@final
class OutgoingCall(Channel[SendT, ReceiveT]):
    """A call that was opened: a channel to send arguments and receive results, and its end.

    Made by ``async with remote.method.open(...) as call``. Leaving the block cancels a call that goes on.
    """

    __slots__ = ("_call", "_value")

    def __init__(self, conversation: _OutgoingConversation) -> None:
        self._call = conversation
        self._value: Any = _NONE

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
    def link(self) -> BaseLink:
        """The link that the call takes."""
        return self._call.link

    async def __anext__(self) -> ReceiveT:
        try:
            item: ReceiveT = await self._call.receive_item()
        except trio.EndOfChannel:
            self._check_streams()
            raise StopAsyncIteration from None
        return item

    def _check_streams(self) -> None:
        call = self._call
        if call.result_message is not None or (call.closed is not None and call.closed.payload is not None):
            raise TypeError(
                f"{self.method} returns one value: use `await call.result()`, or await the method itself"
            ) from None

    async def receive(self) -> ReceiveT:
        """Return the next result. See :meth:`duplex.ReceiveChannel.receive`.

        Raises:
            TypeError: the method returns a single value: use :meth:`result`.
        """
        try:
            item: ReceiveT = await self._call.receive_item()
        except trio.EndOfChannel:
            self._check_streams()
            raise
        return item

    async def send(self, value: SendT) -> None:
        """Send one item of the method's input stream. See :meth:`duplex.SendChannel.send`."""
        await self._call.send_item(value)

    async def send_eof(self) -> None:
        """End the input stream. Idempotent. See :meth:`duplex.SendChannel.send_eof`."""
        await trio.lowlevel.checkpoint()
        await self._call.send_queued()
        self._call.end_now()

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot: credit, items that wait, items that were dropped."""
        return self._call.statistics()

    async def result(self) -> ReceiveT:
        """End the input stream if that was not done, wait for the call's single result and return it.

        May be asked again for the same value. After the end of a stream whose handler went on (it called
        ``send_eof``), this waits for the handler and returns ``None``. Raises ``RPCError`` with the outcome,
        and ``TypeError`` if the method streams its results and they were not received.
        """
        call = self._call
        if self._value is not _NONE:
            await trio.lowlevel.checkpoint()
            return cast("ReceiveT", self._value)
        call.check_can_receive()
        call.end_now()
        message: Any = await self._wait_result()
        if message is None:
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
                await trio.lowlevel.wait_task_rescheduled(call._abort_receive)
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
            call.link.cancel_channel(call.channel, reason)
            error = error_for_status(1, reason or "cancelled by the caller")
            error.cancelled_by = "local"
            call.finish(error)
        call.drop_inbox()

    async def aclose(self) -> None:
        """Abandon the call if it goes on, and close both directions. Idempotent."""
        self.close_now()
        await trio.lowlevel.checkpoint()

    def close_now(self) -> None:
        """The same as :meth:`aclose`, without a checkpoint."""
        self.cancel()
        self._call.close_ends()


_NONE: Final = object()


class _until_woken:
    """Make the task the conversation's waiting receiver for one wait."""

    __slots__ = ("_call",)

    def __init__(self, call: Conversation) -> None:
        self._call = call

    def __enter__(self) -> None:
        if self._call._receiver is not None:
            raise trio.BusyResourceError("another task is receiving from this call")
        self._call._receiver = trio.lowlevel.current_task()

    def __exit__(self, *_: object) -> None:
        self._call._receiver = None


@final
class OpenCall:
    """The context manager that ``method.open(...)`` returns."""

    __slots__ = ("_call", "_keyword", "_pick", "_positional", "_request", "_scope", "_timeout")

    def __init__(
        self,
        pick: Callable[[], Awaitable[BaseLink]],
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> None:
        self._pick = pick
        self._request = request
        self._positional = positional
        self._keyword = keyword
        self._call: OutgoingCall[Any, Any] | None = None
        self._scope: trio.CancelScope | None = None
        self._timeout: float | None = None

    async def __aenter__(self) -> OutgoingCall[Any, Any]:
        if self._call is not None:
            raise RuntimeError("open() gives a context manager for one use; call it again for another call")
        request = self._request
        self._timeout = time_limit(request.timeout)
        if self._timeout is not None:
            self._scope = trio.CancelScope(deadline=trio.current_time() + self._timeout)
            self._scope.__enter__()
        try:
            link: BaseLink = await self._pick()
            self._call = await self._open(link)
        except BaseException as error:
            scope, self._scope = self._scope, None
            if scope is not None and scope.__exit__(type(error), error, error.__traceback__):
                assert self._timeout is not None
                raise deadline_exceeded(request, self._timeout, sent=False) from None
            raise
        return self._call

    async def _open(self, link: BaseLink) -> OutgoingCall[Any, Any]:
        request = self._request
        if request.overflow is None:
            call = _OutgoingConversation(link, request)
        else:
            call = _OverflowingConversation(link, request, request.overflow)
        try:
            payload, attachments = request.codec.encode_arguments(self._positional, self._keyword, call)
            await trio.lowlevel.checkpoint_if_cancelled()
            await link.wait_link_credit(call)
            if call.over:
                call.revoke_exports()  # it was refused already; whoever uses the call learns how
            elif call.channel:
                link.connection.send(call.channel, payload, attachments)
                link.touch()
                call.commit_exports()
            else:
                call.timeout = remaining()
                call.channel = link.open_channel(
                    call,
                    request.target,
                    payload=payload,
                    attachments=attachments,
                    timeout=call.timeout,
                    metadata=request.metadata,
                    parent=request.parent,
                    codec=request.codec_name,
                )
            call.started = link.now
        except BaseException as error:
            if call.channel and not call.over:
                link.cancel_channel(call.channel, "the call could not be opened")
            call.revoke_exports()
            call.finish(Unknown("the call could not be opened"))
            if isinstance(error, RPCError):
                _blame(error, request, link)
            raise
        return OutgoingCall(call)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._call is not None
        self._call.close_now()
        scope = self._scope
        if scope is not None:
            # Swallows only the cancellation that it made itself.
            scope.__exit__(exc_type, exc, traceback)
            if scope.cancelled_caught:
                assert self._timeout is not None
                raise deadline_exceeded(self._request, self._timeout, self._call.link, sent=True) from None


@final
class RemoteCallback(Callback[..., Any]):
    """A function of the other peer; see :class:`Callback`."""

    __slots__ = ("_conversation", "_link", "_number", "_result_type")

    def __init__(self, link: BaseLink, number: int, conversation: CallValues) -> None:
        self._link = link
        self._number = number
        self._conversation = conversation
        self._result_type: Any = Any

    def _set_type(self, result_type: Any) -> None:
        self._result_type = result_type

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function where it lives and return what it returns."""
        if self._conversation.over:
            await trio.lowlevel.checkpoint()
            raise FailedPrecondition("this callback's call is over, and the callback with it")
        request = Request(
            self._number,
            f"callback {self._number}",
            self._link.peer.default_codec,
            self._result_type,
            parent=self._conversation.channel,
        )
        return await call_unary(self._link, request, args, kwargs)
