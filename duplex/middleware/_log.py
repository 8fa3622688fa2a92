"""One line in the log for each call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import duplex
from duplex._errors import as_text
from duplex.middleware._status import status_of

#: Runs around calls of either side.
Middleware: TypeAlias = Callable[[Any, Any], Coroutine[Any, Any, Any]]

_LOGGER: Final = logging.getLogger("duplex.calls")
#: Characters of a text that others choose.
_MOST: Final = 200


def log_calls(logger: logging.Logger = _LOGGER, level: int = logging.INFO) -> Middleware:
    """Return middleware that logs each call when it has ended, for calls that are served and for calls that are made.

    The line is of ``key=value`` pairs, in quotes where it has to be; the record has the same as a dict, in its attribute
    ``call``, for handlers that write JSON: ``direction``, ``method``, ``peer``, ``status`` (the name of a
    :class:`duplex.StatusCode`), ``ms``, and, if there is something to say, ``principal`` (who the peer is, if that was proved),
    ``error`` and ``attempt``. No arguments or results are
    logged.

    Args:
        logger: where it is logged.
        level: how.
    """

    async def log_call(call: Any, next: Any) -> Any:
        if not logger.isEnabledFor(level):
            return await next(call)
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            return await next(call)
        except BaseException as problem:
            error = problem
            raise
        finally:
            _write(logger, level, _fields(call, error, time.perf_counter() - began))

    return log_call


def log_unserved(
    logger: logging.Logger = _LOGGER, level: int = logging.INFO
) -> Callable[[duplex.UnservedCall], None]:
    """Return an ``observer`` for :func:`duplex.open_peer` that logs calls which no middleware sees, in the same way.

    Args:
        logger: where it is logged.
        level: how.
    """

    def log_call(call: duplex.UnservedCall) -> None:
        if logger.isEnabledFor(level):
            fields: dict[str, Any] = {
                "direction": "served",
                "method": call.method,
                "peer": str(call.peer),
                **_identity(call.peer),
                "status": getattr(call.status, "name", str(call.status)),
            }
            if call.repeated:
                fields["repeated"] = True
            if call.message:
                fields["error"] = call.message
            _write(logger, level, fields)

    return log_call


def _fields(call: Any, error: BaseException | None, seconds: float) -> dict[str, Any]:
    is_made = isinstance(call, duplex.MadeCall)
    peer = call.peer
    if is_made and error is None:
        error = call.error
    if peer is None and isinstance(error, duplex.RPCError):
        peer = error.peer
    fields: dict[str, Any] = {
        "direction": "made" if is_made else "served",
        "method": call.method,
        "peer": "" if peer is None else str(peer),
        **_identity(peer),
        "status": status_of(call, error),
        "ms": round(seconds * 1e3, 3),
    }
    if isinstance(error, Exception):
        text = (
            error.message
            if isinstance(error, duplex.RPCError)
            else f"{type(error).__name__}: {as_text(error)}"
        )
        fields["error"] = text
    if not is_made and call.attempt > 1:
        fields["attempt"] = call.attempt
    return fields


def _identity(peer: Any) -> dict[str, str]:
    """Return who a peer is, if that was proved."""
    identity = getattr(peer, "identity", None)
    return {} if identity is None or identity.is_anonymous else {"principal": identity.principal}


def _write(logger: logging.Logger, level: int, fields: dict[str, Any]) -> None:
    text = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
    logger.log(level, "%s", text, extra={"call": fields})


def _quoted(value: object) -> str:
    """Return a value as it stands in the line: one that others choose cannot make another line, or another key, of it."""
    text = str(value)[:_MOST]
    if text and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    escaped = "".join(
        f"\\{one}" if one in '"\\' else one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )
    return f'"{escaped}"'
