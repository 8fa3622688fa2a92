"""Calls with an idempotency key: the run of the handler, and the attempts that wait for its outcome.

An ordinary call is one thing, its channel and its handler together. A call with a key is two. The
:class:`Attempt` is a channel on a link; there may be several, over different links, one after the other or at
once. The :class:`KeyedCall` is the run of the handler, which has no channel of its own: links come and go, and
it goes on. What joins them is the key's entry in :class:`duplex.engine._idempotency.ResultCache`.

An attempt needs no task. It answers when the run has ended, or, if the link has no credit then, when credit
comes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
import outcome
import trio

from duplex._errors import (
    CallCancelled,
    DeadlineExceeded,
    DuplexError,
    InvalidArgument,
    LocalProtocolError,
    RPCError,
)
from duplex._metadata import check_metadata, metadata_size
from duplex._status import StatusCode
from duplex.codec._base import Buffer, Codec, LiveKind, Unconnected
from duplex.engine._conversation import Conversation
from duplex.engine._handler import Handler
from duplex.engine._live import FUNCTIONS
from duplex.engine._nested import close_local
from duplex.engine._serve import _NONE, IncomingCall
from duplex.engine._unread import is_much_unread
from duplex.protocol import CancelReceived, ChannelOpened

if TYPE_CHECKING:
    from duplex.engine._idempotency import Entry
    from duplex.engine._link import BaseLink

logger = logging.getLogger("duplex")

#: What an outcome costs in memory beside its contents, roughly; so that many empty ones count, too.
OVERHEAD: Final = 768
#: How a function in a thread hears that its call was cut short: from ``trio.from_thread.check_cancelled()``, or
#: from a call that it makes.
_TOLD: Final = (trio.Cancelled, CallCancelled, DeadlineExceeded)
#: Seconds by which deadlines on the wire may be early: they are whole milliseconds.
_ROUNDING: Final = 0.001


@final
class Outcome(msgspec.Struct, frozen=True):
    """How a call ended: all that ``CLOSE`` says."""

    status: int
    payload: bytes | None = None
    attachments: tuple[bytes, ...] = ()
    message: str = ""
    details: bytes | None = None
    trailers: Mapping[str, str | bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes to remember it."""
        return (
            OVERHEAD
            + len(self.payload or b"")
            + sum(map(len, self.attachments))
            + len(self.message)
            + len(self.details or b"")
            + metadata_size(self.trailers or {})
        )


@final
class Attempt(Conversation):
    """One caller's channel, which waits for the outcome of its key."""

    __slots__ = ("_entry", "_outcome", "cancelled", "deadline", "event")

    holds_up = True

    def __init__(self, link: BaseLink, event: ChannelOpened, codec: Codec, entry: Entry | None) -> None:
        super().__init__(link, event.channel, codec)
        #: The caller gave it up; it is answered when the handler has stopped.
        self.cancelled = False
        self.deadline = None if event.timeout is None else trio.current_time() + event.timeout
        # The arguments are those of the first attempt, which the entry holds: one copy is enough.
        self.event = msgspec.structs.replace(event, payload=b"", attachments=())
        self._entry: Entry | None = entry
        self._outcome: Outcome | None = None
        self._closed_receive = True
        self.started = link.now
        if not event.notify:
            link.consumed(self.channel, event.cost)
        link.conversations[self.channel] = self

    @property
    def method(self) -> str:
        """``service.method``."""
        return str(self.event.target)

    @property
    def waits(self) -> bool:
        """Whether somebody still wants the outcome, and has time."""
        return (
            not self.cancelled
            and not self.event.notify
            and (self.deadline is None or trio.current_time() < self.deadline)
        )

    def answer(self, result: Outcome) -> None:
        """Close the channel with an outcome, now or as soon as there is credit."""
        self._entry = None
        self._outcome = result
        self._send()

    def _send(self) -> None:
        link = self.link
        result = self._outcome
        assert result is not None
        if not self.over and not self.event.notify and result.payload is not None:
            connection = link.connection
            if (
                connection.link_credit <= 0
                or connection.credit(self.channel) <= 0
                or (result.trailers and is_much_unread(link))
            ):
                link.credit_waiters[self] = True
                return
        link.credit_waiters.pop(self, None)
        if self.over:
            return
        self.release(failed=result.status != 0)
        if self.event.notify:
            self._end_notification(result)
        else:
            self._close(result)
        self.finish(None)

    def _close(self, result: Outcome) -> None:
        try:
            self.link.close_channel(self.channel, **msgspec.structs.asdict(result))
        except DuplexError as problem:
            # The outcome stands; it is this caller's peer that does not take it, so it hears why. An error is told
            # without what is too large of it.
            code = problem.code if isinstance(problem, RPCError) else StatusCode.INTERNAL
            self.link.close_channel(
                self.channel, result.status or code, message=result.message if result.status else str(problem)
            )

    def _end_notification(self, result: Outcome) -> None:
        if result.status:
            target = self.event.target
            logger.error("the handler of a notification to %s failed: %s", target, result.message)
        self.link.forget(self.channel)
        if self.link.connection.is_open:
            self.link.connection.finish(self.channel)
            self.link.touch()

    # -- from the link ---------------------------------------------------------------------------------

    def on_credit(self) -> None:
        """Credit came, or the channel is over."""
        if self._outcome is not None:
            self._send()

    def on_cancelled(self, event: CancelReceived) -> None:
        """The caller gave this attempt up, or broke its rules."""
        self.cancelled = True
        entry = self._entry
        if event.closed:
            self.link.forget(self.channel)
            self.finish(CallCancelled(event.reason))
        if entry is None:
            self.answer(GIVEN_UP)
        else:
            entry.cancel(self)

    def on_lost(self, error: RPCError) -> None:
        """The link is gone. The handler runs on: the caller may come back and ask again."""
        super().on_lost(error)
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.leave(self)


#: The answer to an attempt that its caller cancelled.
GIVEN_UP: Final = Outcome(StatusCode.CANCELLED, message="the caller cancelled the call")


@final
class KeyedCall(IncomingCall):
    """The run of a handler on behalf of all attempts with one key.

    It is not among the conversations of its link, so nothing that happens there stops it. It is cancelled
    when every caller has cancelled, at the latest deadline of all attempts, and with its peer.
    """

    __slots__ = ("_cut_short", "_ended_in_thread", "_entry", "_given_up", "_left_in_thread")

    def __init__(
        self, link: BaseLink, event: ChannelOpened, handler: Handler, codec: Codec, entry: Entry
    ) -> None:
        super().__init__(link, event, handler, codec)
        # Whether anybody is told the outcome is the attempts' business; there is one in any case.
        self.notify = False
        self._entry = entry
        self._cut_short = False
        self._given_up = False
        self._ended_in_thread = False
        self._left_in_thread = False

    @property
    def goes_on_in_thread(self) -> bool:
        """Whether the call was cancelled, but its plain function runs on in a thread."""
        return self._left_in_thread

    @property
    def may_go_on(self) -> bool:
        """Whether a run that was cut short was so for reasons of those who asked for it: another attempt, which
        came too late to prevent it, may run in its place."""
        return self._given_up or self._is_late

    @property
    def _is_late(self) -> bool:
        return self.time_remaining <= _ROUNDING

    def extend(self, deadline: float | None) -> None:
        """Let the handler run until the deadline of a further attempt, if that is later."""
        if self.deadline is None or (deadline is not None and deadline <= self.deadline):
            return
        if self._scope is not None and self._scope.cancel_called:
            return  # the handler is being cancelled; who came too late gets a run of its own
        self.deadline = deadline
        if self._scope is not None:
            self._scope.deadline = math.inf if deadline is None else deadline

    async def run(self, scope: trio.CancelScope) -> None:
        """See :meth:`IncomingCall.run`; another attempt may have moved the deadline since the worker was given it."""
        scope.deadline = math.inf if self.deadline is None else self.deadline
        await super().run(scope)

    def give_up(self) -> None:
        """Cancel the handler: all callers have cancelled."""
        self._given_up = True
        self._cut_by = "remote"
        self._stop()

    # -- what differs from an ordinary call ------------------------------------------------------------

    def _bind_first(self) -> tuple[Any, Mapping[str, Any]]:
        event = self._event
        assert event.payload is not None
        live = Unconnected(0, self.max_elements)
        return self.handler.arguments(self.codec, event.payload, event.attachments, live)

    @property
    def _has_begun(self) -> bool:
        # Who waits may have waited for a run before this one, which was cut short in the midst of it.
        return self._began or self._entry.has_run

    def _answer_now(self, result: Any) -> None:
        live = _LiveNoted()
        payload, attachments = self.codec.encode(result, live)
        if live.found:
            for value in live.found:
                if isinstance(value, trio.abc.AsyncResource):
                    self.link.peer.spawn(close_local, value)
            raise InvalidArgument(
                f"{self.method} returns a callback or a channel, which live as long as one call: "
                f"call it without an idempotency key"
            )
        self._close(0, payload, attachments)

    def _close(
        self,
        status: int,
        payload: bytes | None = None,
        attachments: Sequence[Buffer] = (),
        message: str = "",
        details: bytes | None = None,
        own: Mapping[str, str | bytes] = _NONE,
    ) -> None:
        trailers = self._all_trailers(own) if self._trailers or own else None
        problem = check_metadata(trailers or {})
        if problem is not None:
            raise LocalProtocolError(f"trailers: {problem}")
        result = Outcome(
            int(status),
            payload=payload,
            # Copies: what the handler returned may change while it is remembered.
            attachments=tuple(map(bytes, attachments)),
            message=message,
            details=details,
            trailers=trailers,
        )
        if self._left_in_thread:
            self._entry.dismiss(result, everybody=self._cut is not None)
            return
        self.finish(None)
        self._entry.has_run |= self._began
        self._entry.settle(result, remember=self._began and not self._cut_short)

    def _answer_stopped(self) -> None:
        self._cut_short = True
        super()._answer_stopped()

    def _fail(self, error: BaseException) -> None:
        # An error of one who was cancelled, or of a call that it made with the same deadline.
        cancelled = self._stopped or self._cut is not None or self._is_late
        self._cut_short = cancelled and not self._ended_in_thread
        super()._fail(error)

    # -- plain functions -------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        thread = _Thread(function, self._thread_ended)
        try:
            ended: outcome.Outcome[Any] = await super()._in_thread(thread.run)
        except trio.Cancelled:
            self._left_in_thread = thread.abandon()
            if thread.ended is not None:
                self._thread_ended(thread.ended)
            raise
        except Exception:
            self._began = False  # there was no thread for it
            raise
        self._note_thread_end()
        return ended.unwrap()

    def _note_thread_end(self) -> None:
        # It was not cut short, whatever was asked of it meanwhile.
        self._left_in_thread = self._stopped = False
        self._ended_in_thread = True

    def _thread_ended(self, ended: outcome.Outcome[Any]) -> None:
        """A function that was cancelled has ended all the same, so there is an outcome."""
        self._left_in_thread = self._cut_short = False
        if isinstance(ended, outcome.Error) and isinstance(ended.error, _TOLD):
            self._answer_stopped()
            return
        self._note_thread_end()
        try:
            self._answer_now(ended.unwrap())
        except BaseException as error:
            self._fail(error)


@final
class _LiveNoted:
    """Live values for a codec, of which none may be passed."""

    #: The outcome may be repeated over any link, be its peer's limit what it may.
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


@final
class _Thread:
    """A function that runs in a thread and, once it does, to its end, whether or not somebody still waits.

    Args:
        function: what to run.
        on_ended: called on the event loop with the outcome if the function was abandoned while it ran.
    """

    def __init__(self, function: Callable[[], Any], on_ended: Callable[[outcome.Outcome[Any]], None]) -> None:
        self._function = function
        self._on_ended = on_ended
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._started = False
        self._abandoned = threading.Event()
        #: The outcome, once there is one.
        self.ended: outcome.Outcome[Any] | None = None

    def run(self) -> outcome.Outcome[Any] | None:
        """Run the function and return its outcome; in the thread."""
        with self._lock:
            if self._abandoned.is_set():
                return None  # it was cancelled before it began, and so it never does
            self._started = True
        ended: outcome.Outcome[Any] = outcome.capture(self._function)
        with self._lock:
            self.ended = ended
            abandoned = self._abandoned.is_set()
        if abandoned:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(functools.partial(self._on_ended, ended))
        return ended

    def abandon(self) -> bool:
        """Stop waiting; return whether the function is still at work."""
        with self._lock:
            self._abandoned.set()
            return self._started and self.ended is None
