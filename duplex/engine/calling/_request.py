"""What is to be called and how, and what the outcome of a call means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import msgspec
import trio

from duplex._config import Overflow
from duplex._errors import (
    DeadlineExceeded,
    RPCError,
    as_text,
    error_for_status,
)
from duplex._metadata import REFUSED, Metadata, read_retry_after
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.engine._deadlines import thread_call
from duplex.protocol import ChannelClosed

if TYPE_CHECKING:
    from duplex.engine._link import BaseLink


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

    @property
    def codec_name(self) -> str | None:
        """The codec as ``OPEN`` names it."""
        name = self.codec.name
        return None if name == "msgpack" else name


#: Who ended a call that ended with these statuses.
_CUT_SHORT_BY: Final = {int(StatusCode.CANCELLED): "remote", int(StatusCode.DEADLINE_EXCEEDED): "deadline"}


def outcome_error(event: ChannelClosed, codec: Codec) -> RPCError:
    """Return the error that a status other than OK stands for."""
    details: Any = None
    unread = ""
    if event.details is not None:
        try:
            details = codec.decoder(Any)(event.details, (), None)
        except Exception as problem:
            # Whatever they hold, the error itself has to reach its caller.
            unread = f"Its details cannot be read: {as_text(problem)}"
    error = error_for_status(event.status, event.message, details)
    if unread:
        error.add_note(unread)
    error.may_have_executed = event.may_have_executed
    error.metadata = event.trailers
    if event.trailers:
        error.retry_after = read_retry_after(event.trailers)
        if REFUSED in event.trailers:
            error.may_have_executed = False
    error.cancelled_by = _CUT_SHORT_BY.get(event.status)
    if isinstance(details, dict) and isinstance(details.get("traceback"), str):
        error.add_note(f"Remote traceback:\n{details['traceback']}")
    return error


def blame(error: RPCError, request: Request, link: BaseLink) -> RPCError:
    error.method = request.method
    error.peer = link.peer_name
    return error


def time_limit(timeout: float | None) -> float | None:
    """Return the seconds that a call may take beside what trio's scopes allow: its own timeout, and, made by
    a thread that serves a call, what remains of that one's deadline."""
    serving = thread_call.get()
    return timeout if serving is None else serving.limit(timeout)


def deadline_exceeded(
    request: Request, timeout: float, link: BaseLink | None = None, *, sent: bool
) -> DeadlineExceeded:
    """Return the error for a call whose own time limit passed.

    Args:
        request: what was called.
        timeout: the limit in seconds.
        link: the link that it took, if there was one.
        sent: whether the other side may have learned of it.
    """
    text = f"the call did not end within {timeout:g} s"
    if not sent:
        text += ", and was not sent"
    elif link is not None and link.watch.is_slow:
        unanswered = link.connection.unanswered_for(trio.current_time()) or 0.0
        text += f"; its peer is slow: it has not answered a ping for {unanswered:.1f} s"
    error = DeadlineExceeded(text)
    error.method = request.method
    error.peer = None if link is None else link.peer_name
    error.cancelled_by = "deadline"
    error.may_have_executed = sent
    return error
