"""What is to be called and how, and until when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, final

import msgspec
import trio

from duplex._config import Overflow
from duplex._metadata import IDEMPOTENCY_KEY, Metadata
from duplex.codec._base import Codec
from duplex.engine._runs import outside_trio
from duplex.engine.calling._outcome import Callee, deadline_exceeded
from duplex.engine.threads import remaining, remaining_until, thread_call


@final
class Request(msgspec.Struct, frozen=True):
    """What is to be called and how, whatever the kind of call."""

    #: ``service.method``, or the number of a callback.
    target: str | int
    #: For error messages.
    method: str
    codec: Codec
    #: The type of the result, or of each item.
    result_type: Any = Any
    #: Seconds, beside the deadline of the trio cancel scopes around the call.
    timeout: float | None = None
    metadata: Metadata | None = None
    parent: int | None = None
    #: What becomes of items when a window is full; ``None``: senders wait.
    overflow: Overflow | None = None
    #: The method is known to return one value, and to stream none.
    single: bool = False
    #: The method may run twice for one call.
    idempotent: bool = False
    #: Whether the call waits for a link if there is none.
    wait_for_ready: bool = True
    #: When the timeout has passed, as :func:`trio.current_time` counts: set by :func:`begun`, so that it is the same for
    #: all that is done for the call.
    deadline: float | None = None
    #: Somebody else ends the call at its deadline, of which the other side is still told.
    is_bounded: bool = False

    @property
    def idempotency_key(self) -> str | bytes | None:
        """The key under which the other side runs the method once."""
        return None if self.metadata is None else self.metadata.get(IDEMPOTENCY_KEY)

    def time_left(self) -> float | None:
        """Return the seconds that the other side is told it has: until the deadline of the scopes around the running
        task, or until the call's own if that is sooner; ``None`` without either."""
        if self.is_bounded:
            return None if self.deadline is None else remaining_until(self.deadline)
        left = remaining()
        if self.deadline is None:
            return left
        own = max(0.0, self.deadline - trio.current_time())
        return own if left is None or own < left else left


def begun(request: Request) -> Request:
    """Return a request whose time runs from now on, unless it does already.

    A caller that makes a call in several steps, such as one attempt after the other, begins the request first and hands it on.
    A call that a handler's thread makes has no more time than is left for the call that the handler serves.

    Raises:
        CallCancelled: that one is over.
    """
    if request.deadline is not None or request.is_bounded:
        return request
    serving = thread_call.get()
    timeout = request.timeout if serving is None else serving.limit(request.timeout)
    if timeout is None:
        return request
    try:
        now = trio.current_time()
    except RuntimeError:
        raise outside_trio() from None
    return msgspec.structs.replace(request, timeout=timeout, deadline=now + timeout)


def bounded(request: Request) -> Request:
    """Return the request for what is called from within a scope that bounds it, then or later, and by whatever task: it has the
    deadline that the running task has now."""
    if request.is_bounded:
        return request
    left = remaining()
    deadline = None if left is None else trio.current_time() + left
    return msgspec.structs.replace(request, deadline=deadline, is_bounded=True)


@contextlib.contextmanager
def in_time(request: Request, callee: Callee | None = None) -> Iterator[None]:
    """Bound what a call waits for before anything of it is sent by its deadline.

    Args:
        request: one that has :func:`begun`.
        callee: the peer that it is to go to, if that is known.

    Raises:
        DeadlineExceeded: the deadline has passed.
    """
    if request.deadline is None or request.is_bounded:
        yield
        return
    with trio.CancelScope(deadline=request.deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise deadline_exceeded(request.method, request.timeout, callee, sent=False)
