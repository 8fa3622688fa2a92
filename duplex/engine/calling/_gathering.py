"""The same call to many peers at once, and what comes of it at each: ``async for peer, outcome in remote.method.gather()``.

A loop can be left at any point, and nothing tells the object that it iterates. So the calls are no tasks of the loop's: one task of
the peer's own makes them, decides when it is enough, and hands over what has come; and it is told when nobody wants that any more, by
:meth:`Gathering.aclose`, by the cancellation of the task that waits, or because the loop's iterator is gone.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, final

import trio

from duplex._errors import DeadlineExceeded, RPCError, Unavailable
from duplex._made import Made
from duplex.engine._failure import must_go_on
from duplex.engine._peer_info import PeerInfo
from duplex.engine._runs import check_run
from duplex.engine._signal import Signal
from duplex.engine.calling._caller import Caller
from duplex.engine.calling._request import Request, begun
from duplex.engine.threads import in_thread, wait_in_thread

R = TypeVar("R", covariant=True)


@final
class Outcome(Generic[R]):
    """How a call has ended at one of the peers that were asked. A failure is no result: :meth:`result` raises it."""

    __slots__ = ("_error", "_value")

    def __init__(self, value: Any = None, error: RPCError | None = None) -> None:
        self._value = value
        self._error = error

    def __repr__(self) -> str:
        return f"<Outcome {self._value!r}>" if self._error is None else f"<Outcome {self._error!r}>"

    @property
    def error(self) -> RPCError | None:
        """What the call has failed with; ``None`` if it has not."""
        return self._error

    def result(self) -> R:
        """Return the call's result.

        Raises:
            RPCError: the call has failed.
        """
        if self._error is not None:
            raise self._error
        result: R = self._value
        return result


@final
class Tally:
    """What has come so far, and when it is enough. Knows no clock.

    Args:
        asked: how many peers were asked.
        most: answers after which it is enough; ``None``: those of all.
        stall: seconds after the last answer at which it is enough; ``None``: never.
    """

    __slots__ = ("_answers", "_ends_at", "_most", "_stall", "_waiting", "outcomes")

    def __init__(self, asked: int, most: int | None, stall: float | None) -> None:
        self._waiting = asked
        self._most = math.inf if most is None else most
        self._stall = math.inf if stall is None else stall
        self._answers = 0
        self._ends_at = math.inf
        #: What nobody has taken yet.
        self.outcomes: deque[tuple[PeerInfo, Outcome[Any]]] = deque()

    def came(self, peer: PeerInfo, outcome: Outcome[Any], now: float) -> None:
        """A call has ended. One that failed has given no answer, and neither brings the end nearer nor puts it off."""
        if self.ends_at <= now:
            return
        self._waiting -= 1
        self.outcomes.append((peer, outcome))
        if outcome.error is None:
            self._answers += 1
            self._ends_at = now + self._stall

    @property
    def ends_at(self) -> float:
        """When it is enough, if nothing else comes."""
        return -math.inf if not self._waiting or self._answers >= self._most else self._ends_at


class Host(Protocol):
    """What a gathering needs of the peer that makes the calls."""

    @property
    def clock(self) -> Callable[[], float]:
        """Tells the time, as :func:`trio.current_time` does."""

    @property
    def spawn_here(self) -> Callable[..., None]:
        """Runs a task of the peer's in the context of the task that asks for it."""

    def check_thread(self) -> None:
        """Raise ``RuntimeError`` in any other thread than the peer's."""


@final
class _Calls:
    """The calls of one gathering, while they run.

    Args:
        host: the peer that makes them.
        request: what is called.
        arguments: by position and by name.
        tally: when it is enough.
    """

    def __init__(
        self,
        host: Host,
        request: Request,
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        tally: Tally,
    ) -> None:
        self._clock = host.clock
        self._request = request
        self._arguments = arguments
        self.tally = tally
        self._deadline = trio.current_effective_deadline()
        self._token = trio.lowlevel.current_trio_token()
        self.scope = trio.CancelScope()
        self.changed = Signal()
        self.is_over = False
        #: What is no outcome of a call, but a mistake in it.
        self.problem: BaseException | None = None

    async def run(self, callers: Sequence[tuple[PeerInfo, Caller]]) -> None:
        """Make the calls, until there are answers enough."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    for peer, caller in callers:
                        nursery.start_soon(self._ask, peer, caller)
                    while self.problem is None and self.tally.ends_at > self._clock():
                        with trio.move_on_at(self.tally.ends_at):
                            await self.changed.wait()
                    nursery.cancel_scope.cancel()
            self.is_over = True
        finally:
            if not self.is_over:
                self.is_over = True
                self.problem = Unavailable(f"{self._request.method}: this peer was closed meanwhile")
            self.changed.notify()

    def cancel_soon(self) -> None:
        """Cancel the calls: from anywhere, as the garbage collector may have any thread do."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self.scope.cancel)

    async def _ask(self, peer: PeerInfo, caller: Caller) -> None:
        positional, keyword = self._arguments
        in_thread.set(None)  # it is the thread's loop that waits, once
        try:
            with trio.CancelScope(deadline=self._deadline) as scope:
                outcome: Outcome[Any] = Outcome(await caller.unary(self._request, positional, keyword))
            if scope.cancelled_caught:
                outcome = Outcome(error=_too_late(self._request.method, peer))
        except RPCError as error:
            outcome = Outcome(error=error)
        except BaseException as error:
            if must_go_on(error):
                raise
            self.problem = self.problem or error
            self.changed.notify()
            return
        self.tally.came(peer, outcome, self._clock())
        self.changed.notify()


@final
class Gathering(Generic[R], metaclass=Made):
    """What :meth:`duplex.MethodProxy.gather` returns: an asynchronous iterator of pairs ``(peer, outcome)``, in the order in which the
    peers answer.

    The calls begin with the first iteration. They are cancelled when there are answers enough, when the task that waits for the next one is
    cancelled, by :meth:`aclose`, and when the loop is left and nothing else holds the gathering.
    """

    _MADE_BY = "remote.method.gather(...) returns one"

    __slots__ = ("_begin", "_calls")

    def __init__(self, begin: Callable[[], Awaitable[_Calls]]) -> None:
        self._begin: Callable[[], Awaitable[_Calls]] | None = begin
        self._calls: _Calls | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[PeerInfo, Outcome[R]]:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            self._calls = await begin()
        if self._calls is None:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        calls = self._calls
        outcomes = calls.tally.outcomes
        try:
            if outcomes or calls.is_over:
                await trio.lowlevel.checkpoint()
            elif (threads := in_thread.get()) is None:
                await _wait(calls)
            else:
                await wait_in_thread(threads, _wait(calls))
        except BaseException:
            calls.scope.cancel()
            raise
        if outcomes:
            return outcomes.popleft()
        self._calls = None
        if calls.problem is not None:
            raise calls.problem
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel the calls that still run, and return when they are over. Idempotent.

        ``async with contextlib.aclosing(remote.method.gather()) as outcomes`` does so at the end of the block.
        """
        self._begin = None
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.scope.cancel()
            while not calls.is_over:
                await calls.changed.wait()
        await trio.lowlevel.checkpoint()

    def __del__(self) -> None:
        calls = self._calls
        if calls is not None and not calls.is_over:
            calls.cancel_soon()


def _too_late(method: str, peer: PeerInfo) -> DeadlineExceeded:
    error = DeadlineExceeded("the time was over that the task had when it began to gather")
    error.method, error.peer, error.cancelled_by = method, str(peer), "deadline"
    return error


async def _wait(calls: _Calls) -> None:
    while not (calls.tally.outcomes or calls.is_over):
        await calls.changed.wait()


def gathering(
    host: Host,
    request: Request,
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    callers: Callable[[Request], Awaitable[Sequence[tuple[PeerInfo, Caller]]]],
    most: int | None,
    stall: float | None,
) -> Gathering[Any]:
    """Return what makes the same call to many peers.

    Args:
        host: the peer that makes the calls.
        request: what is called.
        arguments: by position and by name.
        callers: gives whom to call, one at least, and what makes calls there; or raises.
        most: answers after which it is enough.
        stall: seconds without another answer after which it is enough.
    """

    async def begin() -> _Calls:
        host.check_thread()
        check_run()
        started = begun(request)
        found = await callers(started)
        calls = _Calls(host, started, arguments, Tally(len(found), most, stall))
        host.spawn_here(calls.run, found, name=f"duplex gathering of {request.method}")
        return calls

    return Gathering._make(begin)
