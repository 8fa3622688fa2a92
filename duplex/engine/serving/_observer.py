"""What is told of calls that are answered without being run, and so pass neither a handler nor middleware."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

import msgspec
import trio

from duplex._errors import as_text
from duplex._metadata import Metadata
from duplex._status import StatusCode
from duplex.engine._failure import must_go_on
from duplex.engine._peer_info import PeerInfo
from duplex.engine._throttle import Throttle

logger = logging.getLogger("duplex")


@final
class UnservedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was answered, but neither its handler nor any middleware has begun: what ``observer`` of
    :func:`duplex.open_peer` is given."""

    #: What was asked for, ``service.method`` as a rule; it may not exist. A callback is called ``callback``.
    method: str
    #: Who called.
    peer: PeerInfo
    #: What the caller was told: a :class:`StatusCode`, or the number of one that only other versions know.
    status: int
    #: The same in words; empty if it was answered with a result.
    message: str
    #: The caller's headers.
    metadata: Metadata
    #: Whether the caller waits for no answer, and so was told nothing.
    notify: bool
    #: It was answered with what came of another call with the same idempotency key.
    repeated: bool = False


@final
class Observer:
    """Hands on what happened, and lets nothing that the observer raises come back.

    Args:
        function: is called with each call.
    """

    def __init__(self, function: Callable[[UnservedCall], object]) -> None:
        self._function = function
        self._throttle = Throttle()

    def note(self, call: UnservedCall) -> None:
        """A call was answered without being run."""
        try:
            self._function(call)
        except BaseException as error:
            if must_go_on(error):
                raise
            more = self._throttle.note("failed", trio.current_time())
            if more is not None:
                logger.error("the observer of calls failed: %s%s", as_text(error), more, exc_info=error)


def status_of(status: int) -> int:
    """Return a status as a :class:`StatusCode`, if this version knows it."""
    try:
        return StatusCode(status)
    except ValueError:
        return status
