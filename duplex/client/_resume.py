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
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, cast, final

import msgspec
import trio

from duplex._backoff import pause_after
from duplex._config import Reconnect
from duplex._errors import RPCError, Unavailable, Unimplemented
from duplex._metadata import RESUME_KEY, Metadata
from duplex.engine.calling import Caller, LimitedOpening, Opening, OutgoingCall, Request, bounded
from duplex.engine.channels import ChannelStatistics, ResumableStream, Tracked

T = TypeVar("T", covariant=True)

#: The pauses between attempts to open a stream again. The first attempt comes without one.
_PAUSES: Final = Reconnect()

#: The parameter of the method that says where to begin.
CURSOR: Final = "cursor"


def _request_of_one_attempt(request: Request) -> Request:
    """Return what is asked each time a stream is opened, from within what bounds the stream as a whole."""
    return msgspec.structs.replace(
        bounded(request),
        result_type=_item_type(request.result_type),
        metadata={**(request.metadata or {}), RESUME_KEY: ""},
    )


def _item_type(result_type: Any) -> Any:
    """Return the type of an item on the wire. A proxy may declare that, or the type of the value alone."""
    if (typing.get_origin(result_type) or result_type) is Tracked:
        return result_type
    return cast("Any", Tracked)[Any, result_type]


@final
class ResumedStream(ResumableStream[T]):
    """What :class:`ResumableStream` says.

    Args:
        caller: opens the stream, as often as need be.
        patience: seconds within which the stream has to be opened again.
        request: what to call.
        positional: the arguments.
        keyword: the arguments; ``cursor`` among them, perhaps.
    """

    def __init__(
        self,
        caller: Caller,
        patience: float,
        request: Request,
        positional: Sequence[Any],
        keyword: Mapping[str, Any],
    ) -> None:
        self._caller = caller
        self._patience = patience
        self._request = request
        self._positional = positional
        self._keyword = dict(keyword)
        #: The present attempt, and what it gave.
        self._attempt: Opening
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
                    if self._call is None:
                        await self._open_again()
                    call = self._call
                    assert call is not None
                    item: Tracked[Any, T] = await call.receive()
                except (RPCError, trio.EndOfChannel, TypeError) as error:
                    await self._cut_off(error)
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

    async def _cut_off(self, error: RPCError | trio.EndOfChannel | TypeError) -> None:
        """Take note that a call has ended, and whether the stream has."""
        stood = self._call is not None and trio.current_time() >= self._opened_at + self._patience
        if self._call is not None:
            self._trailers = self._call.trailers
            self._statistics = self._call.statistics()
            await self._leave()
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

    async def open(self) -> None:
        """Open the stream, behind the cursor if there is one."""
        self._attempt = self._caller.open(self._request, self._positional, self._keyword)
        call: OutgoingCall[Any, Any] = await self._attempt.__aenter__()
        self._call = call
        self._opened_at = trio.current_time()
        self._peer = call.peer

    async def _open_again(self) -> None:
        """Open the stream once more, after a pause. Raises ``Unavailable`` if there is no time left."""
        with trio.CancelScope() as self._opening:
            with trio.move_on_at(self._failing_since + self._patience):
                failures = self._failures - 1
                await trio.sleep(pause_after(failures, _PAUSES, random.random()) if failures else 0.0)
                await self.open()
                self._resumptions += 1
                return
            error = Unavailable(f"the stream could not be opened again within {self._patience:g} s")
            error.method = self.method
            error.peer = self._peer
            raise error
        raise trio.ClosedResourceError("this stream was closed")

    async def _leave(self) -> None:
        """Abandon the present call."""
        if self._call is not None:
            self._call = None
            await self._attempt.__aexit__(None, None, None)

    async def aclose(self) -> None:
        """Abandon the stream if it goes on. Idempotent."""
        await self.close()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Abandon the stream if it goes on, without a checkpoint of its own."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        await self._leave()


@final
class Resuming:
    """Opens streams that go on after a lost link.

    Args:
        caller: makes all other calls.
        opener: opens each stream, over any link, as often as need be.
        patience: seconds within which a stream has to be opened again.
    """

    def __init__(self, caller: Caller, opener: Caller, patience: float) -> None:
        self._caller = caller
        self._opener = opener
        self._patience = patience

    def unary(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, Any]:
        """See :meth:`Caller.unary`."""
        return self._caller.unary(request, positional, keyword)

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """See :meth:`Caller.notify`."""
        return self._caller.notify(request, positional, keyword)

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> LimitedOpening[ResumedStream[Any]]:
        """See :meth:`Caller.open`; gives a :class:`ResumableStream`."""

        async def begin(request: Request) -> ResumedStream[Any]:
            attempt = _request_of_one_attempt(request)
            stream = ResumedStream[Any](self._opener, self._patience, attempt, positional, keyword)
            await stream.open()
            return stream

        return LimitedOpening(request, begin, ResumedStream.close)
