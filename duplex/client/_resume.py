"""Streams that go on after a lost link: ``method.with_options(resume=True).open(...)``.

A resumable method streams :class:`duplex.Tracked` items and takes the ``cursor`` of one to go on behind it. So
there is nothing to remember at the other side, which may have been restarted, or be another peer altogether.
The cursor is that of the last item that the application *took*: what had come and was not taken when the link
was lost is handed out first, and everything behind that is asked for again. Hence no item is lost and none comes
twice, as far as the handler keeps the promise of its cursors.
"""

from __future__ import annotations

import random
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar, cast, final

import msgspec
import trio

from duplex._errors import RPCError, Unavailable, Unimplemented
from duplex._metadata import RESUME_KEY, Metadata
from duplex.engine._deadlines import thread_call
from duplex.engine._link import BaseLink
from duplex.engine._tracked import ResumableStream, Tracked
from duplex.engine._types import ChannelStatistics
from duplex.engine.calling._outgoing import OpenCall, OutgoingCall
from duplex.engine.calling._request import Request, deadline_exceeded, time_limit

T = TypeVar("T", covariant=True)

#: Seconds before the second attempt to open a stream again, the factor from one to the next, the longest pause,
#: and by which part of it, up or down, chance changes each, so that many callers do not come back all at once.
FIRST_PAUSE: Final = 0.1
GROWTH: Final = 2.0
LONGEST_PAUSE: Final = 5.0
JITTER: Final = 0.2

#: The parameter of the method that says where to begin.
CURSOR: Final = "cursor"


def _request_of_one_attempt(request: Request) -> Request:
    """Return what is asked each time a stream is opened."""
    return msgspec.structs.replace(
        request,
        result_type=_item_type(request.result_type),
        timeout=None,  # the stream as a whole has one
        metadata={**(request.metadata or {}), RESUME_KEY: ""},
    )


def _item_type(result_type: Any) -> Any:
    """Return the type of an item on the wire. A proxy may declare that, or the type of the value alone."""
    if (typing.get_origin(result_type) or result_type) is Tracked:
        return result_type
    return cast("Any", Tracked)[Any, result_type]


async def _ready(link: BaseLink) -> BaseLink:
    return link


def pause_before(attempt: int) -> float:
    """Return the seconds to wait before an attempt to open a stream again.

    Args:
        attempt: how many attempts have failed since the link was lost; the first one comes without a pause.
    """
    if not attempt:
        return 0.0
    # The exponent is bounded, or a float would overflow after a thousand attempts.
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(attempt - 1, 64))
    return pause * (1 + random.uniform(-JITTER, JITTER))


@final
class ResumedStream(ResumableStream[T]):
    """What :class:`ResumableStream` says.

    Args:
        pick: waits for a link.
        patience: seconds within which the stream has to be opened again.
        request: what to call, without timeout.
        positional: the arguments.
        keyword: the arguments; ``cursor`` among them, perhaps.
    """

    def __init__(
        self,
        pick: Callable[[], Awaitable[BaseLink]],
        patience: float,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> None:
        self._pick = pick
        self._patience = patience
        self._request = _request_of_one_attempt(request)
        self._positional = positional
        self._keyword = dict(keyword)
        self._call: OutgoingCall[Any, Any] | None = None
        self._peer = ""
        self._trailers: Metadata = {}
        self._statistics: ChannelStatistics
        #: How it ended, once it has.
        self._error: BaseException | None = None
        self._closed = False
        self._busy = False
        self._opening: trio.CancelScope | None = None
        self._opened_at = 0.0
        #: That of the scopes around the whole stream, rather than around one receive() that opens it again.
        self._deadline: float | None = None
        #: Whether any item came; and how often in a row, and since when, the stream was cut off without one.
        self._has_begun = False
        self._failures = 0
        self._failing_since = 0.0
        self._resumptions = 0

    @property
    def cursor(self) -> Any:
        """See :attr:`ResumableStream.cursor`."""
        return self._keyword.get(CURSOR)

    @property
    def resumptions(self) -> int:
        """See :attr:`ResumableStream.resumptions`."""
        return self._resumptions

    @property
    def method(self) -> str:
        """See :attr:`ResumableStream.method`."""
        return self._request.method

    @property
    def peer(self) -> str:
        """See :attr:`ResumableStream.peer`."""
        return self._peer

    @property
    def trailers(self) -> Metadata:
        """See :attr:`ResumableStream.trailers`."""
        return self._trailers

    def statistics(self) -> ChannelStatistics:
        """See :meth:`duplex.ReceiveChannel.statistics`; of the present call, or the last one."""
        return self._statistics if self._call is None else self._call.statistics()

    # -- receiving -------------------------------------------------------------------------------------

    async def receive(self) -> T:
        """See :meth:`duplex.ReceiveChannel.receive`."""
        if self._busy:
            await trio.lowlevel.checkpoint()
            raise trio.BusyResourceError("another task is receiving from this stream")
        self._busy = True
        try:
            while True:
                self._check()
                try:
                    call = self._call or await self._open_again()
                    item: Tracked[Any, T] = await call.receive()
                except (RPCError, trio.EndOfChannel, TypeError) as error:
                    self._cut_off(error)
                else:
                    self._keyword[CURSOR] = item.cursor
                    self._has_begun = True
                    self._failures = 0
                    return item.value
        finally:
            self._busy = False

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._error is not None:
            raise self._error

    def _cut_off(self, error: RPCError | trio.EndOfChannel | TypeError) -> None:
        """Take note that a call has ended, and whether the stream has."""
        stood = self._call is not None and trio.current_time() >= self._opened_at + self._patience
        if self._call is not None:
            self._trailers = self._call.trailers
            self._statistics = self._call.statistics()
            self._call.close_now()
            self._call = None
        if self._failures == 0 or stood:
            self._failures = 0
            self._failing_since = trio.current_time()
        self._failures += 1
        in_time = trio.current_time() < self._failing_since + self._patience
        if not (in_time and self._is_passing(error)):
            self._error = error
            if self._has_begun and isinstance(error, RPCError):
                error.may_have_executed = True  # the last attempt may not, but the stream has

    def _is_passing(self, error: BaseException) -> bool:
        """Whether an error says that the other side is not there now, rather than how the method ended."""
        # A peer that served the stream before, and has it no more, is one that has just started.
        return isinstance(error, Unavailable) or (self._has_begun and isinstance(error, Unimplemented))

    # -- opening and closing ---------------------------------------------------------------------------

    async def open(self) -> OutgoingCall[Any, Any]:
        """Open the stream, behind the cursor if there is one."""
        self._deadline = trio.current_effective_deadline()
        return await self._open_on(self._pick)

    async def _open_on(self, pick: Callable[[], Awaitable[BaseLink]]) -> OutgoingCall[Any, Any]:
        opening = OpenCall(pick, self._request, self._positional, self._keyword, self._deadline)
        # The limit of a thread is part of that of the whole stream: see OpenStream.
        token = thread_call.set(None)
        try:
            call = await opening.__aenter__()
        finally:
            thread_call.reset(token)
        self._call = call
        self._opened_at = trio.current_time()
        self._peer = call.peer
        return call

    async def _open_again(self) -> OutgoingCall[Any, Any]:
        """Open the stream once more, after a pause. Raises ``Unavailable`` if there is no time left."""
        with trio.CancelScope() as self._opening:
            link = await self._pick_again()
            call = await self._open_on(lambda: _ready(link))
            self._resumptions += 1
            return call
        raise trio.ClosedResourceError("this stream was closed")

    async def _pick_again(self) -> BaseLink:
        # The call itself is opened outside of this scope, or it would inherit its deadline.
        with trio.move_on_at(self._failing_since + self._patience):
            await trio.sleep(pause_before(self._failures - 1))
            return await self._pick()
        error = Unavailable(f"the stream could not be opened again within {self._patience:g} s")
        error.method = self.method
        error.peer = self._peer
        raise error

    async def aclose(self) -> None:
        """Abandon the stream if it goes on. Idempotent."""
        self.close_now()
        await trio.lowlevel.checkpoint()

    def close_now(self) -> None:
        """The same as :meth:`aclose`, without a checkpoint."""
        self._closed = True
        if self._call is not None:
            self._call.close_now()
        if self._opening is not None:
            self._opening.cancel()


@final
class OpenStream:
    """The context manager that ``method.with_options(resume=True).open(...)`` returns."""

    def __init__(
        self,
        pick: Callable[[], Awaitable[BaseLink]],
        patience: float,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> None:
        self._stream = ResumedStream[Any](pick, patience, request, positional, keyword)
        self._request = request
        self._scope: trio.CancelScope | None = None
        self._timeout: float | None = None
        self._used = False

    async def __aenter__(self) -> ResumableStream[Any]:
        if self._used:
            raise RuntimeError("open() gives a context manager for one use; call it again for another stream")
        self._used = True
        timeout = self._timeout = time_limit(self._request.timeout)
        if timeout is not None:
            self._scope = trio.CancelScope(deadline=trio.current_time() + timeout)
            self._scope.__enter__()
        try:
            await self._stream.open()
        except BaseException as error:
            scope, self._scope = self._scope, None
            if scope is not None and scope.__exit__(type(error), error, error.__traceback__):
                assert timeout is not None
                raise deadline_exceeded(self._request, timeout, sent=False) from None
            raise
        return self._stream

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close_now()
        scope = self._scope
        if scope is not None:
            # Swallows only the cancellation that it made itself.
            scope.__exit__(exc_type, exc, traceback)
            if scope.cancelled_caught:
                assert self._timeout is not None
                raise deadline_exceeded(self._request, self._timeout, sent=True) from None
