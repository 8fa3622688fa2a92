"""Calls whose number and length is noted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, final

from duplex._errors import RPCError
from duplex.client.balancing._meter import Meter
from duplex.engine.calling import Caller, Opening, OutgoingCall, Request


@final
class Metered:
    """Makes calls to one peer, and notes how they go; see :class:`Caller`.

    Args:
        caller: makes them.
        meter: where it is noted.
        clock: tells the time, as :func:`trio.current_time` does.
    """

    __slots__ = ("_clock", "_meter", "caller")

    def __init__(self, caller: Caller, meter: Meter, clock: Callable[[], float]) -> None:
        self.caller = caller
        self._meter = meter
        self._clock = clock

    async def unary(self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /) -> Any:
        """See :meth:`Caller.unary`."""
        meter = self._meter
        began = self._clock()
        meter.begin(began)
        try:
            result = await self.caller.unary(request, positional, keyword)
        except RPCError as error:
            meter.end_badly(self._clock(), began, error.code)
            raise
        except BaseException:
            meter.end_badly(self._clock(), began, None)
            raise
        meter.end(self._clock(), began)
        return result

    def open(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> MeteredOpening:
        """See :meth:`Caller.open`. Counted while it is open; how long that is says nothing about the peer."""
        return MeteredOpening(self.caller.open(request, positional, keyword), self._meter)

    def notify(
        self, request: Request, positional: Sequence[Any], keyword: Mapping[str, Any], /
    ) -> Coroutine[Any, Any, None]:
        """See :meth:`Caller.notify`. When it ends nobody learns."""
        return self.caller.notify(request, positional, keyword)


@final
class MeteredOpening:
    """Opens a call, which is counted until it is left."""

    __slots__ = ("_meter", "_opening")

    def __init__(self, opening: Opening, meter: Meter) -> None:
        self._opening = opening
        self._meter = meter

    async def __aenter__(self) -> OutgoingCall[Any, Any]:
        meter = self._meter
        meter.in_flight += 1
        meter.streams += 1
        is_open = False
        try:
            call: OutgoingCall[Any, Any] = await self._opening.__aenter__()
            is_open = True
        finally:
            if not is_open:
                meter.in_flight -= 1
                meter.streams -= 1
        return call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._meter.in_flight -= 1
        self._meter.streams -= 1
        return await self._opening.__aexit__(exc_type, exc, traceback)
