"""Calls with one message each way."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import trio

from duplex._errors import DecodeError, Internal, RPCError
from duplex._status import StatusCode
from duplex.engine._counting import BOUNDS
from duplex.engine.calling._channel import open_channel
from duplex.engine.calling._outcome import blame, deadline_exceeded, outcome_error
from duplex.engine.calling._request import Request
from duplex.engine.calling._timers import Timer, cancel_timer
from duplex.engine.channels import CallValues, is_much_unread, message_bytes
from duplex.engine.threads import ABOUT, told_by_own
from duplex.protocol import (
    END,
    MESSAGE_OVERHEAD,
    UNARY,
    CancelReceived,
    ChannelClosed,
    ItemsReceived,
    MessageReceived,
)

if TYPE_CHECKING:
    from duplex.engine.calling._host import CallHost, Leadership


@final
class UnaryCall(CallValues):
    """A call with one message each way, while it is under way: as little as can be."""

    __slots__ = (
        "_request",
        "_result",
        "_task",
        "_timeout",
        "_timer",
        "_took_channels",
        "_waits_for_turn",
        "started",
    )

    link: CallHost  # type: ignore[mutable-override]  # set once, in __init__
    opener = True
    delays_drain = True
    is_value = False
    outlives_link = False
    queued = 0

    def __init__(self, link: CallHost, request: Request) -> None:
        CallValues.__init__(self)  # not super(), as in ChannelEnd
        self.link = link
        self.channel = 0
        self.over = False
        self.started = 0.0
        #: Whether channels were passed, which belong to this call from then on.
        self._took_channels = False
        self._timeout: float | None = None
        self._timer: Timer | None = None
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

    def ensure_open(self) -> int:
        """The arguments hold a live value, so the channel comes first and they follow in a message."""
        if not self.channel:
            self._timeout = self._request.time_left()
            self.channel = open_channel(self.link, self, self._request, self._timeout, flags=UNARY)
        return self.channel

    def expire(self) -> None:
        """The call's own time limit has passed."""
        if self._result is None:
            sent = bool(self.channel)
            if sent:
                self.link.channels.cancel(self.channel, "the deadline passed")
            self._result = self._too_late(sent=sent)
            self._wake()

    def _too_late(self, *, sent: bool) -> RPCError:
        return deadline_exceeded(self.method, self._request.timeout, self.link, sent=sent)

    def keep_time(self, deadline: float) -> None:
        """Let the call expire at its deadline; :meth:`run` is to follow at once."""
        self._timer = self.link.engine.timers.add(deadline, self)

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
                self._took_channels = not all(isinstance(one, int) for one in self.commit_exports())
            else:
                timeout = self._timeout = request.time_left()
                self.channel = open_channel(link, self, request, timeout, payload, attachments, END | UNARY)
            self.started = link.now
            if link.lead is not None and link.lead.is_vacant:
                await self._receive(link.lead)
            if self._result is None:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            result = self._take_result()
            if (counting := link.engine.counting) is not None:
                # As MethodCounts.ended() does.
                counts = counting.made[request.method]
                counts.buckets[bisect_left(BOUNDS, link.now - self.started)] += 1
                answer: Any = self._result  # a ChannelClosed with a payload, or there would be no result
                counts.received += len(answer.payload) + MESSAGE_OVERHEAD
                counts.sent += len(payload) + MESSAGE_OVERHEAD
                if attachments or answer.attachments:
                    counts.received += message_bytes(b"", answer.attachments) - MESSAGE_OVERHEAD
                    counts.sent += message_bytes(b"", attachments) - MESSAGE_OVERHEAD
            if self._children is not None:
                await self._wait_forwarded()
            return result
        except RPCError as error:
            self._count(error.code)
            self.abandon(str(error))
            blame(error, request.method, link)
            error._took_channels = self._took_channels
            if not self.channel:
                # Nothing was waited for, and a task that tries again and again must let others run.
                await trio.lowlevel.checkpoint()
            elif self.close_received is not None:
                await told_by_own(error, self.deadline)
            raise
        except BaseException as error:
            if isinstance(error, trio.Cancelled):
                self._count(StatusCode.CANCELLED)
            self.abandon("cancelled")
            raise
        finally:
            self.over = True
            if self._timer is not None:
                cancel_timer(self._timer)
            if self._fresh is not None:
                self.revoke_exports()
            if self._exports is not None or self._children is not None:
                self.release()

    def _count(self, status: int) -> None:
        """Count a call that has failed, if it was sent."""
        peer = self.link.engine
        if self.channel and peer.counting is not None:
            seconds = peer.clock() - self.started if self.started else 0.0
            peer.counting.made[self.method].ended(status, seconds, 0, 0)

    async def _receive(self, lead: Leadership) -> None:
        """Receive from the link's port until the outcome has come; see :mod:`duplex.engine.tasks._leader`."""
        lead.claim()
        try:
            while True:
                self._waits_for_turn = True
                await lead.wait_turn()
                self._waits_for_turn = False
                # It may be the call's own deadline that has ended the wait.
                if self._result is not None or not lead.take() or self._result is not None:
                    return
        finally:
            self._waits_for_turn = False
            lead.give_up(alone=not self.link.channels.users)

    async def _wait_forwarded(self) -> None:
        if self._timer is None:
            await self.wait_forwarded()
            return
        with trio.CancelScope(deadline=self._timer[0]):
            await self.wait_forwarded()
            return
        raise self._too_late(sent=True)

    def _take_result(self) -> Any:
        result = self._result
        if type(result) is ChannelClosed:
            if result.status:
                if result.status == StatusCode.DEADLINE_EXCEEDED and self._is_own_time_over:
                    raise self._too_late(sent=True)
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
        return self._timer is not None and self._timer[0] - self.link.engine.clock() <= ABOUT

    def abandon(self, reason: str) -> None:
        """Cancel the call if it is still under way."""
        if self.channel and self._result is None:
            self.link.channels.cancel(self.channel, reason)

    @property
    def has_outcome(self) -> bool:
        """Whether it is known how the call ended."""
        return self._result is not None

    @property
    def waiting_senders(self) -> int:
        """How many tasks wait for credit."""
        return int(self in self.link.credit.waiters)

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)
        elif self._waits_for_turn:
            self.link.turns.probe()

    async def wait_credit(self, *, result: bool) -> None:
        """Wait until link credit comes, or the link is lost."""
        if (counting := self.link.engine.counting) is not None:
            counting.waits(self)
        waiters = self.link.credit.waiters
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
        if link.lead is not None and not link.channels.users:
            link.lead.note_idle_caller()
        self._wake()

    def on_message(self, event: MessageReceived) -> None:
        """A message where none was expected: see :meth:`_take_result`."""
        self.link.channels.cancel(self.channel, "the caller expected a single result in CLOSE")
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
        if self in self.link.credit.waiters:
            self._wake()

    def on_cancelled(self, event: CancelReceived) -> None:
        """Not for an opener."""
        raise AssertionError("only a responder's channel is cancelled by the other side")  # pragma: no cover

    def on_lost(self, error: RPCError) -> None:
        """The link is gone."""
        self._result = error
        self._wake()

    def cut(self, status: StatusCode, message: str, *, resumable: bool = False) -> None:
        """See :meth:`duplex.engine.channels._user.ChannelUser.cut`: this side makes the call."""
