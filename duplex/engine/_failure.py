"""What the caller is told of an error that a handler raised, whatever that error is like.

Errors are made by applications, and may be odd: a message that is no text, a code that is no status, details that
cannot be encoded, a ``__str__`` that raises. What can be told is, the rest is left out and named for the log.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import trio

from duplex._errors import EncodeError, ResourceExhausted, RPCError, as_text
from duplex._metadata import RETRY_AFTER, check_metadata, retry_after_text, without_reserved
from duplex._status import StatusCode
from duplex.codec._base import Codec
from duplex.protocol import MAX_INTEGER, MAX_TEXT

logger = logging.getLogger("duplex")

#: The longest pause in seconds that there is room for on the wire.
_MAX_PAUSE: Final = 1e11
#: Bytes of an error's details. They cost no credit, so nothing else bounds how many of them wait to be sent.
_MOST_DETAILS: Final = 64 * 1024
#: Characters of a traceback that travel: its end.
_TRACEBACK: Final = 16_000


class Failure(NamedTuple):
    """What ``CLOSE`` says of an error."""

    status: int
    message: str
    details: bytes | None = None
    #: To be added to those of the call.
    trailers: Mapping[str, str | bytes] = {}
    #: The protocol's own, which no application may set.
    own: Mapping[str, str | bytes] = {}
    #: What was left out, and why.
    problems: tuple[str, ...] = ()


class NotBegun(ResourceExhausted):
    """A refusal of this peer's own, of a call whose handler has done nothing yet. No handler can raise it."""


def told(error: RPCError, codec: Codec) -> Failure:
    """Return what the caller is told of an error that is meant for it."""
    problems: list[str] = []
    trailers: dict[str, str | bytes] = {}
    own: dict[str, str | bytes] = {}
    if error.metadata:
        problem = _metadata_problem(error.metadata)
        if problem is None:
            # Those of a call that was made for this one may be passed on, but how that went is no news of this one.
            trailers = without_reserved(error.metadata)[0]
        else:
            problems.append(problem)
    if error.retry_after is not None:
        pause = pause_of(error)
        if pause is None:
            problems.append(f"retry_after is a number of seconds, not {_repr(error.retry_after)}")
        else:
            own[RETRY_AFTER] = retry_after_text(pause)
    details = None
    if error.details is not None:
        try:
            details, attachments = codec.encode(error.details, None)
            if attachments or len(details) > _MOST_DETAILS:
                raise EncodeError("details over 64 KiB cannot travel")
        except Exception as problem:
            # Not only EncodeError: a value may raise what it likes when its fields are read.
            details = None
            problems.append(f"the details cannot travel: {as_text(problem)}")
    status = _status(error.code)
    if status is None:
        status = _status(type(error).default_code) or StatusCode.UNKNOWN
        problems.append(f"the code is a duplex.StatusCode, not {_repr(error.code)}")
    # Cut here and not only on the wire: it may be remembered, for a key.
    message = as_text(error.message)[:MAX_TEXT]
    return Failure(status, message, details, trailers, own, tuple(problems))


def unexpected(error: BaseException, incident: str, codec: Codec, *, debug: bool) -> Failure:
    """Return what the caller is told of an error that is not meant for it: a number to find it by in the log, and
    with ``debug`` all there is."""
    details: dict[str, Any] = {"incident": incident}
    message = f"unexpected error in the handler; its peer's log has it as incident {incident}"
    if debug:
        message = f"{type(error).__name__}: {as_text(error)[: MAX_TEXT // 2]} (incident {incident})"
        trace = "".join(traceback.format_exception(error))[-_TRACEBACK:]
        details["traceback"] = trace.encode("utf-8", "backslashreplace").decode()
    try:
        encoded = codec.encode(details, None)[0]
    except EncodeError:
        encoded = None  # not every codec can carry a dict
    return Failure(StatusCode.INTERNAL, message, encoded)


def _status(code: object) -> int | None:
    """Return a status other than OK as a number, also one that only later versions know; ``None`` if it is none."""
    if isinstance(code, bool) or not isinstance(code, int) or not 0 < code <= MAX_INTEGER:
        return None
    return int(code)


def pause_of(error: RPCError) -> float | None:
    """Return the seconds after which an error says that the call may be made again; ``None`` if it does not, or in no way that makes
    sense."""
    value: object = error.retry_after
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    return float(min(max(value, 0), _MAX_PAUSE))


def _metadata_problem(metadata: object) -> str | None:
    if not isinstance(metadata, Mapping):
        return f"metadata is a dict, not {_repr(metadata)}"
    return check_metadata(metadata)


def _repr(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:
        return f"a {type(value).__name__}"


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group, of whatever depth and class; of one that is no group, itself."""
    found: list[BaseException] = []
    pending = [error]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            found.append(error)
    return found


def is_interrupt(error: BaseException) -> bool:
    """Whether an exception is, or holds, one that is not the application's own: a cancellation or Ctrl-C."""
    return any(isinstance(leaf, (trio.Cancelled, KeyboardInterrupt)) for leaf in leaves(error))


def must_go_on(error: BaseException) -> bool:
    """Whether what a handler raised is not its own: an interrupt, or the cancellation of a scope around it.

    ``trio.Cancelled`` of some other scope, which a shared computation or a library has kept and raised here,
    is an error of the handler like any other.
    """
    if _holds(error, KeyboardInterrupt):
        return True
    return _holds(error, trio.Cancelled) and trio.current_effective_deadline() == -math.inf


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    # By hand: groups may be of the application's own classes, which make others of themselves in ways of their own.
    return any(isinstance(found, kind) for found in leaves(error))


def sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Unwrap a group around a single error, as a nursery in a handler makes."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def report_last(method: str, problem: BaseException) -> None:
    """Note why an error could not be told, though it may be the logging that fails."""
    try:
        logger.error("an error of %s could not be told to its caller", method, exc_info=problem)
    except Exception:
        traceback.print_exc()  # as logging does with the errors of its handlers
