"""Checking by connecting."""

from __future__ import annotations

import trio

from duplex_services.discovery._model import Check
from duplex_services.discovery._rules._monitor import Result
from duplex_services.discovery._rules._targets import split_address


async def probe(check: Check, target: str) -> Result:
    """Connect to ``host:port``, and no more."""
    host, port = split_address(target)
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        return Result("critical", f"{target}: {reason_of(error)}")
    await trio.aclose_forcefully(stream)
    return Result("passing", f"{target}: connected")


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in few words."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    strerror = getattr(cause, "strerror", None)
    return str(strerror or cause)
