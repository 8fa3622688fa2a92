"""Calls with one message each way, and functions of the other side, which are called so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import trio

from duplex._errors import (
    DecodeError,
    EncodeError,
    FailedPrecondition,
    Internal,
    RPCError,
    Unavailable,
)
from duplex._status import StatusCode
from duplex.codec._base import LiveKind
from duplex.engine._deadlines import ABOUT, in_thread, remaining, told_by_own
from duplex.engine._live import FUNCTIONS, CallValues
from duplex.engine._threads import wait_in_thread
from duplex.engine._types import Callback
from duplex.engine._unread import is_much_unread
from duplex.engine.calling._timers import Timer, cancel_timer
from duplex.protocol import END, NOTIFY, UNARY, CancelReceived, ChannelClosed, ItemsReceived, MessageReceived

if TYPE_CHECKING:
    from duplex.engine._lead import Lead
    from duplex.engine._link import BaseLink
    from duplex.engine._nested import NestedChannel
from duplex.engine._runs import check_run
from duplex.engine.calling._request import Request, blame, deadline_exceeded, outcome_error, time_limit


@final
class UnaryCall(CallValues):
    """A call with one message each way, while it is under way: as little as can be."""

    __slots__ = (
        "_timer",
        "_limit",
        "_request",
        "_result",
        "_task",
        "_timeout",
        "_waits_for_turn",
        "passed_channels",
        "started",
    )

    opener = True
    holds_up = True
    is_value = False
    queued = 0

    def __init__(self, link: BaseLink, request: Request) -> None:
        super().__init__()
        self.link = link
        self.channel = 0
        self.over = False
        self.started = 0.0
        self.passed_channels = False
        self._timeout: float | None = None
        self._timer: Timer | None = None
        self._limit = 0.0
        self._request = request
        self._task: trio.lowlevel.Task | None = None
        self._waits_for_turn = False
        self._result: ChannelClosed | MessageReceived | RPCError | None = None

    @property
    def method(self) -> str:
        """``service.method``, or which callback it is."""
        return self._request.method

    @property
    def close_received(self) -> ChannelClosed | None:
        """See :attr:`CallValues.close_received`."""
        return self._result if type(self._result) is ChannelClosed else None

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
            self._timeout = self._time_left()
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

    def _time_left(self) -> float | None:
        """Return the seconds until the deadline of the scopes around the call, or its own if that is sooner."""
        left = remaining()
        if self._timer is None:
            return left
        own: float = max(0.0, self._timer[0] - self.link.peer.clock())
        return own if left is None or own < left else left

    def expire(self) -> None:
        """The call's own time limit has passed."""
        if self._result is None:
            sent = bool(self.channel)
            if sent:
                self.link.cancel_channel(self.channel, "the deadline passed")
            self._result = deadline_exceeded(self._request, self._limit, self.link, sent=sent)
            self._wake()

    def limit(self, timeout: float, now: float) -> None:
        """Give the call a time limit of its own, in seconds from now on; :meth:`run` is to follow at once."""
        self._limit = timeout
        self._timer = self.link.peer.timers.add(now + timeout, self)

    @trio.lowlevel.enable_ki_protection
    async def run(self, positional: Sequence[Any], keyword: Mapping[str, Any]) -> Any:
        """Make the call and return its result."""
        link = self.link
        request = self._request
        codec = request.codec
        try:
            payload, attachments = codec.encode_arguments(positional, keyword, self)
            if link.connection.link_credit <= 0 or (request.metadata and is_much_unread(link)):
                await link.wait_link_credit(self)
            if self._result is not None:
                return self._take_result()
            if self.channel:
                link.connection.send(self.channel, payload, attachments, END)
                link.touch()
                self.commit_exports()
            else:
                self._timeout = self._time_left()
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
            if link.lead is not None and link.lead.is_vacant:
                await self._receive(link.lead)
            if self._result is None:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            result = self._take_result()
            if self._children is not None:
                await self._wait_forwarded()
            return result
        except RPCError as error:
            self.abandon(str(error))
            blame(error, request, link)
            if not self.channel:
                # Nothing was waited for, and whoever tries again and again must let others run.
                await trio.lowlevel.checkpoint()
            elif self.close_received is not None:
                await told_by_own(error, self.deadline)
            raise
        except BaseException:
            self.abandon("cancelled")
            raise
        finally:
            self.over = True
            if self._timer is not None:
                cancel_timer(self._timer)
            if self._fresh is not None:
                self.revoke_exports()
            self.release()

    async def _receive(self, lead: Lead) -> None:
        """Receive from the link's port until the outcome has come; see :mod:`duplex.engine._lead`."""
        lead.is_vacant = False
        turns = lead.turns
        try:
            while True:
                if not lead.is_turn_due:
                    lead.is_turn_due = True
                    self._waits_for_turn = True
                    if lead.backlog:
                        await trio.lowlevel.checkpoint()
                    else:
                        await turns.wait()
                    self._waits_for_turn = False
                # It may be the call's own deadline that has ended the wait.
                if self._result is not None or not lead.take() or self._result is not None:
                    return
        finally:
            self._waits_for_turn = False
            lead.give_up(alone=not self.link.conversations)

    async def _wait_forwarded(self) -> None:
        if self._timer is None:
            await self.wait_forwarded()
            return
        with trio.CancelScope(deadline=self._timer[0]):
            await self.wait_forwarded()
            return
        raise deadline_exceeded(self._request, self._limit, self.link, sent=True)

    def _take_result(self) -> Any:
        result = self._result
        if type(result) is ChannelClosed:
            if result.status:
                if result.status == StatusCode.DEADLINE_EXCEEDED and self._is_own_time_over:
                    raise deadline_exceeded(self._request, self._limit, self.link, sent=True)
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
        if isinstance(self._request.target, int):
            # A callback's caller did not choose how to call it, so the fault is the other side's.
            raise Internal("the callback did not answer with a single result")
        raise TypeError(
            f"{self._request.method} returns a callback or a channel, which live as long as the call: use "
            f"`async with ....open(...) as call` and `await call.result()` on it"
        )

    @property
    def _is_own_time_over(self) -> bool:
        return self._timer is not None and self._timer[0] - self.link.peer.clock() <= ABOUT

    def abandon(self, reason: str) -> None:
        """Cancel the call if it is still under way."""
        if self.channel and self._result is None:
            self.link.cancel_channel(self.channel, reason)

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how the call ended."""
        return self._result is not None

    @property
    def waiting_senders(self) -> int:
        """How many tasks wait for credit."""
        return int(self in self.link.credit_waiters)

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)
        elif self._waits_for_turn:
            self.link.port.probe()

    async def wait_credit(self, *, result: bool) -> None:
        """Wait until link credit comes, or the link is lost."""
        waiters = self.link.credit_waiters
        waiters[self] = result
        self._task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            waiters.pop(self, None)

    def on_closed(self, event: ChannelClosed) -> None:
        """The result, or the error."""
        self._result = event
        link = self.link
        if link.lead is not None and not link.conversations:
            link.lead.has_idle_caller = True
        self._wake()

    def on_message(self, event: MessageReceived) -> None:
        """A message where none was expected: see :meth:`_take_result`."""
        self.link.cancel_channel(self.channel, "the caller expected a single result in CLOSE")
        self._result = event
        self._wake()

    on_result = on_message

    def on_items(self, event: ItemsReceived) -> None:
        """See :meth:`on_message`."""
        self.on_message(event.messages()[0])

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

    def cut(self, status: StatusCode, message: str, *, resumable: bool = False) -> None:
        """See :meth:`duplex.engine._table.ChannelUser.cut`: this side makes the call."""


async def call_unary(
    link: BaseLink,
    request: Request,
    positional: Sequence[Any],
    keyword: Mapping[str, Any],
    again: Callable[[Any, Any, float | None], Awaitable[Any]] | None = None,
) -> Any:
    """Make a unary call and return its result.

    Args:
        link: the link that the call takes.
        request: what is called.
        positional: its arguments by position.
        keyword: its arguments by name.
        again: makes the call anew, over whichever link there is then, if this one turns out to have been
            unusable before anything was executed. Called, at most once, with the arguments and the time by which
            the request's own timeout has passed.

    Raises ``RPCError`` with the outcome; ``EncodeError`` if an argument cannot travel. Cancelling it cancels
    the remote handler.
    """
    call = UnaryCall(link, request)
    deadline = None
    try:
        threads = in_thread.get()
        if request.timeout is None and threads is None:
            return await call.run(positional, keyword)
        now = link.peer.clock()
        if request.timeout is not None:
            deadline = now + request.timeout
        timeout = time_limit(request.timeout)
        if timeout is not None:
            if timeout <= 0:
                await trio.lowlevel.checkpoint()
                raise deadline_exceeded(request, timeout, link, sent=False)
            call.limit(timeout, now)
        if threads is None:
            return await call.run(positional, keyword)
        return await wait_in_thread(threads, call.run(positional, keyword))
    except Unavailable as error:
        # Channels that were passed belong to the failed attempt.
        if again is None or error.may_have_executed or call.passed_channels:
            raise
    return await again(positional, keyword, deadline)


@final
class _NotifiedValues:
    """What a codec has to know of a notification, which is over at once: no callback or channel goes with it."""

    __slots__ = ("max_attachments", "max_elements")

    def __init__(self, link: BaseLink) -> None:
        self.max_attachments = link.connection.max_attachments
        self.max_elements = 0  # nothing is decoded

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        if isinstance(value, (*FUNCTIONS, trio.abc.SendChannel, trio.abc.ReceiveChannel)):
            raise EncodeError(
                "functions and channels travel only while a call lives, and a notification's does not"
            )
        return None

    def import_(self, kind: LiveKind, number: int) -> Any:
        raise NotImplementedError("arguments are only encoded")  # pragma: no cover

    def adapt(self, value: Any, annotation: Any) -> Any:
        raise NotImplementedError("arguments are only encoded")  # pragma: no cover


async def notify(
    link: BaseLink, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any]
) -> None:
    """Call a method without waiting for, or learning of, its outcome.

    Returns when the call is queued on the link, which may mean waiting for credit.
    """
    link.peer.check_thread()
    check_run()
    call = UnaryCall(link, request)
    try:
        payload, attachments = request.codec.encode_arguments(positional, keyword, _NotifiedValues(link))
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
        blame(error, request, link)
        raise


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
