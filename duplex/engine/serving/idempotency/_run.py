"""The run of a handler for an idempotency key: it has no channel of its own, and as many callers as there are attempts."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, final

import outcome
import trio

from duplex._errors import CallCancelled, DeadlineExceeded, InvalidArgument, LocalProtocolError
from duplex._metadata import check_metadata
from duplex._status import StatusCode
from duplex.codec._base import Buffer, Codec, LiveKind, Unconnected
from duplex.engine._failure import Failure, report_last
from duplex.engine._handler import Handler
from duplex.engine._peer_info import PeerInfo
from duplex.engine.channels import FUNCTIONS, ChannelStatistics, close_local
from duplex.engine.serving._answers import NONE, UNTOLD, all_trailers, fail_somehow
from duplex.engine.serving._end import Arguments, CallLink, Trailers
from duplex.engine.serving._invocation import Invocation
from duplex.engine.serving.idempotency._attempt import Attempt
from duplex.engine.serving.idempotency._result import CallResult
from duplex.engine.serving.idempotency._thread import KeptThread
from duplex.engine.threads import Threads, run_in_thread
from duplex.protocol import ChannelOpened

#: How a function in a thread hears that its call was cut short: from ``trio.from_thread.check_cancelled()``, or
#: from a call that it makes.
_TOLD: Final = (trio.Cancelled, CallCancelled, DeadlineExceeded)
#: Seconds by which deadlines on the wire may be early: they are whole milliseconds.
_ROUNDING: Final = 0.001


class Key(Protocol):
    """What a run is made for."""

    #: Whether a handler that has ended may have done anything for it.
    has_run: bool

    def settle(self, result: CallResult, *, remember: bool) -> None:
        """The run has ended."""

    def dismiss(self, result: CallResult, *, everybody: bool) -> None:
        """The run was cut short, but goes on where it cannot be stopped."""


# Large because it is the end of a run in place of a channel (``CallEnd``), and what tasks run in place of an invocation (``Job``):
# two thirds of its methods are what these two want, in a line or two.
@final
class KeyedRun:
    """The run of a handler on behalf of all attempts with one key: the end of its :class:`Invocation`.

    Nothing that happens to a link stops it. It is cancelled when every caller has cancelled, at the latest deadline of
    all attempts, and with its peer.

    Args:
        attempt: the one that it begins for.
        event: that one's, with the arguments.
        handler: what is run.
        key: what it is run for.
    """

    def __init__(self, attempt: Attempt, event: ChannelOpened, handler: Handler, key: Key) -> None:
        self.handler = handler
        #: Whether the outcome is settled.
        self.over = False
        # Whether anybody is told the result is the attempts' business; there is one in any case.
        #: Until it has ended: then the two let go of one another.
        self._invocation: Invocation | None = Invocation(
            self, attempt.link.engine, handler, event.metadata, attempt.deadline, notify=False
        )
        self._was_cut = False
        self._attempt = attempt
        #: Until the arguments are bound.
        self._event: ChannelOpened | None = event
        self._key = key
        self._is_cut_short = False
        self._is_given_up = False
        self._has_ended_in_thread = False
        #: Whether the call was cancelled, but its plain function runs on in a thread.
        self.goes_on_in_thread = False

    @property
    def invocation(self) -> Invocation:
        """The run itself, which has not ended."""
        assert self._invocation is not None
        return self._invocation

    @property
    def method(self) -> str:
        """``service.method``."""
        return self.handler.method

    @property
    def link(self) -> CallLink:
        """See :attr:`CallEnd.link`: that of the attempt that it began for."""
        return self._attempt.link

    @property
    def channel(self) -> int:
        """See :attr:`CallEnd.channel`."""
        return self._attempt.channel

    @property
    def peer(self) -> PeerInfo:
        """See :attr:`CallEnd.peer`."""
        return self._attempt.link.remote

    @property
    def codec(self) -> Codec:
        """See :attr:`CallEnd.codec`."""
        return self._attempt.codec

    @property
    def size(self) -> int:
        """See :attr:`CallEnd.size`."""
        return len((self._event and self._event.payload) or b"")

    def statistics(self) -> ChannelStatistics:
        """See :meth:`CallEnd.statistics`."""
        return self._attempt.statistics()

    # -- for the task that runs it ---------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The latest of all attempts."""
        return self.invocation.deadline

    @property
    def was_cut(self) -> bool:
        """Whether the scope that the handler ran in may have been cancelled."""
        return self._was_cut if self._invocation is None else self._invocation.was_cut

    async def run(self, scope: trio.CancelScope) -> None:
        """Run the handler; another attempt may have moved the deadline since the worker was given it."""
        scope.deadline = math.inf if self.deadline is None else self.deadline
        await self.invocation.run(scope)

    def ended(self) -> None:
        """The task goes on to other things."""
        self._attempt.link.ran()
        if not self.goes_on_in_thread:
            self._let_go()

    run_ended = ended

    def _let_go(self) -> None:
        self._was_cut = self.was_cut
        self._invocation = None

    # -- its end before its time -----------------------------------------------------------------------

    @property
    def may_go_on(self) -> bool:
        """Whether a run that was cut short was so for reasons of those who asked for it: another attempt, which
        came too late to prevent it, may run in its place."""
        return self._is_given_up or self._is_late

    @property
    def _is_late(self) -> bool:
        return self.invocation.time_remaining <= _ROUNDING

    def extend(self, deadline: float | None) -> None:
        """Let the handler run until the deadline of a further attempt, if that is later."""
        present = self.deadline
        if present is None or (deadline is not None and deadline <= present):
            return
        if self.invocation.is_being_cancelled:
            return  # who came too late gets a run of its own
        self.invocation.extend(deadline)

    def give_up(self) -> None:
        """Cancel the handler: all callers have cancelled."""
        self._is_given_up = True
        self.invocation.stop("remote")

    def cut(self, status: StatusCode, message: str) -> None:
        """Cancel the handler, and answer with this status and message."""
        self.invocation.cut(status, message)

    # -- arguments -------------------------------------------------------------------------------------

    def bind_now(self) -> Arguments:
        """See :meth:`CallEnd.bind_now`: they came with the call."""
        event = self._event
        assert event is not None
        assert event.payload is not None
        live = Unconnected(0, self._attempt.max_elements)
        arguments = self.handler.arguments(self.codec, event.payload, event.attachments, live)
        self._event = None
        return arguments

    async def bind_later(self) -> Arguments:
        """See :meth:`CallEnd.bind_later`."""
        raise NotImplementedError("with a key, they come with the call")  # pragma: no cover

    # -- answering -------------------------------------------------------------------------------------

    def answer(self, result: Any, trailers: Trailers) -> Coroutine[Any, Any, None] | None:
        """See :meth:`CallEnd.answer`."""
        live = _LiveNoted()
        payload, attachments = self.codec.encode(result, live)
        if live.found:
            for value in live.found:
                if isinstance(value, trio.abc.AsyncResource):
                    self._attempt.link.engine.spawn(close_local, value)
            raise InvalidArgument(
                f"{self.method} returns a callback or a channel, which live as long as one call: "
                f"call it without an idempotency key"
            )
        self._is_cut_short = False
        self._close(0, payload, attachments, trailers=trailers)
        return None

    def fail(self, failure: Failure, trailers: Trailers, *, has_begun: bool, was_cut: bool) -> None:
        """See :meth:`CallEnd.fail`."""
        # It may be an error of one who was cancelled, or of a call that it made with the same deadline.
        cancelled = self.invocation.was_cut or self._is_late
        self._is_cut_short = was_cut or (cancelled and not self._has_ended_in_thread)
        # Who waits may have waited for a run before this one, which was cut short in the midst of it.
        has_begun |= self._key.has_run
        most = self._attempt.link.connection.max_metadata
        if not fail_somehow(
            self._close, self.method, failure, trailers, has_begun=has_begun, max_metadata=most
        ):
            self.fail_at_last()

    def fail_at_last(self) -> None:
        """See :meth:`CallEnd.fail_at_last`."""
        try:
            self._close(StatusCode.INTERNAL, message=UNTOLD)
        except BaseException as problem:
            report_last(self.method, problem)
            self._attempt.link.say_goodbye("closing", "internal error")

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
        if trailers or own:
            trailers = all_trailers(self.method, trailers, own)
        problem = check_metadata(trailers or {})
        if problem is not None:
            raise LocalProtocolError(f"trailers: {problem}")
        result = CallResult(
            int(status),
            payload=payload,
            # Copies: what the handler returned may change while it is remembered.
            attachments=tuple(map(bytes, attachments)),
            message=message,
            details=details,
            trailers=trailers,
        )
        if self.goes_on_in_thread:
            self._key.dismiss(result, everybody=self.invocation.was_cut_here)
            return
        self.over = True
        self._attempt.link.engine.call_ended.notify()
        has_begun = self.invocation.has_begun
        self._key.has_run |= has_begun
        self._key.settle(result, remember=has_begun and not self._is_cut_short)

    # -- what a call with one result does not do -------------------------------------------------------

    def send_now(self, item: Any) -> Awaitable[None] | None:
        """See :meth:`CallEnd.send_now`."""
        raise NotImplementedError("with a key, there is one result")  # pragma: no cover

    async def finish_stream(self, trailers: Trailers) -> None:
        """See :meth:`CallEnd.finish_stream`."""
        raise NotImplementedError("with a key, there is one result")  # pragma: no cover

    def finish_notification(self, status: int = 0) -> None:
        """See :meth:`CallEnd.finish_notification`."""
        raise NotImplementedError("with a key, there is a result")  # pragma: no cover

    def note_often(self, kind: str) -> str | None:
        """See :meth:`CallEnd.note_often`."""
        link = self._attempt.link
        return link.throttle.note(kind, link.now)

    # -- plain functions -------------------------------------------------------------------------------

    async def run_in_thread(self, function: Callable[[], Any], threads: Threads) -> Any:
        """See :meth:`CallEnd.run_in_thread`; the function runs to its end, which counts."""
        thread = KeptThread(function, self._thread_ended)
        try:
            ended = await run_in_thread(threads, thread.run)
        except trio.Cancelled:
            self.goes_on_in_thread = thread.abandon()
            if thread.ended is not None:
                self._thread_ended(thread.ended)
            raise
        except Exception:
            self.invocation.has_begun = False  # there was no thread for it
            raise
        assert ended is not None  # or it was abandoned
        self._note_thread_end()
        return ended.unwrap()

    def _note_thread_end(self) -> None:
        self.goes_on_in_thread = False
        self._has_ended_in_thread = True
        self.invocation.complete()

    def _thread_ended(self, ended: outcome.Outcome[Any]) -> None:
        """A function that was cancelled has ended all the same, so there is a result."""
        self.goes_on_in_thread = False
        if isinstance(ended, outcome.Error) and isinstance(ended.error, _TOLD):
            self.invocation.tell_stopped()
        else:
            self._note_thread_end()
            self.invocation.conclude(ended)
        self._let_go()


@final
class _LiveNoted:
    """Live values for a codec, of which none may be passed."""

    #: The result may be repeated over any link, be its peer's limit what it may.
    max_attachments: Final = 0
    max_elements: Final = 0

    def __init__(self) -> None:
        self.found: list[Any] = []

    def export(self, value: Any) -> tuple[LiveKind, int] | None:
        if not isinstance(value, (*FUNCTIONS, trio.abc.SendChannel, trio.abc.ReceiveChannel)):
            return None
        self.found.append(value)
        return LiveKind.CALLBACK, 0

    def import_(self, kind: LiveKind, number: int) -> Any:
        raise NotImplementedError("results are only encoded")  # pragma: no cover

    def adapt(self, value: Any, annotation: Any) -> Any:
        raise NotImplementedError("results are only encoded")  # pragma: no cover
