"""What callers return that open a call: it begins when it is entered, and ends when it is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, TypeVar, final

import trio

from duplex.engine._runs import check_run
from duplex.engine.calling._caller import Opening
from duplex.engine.calling._outcome import Callee, deadline_exceeded
from duplex.engine.calling._request import Request, begun

CallT = TypeVar("CallT")


@final
class LimitedOpening(Generic[CallT]):
    """Opens a call, and bounds it as a whole by its own time limit, wherever its caller waits.

    Args:
        request: what to call.
        begin: opens the call of a request.
        end: abandons it if it goes on.
        callee: the peer that it goes to, if that is known.
    """

    __slots__ = ("_begin", "_call", "_callee", "_end", "_request", "_scope")

    def __init__(
        self,
        request: Request,
        begin: Callable[[Request], Awaitable[CallT]],
        end: Callable[[CallT], Awaitable[None]],
        callee: Callee | None = None,
    ) -> None:
        self._request = request
        self._begin = begin
        self._end = end
        self._callee = callee
        self._call: CallT
        self._scope: trio.CancelScope | None = None

    async def __aenter__(self) -> CallT:
        check_run()
        request = self._request = begun(self._request)
        if request.deadline is not None and not request.is_bounded:
            self._scope = trio.CancelScope(deadline=request.deadline)
            self._scope.__enter__()
        try:
            self._call = await self._begin(request)
        except BaseException as error:
            if self._is_too_late(type(error), error, error.__traceback__):
                raise deadline_exceeded(request.method, request.timeout, self._callee, sent=False) from None
            raise
        return self._call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end(self._call)
        if self._is_too_late(exc_type, exc, traceback):
            request = self._request
            raise deadline_exceeded(request.method, request.timeout, self._callee, sent=True) from None

    def _is_too_late(self, *exception: Any) -> bool:
        """Leave the scope; tell whether it is what has cancelled the call."""
        scope = self._scope
        if scope is None:
            return False
        # Swallows only the cancellation that it made itself.
        scope.__exit__(*exception)
        return scope.cancelled_caught


@final
class Relayed:
    """Opens a call by another caller.

    Args:
        begin: enters what that one returns, and returns it with what it gave.
    """

    __slots__ = ("_begin", "_opening")

    def __init__(self, begin: Callable[[], Awaitable[tuple[Opening, Any]]]) -> None:
        self._begin = begin
        self._opening: Opening

    async def __aenter__(self) -> Any:
        self._opening, call = await self._begin()
        return call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opening.__aexit__(exc_type, exc, traceback)
