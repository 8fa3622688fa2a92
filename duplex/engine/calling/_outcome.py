"""What the outcome of a call means: the error, who is blamed for it, and whether the call may be made again."""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar

from duplex._errors import DeadlineExceeded, RPCError, Unavailable, as_text, error_for_status
from duplex._metadata import REFUSED, read_retry_after
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.protocol import ChannelClosed

ErrorT = TypeVar("ErrorT", bound=RPCError)

#: Who ended a call that ended with these statuses.
_CUT_SHORT_BY: Final = {int(StatusCode.CANCELLED): "remote", int(StatusCode.DEADLINE_EXCEEDED): "deadline"}


class Callee(Protocol):
    """The peer that a call goes to, as its errors tell of it."""

    @property
    def peer_name(self) -> str:
        """Its name, or its id if it has none."""

    @property
    def slowness(self) -> str:
        """How long its event loop has not answered, in a few words; empty if it is not slow."""


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


def blame(error: ErrorT, method: str, callee: Callee | None) -> ErrorT:
    """Say in an error which method failed, and at which peer; return it."""
    error.method = method
    error.peer = None if callee is None else callee.peer_name
    return error


def deadline_exceeded(
    method: str, timeout: float | None, callee: Callee | None = None, *, sent: bool
) -> DeadlineExceeded:
    """Return the error for a call whose own time limit passed.

    Args:
        method: what was called.
        timeout: the limit in seconds.
        callee: the peer that it went to, or was about to, if that is known.
        sent: whether the other side may have learned of it.
    """
    text = f"the call did not end within {timeout:g} s"
    if not sent:
        text += ", and was not sent"
    elif callee is not None and callee.slowness:
        text += f"; its peer is slow: {callee.slowness}"
    error = blame(DeadlineExceeded(text), method, callee)
    error.cancelled_by = "deadline"
    error.may_have_executed = sent
    return error


def never_began(error: Unavailable) -> bool:
    """Whether the same call may be made over another link, as if this had not happened.

    It must not have begun at the other side, nor have taken channels along that the caller has passed.
    """
    return not (error.may_have_executed or error._took_channels)
