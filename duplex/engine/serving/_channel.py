"""The channel of a call that this peer serves: what the link says becomes the run's, and the run's outcome an answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import trio

from duplex._errors import CallCancelled, InvalidArgument, ResourceExhausted, RPCError
from duplex._status import StatusCode
from duplex.codec._base import Buffer, Codec
from duplex.engine._counting import BOUNDS, MethodCounts
from duplex.engine._failure import Failure, report_last
from duplex.engine._handler import Handler
from duplex.engine._peer_info import PeerInfo
from duplex.engine.channels import (
    BothEnds,
    ChannelEnd,
    Child,
    Overflowing,
    OverflowState,
    ReceiveEnd,
    close_local,
    is_much_unread,
    message_bytes,
    opening_bytes,
)
from duplex.engine.serving._answers import NONE, UNTOLD, all_trailers, fail_somehow
from duplex.engine.serving._end import Arguments, ServingLink, Trailers
from duplex.engine.serving._invocation import Invocation
from duplex.engine.serving._who import BUILTIN
from duplex.engine.threads import ABOUT, Threads, run_in_thread
from duplex.protocol import MESSAGE_OVERHEAD, RESULT, CancelReceived, ChannelOpened

if TYPE_CHECKING:
    from duplex.engine.channels import CallValues

#: What another task is told that still receives from the call's stream, or sends on it.
_ENDED: Final = "the handler has ended, and the call with it"


class ServedChannel(ChannelEnd):
    """One call's channel, and the :class:`~duplex.engine.serving._end.CallEnd` of its run.

    It has the attributes and methods of every channel end, hence more than twenty and thirty.
    """

    __slots__ = ("_event", "_invocation", "_owner", "deadline", "handler")

    link: ServingLink  # type: ignore[mutable-override]  # set once, in __init__
    deadline: float | None

    def __init__(self, link: ServingLink, event: ChannelOpened, handler: Handler, codec: Codec) -> None:
        ChannelEnd.__init__(self, link, event.channel, codec, handler.input_type)  # not super(), as there
        self.handler = handler
        self.started = now = link.now
        self.deadline = None if event.timeout is None else now + event.timeout
        self._ended = event.end
        self._event = event
        #: The call that it was passed in, if it is a callback that is called.
        self._owner: CallValues | None = None
        #: The run of the handler, until it has ended: then the two let go of one another.
        self._invocation: Invocation | None = Invocation(
            self, link.engine, handler, event.metadata, self.deadline, event.notify
        )
        link.channels.users[event.channel] = self

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.handler.method

    @property
    def peer(self) -> PeerInfo:
        """Who calls."""
        return self.link.remote

    @property
    def size(self) -> int:
        """See :attr:`CallEnd.size`."""
        return len(self._event.payload or b"")

    @property
    def outlives_link(self) -> bool:  # type: ignore[override]
        """Whether it goes on when the link is gone: a notification, for whose result nobody waits in any case."""
        return self._event.notify

    @property
    def delays_drain(self) -> bool:  # type: ignore[override]
        """Whether a peer that drains waits for its end: not for that of a stream which goes on elsewhere, or of
        one that watches the peer itself."""
        return not self.handler.resumable and not self.handler.method.startswith(BUILTIN)

    # -- the run ---------------------------------------------------------------------------------------

    def run_inline(self) -> None:
        """Run a plain function here and now, and answer; :func:`can_run_inline` says whether that is possible."""
        assert self._invocation is not None
        if self._invocation.run_inline():
            self.start()
        else:
            self._invocation = None

    def start(self, owner: CallValues | None = None) -> None:
        """Have a task run the handler, or a callback that was passed in the call ``owner``."""
        assert self._invocation is not None
        self._owner = owner
        self.link.submit(self._invocation, owner)

    def run_ended(self) -> None:
        """See :meth:`CallEnd.run_ended`."""
        self._invocation = None
        self.link.ran(self._owner)

    def cut(self, status: StatusCode, message: str, *, resumable: bool = False) -> None:
        """Cancel the handler for a reason of this side's; see :meth:`ChannelEnd.cut`."""
        if self._invocation is not None and (self.handler.resumable or not resumable):
            self._invocation.cut(status, message)

    # -- from the link ---------------------------------------------------------------------------------

    def on_cancelled(self, event: CancelReceived) -> None:
        """The caller gave the call up, or broke its rules."""
        # Who calls keeps the deadline too, and may be first to say that it has passed.
        late = self.deadline is not None and self.link.now >= self.deadline - ABOUT
        if event.closed:
            self.link.channels.forget(self.channel)
            self._count(StatusCode.CANCELLED)
            self.finish(CallCancelled(event.reason))
        self._stop("deadline" if late else "remote")

    def on_lost(self, error: RPCError) -> None:
        """The link is gone: nobody waits for the result."""
        if self._event.notify:
            self.link.engine.left_behind[self] = None
            return
        if not self.over:
            self._count(StatusCode.CANCELLED)
        super().on_lost(error)
        self._stop("link")

    def _count(self, status: int) -> None:
        """Count a call that ends otherwise than by its answer."""
        if (counting := self.link.engine.counting) is not None:
            received = self.bytes_in + opening_bytes(self._event)
            seconds = self.link.engine.clock() - self.started
            sent = self.bytes_out + self._sending.cost
            counting.served[self.handler.method].ended(status, seconds, received, sent)

    def _stop(self, by: str) -> None:
        self._stopped = True
        if self._invocation is not None:
            self._invocation.stop(by)

    def check_can_send(self) -> None:
        """See :meth:`ChannelEnd.check_can_send`."""
        if type(self.error) is CallCancelled and not self._closed_send and not self._stopped:
            raise trio.BrokenResourceError(self.error.message)
        super().check_can_send()

    # -- arguments -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def bind_now(self) -> Arguments | None:
        """See :meth:`CallEnd.bind_now`: arguments that came with ``OPEN``."""
        event = self._event
        if event.payload is None:
            return None
        handler = self.handler
        args, kwargs = handler.arguments(self.codec, event.payload, event.attachments, self)
        if not event.notify:
            self.link.consumed(self.channel, event.cost)
        if (event.unary or event.notify) and handler.kind.streams_output:
            raise _wrong_manner(handler, "streams its results")
        if not handler.kind.streams_input:
            # What is sent all the same is ignored, so that nobody waits until it may send more.
            self._closed_receive = True
            if self._inbox:
                self.drop_inbox()
        if handler.stream_parameter is not None:
            return args, self._with_stream(kwargs, ended=event.end or event.unary)
        return args, kwargs

    async def bind_later(self) -> Arguments:
        """See :meth:`CallEnd.bind_later`: arguments in the first message, because live values had to come before."""
        message = await self.next_message()
        if message is None:
            raise InvalidArgument("the call has no arguments: not even an empty list")
        handler = self.handler
        args, kwargs = handler.arguments(self.codec, message.payload, message.attachments, self)
        if self._event.unary and handler.kind.streams_output:
            raise _wrong_manner(handler, "streams its results")
        if not handler.kind.streams_input:
            self.close_receive()
        if handler.stream_parameter is not None:
            return args, self._with_stream(kwargs, ended=self._event.unary)
        return args, kwargs

    def _with_stream(self, kwargs: Mapping[str, Any], *, ended: bool) -> Mapping[str, Any]:
        name = self.handler.stream_parameter
        assert name is not None
        if name in kwargs:
            self.close_receive()
            return kwargs
        if ended:
            raise _wrong_manner(self.handler, "takes a stream")
        end = BothEnds(self) if self.handler.wants_channel else ReceiveEnd(self)
        return {**kwargs, name: end}

    def run_in_thread(self, function: Callable[[], Any], threads: Threads) -> Awaitable[Any]:
        """See :meth:`CallEnd.run_in_thread`. A cancelled caller gets its answer at once; the thread's result is
        dropped, and its place in the pool is free only when it has ended."""
        return run_in_thread(threads, function)

    # -- answering -------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def answer(self, result: Any, trailers: Trailers) -> Coroutine[Any, Any, None] | None:
        """See :meth:`CallEnd.answer`."""
        try:
            payload, attachments = self.codec.encode(result, self)
        except BaseException:
            self._drop_result()
            raise
        if (
            self._fresh is None
            and self.link.connection.has_credit(self.channel)
            and not (trailers and is_much_unread(self.link))
        ):
            self._close(0, payload, attachments, trailers=trailers)
            return None
        return self._answer_later(payload, attachments, trailers)

    def _drop_result(self) -> None:
        """A result could not be sent. Nobody else has the channels in it any more, so they are closed."""
        for channel in self.revoke_exports():
            self.link.engine.spawn(close_local, channel)

    @trio.lowlevel.enable_ki_protection
    async def _answer_later(self, payload: bytes, attachments: Sequence[Buffer], trailers: Trailers) -> None:
        if self._fresh is not None:
            try:
                await self.send_payload(payload, attachments, RESULT)
            except BaseException:
                self._drop_result()
                raise
            await _wait_released(self.commit_exports())
            self._close(0, trailers=trailers)
            return
        connection = self.link.connection
        while not connection.has_credit(self.channel) or (trailers and is_much_unread(self.link)):
            self.check_can_send()
            await self.wait_credit(result=True)
        self._close(0, payload, attachments, trailers=trailers)

    async def finish_stream(self, trailers: Trailers) -> None:
        """See :meth:`CallEnd.finish_stream`."""
        await self.send_queued()
        if exported := self.exported():
            self.end_now()
            await _wait_released(exported)
        self._close(0, trailers=trailers)

    def finish_notification(self, status: int = 0) -> None:
        """See :meth:`CallEnd.finish_notification`."""
        self._count(status)
        self.finish(None)
        link = self.link
        if link.error is not None:
            link.engine.left_behind.pop(self, None)
            link.engine.call_ended.notify()
            return
        link.channels.forget(self.channel)
        link.connection.finish(self.channel)
        link.touch()

    def _close(
        self,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        trailers: Trailers = None,
        own: Mapping[str, str | bytes] = NONE,
    ) -> None:
        if self.over:
            return
        if self._exports is not None or self._children is not None:
            self.release(failed=status != 0)
        if trailers or own:
            trailers = all_trailers(self.method, trailers, own)
        link = self.link
        link.channels.close(self.channel, status, payload, attachments, message, details, trailers)
        if (counting := link.engine.counting) is not None:
            # As MethodCounts.ended() does.
            counts = counting.served[self.handler.method]
            counts.buckets[bisect_left(BOUNDS, link.now - self.started)] += 1
            counts.received += self._event.cost
            if payload is None or attachments or self.bytes_in:
                self._count_more(counts, status, payload, attachments)
            else:
                counts.sent += len(payload) + MESSAGE_OVERHEAD
        # A task that still receives must not take what has come for all that was to come.
        self.finish(None if self._ended else CallCancelled(_ENDED))

    def _count_more(
        self, counts: MethodCounts, status: int, payload: bytes | None, attachments: Sequence[Buffer]
    ) -> None:
        """Count what only some calls have: errors, attachments, and streams."""
        if status:
            counts.failed(status)
        counts.received += self.bytes_in
        counts.sent += self.bytes_out + self._sending.cost
        if payload is not None:
            counts.sent += message_bytes(payload, attachments)

    def fail(self, failure: Failure, trailers: Trailers, *, has_begun: bool, was_cut: bool) -> None:
        """See :meth:`CallEnd.fail`."""
        most = self.link.connection.max_metadata
        if not fail_somehow(
            self._close, self.method, failure, trailers, has_begun=has_begun, max_metadata=most
        ):
            self.fail_at_last()

    def fail_at_last(self) -> None:
        """See :meth:`CallEnd.fail_at_last`."""
        try:
            if self._event.notify:
                self.finish_notification()
            else:
                self._close(StatusCode.INTERNAL, message=UNTOLD)
        except BaseException as problem:
            # Only the end of the link can tell its caller now.
            report_last(self.method, problem)
            self.link.say_goodbye("closing", "internal error")

    def note_often(self, kind: str) -> str | None:
        """See :meth:`CallEnd.note_often`."""
        return self.link.throttle.note(kind, self.link.now)


@final
class OverflowingChannel(ServedChannel, Overflowing):
    """The channel of a call whose method has an overflow option."""

    __slots__ = ("overflow",)

    def __init__(self, link: ServingLink, event: ChannelOpened, handler: Handler, codec: Codec) -> None:
        super().__init__(link, event, handler, codec)
        assert handler.overflow is not None
        self.overflow = OverflowState(
            handler.overflow, link.engine.limits.channel_window, arguments_due=event.payload is None
        )

    def fail_receiving(self, error: ResourceExhausted) -> None:
        """See :meth:`Overflowing.fail_receiving`; the handler may go on without its stream."""
        self.overflow.failure = error
        self._ended = True
        self.wake_receiver()


def can_run_inline(link: ServingLink, event: ChannelOpened, handler: Handler) -> bool:
    """Whether a call can be answered without a task: one message in, one out, and room for it."""
    return (
        event.payload is not None
        and not handler.kind.streams_input
        and (event.notify or link.connection.has_credit(event.channel))
    )


async def _wait_released(exports: list[Child | int]) -> None:
    """Return once nobody needs live values any more: channels when they are over, callbacks never, so that
    only the caller, by leaving its block, ends the call."""
    for export in exports:
        if isinstance(export, int):
            await trio.sleep_forever()
        else:
            await export.wait_over()


def _wrong_manner(handler: Handler, what: str) -> InvalidArgument:
    name = handler.method.rpartition(".")[2]
    return InvalidArgument(f"{handler.method} {what}: call it with `async with remote.{name}.open(...)`")
