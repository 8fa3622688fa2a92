"""Deadlines where trio's own scopes do not reach: handlers in threads, and work that is detached on purpose."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Awaitable, Iterator
from typing import Any, Final, Protocol

import trio

from duplex._errors import RPCError
from duplex._status import StatusCode
from duplex.engine._runs import outside_trio


class ThreadCall(Protocol):
    """The call on whose behalf a thread runs."""

    def limit(self, timeout: float | None) -> float | None:
        """Return the seconds that a call made by the thread may take: the shorter of its own timeout and what
        remains of the served call's. Raises ``CallCancelled`` if that one is over."""

    async def bounded(self, awaited: Awaitable[Any]) -> Any:
        """Await something for the thread, and raise ``CallCancelled`` if the served call is cancelled meanwhile."""


class WaitingThreads(Protocol):
    """The threads of a peer, for which it matters how many of them wait for calls of their own."""

    def call_begins(self) -> None:
        """One more waits."""

    def call_ends(self) -> None:
        """One goes on."""


#: The call whose handler, a plain function, runs in a thread. What the thread asks of the event loop runs as a
#: task of its own there, outside the handler's scope, so it has to be told of the deadline.
thread_call: Final[contextvars.ContextVar[ThreadCall | None]] = contextvars.ContextVar(
    "duplex-thread-call", default=None
)

#: The threads of the peer whose handler runs in one, for what that asks of the event loop; whatever it detaches itself
#: from, it waits there.
in_thread: Final[contextvars.ContextVar[WaitingThreads | None]] = contextvars.ContextVar(
    "duplex-in-thread", default=None
)

#: The ``Invocation`` of the running handler.
served_call: Final[contextvars.ContextVar[Any]] = contextvars.ContextVar("duplex-call")

#: What ends a call this many seconds before its deadline, or less, does so on account of it: the other side has a clock
#: of its own, and is told milliseconds.
ABOUT: Final = 0.005
#: Seconds that handlers have to clean up and answer once they were cancelled because a link ends.
CLEAN_UP: Final = 1.0
#: Parts of a second. Deadlines in the same one are one for the scopes of workers: setting it costs some microseconds.
_TICKS: Final = 1024


def shared(deadline: float) -> float:
    """Return the deadline of the scope for a served call: that of all calls which end within the same millisecond, or
    so. It is later than the call's, never sooner, or the caller would be told by the other side what it is about to
    notice itself.
    """
    return math.ceil(deadline * _TICKS) / _TICKS


def remaining() -> float | None:
    """Return the seconds until the deadline of the scopes around the running task; ``None`` without one.

    In a handler whose own scopes leave it all the time that there is, that is until the deadline of the call that it
    serves: the scope's is a little later, and what is passed on must not grow from call to call.
    """
    try:
        deadline = trio.current_effective_deadline()
    except RuntimeError:
        raise outside_trio() from None
    if deadline == math.inf:
        return None
    call = served_call.get(None)
    if call is not None and call.deadline is not None and deadline == shared(call.deadline):
        deadline = call.deadline
    return remaining_until(deadline)


def remaining_until(deadline: float) -> float | None:
    """Return the seconds until a deadline; ``None`` if it is infinite."""
    return None if deadline == math.inf else max(0.0, deadline - trio.current_time())


async def told_by_own(error: RPCError, deadline: float | None) -> None:
    """Let the scope around a call tell that its deadline has passed, where the other side has said so first.

    When a process gets no time for a while, the answer of the other side and the deadline are both there in the same
    pass of the event loop. Chance must not decide whether the caller sees its own scope end, or an error.

    Args:
        error: how the call ended.
        deadline: that which the other side was told.

    Raises:
        trio.Cancelled: the deadline has passed, or is about to, and a scope around the call has it.
    """
    if error.code is not StatusCode.DEADLINE_EXCEEDED or deadline is None:
        return
    if deadline - trio.current_time() <= ABOUT:
        await trio.sleep_until(deadline)


@contextlib.contextmanager
def detached() -> Iterator[trio.CancelScope]:
    """Let what is done within be neither cancelled nor bound in time by what is around it.

    A handler runs under its caller's deadline, and is cancelled with its caller; so are the calls that it makes.
    For those that must be made all the same, such as releasing what it holds::

        try:
            ...
        finally:
            with duplex.detached(), trio.move_on_after(5):
                await locks.release(name)

    Gives the scope, which can be cancelled. Nothing else bounds what is within, so set a deadline there.
    Closing the peer ends its calls all the same.

    A handler that is a plain function has no scopes in its thread: there it is for what the thread runs within by
    ``trio.from_thread.run``, and what is given is of no use. In other threads, let the function that is run so have the
    block.

    Raises:
        RuntimeError: this is neither a task of trio's nor a plain handler.
    """
    is_task = trio.lowlevel.in_trio_task()
    if not is_task and in_thread.get() is None:
        raise outside_trio()
    token = thread_call.set(None)
    scope = trio.CancelScope(shield=True)
    try:
        with scope if is_task else contextlib.nullcontext():
            yield scope
    finally:
        thread_call.reset(token)
